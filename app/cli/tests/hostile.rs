//! Every torrent of `lab/fuzz/hostile`, and some that are too large to keep, given to the program: each comes to the one
//! line that the index there says, within bounds of memory and time, and nothing is written.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot start the program or read its index fails"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Address space of the program: an order of magnitude more than the largest torrent that is read.
const MEMORY_KIB: u64 = 2 * 1024 * 1024;

/// Nothing here takes more than seconds on the slowest machine; this ends what would take for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a torrent ends where it is refused, and where it is accepted but none of its data is there.
const REFUSED: i32 = 3;
const WRONG: i32 = 4;

fn hostile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/fuzz/hostile")
}

/// What the program did.
struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

/// Runs `shoal` in `folder` under a limit of memory, where the system's shell knows one.
fn shoal(folder: &Path, arguments: &[&str]) -> Ran {
    let output = tempfile::tempdir().unwrap();
    let (out, err) = (output.path().join("out"), output.path().join("err"));
    let limited = format!("ulimit -v {MEMORY_KIB} 2>/dev/null; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_shoal")])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("shoal {arguments:?} does not end");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Ran {
        status,
        out: read(&out),
        err: read(&err),
    }
}

/// One line of the index.
struct Case {
    file: String,
    refused: bool,
    /// Why it is refused, or the first warning; `-` where there is none.
    says: String,
}

fn cases() -> Vec<Case> {
    let index = fs::read_to_string(hostile().join("index.tsv")).unwrap();
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [name, verdict, says] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            assert!(matches!(verdict, "refused" | "accepted"), "{line}");
            Case {
                file: format!("{name}.torrent"),
                refused: verdict == "refused",
                says: says.to_owned(),
            }
        })
        .collect()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Nothing of what was said can drive a terminal or hide.
fn assert_plain(text: &str) {
    let harmful = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(harmful), "{text:?}");
}

/// The program refuses the torrent, in one line and nothing else.
fn assert_refused(ran: &Ran, file: &str, why: &str) {
    assert_eq!(ran.status.code(), Some(REFUSED), "{file}: {}", ran.err);
    assert_eq!(ran.err, format!("error: torrent refused: {file}: {why}\n"));
    assert_eq!(ran.out, "", "{file}");
}

/// The program shows the torrent; gives the first warning.
fn assert_shown<'a>(ran: &'a Ran, file: &str) -> &'a str {
    assert!(ran.status.success(), "{file}: {}", ran.err);
    assert_eq!(ran.err, "", "{file}");
    let mut warnings = ran
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "));
    warnings.next().unwrap_or("-")
}

#[test]
fn the_index_names_every_hostile_torrent_once() {
    let listing = fs::read_dir(hostile()).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut files: Vec<String> = listing.map(|entry| name(entry.unwrap())).collect();
    files.retain(|file| file != "index.tsv");
    files.sort();
    let mut indexed: Vec<String> = cases().into_iter().map(|case| case.file).collect();
    indexed.sort();
    assert_eq!(files, indexed);
}

#[test]
fn each_hostile_torrent_is_shown_or_refused_in_one_clear_line() {
    for case in cases() {
        let ran = shoal(&hostile(), &["show", &case.file]);
        if case.refused {
            assert_refused(&ran, &case.file, &case.says);
        } else {
            assert_eq!(assert_shown(&ran, &case.file), case.says, "{}", case.file);
        }
        assert_plain(&ran.out);
        assert_plain(&ran.err);
    }
}

#[test]
fn checking_a_hostile_torrent_writes_nothing() {
    let target = tempfile::tempdir().unwrap();
    let data = target.path().to_str().unwrap();
    for case in cases() {
        let ran = shoal(&hostile(), &["check", &case.file, "--data", data]);
        if case.refused {
            assert_refused(&ran, &case.file, &case.says);
        } else {
            assert_eq!(ran.status.code(), Some(WRONG), "{}: {}", case.file, ran.err);
        }
        assert_plain(&ran.out);
        assert_plain(&ran.err);
        assert!(is_empty(target.path()), "{}", case.file);
    }
}

#[test]
fn getting_a_refused_torrent_writes_nothing() {
    let target = tempfile::tempdir().unwrap();
    let into = target.path().to_str().unwrap();
    for case in cases().into_iter().filter(|case| case.refused) {
        let network = ["--isolated", "--listen", "127.0.0.1:0"];
        let arguments = [&["get", &case.file, "-o", into][..], &network].concat();
        assert_refused(&shoal(&hostile(), &arguments), &case.file, &case.says);
        assert!(is_empty(target.path()), "{}", case.file);
    }
}

/// A torrent in `folder`: `begin`, `middle` so many times, `end`.
fn giant(folder: &Path, file: &str, begin: &[u8], middle: &[u8], times: usize, end: &[u8]) {
    let mut out = File::create(folder.join(file)).unwrap();
    out.write_all(begin).unwrap();
    out.write_all(&middle.repeat(times)).unwrap();
    out.write_all(end).unwrap();
}

/// A list of files of which the first has some bytes.
const FILES: &[u8] = b"d4:infod5:filesld6:lengthi5e4:pathl1:aee";
const AFTER_FILES: &[u8] = b"e4:name4:name12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";

#[test]
fn giants_are_refused_within_the_same_memory() {
    let folder = tempfile::tempdir().unwrap();
    let make = |file, begin, middle, times, end| {
        giant(folder.path(), file, begin, middle, times, end);
    };
    make("values", b"d4:infol", b"i0e", 4_000_000, b"ee");
    make("long", b"d4:info99999999:", b"x", 65 * 1024 * 1024, b"e");
    make(
        "name",
        b"d4:infod4:name62914560:",
        b"x",
        60 * 1024 * 1024,
        b"ee",
    );
    let pieces = b"d4:infod6:lengthi5e4:name1:a12:piece lengthi1e6:pieces62914560:";
    make("pieces", pieces, b"x", 60 * 1024 * 1024, b"ee");
    let directories = b"d6:lengthi0e4:pathl1:d1:d1:d1:d1:d1:d1:d1:d1:d1:d1:aee";
    make("same-names", FILES, directories, 100_000, AFTER_FILES);
    let refusals = [
        (
            "values",
            "this is no torrent: not valid bencode at byte 8999999: there are more than 3000000 values",
        ),
        (
            "long",
            "this is no torrent: not valid bencode at byte 0: the input is longer than 67108864 bytes",
        ),
        ("name", "the torrent has no `piece length`"),
        (
            "pieces",
            "`pieces` has 62914560 bytes where the files need 100",
        ),
        (
            "same-names",
            "more than 500 file names are taken by other files or directories",
        ),
    ];
    for (file, why) in refusals {
        assert_refused(&shoal(folder.path(), &["show", file]), file, why);
    }
}

#[test]
fn a_hundred_thousand_empty_files_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = FILES.to_vec();
    for number in 0..100_000 {
        files.extend(format!("d6:lengthi0e4:pathl6:{number:06}ee").bytes());
    }
    giant(folder.path(), "empty-files", &files, b"", 0, AFTER_FILES);
    let ran = shoal(folder.path(), &["show", "empty-files"]);
    assert_eq!(assert_shown(&ran, "empty-files"), "-");
    assert!(ran.out.contains("100001"), "{}", &ran.out);
}

//! Names that strangers would like to have, and what they get.

use super::*;
use proptest::prelude::*;

fn clean(raw: &str) -> String {
    sanitise(raw.as_bytes())
}

#[test]
fn dangerous_names_become_harmless() {
    let table = [
        ("film.mkv", "film.mkv"),
        ("Ünïcode – 漢字.txt", "Ünïcode – 漢字.txt"),
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        ("....", "_"),
        (".hidden", ".hidden"),
        ("/etc/passwd", "etcpasswd"),
        ("a\\b", "ab"),
        ("a\0b\nc\u{7f}", "a_b_c_"),
        ("\u{202e}txt.exe", "txt.exe"),
        (".\u{200b}.", "_"),
        ("a\u{feff}b\u{2066}", "ab"),
        ("trailing. . ", "trailing"),
        (" leading", " leading"),
        ("CON", "_CON"),
        ("nul.tar.gz", "_nul.tar.gz"),
        ("Com7 .txt", "_Com7 .txt"),
        ("lpt²", "_lpt²"),
        ("COM10", "COM10"),
        ("console", "console"),
    ];
    for (raw, name) in table {
        assert_eq!(clean(raw), name, "{raw:?}");
    }
    assert_eq!(sanitise(b"a\xffb\xc3"), "a_b_");
}

#[test]
fn a_long_name_keeps_its_extension_and_whole_characters() {
    let name = clean(&format!("{}.flac", "é".repeat(200)));
    assert_eq!(name, format!("{}.flac", "é".repeat(117)));
    assert_eq!(clean(&"x".repeat(300)).len(), MAX_NAME_BYTES);
    let dots = clean(&format!("{}.{}", "x".repeat(239), "y".repeat(60)));
    assert_eq!(dots, "x".repeat(239));
}

#[test]
fn climbing_is_seen_behind_either_separator() {
    for raw in ["..", "../x", "a/../b", "..\\x", "a\\.."] {
        assert!(climbs(raw.as_bytes()), "{raw}");
    }
    for raw in ["...", "a..b", "..a", ".", "", "a/b"] {
        assert!(!climbs(raw.as_bytes()), "{raw}");
    }
}

fn resolve(files: &[&str]) -> Result<Vec<String>, NameError> {
    let mut names = Names::new();
    let mut places = Vec::new();
    for file in files {
        let (mut directory, mut parts) = (Names::ROOT, file.split('|').peekable());
        while let Some(part) = parts.next() {
            match parts.peek() {
                Some(_) => directory = names.directory(directory, part.as_bytes())?,
                None => places.push(Place {
                    directory,
                    name: part.as_bytes(),
                }),
            }
        }
    }
    let resolved = names.resolve(&places)?;
    Ok(resolved.into_iter().map(|file| file.path).collect())
}

#[test]
fn files_of_one_name_are_numbered() {
    assert_eq!(
        resolve(&["a.txt", "A.TXT", "a.txt", "a (1).txt", "b"]).unwrap(),
        ["a.txt", "A (1).TXT", "a (2).txt", "a (1) (1).txt", "b"]
    );
    assert_eq!(
        resolve(&["d|x", "D|X", "d |x", "D|y"]).unwrap(),
        ["d/x", "D/X (1)", "d/x (2)", "D/y"]
    );
}

#[test]
fn a_directory_keeps_its_name_and_the_file_gives_way() {
    assert_eq!(resolve(&["a", "A|b"]).unwrap(), ["a (1)", "A/b"]);
    assert_eq!(resolve(&["x|a|c", "x|a"]).unwrap(), ["x/a/c", "x/a (1)"]);
}

#[test]
fn too_many_files_of_one_name_are_refused() {
    let same = vec!["same"; 502];
    assert_eq!(resolve(&same[..501]).unwrap()[500], "same (500)");
    assert_eq!(resolve(&same), Err(NameError::TooManyRenames));
}

#[test]
fn climbing_and_too_deep_paths_are_refused() {
    assert_eq!(resolve(&["a|..|b"]), Err(NameError::Climbs("..".into())));
    assert_eq!(resolve(&["../b"]), Err(NameError::Climbs("../b".into())));
    let deep = vec!["d"; MAX_PATH_DEPTH];
    assert_eq!(resolve(&[&deep.join("|")]).unwrap(), [deep.join("/")]);
    let deeper = vec!["d"; MAX_PATH_DEPTH + 1];
    assert_eq!(resolve(&[&deeper.join("|")]), Err(NameError::TooDeep));
}

#[test]
fn directories_are_counted() {
    let raw: Vec<String> = (0..=MAX_DIRECTORIES).map(|n| n.to_string()).collect();
    let mut names = Names::new();
    let refused = raw
        .iter()
        .map(|name| names.directory(Names::ROOT, name.as_bytes()).err());
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.iter().flatten().count(), 1);
    assert_eq!(refused.last(), Some(&Some(NameError::TooManyDirectories)));
}

#[test]
fn paths_that_repeat_long_directories_are_bounded() {
    let (mut names, long) = (Names::new(), "d".repeat(MAX_NAME_BYTES));
    let mut directory = Names::ROOT;
    for _ in 0..MAX_PATH_DEPTH - 1 {
        directory = names.directory(directory, long.as_bytes()).unwrap();
    }
    let files: Vec<String> = (0..12_000).map(|number| number.to_string()).collect();
    let places = files.iter().map(|name| Place {
        directory,
        name: name.as_bytes(),
    });
    let places: Vec<_> = places.collect();
    assert_eq!(names.resolve(&places), Err(NameError::TooLong));
}

#[test]
fn what_the_torrent_says_is_kept_where_it_differs() {
    let mut names = Names::new();
    let directory = names.directory(Names::ROOT, b"a\\b").unwrap();
    let places = [b"c".as_slice(), b"C"].map(|name| Place { directory, name });
    let resolved = names.resolve(&places).unwrap();
    assert_eq!(resolved[1].path, "ab/C (1)");
    assert!(resolved[1].renamed && !resolved[0].renamed);
    let raw: Vec<&[u8]> = resolved[1].raw.iter().flatten().map(|raw| &**raw).collect();
    assert_eq!(raw, [b"a\\b".as_slice(), b"C"]);
}

/// Bytes that are likely to make trouble.
fn troublesome() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 13] = [
        b"CON",
        b".",
        b" ",
        b"/",
        b"\\",
        b"\0",
        b"\xff",
        "\u{202e}".as_bytes(),
        "é".as_bytes(),
        "İ".as_bytes(),
        &[b'a'; 70],
        b"A",
        b"1",
    ];
    let part = proptest::sample::select(parts.to_vec());
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_sanitised_name_is_one_harmless_component(raw in troublesome()) {
        let name = sanitise(&raw);
        prop_assert!(!name.is_empty() && name.len() <= MAX_NAME_BYTES);
        prop_assert!(!name.contains(['/', '\\', '\0']) && name != "." && name != "..");
        prop_assert!(!name.ends_with(['.', ' ']) && !is_device(&name));
        prop_assert_eq!(sanitise(name.as_bytes()), name);
    }

    #[test]
    fn resolved_paths_are_distinct_for_a_disk_that_ignores_case(
        files in proptest::collection::vec(proptest::collection::vec("[aAbB]|(a \\(1\\))|con", 1..4), 1..30)
    ) {
        let joined: Vec<String> = files.iter().map(|path| path.join("|")).collect();
        let paths = resolve(&joined.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for path in &paths {
            prop_assert!(seen.insert(path.to_lowercase()), "{} twice", path);
        }
        for path in &paths {
            for (at, _) in path.match_indices('/') {
                prop_assert!(!seen.contains(&path[..at].to_lowercase()), "{} is a file and a directory", &path[..at]);
            }
        }
    }
}

//! Writes the torrents that mean harm: `cargo run -p shoal-fuzz --example hostile`.
//!
//! What each must come to is in `hostile/index.tsv`, which this leaves alone. Files that take megabytes are made where
//! they are used.
//!
//! Invariant: small files with a name that says what is in them. Running it again changes nothing.

use std::io;
use std::path::Path;

/// A hash of nothing in particular.
const SHA1: [u8; 20] = [b'a'; 20];

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
    std::fs::create_dir_all(&folder)?;
    let groups = [
        bencode(),
        info(),
        lengths(),
        paths(),
        v2(),
        hybrids(),
        sources(),
    ];
    for (name, bytes) in groups.into_iter().flatten() {
        std::fs::write(folder.join(format!("{name}.torrent")), bytes)?;
    }
    Ok(())
}

type Files = Vec<(&'static str, Vec<u8>)>;

fn int(number: i128) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<u8> = items.into_iter().flatten().collect();
    [b"l", &items[..], b"e"].concat()
}

/// In the order given, sorted or not.
fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Vec<u8>)>) -> Vec<u8> {
    let entries = entries.into_iter();
    let entries: Vec<u8> = entries
        .flat_map(|(key, value)| [string(key), value].concat())
        .collect();
    [b"d", &entries[..], b"e"].concat()
}

/// A torrent of one file of 5 bytes in which some entries are replaced; one without a value is left out.
fn single(changes: &[(&str, Option<Vec<u8>>)]) -> Vec<u8> {
    let usual = [
        ("length", int(5)),
        ("name", string("name")),
        ("piece length", int(16_384)),
        ("pieces", string(SHA1)),
    ];
    torrent(changed(&usual, changes))
}

/// A torrent of these files.
fn many(files: Vec<Vec<u8>>) -> Vec<u8> {
    single(&[("files", Some(list(files))), ("length", None)])
}

fn changed(
    usual: &[(&'static str, Vec<u8>)],
    changes: &[(&str, Option<Vec<u8>>)],
) -> Vec<(String, Vec<u8>)> {
    let mut entries: Vec<(String, Vec<u8>)> = usual
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    for (key, value) in changes {
        entries.retain(|(other, _)| other != key);
        if let Some(value) = value {
            entries.push(((*key).to_owned(), value.clone()));
        }
    }
    entries.sort();
    entries
}

fn torrent<K: AsRef<[u8]>>(info: impl IntoIterator<Item = (K, Vec<u8>)>) -> Vec<u8> {
    dict([("info", dict(info))])
}

fn file(length: i128, path: &[&[u8]]) -> Vec<u8> {
    let path = list(path.iter().map(string));
    dict([("length", int(length)), ("path", path)])
}

/// What is no bencode, or more than a torrent may hold.
fn bencode() -> Files {
    let whole = single(&[]);
    let twice = dict([
        ("length", int(5)),
        ("name", string("one")),
        ("name", string("two")),
    ]);
    let deep = [b"d4:info".to_vec(), b"d1:a".repeat(200), b"e".repeat(201)].concat();
    vec![
        ("empty", Vec::new()),
        ("text", b"This is no torrent.\n".to_vec()),
        ("web-page", b"<!DOCTYPE html><title>404</title>".to_vec()),
        ("truncated", whole[..whole.len() - 10].to_vec()),
        ("trailing-garbage", [&whole[..], b"garbage"].concat()),
        ("nested-10000-deep", b"l".repeat(10_000)),
        ("nested-200-deep-in-info", deep),
        (
            "info-twice",
            dict([
                ("info", dict([("a", int(1))])),
                ("info", dict([("b", int(2))])),
            ]),
        ),
        ("name-twice", dict([("info", twice)])),
        ("string-beyond-the-end", b"d4:info99999999:abc".to_vec()),
        (
            "string-length-overflows",
            b"d4:info99999999999999999999:abc".to_vec(),
        ),
        (
            "integer-overflows",
            single(&[("length", Some(int(1 << 63)))]),
        ),
        (
            "integer-with-leading-zero",
            single(&[("length", Some(b"i05e".to_vec()))]),
        ),
        (
            "integer-minus-zero",
            single(&[("length", Some(b"i-0e".to_vec()))]),
        ),
        (
            "integer-without-digits",
            single(&[("length", Some(b"ie".to_vec()))]),
        ),
        ("key-is-a-number", b"di1e1:ae".to_vec()),
        ("key-without-value", b"d4:infoe".to_vec()),
        ("root-is-a-list", list([whole])),
        ("root-is-a-number", int(1)),
    ]
}

/// Info dictionaries that lack something, or have something else in its place.
fn info() -> Files {
    let longer = [&SHA1[..], &SHA1].concat();
    vec![
        (
            "info-missing",
            dict([("announce", string("http://t.example/"))]),
        ),
        ("info-is-a-string", dict([("info", string("info"))])),
        ("info-is-empty", dict([("info", dict::<&str>([]))])),
        ("name-missing", single(&[("name", None)])),
        ("name-is-a-number", single(&[("name", Some(int(1)))])),
        ("pieces-missing", single(&[("pieces", None)])),
        ("pieces-is-a-list", single(&[("pieces", Some(list([])))])),
        (
            "pieces-too-short",
            single(&[("pieces", Some(string(&SHA1[..19])))]),
        ),
        (
            "pieces-too-long",
            single(&[("pieces", Some(string(longer)))]),
        ),
        ("pieces-empty", single(&[("pieces", Some(string("")))])),
        ("piece-length-missing", single(&[("piece length", None)])),
        (
            "piece-length-zero",
            single(&[("piece length", Some(int(0)))]),
        ),
        (
            "piece-length-negative",
            single(&[("piece length", Some(int(-16_384)))]),
        ),
        (
            "piece-length-huge",
            single(&[("piece length", Some(int(1 << 62)))]),
        ),
        ("version-3", single(&[("meta version", Some(int(3)))])),
        (
            "version-negative",
            single(&[("meta version", Some(int(-1)))]),
        ),
        (
            "files-is-a-string",
            single(&[("files", Some(string("a"))), ("length", None)]),
        ),
        ("files-empty", many(Vec::new())),
        ("files-are-numbers", many(vec![int(1), int(2)])),
        ("unsorted", {
            dict([(
                "info",
                dict([
                    ("pieces", string(SHA1)),
                    ("piece length", int(16_384)),
                    ("name", string("name")),
                    ("length", int(5)),
                ]),
            )])
        }),
    ]
}

/// Sizes that cannot be, or that nobody has room for.
fn lengths() -> Files {
    let most = i128::from(i64::MAX);
    vec![
        (
            "length-zero",
            single(&[("length", Some(int(0))), ("pieces", Some(string("")))]),
        ),
        ("length-negative", single(&[("length", Some(int(-1)))])),
        ("length-missing", single(&[("length", None)])),
        (
            "length-is-a-string",
            single(&[("length", Some(string("5")))]),
        ),
        ("length-of-exabytes", single(&[("length", Some(int(most)))])),
        (
            "more-pieces-than-fit",
            single(&[
                ("length", Some(int(1 << 40))),
                ("piece length", Some(int(1))),
            ]),
        ),
        (
            "only-empty-files",
            many(vec![file(0, &[b"a"]), file(0, &[b"b"])]),
        ),
        (
            "lengths-overflow",
            many(vec![
                file(most, &[b"a"]),
                file(most, &[b"b"]),
                file(most, &[b"c"]),
            ]),
        ),
        (
            "one-negative-length",
            many(vec![file(10, &[b"a"]), file(-5, &[b"b"])]),
        ),
        (
            "escape-codes-in-an-error",
            many(vec![file(-1, &[b"\x1b[2J\x1b[31m\r\n\xff"])]),
        ),
    ]
}

/// Names that lead elsewhere, or that disks do not take.
fn paths() -> Files {
    let one = |path: &[&[u8]]| many(vec![file(5, path)]);
    let name = |name: &[u8]| single(&[("name", Some(string(name)))]);
    let link = |target: &[&[u8]], below: &[&[u8]]| {
        let target = list(target.iter().map(string));
        let link = dict([
            ("attr", string("l")),
            ("length", int(0)),
            ("path", list([string("link")])),
            ("symlink path", target),
        ]);
        many(vec![link, file(5, below)])
    };
    let deep: Vec<&[u8]> = vec![b"d"; 101];
    let devices: [&[u8]; 5] = [b"CON", b"aux.txt", b"LPT1", b"nul .tar.gz", b"COM\xc2\xb9"];
    let devices = devices.map(|device| file(1, &[device]));
    vec![
        ("path-climbs", one(&[b"..", b"..", b"etc", b"passwd"])),
        (
            "path-climbs-in-the-middle",
            one(&[b"a", b"..", b"..", b"b"]),
        ),
        ("path-climbs-by-slashes", one(&[b"../../etc/passwd"])),
        (
            "path-climbs-by-backslashes",
            one(&[b"..\\..\\windows\\system.ini"]),
        ),
        ("path-is-absolute", one(&[b"/etc/passwd"])),
        ("path-begins-with-nothing", one(&[b"", b"etc", b"passwd"])),
        ("path-has-a-drive", one(&[b"C:", b"windows", b"system.ini"])),
        ("path-empty", one(&[])),
        ("path-missing", many(vec![dict([("length", int(5))])])),
        (
            "path-is-a-string",
            many(vec![dict([("length", int(5)), ("path", string("a"))])]),
        ),
        (
            "path-of-numbers",
            many(vec![dict([("length", int(5)), ("path", list([int(1)]))])]),
        ),
        ("path-101-deep", one(&deep)),
        ("path-of-dots", one(&[b".", b"...", b"a"])),
        ("path-with-nul", one(&[b"a.txt\0.exe"])),
        ("name-climbs", name(b"..")),
        (
            "name-climbs-by-slashes",
            name(b"../../../root/.ssh/authorized_keys"),
        ),
        ("name-is-absolute", name(b"/etc/passwd")),
        ("name-empty", name(b"")),
        ("name-is-a-device", name(b"NUL")),
        ("name-not-utf-8", name(b"\xff\xfe\x80")),
        (
            "name-with-escape-codes",
            name(b"\x1b]0;owned\x07\x1b[2Jname"),
        ),
        (
            "name-right-to-left",
            name("invoice\u{202e}fdp.exe".as_bytes()),
        ),
        ("name-of-10000-bytes", name(&b"x".repeat(10_000))),
        ("devices", many(devices.to_vec())),
        (
            "same-path-twice",
            many(vec![file(2, &[b"a"]), file(3, &[b"A"])]),
        ),
        ("same-path-600-times", many(vec![file(1, &[b"a"]); 600])),
        (
            "file-is-a-directory-too",
            many(vec![file(2, &[b"a"]), file(3, &[b"a", b"b"])]),
        ),
        (
            "symlink-out",
            link(&[b"..", b"..", b"etc", b"passwd"], &[b"b"]),
        ),
        (
            "symlink-out-and-a-file-below",
            link(&[b"/etc"], &[b"link", b"cron.d"]),
        ),
    ]
}

/// A v2 torrent of one file of `length` bytes, with these properties beside it.
fn v2_single(length: i128, root: Option<&[u8]>, layers: Option<Vec<u8>>) -> Vec<u8> {
    let mut properties = vec![("length", int(length))];
    properties.extend(root.map(|root| ("pieces root", string(root))));
    v2_tree(dict([("a", dict([("", dict(properties))]))]), layers)
}

fn v2_tree(tree: Vec<u8>, layers: Option<Vec<u8>>) -> Vec<u8> {
    v2_torrent(&[("file tree", Some(tree))], layers)
}

fn v2_torrent(changes: &[(&str, Option<Vec<u8>>)], layers: Option<Vec<u8>>) -> Vec<u8> {
    let leaf = dict([("length", int(5)), ("pieces root", string([1; 32]))]);
    let usual = [
        ("file tree", dict([("a", dict([("", leaf)]))])),
        ("meta version", int(2)),
        ("name", string("name")),
        ("piece length", int(16_384)),
    ];
    let info = dict(changed(&usual, changes));
    let mut entries = vec![("info", info)];
    entries.extend(layers.map(|layers| ("piece layers", layers)));
    dict(entries)
}

/// File trees, roots and piece layers that do not hold together.
fn v2() -> Files {
    let root = [1; 32];
    let layer = |hashes: usize| dict([(root, string(vec![2; 32 * hashes]))]);
    let leaf = dict([("length", int(5)), ("pieces root", string(root))]);
    let entry = |name: &[u8], value: Vec<u8>| dict([(name.to_vec(), value)]);
    let file = || dict([("", leaf.clone())]);
    let deep = (0..101).fold(file(), |below, _| entry(b"d", below));
    let padding = dict([
        ("attr", string("p")),
        ("length", int(5)),
        ("pieces root", string(root)),
    ]);
    let piece_length = |length| v2_torrent(&[("piece length", Some(int(length)))], None);
    vec![
        (
            "v2-file-tree-missing",
            v2_torrent(&[("file tree", None)], None),
        ),
        ("v2-file-tree-is-a-list", v2_tree(list([]), None)),
        ("v2-file-tree-empty", v2_tree(dict::<&str>([]), None)),
        ("v2-file-is-a-number", v2_tree(entry(b"a", int(1)), None)),
        ("v2-name-empty", v2_tree(entry(b"", leaf.clone()), None)),
        ("v2-file-and-directory", {
            v2_tree(entry(b"a", dict([("", leaf.clone()), ("b", file())])), None)
        }),
        (
            "v2-path-climbs",
            v2_tree(entry(b"..", entry(b"b", file())), None),
        ),
        ("v2-file-climbs", v2_tree(entry(b"..", file()), None)),
        ("v2-path-102-deep", v2_tree(deep, None)),
        (
            "v2-tree-unsorted",
            v2_tree(dict([("b", file()), ("a", file())]), None),
        ),
        (
            "v2-padding-in-the-tree",
            v2_tree(entry(b"a", dict([("", padding)])), None),
        ),
        ("v2-length-negative", v2_single(-1, Some(&root), None)),
        (
            "v2-length-of-exabytes",
            v2_single(i128::from(i64::MAX), Some(&root), Some(layer(2))),
        ),
        ("v2-empty", v2_single(0, None, None)),
        ("v2-root-missing", v2_single(5, None, None)),
        ("v2-root-short", v2_single(5, Some(&root[..31]), None)),
        ("v2-root-of-zeros", v2_single(5, Some(&[0; 32]), None)),
        ("v2-layers-missing", v2_single(40_000, Some(&root), None)),
        (
            "v2-layer-missing",
            v2_single(40_000, Some(&root), Some(dict::<&str>([]))),
        ),
        (
            "v2-layer-is-a-number",
            v2_single(40_000, Some(&root), Some(dict([(root, int(1))]))),
        ),
        (
            "v2-layer-too-short",
            v2_single(40_000, Some(&root), Some(layer(2))),
        ),
        (
            "v2-layer-too-long",
            v2_single(40_000, Some(&root), Some(layer(4))),
        ),
        (
            "v2-layer-of-another-file",
            v2_single(40_000, Some(&root), Some(layer(3))),
        ),
        (
            "v2-layer-to-spare",
            v2_single(5, Some(&root), Some(layer(1))),
        ),
        ("v2-piece-length-no-power-of-two", piece_length(20_000)),
        ("v2-piece-length-too-small", piece_length(8_192)),
        ("v2-piece-length-huge", piece_length(1 << 40)),
    ]
}

/// A hybrid torrent whose v1 part lists `files`, and whose v2 part has `a` of 5 bytes and `b` of 7.
fn hybrid(files: Vec<Vec<u8>>, pieces: usize) -> Vec<u8> {
    let leaf = |length, byte| {
        let properties = dict([("length", int(length)), ("pieces root", string([byte; 32]))]);
        dict([("", properties)])
    };
    torrent([
        ("file tree", dict([("a", leaf(5, 1)), ("b", leaf(7, 2))])),
        ("files", list(files)),
        ("meta version", int(2)),
        ("name", string("name")),
        ("piece length", int(16_384)),
        ("pieces", string(SHA1.repeat(pieces))),
    ])
}

/// Two descriptions of different content in one torrent.
fn hybrids() -> Files {
    let padding = |length| {
        dict([
            ("attr", string("p")),
            ("length", int(length)),
            ("path", list([string(".pad"), string("0")])),
        ])
    };
    let (a, b) = (file(5, &[b"a"]), file(7, &[b"b"]));
    let rest = padding(16_379);
    let good = vec![a.clone(), rest.clone(), b.clone()];
    vec![
        (
            "hybrid-other-length",
            hybrid(vec![file(6, &[b"a"]), padding(16_378), b.clone()], 2),
        ),
        (
            "hybrid-other-name",
            hybrid(vec![a.clone(), rest.clone(), file(7, &[b"c"])], 2),
        ),
        (
            "hybrid-other-order",
            hybrid(vec![b.clone(), padding(16_377), a.clone()], 2),
        ),
        ("hybrid-one-file-less", hybrid(vec![a.clone()], 1)),
        ("hybrid-one-file-more", {
            hybrid(
                [&good[..], &[padding(16_377), file(1, &[b"c"])]].concat(),
                3,
            )
        }),
        ("hybrid-without-padding", hybrid(vec![a.clone(), b], 1)),
        (
            "hybrid-with-padding-behind",
            hybrid([&good[..], &[padding(40_000)]].concat(), 4),
        ),
        ("hybrid-with-a-symlink", {
            let link = dict([
                ("attr", string("l")),
                ("length", int(7)),
                ("path", list([string("b")])),
                ("symlink path", list([string("a")])),
            ]);
            hybrid(vec![a, rest, link], 2)
        }),
        ("hybrid-too-few-pieces", hybrid(good, 1)),
    ]
}

/// Trackers, web seeds and other entries beside the info dictionary.
fn sources() -> Files {
    let info = || {
        dict([
            ("length", int(5)),
            ("name", string("name")),
            ("piece length", int(16_384)),
            ("pieces", string(SHA1)),
            ("private", string("yes")),
        ])
    };
    let with = |key, value| dict([(key, value), ("info", info())]);
    let behind = |key, value| dict([("info", info()), (key, value)]);
    let trackers = (0..200).map(|n| list([string(format!("http://t{n}.example/announce"))]));
    vec![
        ("announce-is-a-number", with("announce", int(1))),
        (
            "announce-is-a-script",
            with("announce", string("javascript:alert(1)")),
        ),
        (
            "announce-udp-without-port",
            with("announce", string("udp://t.example/announce")),
        ),
        ("announce-of-10000-bytes", {
            with(
                "announce",
                string(format!("http://t.example/{}", "x".repeat(10_000))),
            )
        }),
        (
            "announce-list-of-numbers",
            with("announce-list", list([int(1), list([int(2)])])),
        ),
        (
            "announce-list-of-200",
            with("announce-list", list(trackers)),
        ),
        (
            "announce-with-escape-codes",
            with("announce", string("http://\x1b[2J.example/")),
        ),
        (
            "comment-with-escape-codes",
            with("comment", string("\x1b[2J\x1b]0;owned\x07")),
        ),
        (
            "creation-date-negative",
            with("creation date", int(i128::from(i64::MIN))),
        ),
        ("private-is-a-string", dict([("info", info())])),
        (
            "web-seed-on-disk",
            behind("url-list", string("file:///etc/passwd")),
        ),
    ]
}

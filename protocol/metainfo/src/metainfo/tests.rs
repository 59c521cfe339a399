//! Torrents of all kinds, made by a plain reading of the BEPs, and what is read from them.

mod dictionary;
mod hostile;

use super::*;
use crate::bencode::Bencode;
use crate::verifier::Verdict;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PIECE: usize = 32 * 1024;
const LEAF: usize = 16 * 1024;

/// The sample's files: two of several pieces, one within a piece, one of exactly a piece, one empty.
fn sample_files() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |seed, length| {
        (0..=u8::MAX)
            .map(|byte| byte ^ seed)
            .cycle()
            .take(length)
            .collect()
    };
    vec![
        ("a", bytes(1, 2 * PIECE + 20_000)),
        ("b/c", bytes(2, 5)),
        ("b/d", Vec::new()),
        ("e", bytes(3, PIECE)),
        ("f", bytes(4, 3 * PIECE)),
    ]
}

fn naive_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            Sha256::digest([naive_root(left), naive_root(right)].concat()).into()
        }
    }
}

/// The leaves of `content`, filled up with zeros to a power of two that is at least `width`.
fn leaves(content: &[u8], width: usize) -> Vec<[u8; 32]> {
    let mut leaves: Vec<[u8; 32]> = content
        .chunks(LEAF)
        .map(|block| Sha256::digest(block).into())
        .collect();
    leaves.resize(leaves.len().max(width).next_power_of_two(), [0; 32]);
    leaves
}

fn insert_into_tree(tree: &mut Bencode, path: &[&str], file: Bencode) {
    let Bencode::Dict(entries) = tree else {
        panic!()
    };
    match path {
        [name] => {
            entries.insert(name.as_bytes().to_vec(), Bencode::dict([("", file)]));
        }
        [name, rest @ ..] => {
            let below = entries.entry(name.as_bytes().to_vec());
            let empty = || Bencode::Dict(BTreeMap::new());
            insert_into_tree(below.or_insert_with(empty), rest, file);
        }
        [] => panic!(),
    }
}

/// The `file tree` and the `piece layers` of `files`.
fn v2_parts(files: &[(&str, Vec<u8>)]) -> (Bencode, Bencode) {
    let mut tree = Bencode::Dict(BTreeMap::new());
    let mut layers = BTreeMap::new();
    for (path, content) in files {
        let mut file = vec![("length", Bencode::Int(content.len() as i64))];
        if !content.is_empty() {
            let width = if content.len() > PIECE {
                PIECE / LEAF
            } else {
                1
            };
            let all = leaves(content, width);
            let root = naive_root(&all);
            file.push(("pieces root", root.as_slice().into()));
            if content.len() > PIECE {
                let pieces = content.len().div_ceil(PIECE);
                let layer = all.chunks(PIECE / LEAF).take(pieces).map(naive_root);
                let layer: Vec<u8> = layer.flatten().collect();
                layers.insert(root.to_vec(), layer.into());
            }
        }
        let path: Vec<_> = path.split('/').collect();
        insert_into_tree(&mut tree, &path, Bencode::dict(file));
    }
    (tree, Bencode::Dict(layers))
}

fn path_list(path: &str) -> Bencode {
    let components: Vec<Bencode> = path.split('/').map(Bencode::from).collect();
    components.into()
}

/// The `files` and the `pieces` of `files`, with padding before those that would not begin at a piece.
fn v1_parts(files: &[(&str, Vec<u8>)], pad: bool) -> (Bencode, Bencode) {
    let (mut list, mut space) = (Vec::<Bencode>::new(), Vec::new());
    for (path, content) in files {
        let gap = space.len().next_multiple_of(PIECE) - space.len();
        if pad && gap > 0 && !content.is_empty() {
            space.resize(space.len() + gap, 0);
            list.push(Bencode::dict([
                ("attr", "p".into()),
                ("length", Bencode::Int(gap as i64)),
                ("path", path_list(&format!(".pad/{gap}"))),
            ]));
        }
        space.extend_from_slice(content);
        list.push(Bencode::dict([
            ("length", Bencode::Int(content.len() as i64)),
            ("path", path_list(path)),
        ]));
    }
    let pieces = space.chunks(PIECE).flat_map(Sha1::digest);
    (list.into(), pieces.collect::<Vec<u8>>().into())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    V1,
    V2,
    Hybrid,
}

fn torrent_of(kind: Kind, files: &[(&str, Vec<u8>)]) -> Bencode {
    let mut info = vec![
        ("name", Bencode::from("sample")),
        ("piece length", Bencode::Int(PIECE as i64)),
    ];
    let mut root = Vec::new();
    if kind != Kind::V2 {
        let (list, pieces) = v1_parts(files, kind == Kind::Hybrid);
        info.extend([("files", list), ("pieces", pieces)]);
    }
    if kind != Kind::V1 {
        let (tree, layers) = v2_parts(files);
        info.extend([("file tree", tree), ("meta version", Bencode::Int(2))]);
        root.push(("piece layers", layers));
    }
    root.push(("info", Bencode::dict(info)));
    Bencode::dict(root)
}

fn sample(kind: Kind) -> Bencode {
    torrent_of(kind, &sample_files())
}

/// Puts `value` at the end of `keys`, where a number is a place in a list.
fn with(mut torrent: Bencode, keys: &[&str], value: impl Into<Bencode>) -> Bencode {
    let mut at = &mut torrent;
    for key in keys {
        at = match at {
            Bencode::Dict(entries) => entries
                .entry(key.as_bytes().to_vec())
                .or_insert(Bencode::Int(0)),
            Bencode::List(items) => &mut items[key.parse::<usize>().unwrap()],
            _ => panic!("{key}"),
        };
    }
    *at = value.into();
    torrent
}

/// Takes the last of `keys` away.
fn without(mut torrent: Bencode, keys: &[&str]) -> Bencode {
    let (last, keys) = keys.split_last().unwrap();
    let mut at = &mut torrent;
    for key in keys {
        at = match at {
            Bencode::Dict(entries) => entries.get_mut(key.as_bytes()).unwrap(),
            Bencode::List(items) => &mut items[key.parse::<usize>().unwrap()],
            _ => panic!("{key}"),
        };
    }
    match at {
        Bencode::Dict(entries) => drop(entries.remove(last.as_bytes()).unwrap()),
        Bencode::List(items) => drop(items.remove(last.parse().unwrap())),
        _ => panic!("{last}"),
    }
    torrent
}

fn parse(torrent: &Bencode) -> Result<Metainfo, Error> {
    Metainfo::parse(&torrent.encode(), Limits::LOCAL)
}

fn paths(metainfo: &Metainfo) -> Vec<&str> {
    let real = metainfo.files().iter().filter(|file| !file.padding);
    real.map(|file| file.path.as_str()).collect()
}

/// The bytes of `piece`, put together from the files as they lie in the address space.
fn piece_bytes(
    metainfo: &Metainfo,
    contents: &BTreeMap<&str, Vec<u8>>,
    piece: PieceIndex,
) -> Vec<u8> {
    let range = metainfo.layout().range_of(piece);
    let mut bytes = vec![0; metainfo.layout().length_of(piece) as usize];
    for file in metainfo.files().iter().filter(|file| !file.padding) {
        for (at, byte) in (file.offset..).zip(&contents[file.path.as_str()]) {
            if range.contains(&at) {
                bytes[usize::try_from(at - range.start).unwrap()] = *byte;
            }
        }
    }
    bytes
}

#[test]
fn every_kind_verifies_the_content_it_was_made_of() {
    let contents: BTreeMap<_, _> = sample_files().into_iter().collect();
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let metainfo = parse(&sample(kind)).unwrap();
        assert_eq!(metainfo.warnings(), []);
        assert_eq!(metainfo.folder(), Some("sample"));
        assert_eq!(paths(&metainfo), ["a", "b/c", "b/d", "e", "f"]);
        let hashes = metainfo.info_hashes();
        assert_eq!(hashes.v1().is_some(), kind != Kind::V2);
        assert_eq!(hashes.v2().is_some(), kind != Kind::V1);
        let verifier = metainfo.verifier();
        assert_eq!(verifier.piece_count(), metainfo.layout().piece_count());
        for piece in metainfo.layout().pieces() {
            let mut hasher = verifier.hasher(piece);
            hasher.update(&piece_bytes(&metainfo, &contents, piece));
            let verdict = verifier.check(piece, &hasher.finish());
            assert_eq!(verdict, Verdict::Right, "{kind:?} {piece}");
        }
    }
}

#[test]
fn files_of_v2_begin_at_pieces_and_have_layers() {
    for kind in [Kind::V2, Kind::Hybrid] {
        let torrent = sample(kind);
        let metainfo = parse(&torrent).unwrap();
        let (_, Bencode::Dict(layers)) = v2_parts(&sample_files()) else {
            panic!()
        };
        let real = (0u32..)
            .zip(metainfo.files())
            .filter(|(_, file)| !file.padding);
        let pieces: Vec<_> = real
            .map(|(at, _)| metainfo.pieces_of(FileIndex(at)))
            .collect();
        assert_eq!(pieces, [0..3, 3..4, 0..0, 4..5, 5..8]);
        for (at, file) in (0u32..).zip(metainfo.files()) {
            let layer = metainfo.piece_layer(FileIndex(at)).concat();
            let root = file.root.unwrap_or_default().to_vec();
            let expected = layers.get(&root).map_or(vec![], |layer| {
                let Bencode::Bytes(bytes) = layer else {
                    panic!()
                };
                bytes.clone()
            });
            assert_eq!(layer, expected, "{}", file.path);
        }
        assert_eq!(metainfo.pieces_of(FileIndex(99)), 0..0);
    }
}

#[test]
fn info_hashes_are_those_of_the_bytes_as_they_stand() {
    // Out of order, as some programs write it, and with a key that nobody knows.
    let info = b"d6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name1:n12:piece lengthi16384e6:lengthi5e1:?i1ee";
    let torrent = [b"d4:info".as_slice(), info, b"8:announce3:bade\r\n"].concat();
    let metainfo = Metainfo::parse(&torrent, Limits::REMOTE).unwrap();
    assert_eq!(metainfo.raw_info(), info);
    let hash: [u8; 20] = Sha1::digest(info).into();
    assert_eq!(metainfo.info_hashes().v1(), Some(InfoHashV1(hash)));
    assert_eq!(
        metainfo.warnings(),
        [
            Warning::UnsortedInfo(7),
            Warning::TrailingBytes(2),
            Warning::IgnoredUrl {
                url: "bad".into(),
                reason: UrlProblem::Invalid
            },
        ]
    );
    let single = sample_single(Kind::V1);
    let mut encoded = single.encode();
    encoded.pop();
    encoded.extend(b"1:ai1ee");
    let metainfo = Metainfo::parse(&encoded, Limits::LOCAL).unwrap();
    assert_eq!(metainfo.warnings(), [Warning::UnsortedKeys(0)]);
}

/// A torrent of the one file `sample`.
fn sample_single(kind: Kind) -> Bencode {
    let files = vec![("sample", sample_files().remove(0).1)];
    let torrent = torrent_of(kind, &files);
    match kind {
        Kind::V2 => torrent,
        _ => with(
            without(torrent, &["info", "files"]),
            &["info", "length"],
            Bencode::Int(files[0].1.len() as i64),
        ),
    }
}

#[test]
fn a_single_file_has_no_folder() {
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let metainfo = parse(&sample_single(kind)).unwrap();
        assert_eq!(metainfo.folder(), None, "{kind:?}");
        assert_eq!(paths(&metainfo), ["sample"]);
        assert_eq!(metainfo.files()[0].raw_path(), [b"sample"]);
    }
    // One file in a list of files, or in a directory, is in a folder.
    for kind in [Kind::V1, Kind::Hybrid] {
        let torrent = torrent_of(kind, &[("one", vec![1])]);
        assert_eq!(parse(&torrent).unwrap().folder(), Some("sample"));
    }
    let torrent = torrent_of(Kind::V2, &[("d/one", vec![1])]);
    assert_eq!(parse(&torrent).unwrap().folder(), Some("sample"));
}

#[test]
fn trackers_keep_their_tiers_and_everything_else_its_place() {
    let list = |urls: &[&str]| Bencode::List(urls.iter().map(|&url| url.into()).collect());
    let tiers = vec![
        list(&[
            "http://a.example/announce",
            "udp://b.example:80",
            "ftp://c.example",
        ]),
        list(&["udp://no-port.example", ""]),
        "https://d.example".into(),
        list(&["http://a.example/announce", "wss://e.example"]),
    ];
    let node = |host: &str, port: i64| Bencode::List(vec![host.into(), port.into()]);
    let extras = [
        ("announce", "http://not-used.example".into()),
        ("announce-list", tiers.into()),
        (
            "url-list",
            list(&["http://w.example/", "gopher://w.example", ""]),
        ),
        (
            "nodes",
            vec![node("::1", 5), node("h", 0), node("host.example", 6881)].into(),
        ),
        ("comment", "wrong".into()),
        ("comment.utf-8", "right".into()),
        ("created by", Bencode::Int(3)),
        ("creation date", Bencode::Int(1_700_000_000)),
    ];
    let mut torrent = sample(Kind::V1);
    for (key, value) in extras {
        torrent = with(torrent, &[key], value);
    }
    torrent = with(torrent, &["info", "private"], 1i64);
    torrent = with(torrent, &["info", "source"], "S");
    let metainfo = parse(&torrent).unwrap();
    let tiers: Vec<Vec<&str>> = metainfo
        .trackers()
        .iter()
        .map(|tier| tier.iter().map(|url| url.url.as_str()).collect())
        .collect();
    assert_eq!(
        tiers,
        [
            vec!["http://a.example/announce", "udp://b.example:80"],
            vec!["https://d.example"],
            vec!["wss://e.example"],
        ]
    );
    assert_eq!(metainfo.web_seeds(), ["http://w.example/"]);
    let nodes: Vec<_> = metainfo.nodes().iter().map(Contact::to_string).collect();
    assert_eq!(nodes, ["[::1]:5", "host.example:6881"]);
    assert_eq!(metainfo.comment(), Some("right"));
    assert_eq!(
        (metainfo.created_by(), metainfo.source()),
        (None, Some("S"))
    );
    assert_eq!(metainfo.creation_date(), Some(1_700_000_000));
    assert!(metainfo.is_private());
    let warnings: Vec<_> = metainfo.warnings().iter().map(Warning::to_string).collect();
    assert_eq!(
        warnings,
        [
            "the URL \"ftp://c.example\" is ignored: its scheme is not supported",
            "the URL \"udp://no-port.example\" is ignored: it names no port",
            "the URL \"gopher://w.example\" is ignored: its scheme is not supported",
            "`created by` is malformed and is ignored",
        ]
    );

    let alone = with(sample(Kind::V1), &["announce"], " http://a.example ");
    let alone = with(alone, &["url-list"], "https://w.example/d");
    let metainfo = parse(&with(alone, &["announce-list"], Bencode::List(vec![]))).unwrap();
    assert_eq!(metainfo.trackers()[0][0].url, "http://a.example");
    assert_eq!(metainfo.web_seeds(), ["https://w.example/d"]);
}

#[test]
fn urls_of_the_wrong_type_or_scheme_are_ignored_with_a_warning_that_says_so() {
    let odd_tiers: Vec<Bencode> = vec![
        Bencode::Int(1),
        Bencode::List(vec![Bencode::Int(2), "http://a.example/".into()]),
    ];
    let said = |key: &str, value: Bencode| {
        let metainfo = parse(&with(sample(Kind::V1), &[key], value)).unwrap();
        let said: Vec<_> = metainfo.warnings().iter().map(Warning::to_string).collect();
        (metainfo.trackers().len(), said.join("; "))
    };
    let no_scheme = |url: &str| format!("the URL {url:?} is ignored: its scheme is not supported");
    for (key, value, trackers, expected) in [
        (
            "announce",
            Bencode::Int(1),
            0,
            "`announce` is malformed and is ignored".to_owned(),
        ),
        (
            "announce",
            "javascript:alert(1)".into(),
            0,
            no_scheme("javascript:alert(1)"),
        ),
        (
            "announce-list",
            "http://a.example/".into(),
            0,
            "`announce-list` is malformed and is ignored".to_owned(),
        ),
        (
            "announce-list",
            odd_tiers.into(),
            1,
            "`announce-list` has malformed entries, which are ignored".to_owned(),
        ),
        (
            "url-list",
            Bencode::Int(1),
            0,
            "`url-list` is malformed and is ignored".to_owned(),
        ),
        (
            "url-list",
            vec![Bencode::Int(1)].into(),
            0,
            "`url-list` has malformed entries, which are ignored".to_owned(),
        ),
        (
            "url-list",
            "file:///etc/passwd".into(),
            0,
            no_scheme("file:///etc/passwd"),
        ),
    ] {
        assert_eq!(said(key, value), (trackers, expected), "{key}");
    }
}

#[test]
fn endless_lists_of_urls_are_cut_with_one_warning() {
    let urls = (0..2500).map(|n| Bencode::from(format!("http://t{n}.example")));
    let torrent = with(
        sample(Kind::V1),
        &["announce-list"],
        urls.collect::<Vec<_>>(),
    );
    let metainfo = parse(&torrent).unwrap();
    assert_eq!(metainfo.trackers().len(), MAX_TRACKERS);
    let (field, limit) = ("announce-list", MAX_TRACKERS);
    assert_eq!(metainfo.warnings(), [Warning::TooMany { field, limit }]);
}

#[test]
fn attributes_padding_and_symlinks_are_told_apart() {
    let entry = |attr: &str, length: i64, path: &str| {
        Bencode::dict([
            ("attr", attr.into()),
            ("length", length.into()),
            ("path", path_list(path)),
        ])
    };
    let link = with(
        entry("l", 7, "link"),
        &["symlink path"],
        path_list("../../x"),
    );
    let files = vec![
        entry("xh", 10, "run"),
        link,
        entry("p", 5, "../../not/used"),
        entry("", 6, "_____padding_file_0_if you see this file"),
        entry("l", 3, "no target"),
    ];
    let torrent = with(sample(Kind::V1), &["info", "files"], files);
    let torrent = with(torrent, &["info", "pieces"], [b'.'; 20].as_slice());
    let metainfo = parse(&torrent).unwrap();
    assert_eq!(paths(&metainfo), ["run", "link", "no target"]);
    let files = metainfo.files();
    assert!(files[0].executable && files[0].hidden);
    assert_eq!(files[1].symlink.as_deref(), Some("../../x"));
    assert_eq!((files[1].length, files[1].offset), (0, 10));
    assert_eq!((files[2].padding, files[2].path.as_str()), (true, ".pad/5"));
    assert_eq!(files[3].range(), 15..21);
    assert_eq!((files[4].symlink.as_deref(), files[4].offset), (None, 21));
    assert_eq!(metainfo.layout().total_length(), 24);
}

#[test]
fn names_are_made_safe_and_the_original_is_kept() {
    let one = |path: Bencode| Bencode::dict([("length", 1i64.into()), ("path", path)]);
    let latin = Bencode::List(vec![Bencode::Bytes(b"\xe9t\xe9".to_vec())]);
    let files = vec![
        one(path_list("con")),
        one(latin.clone()),
        with(one(latin), &["path.utf-8"], path_list("été")),
        one(path_list("CON")),
        one(path_list("été")),
    ];
    let torrent = with(sample(Kind::V1), &["info", "files"], files);
    let torrent = with(torrent, &["info", "pieces"], [b'.'; 20].as_slice());
    let metainfo = parse(&with(torrent, &["info", "name.utf-8"], "a/b ")).unwrap();
    assert_eq!(metainfo.folder(), Some("ab"));
    assert_eq!(
        paths(&metainfo),
        ["_con", "_t_", "été", "_CON (1)", "été (1)"]
    );
    assert_eq!(metainfo.files()[3].raw_path(), [b"CON"]);
    let path = |path: &str| path.to_owned();
    assert_eq!(
        metainfo.warnings(),
        [
            Warning::SanitisedName(path("ab")),
            Warning::Renamed {
                path: path("_CON (1)")
            },
            Warning::Renamed {
                path: path("été (1)")
            },
            Warning::Sanitised {
                count: 2,
                first: path("_con")
            },
        ]
    );
}

#[test]
fn a_hybrid_may_pad_its_last_file_or_not() {
    let files = vec![("a", vec![7; 40_000])];
    let torrent = torrent_of(Kind::Hybrid, &files);
    let plain = parse(&torrent).unwrap();
    let Bencode::Dict(root) = &torrent else {
        panic!()
    };
    let Bencode::Dict(info) = &root[b"info".as_slice()] else {
        panic!()
    };
    let Bencode::List(mut list) = info[b"files".as_slice()].clone() else {
        panic!()
    };
    let gap = 2 * PIECE - 40_000;
    list.push(Bencode::dict([
        ("attr", "p".into()),
        ("length", Bencode::Int(gap as i64)),
    ]));
    let padded = parse(&with(torrent.clone(), &["info", "files"], list)).unwrap();
    assert_eq!(plain.layout().total_length(), 40_000);
    assert_eq!(padded.layout().total_length(), 2 * PIECE as u64);
    let Verifier::Hybrid(_, pieces) = padded.verifier() else {
        panic!()
    };
    assert_eq!(pieces.0[1].content_length, 40_000 - 32 * 1024);
    assert_eq!(pieces.0[1].leaves, 2);
}

proptest! {
    #[test]
    fn any_set_of_files_is_read_in_all_kinds(
        lengths in proptest::collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}){0,2}", 0usize..120_000, 1..6)
    ) {
        prop_assume!(lengths.values().any(|&length| length > 0));
        let names: Vec<&String> = lengths.keys().collect();
        // A path must not be a directory of another one, and both parts must be in the order of the tree.
        prop_assume!(names.iter().all(|a| !names.iter().any(|b| b.starts_with(&format!("{a}/")))));
        let mut files: Vec<_> = lengths.iter().map(|(name, &length)| (name.as_str(), vec![9; length])).collect();
        files.sort_by_key(|(name, _)| name.split('/').collect::<Vec<_>>());
        for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
            let metainfo = parse(&torrent_of(kind, &files)).unwrap();
            prop_assert_eq!(paths(&metainfo), files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
            let real = metainfo.files().iter().filter(|file| !file.padding);
            let lengths: Vec<_> = files.iter().map(|(_, content)| content.len() as u64).collect();
            prop_assert_eq!(real.map(|file| file.length).collect::<Vec<_>>(), lengths);
            prop_assert_eq!(metainfo.warnings(), []);
        }
    }
}

#[test]
fn a_web_seed_is_asked_for_files_by_the_names_that_the_torrent_has() {
    let base = |text: &str| url::Url::parse(text).unwrap();
    let url = |metainfo: &Metainfo, text: &str, file| {
        let url = metainfo.web_seed_url(&base(text), FileIndex(file));
        url.map(String::from)
    };
    let some = |text: &str| Some(text.to_owned());
    let single = parse(&sample_single(Kind::V1)).unwrap();
    for (from, to) in [
        ("http://w.example/a.iso", "http://w.example/a.iso"),
        ("http://w.example/pub/", "http://w.example/pub/sample"),
        ("http://w.example", "http://w.example/sample"),
        ("http://w.example/p/?k=1", "http://w.example/p/sample?k=1"),
    ] {
        assert_eq!(url(&single, from, 0), some(to), "{from}");
    }
    let one = |path: Bencode| Bencode::dict([("length", 1i64.into()), ("path", path)]);
    let odd = Bencode::List(vec![
        "d e".into(),
        Bencode::Bytes(b"\xe9?#%2F&\x00".to_vec()),
    ]);
    let padding = with(one(path_list(".pad/1")), &["attr"], "p");
    let files = vec![one(odd), padding, one(path_list("."))];
    let torrent = with(sample(Kind::V1), &["info", "files"], files);
    let torrent = with(torrent, &["info", "pieces"], [b'.'; 20].as_slice());
    let folder = parse(&with(torrent, &["info", "name"], "a/b")).unwrap();
    let expected = some("https://w.example/pub/a%2Fb/d%20e/%E9%3F%23%252F%26%00");
    assert_eq!(url(&folder, "https://w.example/pub", 0), expected);
    assert_eq!(url(&folder, "https://w.example/pub/", 0), expected);
    assert_eq!(url(&folder, "https://w.example/", 1), None);
    assert_eq!(url(&folder, "https://w.example/", 2), None);
    assert_eq!(url(&folder, "https://w.example/", 3), None);
}

#[test]
fn a_script_is_asked_as_bep_17_has_it() {
    let hash = b"\x9c\xd9i\x8a\xf5Uu\x1a\x91\x86\xae\x06lW\xea!W#5\xe0";
    let ask = |base: &str, whole| {
        let base = url::Url::parse(base).unwrap();
        let swarm = crate::InfoHash(*hash);
        let url = http_seed_url(&base, swarm, PieceIndex(3), &(5..10), whole);
        String::from(url)
    };
    let named = "info_hash=%9C%D9i%8A%F5Uu%1A%91%86%AE%06lW%EA%21W%235%E0&piece=3";
    let whole = ask("http://www.whatever.com/seed.php", true);
    assert_eq!(whole, format!("http://www.whatever.com/seed.php?{named}"));
    let part = ask("http://www.whatever.com/seed.php?k", false);
    assert_eq!(
        part,
        format!("http://www.whatever.com/seed.php?k&{named}&ranges=5-9")
    );
    let list = Bencode::List(vec!["http://a.example/s".into(), "ftp://b.example".into()]);
    let metainfo = parse(&with(sample(Kind::V1), &["httpseeds"], list)).unwrap();
    assert_eq!(metainfo.http_seeds(), ["http://a.example/s"]);
    assert_eq!(metainfo.warnings().len(), 1);
}

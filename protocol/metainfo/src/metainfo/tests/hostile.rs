//! Torrents that are broken or mean harm, each with the one error that it must get.

use super::*;
use crate::bencode::{DecodeError, DecodeErrorKind};
use crate::geometry::LayoutError;
use crate::names::{MAX_PATH_DEPTH, NameError};

fn malformed(field: &'static str, expected: &'static str) -> Error {
    Error::Malformed { field, expected }
}

fn bencode(offset: usize, kind: DecodeErrorKind) -> Error {
    Error::Bencode(DecodeError { offset, kind })
}

/// A v1 file list of one byte each.
fn tiny_files(paths: impl IntoIterator<Item = Bencode>) -> Bencode {
    let file = |path| Bencode::dict([("length", 1i64.into()), ("path", path)]);
    Bencode::List(paths.into_iter().map(file).collect())
}

fn v1_with_files(files: Bencode) -> Bencode {
    let torrent = with(sample(Kind::V1), &["info", "files"], files);
    with(torrent, &["info", "pieces"], [b'.'; 20].as_slice())
}

/// The keys that lead to a property of the sample's file `name` in the file tree.
fn in_tree<'a>(name: &'a str, key: &'a str) -> [&'a str; 5] {
    ["info", "file tree", name, "", key]
}

#[test]
fn what_is_no_torrent_is_refused() {
    use DecodeErrorKind::*;
    let refused = |bytes: &[u8]| Metainfo::parse(bytes, Limits::REMOTE).unwrap_err();
    assert_eq!(refused(b""), bencode(0, UnexpectedEnd));
    assert_eq!(refused(b"<html>"), bencode(0, UnexpectedByte(b'<')));
    assert_eq!(refused(b"le"), Error::NotADictionary);
    assert_eq!(refused(b"de"), Error::Missing("info"));
    assert_eq!(refused(b"d4:info3:abce"), malformed("info", "a dictionary"));
    assert_eq!(refused(b"d4:infodee"), Error::Missing("piece length"));
    assert_eq!(refused(&vec![b'l'; 10 << 20]), bencode(100, TooDeep(100)));
    assert_eq!(
        refused(&vec![b'l'; (10 << 20) + 1]),
        bencode(0, TooLong(10 << 20))
    );
    let many = [b"l".as_slice(), &b"0:".repeat(3_000_000), b"e"].concat();
    assert_eq!(refused(&many), bencode(5_999_999, TooManyTokens(3_000_000)));
    assert_eq!(
        refused(b"d4:infod6:lengthi1e6:lengthi2eee"),
        bencode(19, DuplicateKey)
    );
    assert_eq!(
        refused(b"d4:infod6:lengthi-0eee"),
        bencode(16, NegativeZero)
    );
    assert_eq!(
        refused(b"d4:infod6:pieces9999999999:ee"),
        bencode(16, StringTooLong)
    );
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let encoded = sample(kind).encode();
        for cut in (0..encoded.len()).step_by(13) {
            assert!(matches!(refused(&encoded[..cut]), Error::Bencode(_)));
        }
    }
}

#[test]
fn hostile_v1_torrents_are_refused() {
    let v1 = || sample(Kind::V1);
    let single = || sample_single(Kind::V1);
    let longer_than_u64 = Bencode::List(vec![
        Bencode::dict([
            ("length", i64::MAX.into()),
            ("path", path_list("a"))
        ]);
        3
    ]);
    let deep: Vec<_> = (0..=MAX_PATH_DEPTH).map(|_| "d").collect();
    let table = [
        (without(v1(), &["info", "name"]), Error::Missing("name")),
        (
            with(v1(), &["info", "name"], 1i64),
            malformed("name", "a string"),
        ),
        (without(v1(), &["info", "pieces"]), Error::Missing("pieces")),
        (
            with(v1(), &["info", "pieces"], 1i64),
            malformed("pieces", "a string"),
        ),
        (
            with(v1(), &["info", "files"], 1i64),
            malformed("files", "a list"),
        ),
        (
            with(v1(), &["info", "piece length"], "x"),
            malformed("piece length", "an integer"),
        ),
        (
            with(v1(), &["info", "piece length"], 0i64),
            Error::PieceLength(0),
        ),
        (
            with(v1(), &["info", "piece length"], -1i64),
            Error::PieceLength(-1),
        ),
        (
            with(v1(), &["info", "piece length"], i64::MAX),
            Error::PieceLength(i64::MAX),
        ),
        (
            with(v1(), &["info", "piece length"], (256i64 << 20) + 1),
            Error::PieceLength((256 << 20) + 1),
        ),
        // A piece of one byte makes one piece of each.
        (
            with(v1(), &["info", "piece length"], 1i64),
            Error::PiecesLength {
                expected: 216_613 * 20,
                found: 140,
            },
        ),
        (
            with(single(), &["info", "length"], 1i64 << 40),
            Error::Layout(LayoutError::TooManyPieces),
        ),
        (
            with(single(), &["info", "length"], i64::MAX),
            Error::Layout(LayoutError::TooManyPieces),
        ),
        (
            with(single(), &["info", "length"], -1i64),
            Error::FileLength("sample".into()),
        ),
        (
            without(single(), &["info", "length"]),
            Error::FileLength("sample".into()),
        ),
        (
            with(single(), &["info", "length"], 0i64),
            Error::Layout(LayoutError::Empty),
        ),
        (
            with(v1(), &["info", "files", "1", "length"], -5i64),
            Error::FileLength("b/c".into()),
        ),
        (
            v1_with_files(longer_than_u64),
            Error::Layout(LayoutError::TooLong),
        ),
        (
            with(v1(), &["info", "pieces"], vec![b'x'; 141]),
            Error::PiecesLength {
                expected: 140,
                found: 141,
            },
        ),
        (
            with(v1(), &["info", "pieces"], vec![b'x'; 160]),
            Error::PiecesLength {
                expected: 140,
                found: 160,
            },
        ),
        (
            with(v1(), &["info", "pieces"], ""),
            Error::PiecesLength {
                expected: 140,
                found: 0,
            },
        ),
        (v1_with_files(tiny_files([])), Error::NoFiles),
        (
            v1_with_files(Bencode::List(vec![Bencode::dict([
                ("attr", "p".into()),
                ("length", 9i64.into()),
            ])])),
            Error::NoFiles,
        ),
        (
            v1_with_files(tiny_files([path_list("a"), Bencode::List(vec![])])),
            Error::FilePath(1),
        ),
        (
            v1_with_files(tiny_files([Bencode::Int(4)])),
            Error::FilePath(0),
        ),
        (
            v1_with_files(tiny_files([vec![Bencode::Int(4)].into()])),
            Error::FilePath(0),
        ),
        (
            v1_with_files(vec![Bencode::Int(4)].into()),
            Error::FilePath(0),
        ),
        (
            v1_with_files(tiny_files([path_list("a/../../../etc/passwd")])),
            NameError::Climbs("..".into()).into(),
        ),
        (
            v1_with_files(tiny_files([path_list("..\\..\\x")])),
            NameError::Climbs("..\\..\\x".into()).into(),
        ),
        (
            with(single(), &["info", "name"], "../up"),
            NameError::Climbs("../up".into()).into(),
        ),
        (
            with(v1(), &["info", "name"], ".."),
            NameError::Climbs("..".into()).into(),
        ),
        (
            v1_with_files(tiny_files([path_list(&deep.join("/"))])),
            NameError::TooDeep.into(),
        ),
        (
            v1_with_files(tiny_files(vec![path_list("x"); 502])),
            NameError::TooManyRenames.into(),
        ),
    ];
    for (at, (torrent, error)) in table.into_iter().enumerate() {
        assert_eq!(parse(&torrent).unwrap_err(), error, "entry {at}");
    }
}

#[test]
fn hostile_v2_torrents_are_refused() {
    let v2 = || sample(Kind::V2);
    let single = || sample_single(Kind::V2);
    let tree = |file: Bencode| with(v2(), &["info", "file tree"], file);
    let empty = || Bencode::Dict(BTreeMap::new());
    let mut deep = Bencode::dict([("", Bencode::dict([("length", 1i64.into())]))]);
    for _ in 0..97 {
        deep = Bencode::dict([("d", deep)]);
    }
    let table = [
        (
            with(v2(), &["info", "meta version"], 3i64),
            Error::NewerVersion(3),
        ),
        // A newer version says so whatever else it changed.
        (
            Bencode::dict([("info", Bencode::dict([("meta version", 4i64.into())]))]),
            Error::NewerVersion(4),
        ),
        (
            with(v2(), &["info", "meta version"], "2"),
            malformed("meta version", "1 or, with a file tree, 2"),
        ),
        (
            with(v2(), &["info", "meta version"], 1i64),
            malformed("meta version", "1 or, with a file tree, 2"),
        ),
        (
            without(v2(), &["info", "meta version"]),
            Error::Missing("meta version"),
        ),
        (
            without(v2(), &["info", "file tree"]),
            Error::Missing("file tree"),
        ),
        (
            with(v2(), &["info", "piece length"], 8192i64),
            Error::PieceLengthV2(8192),
        ),
        (
            with(v2(), &["info", "piece length"], 49_152i64),
            Error::PieceLengthV2(49_152),
        ),
        (
            with(v2(), &["info", "piece length"], 1i64 << 29),
            Error::PieceLengthV2(1 << 29),
        ),
        (tree(empty()), Error::NoFiles),
        (tree(Bencode::dict([("d", empty())])), Error::NoFiles),
        (
            without(v2(), &in_tree("a", "pieces root")),
            Error::MissingRoot("a".into()),
        ),
        (
            with(v2(), &in_tree("a", "pieces root"), "short"),
            Error::MissingRoot("a".into()),
        ),
        (
            with(v2(), &in_tree("e", "pieces root"), vec![0u8; 32]),
            Error::MissingRoot("e".into()),
        ),
        (
            without(v2(), &in_tree("a", "length")),
            Error::FileLength("a".into()),
        ),
        (
            with(v2(), &in_tree("a", "length"), -1i64),
            Error::FileLength("a".into()),
        ),
        (
            with(single(), &in_tree("sample", "length"), i64::MAX),
            Error::Layout(LayoutError::TooManyPieces),
        ),
        (
            with(single(), &in_tree("sample", "length"), 0i64),
            Error::Layout(LayoutError::Empty),
        ),
        (
            without(single(), &["piece layers"]),
            Error::MissingPieceLayer("sample".into()),
        ),
        (
            with(single(), &["piece layers"], empty()),
            Error::MissingPieceLayer("sample".into()),
        ),
        (
            with(single(), &["piece layers"], 3i64),
            Error::MissingPieceLayer("sample".into()),
        ),
        (
            with(single(), &in_tree("sample", "length"), 3 * PIECE as i64 + 1),
            Error::PieceLayerLength {
                file: "sample".into(),
                expected: 128,
                found: 96,
            },
        ),
        (
            with(
                v2(),
                &["info", "file tree", ".."],
                Bencode::dict([("x", empty())]),
            ),
            NameError::Climbs("..".into()).into(),
        ),
        // A path of 97 components and the dictionaries around it are more than the 100 levels that are read.
        (tree(deep), bencode(0, DecodeErrorKind::TooDeep(100))),
    ];
    for (at, (torrent, error)) in table.into_iter().enumerate() {
        match (parse(&torrent).unwrap_err(), error) {
            (Error::Bencode(found), Error::Bencode(error)) => assert_eq!(found.kind, error.kind),
            (found, error) => assert_eq!(found, error, "entry {at}"),
        }
    }
}

#[test]
fn malformed_places_of_a_file_tree_are_named() {
    let file = || Bencode::dict([("length", 0i64.into())]);
    let leaf = "a file is a dictionary with an empty key and no other";
    let table = [
        (Bencode::Int(1), "it must be a dictionary"),
        (Bencode::dict([("", file())]), leaf),
        (
            Bencode::dict([("a", Bencode::dict([("", file()), ("b", file())]))]),
            leaf,
        ),
        (
            Bencode::dict([("a", Bencode::Int(1))]),
            "an entry must be a dictionary",
        ),
        (
            Bencode::dict([("a", Bencode::dict([("", Bencode::Int(1))]))]),
            "the properties of a file must be a dictionary",
        ),
        (
            Bencode::dict([("a", Bencode::dict([("", with(file(), &["attr"], "p"))]))]),
            "padding has no place in it",
        ),
    ];
    for (tree, expected) in table {
        let torrent = with(sample(Kind::V2), &["info", "file tree"], tree);
        match parse(&torrent) {
            Err(Error::FileTree { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn wrong_piece_layers_are_refused() {
    let torrent = sample_single(Kind::V2);
    let Bencode::Dict(root) = &torrent else {
        panic!()
    };
    let Bencode::Dict(layers) = &root[b"piece layers".as_slice()] else {
        panic!()
    };
    let (key, layer) = layers.first_key_value().unwrap();
    let Bencode::Bytes(layer) = layer else {
        panic!()
    };
    let parse_with = |layer: Vec<u8>| {
        let layers = Bencode::dict([(key.clone(), Bencode::Bytes(layer))]);
        parse(&with(torrent.clone(), &["piece layers"], layers)).unwrap_err()
    };
    let mut wrong = layer.clone();
    wrong[40] ^= 1;
    assert_eq!(parse_with(wrong), Error::WrongPieceLayer("sample".into()));
    let mut swapped = layer.clone();
    swapped.rotate_left(32);
    assert_eq!(parse_with(swapped), Error::WrongPieceLayer("sample".into()));
    let file = || "sample".to_owned();
    for found in [0, 95, 64, 128] {
        let mut other = layer.clone();
        other.resize(found, 0);
        let expected = 96;
        assert_eq!(
            parse_with(other),
            Error::PieceLayerLength {
                file: file(),
                expected,
                found
            }
        );
    }
    let spare = [
        (key.clone(), layer.clone().into()),
        (vec![b'z'; 32], "x".into()),
    ];
    let metainfo = parse(&with(
        torrent.clone(),
        &["piece layers"],
        Bencode::dict(spare),
    ))
    .unwrap();
    assert_eq!(metainfo.warnings(), [Warning::SparePieceLayers(1)]);
}

#[test]
fn a_v2_torrent_out_of_order_is_refused() {
    let Bencode::Dict(root) = sample(Kind::V2) else {
        panic!()
    };
    let Bencode::Dict(info) = &root[b"info".as_slice()] else {
        panic!()
    };
    let mut torrent = b"d4:infod".to_vec();
    for key in ["piece length", "file tree", "meta version", "name"] {
        Bencode::from(key).encode_into(&mut torrent);
        info[key.as_bytes()].encode_into(&mut torrent);
    }
    torrent.extend_from_slice(b"ee");
    let refused = Metainfo::parse(&torrent, Limits::LOCAL).unwrap_err();
    assert_eq!(refused, Error::UnsortedV2(7));
}

#[test]
fn inconsistent_hybrids_are_refused_by_their_first_difference() {
    let hybrid = || sample(Kind::Hybrid);
    // The list is a, padding, b/c, b/d, padding, e, f.
    let in_list = |place, key| ["info", "files", place, key];
    let path = |at, v1: &str, v2: &str| HybridMismatch::Path {
        at,
        v1: v1.into(),
        v2: v2.into(),
    };
    let extra = with(
        hybrid(),
        &["info", "file tree", "g"],
        Bencode::dict([("", Bencode::dict([("length", 0i64.into())]))]),
    );
    let linked = with(hybrid(), &in_list("3", "attr"), "l");
    let single = || sample_single(Kind::Hybrid);
    let table = [
        (
            with(hybrid(), &in_list("0", "path"), path_list("z")),
            path(0, "z", "a"),
        ),
        (
            with(hybrid(), &in_list("2", "path"), path_list("b/C")),
            path(1, "b/C", "b/c"),
        ),
        (
            with(single(), &["info", "name"], "other"),
            path(0, "other", "sample"),
        ),
        (
            with(hybrid(), &in_list("2", "length"), 6i64),
            HybridMismatch::Length {
                file: "b/c".into(),
                v1: 6,
                v2: 5,
            },
        ),
        (
            with(hybrid(), &in_list("1", "length"), 1i64),
            HybridMismatch::Alignment {
                file: "b/c".into(),
                expected: 3 * PIECE as u64,
                found: 2 * PIECE as u64 + 20_001,
            },
        ),
        (
            without(hybrid(), &["info", "files", "1"]),
            HybridMismatch::Alignment {
                file: "b/c".into(),
                expected: 3 * PIECE as u64,
                found: 2 * PIECE as u64 + 20_000,
            },
        ),
        (
            without(hybrid(), &["info", "files", "6"]),
            HybridMismatch::FileCount { v1: 4, v2: 5 },
        ),
        (extra, HybridMismatch::FileCount { v1: 5, v2: 6 }),
        (
            with(linked, &in_list("3", "symlink path"), path_list("a")),
            HybridMismatch::Symlink("b/d".into()),
        ),
    ];
    for (torrent, mismatch) in table {
        assert_eq!(parse(&torrent).unwrap_err(), Error::Hybrid(mismatch));
    }
    for kept in ["pieces", "files"] {
        let dropped = if kept == "pieces" { "files" } else { "pieces" };
        let refused = parse(&without(hybrid(), &["info", dropped])).unwrap_err();
        let error = match dropped {
            "files" => Error::FileLength("sample".into()),
            _ => Error::Missing("pieces"),
        };
        assert_eq!(refused, error);
    }
}

#[test]
fn padding_that_makes_pieces_of_its_own_is_refused() {
    let hybrid = sample(Kind::Hybrid);
    let Bencode::Dict(root) = &hybrid else {
        panic!()
    };
    let Bencode::Dict(info) = &root[b"info".as_slice()] else {
        panic!()
    };
    let Bencode::List(mut list) = info[b"files".as_slice()].clone() else {
        panic!()
    };
    list.push(Bencode::dict([
        ("attr", "p".into()),
        ("length", Bencode::Int(PIECE as i64)),
    ]));
    let torrent = with(hybrid.clone(), &["info", "files"], list);
    let torrent = with(torrent, &["info", "pieces"], vec![b'.'; 9 * 20]);
    assert_eq!(
        parse(&torrent).unwrap_err(),
        Error::Hybrid(HybridMismatch::PieceCount { v1: 9, v2: 8 })
    );
}

#[test]
fn a_small_torrent_of_very_long_paths_is_refused() {
    // 90 directories of 200 bytes with 30,000 files: 1 MB of metainfo, 540 MB of paths.
    let files = (0..30_000).map(|number: u32| {
        let file = Bencode::dict([("length", 0i64.into())]);
        (number.to_string(), Bencode::dict([("", file)]))
    });
    let mut tree = Bencode::dict(files);
    for _ in 0..90 {
        tree = Bencode::dict([("d".repeat(200), tree)]);
    }
    let content = Bencode::dict([
        ("length", 1i64.into()),
        ("pieces root", [1; 32].as_slice().into()),
    ]);
    let tree = Bencode::dict([
        ("d".to_owned(), tree),
        ("z".to_owned(), Bencode::dict([("", content)])),
    ]);
    let torrent = with(sample(Kind::V2), &["info", "file tree"], tree);
    assert_eq!(parse(&torrent).unwrap_err(), NameError::TooLong.into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_mutated_torrent_never_panics(
        kind in 0usize..3,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 1..6),
    ) {
        // Small content, so that most edits hit the structure.
        let files = [("a", vec![1; 40_000]), ("b/c", vec![2]), ("b/d", vec![])];
        let kind = [Kind::V1, Kind::V2, Kind::Hybrid][kind];
        let mut bytes = torrent_of(kind, &files).encode();
        for (at, edit, byte) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(metainfo) = Metainfo::parse(&bytes, Limits::REMOTE) {
            prop_assert_eq!(metainfo.verifier().piece_count(), metainfo.layout().piece_count());
            for (at, file) in (0u32..).zip(metainfo.files()) {
                let _ = (metainfo.piece_layer(FileIndex(at)), file.raw_path());
                prop_assert!(file.components().all(|name| !name.is_empty() && name != ".."));
            }
        }
    }

    #[test]
    fn replaced_values_never_panic(
        kind in 0usize..3,
        key in proptest::sample::select(vec!["length", "path", "attr", "pieces", "files", "file tree", "name", "piece length", "meta version", "private", "symlink path", "pieces root"]),
        number in prop_oneof![any::<i64>(), -2i64..5, Just(1 << 31), Just(1 << 40)],
        text in proptest::bool::ANY,
        place in 0usize..3,
    ) {
        let value = || if text { Bencode::from(number.to_string()) } else { Bencode::Int(number) };
        let torrent = sample([Kind::V1, Kind::V2, Kind::Hybrid][kind]);
        let torrent = match place {
            0 => with(torrent, &["info", key], value()),
            1 if kind != 1 => with(torrent, &["info", "files", "0", key], value()),
            _ if kind != 0 => with(torrent, &in_tree("a", key), value()),
            _ => with(torrent, &[key], value()),
        };
        let _ = parse(&torrent);
    }
}

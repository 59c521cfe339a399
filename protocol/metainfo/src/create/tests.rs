//! What libtorrent 2.1.1 makes of the same input, what reading a created torrent gives, and what is refused.

use super::*;
use crate::bencode::{self, Limits};
use crate::metainfo::Metainfo;
use crate::verifier::Verdict;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// A file of the vectors: path, length, attributes, symlink target.
type File = (&'static str, u64, &'static str, &'static str);

/// A torrent called `name` that libtorrent made, with symlinks as such.
struct Vector {
    what: &'static str,
    kind: Kind,
    piece_length: Option<u32>,
    tail_padding: bool,
    private: bool,
    files: &'static [File],
    /// SHA-256 of its info dictionary.
    info_sha256: &'static str,
}

const MANY: &[File] = &[
    ("b/two", 20_000, "x", ""),
    ("a", 16_384, "", ""),
    ("b/one", 5, "h", ""),
    ("Z", 0, "", ""),
    ("b/one.txt", 40_000, "xh", ""),
    ("é", 1, "", ""),
];

const VECTORS: &[Vector] = &[
    Vector {
        what: "a single file",
        kind: Kind::V1,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("", 40000, "", "")],
        info_sha256: "1748259b65ccab2f2318022ed453d999abdcf3021f71fa226fe92f33c1a0912e",
    },
    Vector {
        what: "a single file",
        kind: Kind::V2,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("", 40000, "", "")],
        info_sha256: "a0f80ed2ce53d2923bfbd00d609d045d229fc58422d59f61f5ca021bd545346f",
    },
    Vector {
        what: "a single file",
        kind: Kind::Hybrid,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("", 40000, "x", "")],
        info_sha256: "e3fe7b42be5cb5641a8c9c29b475316a9cf65916446ebd1898abeb72578aa726",
    },
    Vector {
        what: "a single file shorter than a block",
        kind: Kind::Hybrid,
        piece_length: Some(65536),
        tail_padding: false,
        private: true,
        files: &[("", 1, "", "")],
        info_sha256: "faaf06c2400b9109e088cbc32386ded15ea33d22db446c16d30284f6e8353312",
    },
    Vector {
        what: "a directory in the order given",
        kind: Kind::V1,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: MANY,
        info_sha256: "1e4730bec0092a8a920f048ce0d66bcdcb6abf844bfc0cf4353d78e68dded38d",
    },
    Vector {
        what: "a directory in tree order",
        kind: Kind::V2,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: MANY,
        info_sha256: "815db0c720bac0b01933c654651608939f1c7a7c5dae5e453d83b49377bb1e5d",
    },
    Vector {
        what: "a directory with padding",
        kind: Kind::Hybrid,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: MANY,
        info_sha256: "945f7b6fb9c44d7426bdb3e081f1a200311dfb59630ad68d2fc52d7f18071e04",
    },
    Vector {
        what: "a directory without padding at its end",
        kind: Kind::Hybrid,
        piece_length: None,
        tail_padding: false,
        private: false,
        files: MANY,
        info_sha256: "0fe4f6b4d67ad4af04afe643576caa305896ecb6c77adb46a24cd68231e39683",
    },
    Vector {
        what: "longer pieces than files",
        kind: Kind::Hybrid,
        piece_length: Some(1048576),
        tail_padding: true,
        private: true,
        files: MANY,
        info_sha256: "c076614dc90c65d28f9200304a2f9c866fbffe501b5563755640db0f95678732",
    },
    Vector {
        what: "a directory of one file",
        kind: Kind::Hybrid,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("sub/dir/file", 50000, "", "")],
        info_sha256: "100097b2bb04f29417a466f91edf60b0e0e068453e45d857b9e89b8928708a51",
    },
    Vector {
        what: "symlinks",
        kind: Kind::Hybrid,
        piece_length: Some(32768),
        tail_padding: false,
        private: false,
        files: &[
            ("l", 0, "", "d/target"),
            ("d/target", 33000, "", ""),
            ("m", 0, "x", "l"),
        ],
        info_sha256: "4c6095d7efd3beebf0f6a5ad20d05f092125b04cbfc0b05c144efa4d914b8a17",
    },
    Vector {
        what: "symlinks",
        kind: Kind::V1,
        piece_length: Some(32768),
        tail_padding: false,
        private: false,
        files: &[("l", 0, "", "d/target"), ("d/target", 33000, "", "")],
        info_sha256: "5605e4f3d826b0e6fbe76e0e45a4cdaf8a4eb0510ddf8bc56e78cf88ecc29d9e",
    },
    Vector {
        what: "an empty file at the end",
        kind: Kind::Hybrid,
        piece_length: Some(16384),
        tail_padding: true,
        private: false,
        files: &[("a", 10, "", ""), ("b", 0, "", "")],
        info_sha256: "e419649733adb77d2f45cc127fc8a86d7f9d4b551b359744727108d73b780385",
    },
    Vector {
        what: "pieces that are no power of two",
        kind: Kind::V1,
        piece_length: Some(49152),
        tail_padding: true,
        private: false,
        files: &[("a", 100000, "", ""), ("b", 100000, "", "")],
        info_sha256: "a8eb1db8eedf9e0968c3b2379f4d5981a33521317419dfd0e5a927295b13129d",
    },
    Vector {
        what: "pieces of a kilobyte",
        kind: Kind::V1,
        piece_length: Some(1024),
        tail_padding: true,
        private: false,
        files: &[("a", 5000, "", ""), ("b", 100, "", "")],
        info_sha256: "a33aa10abe4adab16f05824c7f17303e4c0a7e55a97ed9d539d756b9867a1930",
    },
    Vector {
        what: "automatic piece length",
        kind: Kind::V1,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("a", 2684355, "", "")],
        info_sha256: "17f8d6b745ab5cfa8b1a85c16728016fc1f25b814501240b99749253d6e2a6dc",
    },
    Vector {
        what: "automatic piece length, a byte more",
        kind: Kind::Hybrid,
        piece_length: None,
        tail_padding: true,
        private: false,
        files: &[("a", 2684356, "", "")],
        info_sha256: "69feb422d68a42beba3fb9e9478ef6cf8f677d883643b07c862555ebdd982a74",
    },
    Vector {
        what: "seven blocks in pieces of four",
        kind: Kind::V2,
        piece_length: Some(65536),
        tail_padding: true,
        private: false,
        files: &[("", 114687, "", "")],
        info_sha256: "bc5780839f53ddc020cf562fb83d48558d683d69f6eee5796b397765c28354cb",
    },
];

/// A torrent with everything outside the info dictionary, as libtorrent wrote it.
const COMPLETE: &[u8] =
    b"d8:announce10:http://t/113:announce-listll10:http://t/110:http://t/2el9:udp://t:3ee7:com\
        ment6:remark10:created by5:maker13:creation datei1234567890e4:infod9:file treed1:ad0:d6:\
        lengthi16385e11:pieces root32:\xb8\"Wq\x8f\x8b8\xc3\xda\x8e\x9b\x948\xef\xeb\xc3\x84\x18\
        \x10\x08I\x9f\xbd\x01\xb9@\x8b]\x9e\x10G\xe5ee1:bd0:d4:attr1:x6:lengthi5e11:pieces root3\
        2:&\xa8\xcc\xb77\x11\xd2X\xc20\xecC!\xd8\xf6\x92,\xd0Q\xb2\xb8\x03\xc00\xb4\xcf\x04\xde\
        \x040\x99\xb6eee5:filesld6:lengthi16385e4:pathl1:aeed4:attr1:p6:lengthi16383e4:pathl4:.p\
        ad5:16383eed4:attr1:x6:lengthi5e4:pathl1:beed4:attr1:p6:lengthi16379e4:pathl4:.pad5:1637\
        9eee12:meta versioni2e4:name4:name12:piece lengthi16384e6:pieces60:\xaa\xb5 \x8a\"VV\xf8\
        \xfc&\xdf\xfd}d\xd4?\x8a\xb8\xfc\xb7\xd5\\\xe2#\xad\xa4<\x83\x88/\x9a\x80\x1d\xc4 \xbd\
        \x7fv\x8an(y\xca6\x8fc\xfd\x98\xc9\xbf!\x97\x03\x85\x8f\xda\x01N\xd1\x817:privatei1ee12:\
        piece layersd32:\xb8\"Wq\x8f\x8b8\xc3\xda\x8e\x9b\x948\xef\xeb\xc3\x84\x18\x10\x08I\x9f\
        \xbd\x01\xb9@\x8b]\x9e\x10G\xe564:$\xa7\xa7\x1a\xef\xc4I\xe0\xe5#z\xe6\x0d\xfbf\xf94\xf5\
        \x92\x00\x16\xbc\xc4\x0a6S\xb4\xcb\x94\xfb\xa1\xf2\x8d3\xf5 \xa3\xc4\xce\xf8\x0d$S\xae\
        \xf8\x1ba+\xfe\x1c\xb4L\x8b %c\x0a\xd3\x86bv?\x13\xd3e8:url-listl10:http://w/110:http://\
        w/2ee";

/// The content of source `k`, so that vectors can be made again with any program.
fn content(k: usize, from: u64, length: u32) -> Vec<u8> {
    (from..from + u64::from(length))
        .map(|at| u8::try_from((k as u64 * 31 + at * 7 + at / 251) % 256).unwrap())
        .collect()
}

fn path(joined: &str) -> Vec<String> {
    let components = joined.split('/').filter(|component| !component.is_empty());
    components.map(str::to_owned).collect()
}

fn source(&(joined, length, attributes, target): &File) -> SourceFile {
    SourceFile {
        path: path(joined),
        length,
        executable: attributes.contains('x'),
        hidden: attributes.contains('h'),
        symlink: Some(path(target)).filter(|target| !target.is_empty()),
    }
}

fn file(joined: &str, length: u64) -> SourceFile {
    SourceFile {
        path: path(joined),
        length,
        ..SourceFile::default()
    }
}

fn plan(sources: Vec<SourceFile>, options: Options) -> Result<Plan, CreateError> {
    Plan::new("name".to_owned(), sources, options)
}

/// Hashes the content of the recipe.
fn hash(plan: &Plan) -> Vec<PieceHash> {
    let pieces = plan.layout().pieces();
    pieces
        .map(|piece| {
            let mut hasher = plan.hasher(piece);
            for segment in plan.segments(piece) {
                match segment.source {
                    Some(k) => hasher.update(&content(k, segment.offset, segment.length)),
                    None => hasher.update(&vec![0; segment.length as usize]),
                }
            }
            plan.piece_hash(piece, &hasher.finish())
        })
        .collect()
}

fn create(sources: Vec<SourceFile>, options: Options) -> Vec<u8> {
    let plan = plan(sources, options).unwrap();
    plan.finish(&hash(&plan)).unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn info_dictionaries_are_those_of_libtorrent() {
    for vector in VECTORS {
        let options = Options {
            kind: vector.kind,
            piece_length: vector.piece_length,
            tail_padding: vector.tail_padding,
            private: vector.private,
            ..Options::default()
        };
        let torrent = create(vector.files.iter().map(source).collect(), options);
        let document = bencode::decode_canonical(&torrent, Limits::LOCAL).unwrap();
        let info = document.root().get("info").unwrap().raw();
        let (what, kind) = (vector.what, vector.kind);
        assert_eq!(
            hexadecimal(&Sha256::digest(info)),
            vector.info_sha256,
            "{what}, {kind:?}"
        );
    }
}

/// What `bep_0052_torrent_creator.py`, the reference of BEP 52, prints for the files that the tests make: kind, piece length, and
/// the v2 info hash of a folder and of a single file.
const OF_BEP_52: &[(Kind, u32, &str, &str)] = &[
    (
        Kind::V2,
        16_384,
        "75fc0ba9a00ddf0cd2fa91cdbb2ca7d18255ea50d07d527254ffebb121e868d2",
        "3a40b50c3fe302e271fe6da7fc756c7ced58d46460b392c01be533429bbb88ff",
    ),
    (
        Kind::V2,
        32_768,
        "3dab43a636ce0dfdd8298ea2c9d8cef2eee20d2f9f45eb40999251defd135733",
        "b949462a2456d921807e722a8bb6c3c1fa6657bc9acb4996f3be4455ed5ca1f6",
    ),
    (
        Kind::Hybrid,
        16_384,
        "54242add9da2c9f198d35643a5f0fccf31adc88698af389a2f91eaa4448e9d33",
        "266766fb68dfc0604396799e1ddc63d535a484f061b577046e92f8118e0acf0b",
    ),
    (
        Kind::Hybrid,
        32_768,
        "4467c10c66ad8551fa7f445a1a565d566b04eecab39c11f535d4a5411da099f5",
        "c29be95b06da9495a2a5838069c9f3e04d9d25498ba78f91a117f23cbdee49be",
    ),
];

#[test]
fn the_vectors_of_bep_52() {
    let folder = [
        ("a", 40_000),
        ("b/one", 5),
        ("b/two", 65_536),
        ("c", 200_001),
        ("d", 16_384),
    ];
    for &(kind, piece_length, of_folder, of_file) in OF_BEP_52 {
        let hash_of = |files: &[(&str, u64)]| {
            let options = Options {
                kind,
                piece_length: Some(piece_length),
                tail_padding: true,
                ..Options::default()
            };
            let sources = files.iter().map(|&(path, length)| file(path, length));
            let torrent = create(sources.collect(), options);
            let document = bencode::decode_canonical(&torrent, Limits::LOCAL).unwrap();
            hexadecimal(&Sha256::digest(document.root().get("info").unwrap().raw()))
        };
        assert_eq!(hash_of(&folder), of_folder, "{kind:?} {piece_length}");
        assert_eq!(
            hash_of(&[("", 200_001)]),
            of_file,
            "{kind:?} {piece_length}"
        );
    }
}

#[test]
fn whole_torrents_are_those_of_libtorrent() {
    let options = Options {
        private: true,
        trackers: vec![
            vec![
                "http://t/1".to_owned(),
                "http://t/2".to_owned(),
                String::new(),
            ],
            vec!["http://t/1".to_owned()],
            vec!["udp://t:3".to_owned()],
        ],
        web_seeds: vec!["http://w/1".to_owned(), "http://w/2".to_owned()],
        comment: Some("remark".to_owned()),
        created_by: Some("maker".to_owned()),
        creation_date: Some(1_234_567_890),
        ..Options::default()
    };
    let mut executable = file("b", 5);
    executable.executable = true;
    let torrent = create(vec![executable, file("a", 16_385)], options);
    assert_eq!(
        torrent.escape_ascii().to_string(),
        COMPLETE.escape_ascii().to_string()
    );
}

#[test]
fn what_is_empty_is_left_out() {
    let options = Options {
        kind: Kind::V1,
        trackers: vec![vec![String::new()], Vec::new()],
        comment: Some(String::new()),
        source: Some("S".to_owned()),
        ..Options::default()
    };
    let torrent = create(vec![file("", 1)], options);
    let text = torrent.escape_ascii().to_string();
    assert!(text.starts_with("d4:infod6:lengthi1e4:name4:name12:piece lengthi16384e6:pieces20:"));
    assert!(text.ends_with("6:source1:See"));
}

#[test]
fn automatic_piece_lengths_are_those_of_libtorrent() {
    for (longest, piece_length) in [
        (2_684_355, 16_384),
        (10_737_418, 32_768),
        (42_949_673, 65_536),
        (171_798_692, 131_072),
        (687_194_767, 262_144),
        (2_748_779_069, 524_288),
        (10_995_116_278, 1 << 20),
        (43_980_465_111, 1 << 21),
        (175_921_860_444, 1 << 22),
        (703_687_441_777, 1 << 23),
    ] {
        assert_eq!(automatic_piece_length(longest), piece_length);
        assert_eq!(automatic_piece_length(longest + 1), piece_length * 2);
    }
    assert_eq!(automatic_piece_length(1), 16_384);
    assert_eq!(automatic_piece_length(u64::MAX), 1 << 24);
}

#[test]
fn piece_lengths_are_refused_where_libtorrent_refuses_them() {
    let allowed = |kind, length| {
        let options = Options {
            kind,
            piece_length: Some(length),
            ..Options::default()
        };
        plan(vec![file("", 1)], options).is_ok()
    };
    for (length, v1, v2) in [
        (0, false, false),
        (1, true, false),
        (1_000, false, false),
        (8_192, true, false),
        (16_384, true, true),
        (49_152, true, false),
        (50_000, false, false),
        (128 << 20, true, true),
        (256 << 20, false, false),
        (u32::MAX, false, false),
    ] {
        assert_eq!(allowed(Kind::V1, length), v1, "{length}");
        assert_eq!(allowed(Kind::V2, length), v2, "{length}");
        assert_eq!(allowed(Kind::Hybrid, length), v2, "{length}");
    }
}

#[test]
fn what_cannot_be_published_is_refused() {
    let refuse = |sources| plan(sources, Options::default()).unwrap_err();
    let name = |path: &str| CreateError::Name(path.to_owned());
    let conflict = |path: &str| CreateError::Conflict(path.to_owned());
    assert_eq!(refuse(Vec::new()), CreateError::Layout(LayoutError::Empty));
    assert_eq!(
        refuse(vec![file("a", 0)]),
        CreateError::Layout(LayoutError::Empty)
    );
    let long = vec![file("a", u64::MAX), file("b", 1)];
    assert_eq!(refuse(long), CreateError::Layout(LayoutError::TooLong));
    let many = vec![file("a", u64::MAX - 1)];
    assert_eq!(
        refuse(many),
        CreateError::Layout(LayoutError::TooManyPieces)
    );
    let many = vec![file("a", u64::MAX - 1), file("b", 1)];
    assert_eq!(
        refuse(many),
        CreateError::Layout(LayoutError::TooManyPieces)
    );
    for (component, shown) in [("", "d/"), ("..", "d/.."), (".", "d/."), ("a/b", "d/a/b")] {
        let mut bad = file("d", 1);
        bad.path.push(component.to_owned());
        assert_eq!(refuse(vec![bad]), name(shown));
    }
    assert_eq!(refuse(vec![file("a\0", 1)]), name("a\0"));
    assert!(matches!(
        refuse(vec![file("a\\..", 1)]),
        CreateError::Names(_)
    ));
    assert_eq!(
        refuse(vec![file("a/b", 1), file("c", 1), file("a/b", 1)]),
        conflict("a/b")
    );
    assert_eq!(
        refuse(vec![file("a/b/c", 1), file("a.b", 1), file("a", 1)]),
        conflict("a")
    );
    assert_eq!(refuse(vec![file("", 1), file("a", 1)]), conflict("name"));
    let mut link = file("l", 1);
    link.symlink = Some(path("a"));
    assert_eq!(
        refuse(vec![link.clone()]),
        CreateError::Symlink("l".to_owned())
    );
    (link.length, link.symlink) = (0, Some(Vec::new()));
    assert_eq!(
        refuse(vec![link, file("a", 1)]),
        CreateError::Symlink("l".to_owned())
    );
    let unnamed = Plan::new(String::new(), vec![file("a", 1)], Options::default());
    assert_eq!(unnamed, Err(name("")));
}

#[test]
fn what_nobody_could_read_is_refused_before_it_is_hashed() {
    let options = Options {
        piece_length: Some(16_384),
        ..Options::default()
    };
    let large = plan(vec![file("a", 16_384 * 2_000_000)], options);
    assert_eq!(large, Err(CreateError::TooLarge(104_000_000)));
    let files = |count: u32| (0..count).map(|at| file(&format!("{at}"), 1)).collect();
    let many = plan(files(120_000), Options::default());
    assert_eq!(many, Err(CreateError::TooManyFiles(120_000)));
    let deepest = vec!["d"; MAX_PATH_DEPTH].join("/");
    let too_deep = plan(vec![file(&format!("{deepest}/d"), 1)], Options::default());
    assert!(matches!(too_deep, Err(CreateError::TooDeep(_))));
    let mut torrents = vec![create(vec![file(&deepest, 1)], Options::default())];
    let many = plan(files(80_000), Options::default()).unwrap();
    let no_hash = PieceHash {
        sha1: Some([0; 20]),
        root: Some([0; 32]),
    };
    torrents.push(many.finish(&vec![no_hash; 80_000]).unwrap());
    for torrent in torrents {
        assert!(bencode::decode_canonical(&torrent, Limits::LOCAL).is_ok());
    }
}

#[test]
fn a_missing_hash_is_named() {
    let plan = plan(vec![file("", 40_000)], Options::default()).unwrap();
    let mut hashes = hash(&plan);
    hashes[1].root = None;
    assert_eq!(
        plan.finish(&hashes),
        Err(CreateError::HashMissing(PieceIndex(1)))
    );
    hashes[2].sha1 = None;
    assert_eq!(
        plan.finish(&hashes),
        Err(CreateError::HashMissing(PieceIndex(2)))
    );
    let wrong_count = CreateError::HashCount {
        given: 2,
        needed: 3,
    };
    assert_eq!(plan.finish(&hashes[..2]), Err(wrong_count));
}

#[test]
fn names_that_readers_will_change_are_told() {
    let sources = vec![
        file("a/ok", 1),
        file("a/exe\u{202e}txt", 1),
        file("A/OK", 1),
    ];
    let plan = Plan::new("name.".to_owned(), sources, Options::default()).unwrap();
    let told: Vec<(&str, &str)> = plan
        .renamed()
        .iter()
        .map(|renamed| (renamed.published.as_str(), renamed.becomes.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("name.", "name"),
            ("a/exe\u{202e}txt", "a/exetxt"),
            ("a/ok", "a/ok (1)")
        ]
    );
}

proptest! {
    #[test]
    fn the_segments_of_all_pieces_are_the_files_in_order(
        lengths in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..90_000, Just(16_384), Just(32_768)], 1..8),
        kind in prop_oneof![Just(Kind::V1), Just(Kind::V2), Just(Kind::Hybrid)],
        tail_padding in any::<bool>(),
        shift in 14u32..17,
    ) {
        prop_assume!(lengths.iter().any(|&length| length > 0));
        let sources: Vec<SourceFile> = (0u32..).zip(&lengths).map(|(at, &length)| file(&at.to_string(), length)).collect();
        let options = Options { kind, tail_padding, piece_length: Some(1 << shift), ..Options::default() };
        let plan = plan(sources, options).unwrap();
        let mut read = vec![0u64; lengths.len()];
        for piece in plan.layout().pieces() {
            let segments: Vec<Segment> = plan.segments(piece).collect();
            let sum: u32 = segments.iter().map(|segment| segment.length).sum();
            prop_assert_eq!(sum, plan.layout().length_of(piece));
            for segment in &segments {
                if let Some(source) = segment.source {
                    prop_assert_eq!(segment.offset, read[source]);
                    read[source] += u64::from(segment.length);
                }
            }
            let content: u32 = segments.iter().filter(|s| s.source.is_some()).map(|s| s.length).sum();
            prop_assert_eq!(plan.content_length(piece), if kind == Kind::V1 { 0 } else { content });
        }
        prop_assert_eq!(read, lengths);
        prop_assert_eq!(plan.segments(PieceIndex(u32::MAX)).count(), 0);
    }
}

/// Components that stay as they are on every disk; `a` beside `a.txt` is where paths and their text sort differently.
const COMPONENTS: [&str; 7] = ["a", "a.txt", "a-b", "b", "Z", "é", "0"];

fn any_sources() -> impl Strategy<Value = Vec<SourceFile>> {
    let component = proptest::sample::select(&COMPONENTS[..]).prop_map(str::to_owned);
    let path = proptest::collection::vec(component, 1..4);
    let length = prop_oneof![Just(0), 1u64..90_000, Just(16_384), Just(65_536)];
    let one = (path, length, any::<bool>(), any::<bool>());
    let source = one.prop_map(|(path, length, executable, hidden)| SourceFile {
        path,
        length,
        executable,
        hidden,
        symlink: None,
    });
    let single = (1u64..200_000).prop_map(|length| vec![file("", length)]);
    prop_oneof![1 => single, 4 => proptest::collection::vec(source, 1..7)]
}

/// Paths of files that are not padding, with length and attributes.
fn listed(plan: &Plan) -> Vec<(String, u64, u64, bool, bool)> {
    let placed = plan.files().iter().filter_map(|file| {
        let source = &plan.sources()[file.source?];
        let path = match source.path.as_slice() {
            [] => plan.name().to_owned(),
            path => path.join("/"),
        };
        Some((
            path,
            file.offset,
            file.length,
            source.executable,
            source.hidden,
        ))
    });
    placed.collect()
}

proptest! {
    #[test]
    fn what_is_created_reads_back_as_planned(
        sources in any_sources(),
        kind in prop_oneof![Just(Kind::V1), Just(Kind::V2), Just(Kind::Hybrid)],
        tail_padding in any::<bool>(),
        private in any::<bool>(),
        shift in 14u32..17,
    ) {
        let options = Options {
            kind,
            tail_padding,
            private,
            piece_length: Some(1 << shift),
            trackers: vec![vec!["http://t.example/announce".to_owned()], vec!["udp://u.example:80".to_owned()]],
            web_seeds: vec!["http://w.example/".to_owned()],
            source: Some("S".to_owned()),
            ..Options::default()
        };
        let plan = plan(sources, options);
        prop_assume!(plan.as_ref().is_ok_and(|plan| plan.renamed().is_empty()));
        let plan = plan.unwrap();
        let hashes = hash(&plan);
        let read = Metainfo::parse(&plan.finish(&hashes).unwrap(), Limits::LOCAL).unwrap();
        prop_assert_eq!(read.warnings(), &[]);
        prop_assert_eq!(read.name(), "name");
        prop_assert_eq!(read.is_private(), private);
        prop_assert_eq!(read.source(), Some("S"));
        prop_assert_eq!((read.trackers().len(), read.web_seeds().len()), (2, 1));
        prop_assert_eq!(read.info_hashes().v1().is_some(), kind != Kind::V2);
        prop_assert_eq!(read.info_hashes().v2().is_some(), kind != Kind::V1);
        prop_assert_eq!(read.layout(), plan.layout());
        let files: Vec<_> = read
            .files()
            .iter()
            .filter(|file| !file.padding)
            .map(|file| (file.path.clone(), file.offset, file.length, file.executable, file.hidden))
            .collect();
        prop_assert_eq!(files, listed(&plan));
        prop_assert_eq!(read.verifier().needs(), plan.needs());
        prop_assert_eq!(read.verifier().piece_count(), plan.layout().piece_count());
        for piece in plan.layout().pieces() {
            let mut hasher = read.verifier().hasher(piece);
            for segment in plan.segments(piece) {
                match segment.source {
                    Some(k) => hasher.update(&content(k, segment.offset, segment.length)),
                    None => hasher.update(&vec![0; segment.length as usize]),
                }
            }
            prop_assert_eq!(read.verifier().check(piece, &hasher.finish()), Verdict::Right);
        }
    }
}

#[test]
fn every_vector_reads_back_without_a_warning() {
    for vector in VECTORS.iter().filter(|vector| vector.what != "symlinks") {
        let options = Options {
            kind: vector.kind,
            piece_length: vector.piece_length,
            tail_padding: vector.tail_padding,
            private: vector.private,
            ..Options::default()
        };
        let torrent = create(vector.files.iter().map(source).collect(), options);
        let read = Metainfo::parse(&torrent, Limits::LOCAL).unwrap();
        assert_eq!(read.warnings(), [], "{}", vector.what);
    }
}

//! What the recorded sessions do not have: seed mode, part files, lost files, folders of other systems, and trees of blocks.

use super::*;
use crate::qbittorrent;
use crate::samples::{self, dict, numbers};
use shoal_metainfo::bencode::{Bencode, decode};
use shoal_metainfo::merkle;

fn import<const N: usize>(entries: [(&str, Bencode); N]) -> Imported {
    let fastresume = dict(entries).encode();
    qbittorrent::torrent(&fastresume, Some(&samples::torrent())).unwrap()
}

fn sets(have: &Have) -> (Vec<u32>, Vec<u32>) {
    let Have::Pieces { verified, doubtful } = have else {
        panic!("{have:?}");
    };
    let numbers = |set: &Bitfield| set.iter().map(|piece| piece.0).collect();
    (numbers(verified), numbers(doubtful))
}

fn bits(bits: u8) -> Bencode {
    vec![bits].into()
}

const VERSION_2: (&str, Bencode) = ("file-version", Bencode::Int(2));

#[test]
fn pieces_are_bits_or_bytes() {
    let bytes = import([("pieces", vec![1u8, 0, 3].into())]);
    assert_eq!(sets(&bytes.have), (vec![0, 2], vec![]));
    let bits = import([VERSION_2, ("pieces", bits(0b1110_0000))]);
    assert_eq!(bits.have, Have::All);
    let neither = import([VERSION_2, ("pieces", vec![1u8, 1, 1].into())]);
    assert_eq!(neither.have, Have::Unknown);
    assert!(neither.notes.contains(&Note::NoPieces));
}

#[test]
fn in_seed_mode_only_what_was_verified_since_is_taken_over() {
    let seeding = ("seed_mode", 1i64.into());
    let of = |verified| {
        import([
            VERSION_2,
            ("pieces", bits(0xe0)),
            ("verified", verified),
            seeding.clone(),
        ])
    };
    assert_eq!(sets(&of(bits(0b0100_0000)).have), (vec![1], vec![0, 2]));
    assert_eq!(of(bits(0)).have, Have::Unknown);
    assert_eq!(of(bits(0xe0)).have, Have::All);
}

#[test]
fn pieces_shared_with_a_skipped_file_may_be_in_the_part_file() {
    let skipped = ("file_priority", numbers(&[4, 0]));
    let imported = import([VERSION_2, ("pieces", bits(0xe0)), skipped]);
    assert_eq!(sets(&imported.have), (vec![0, 2], vec![1]));
}

#[test]
fn a_file_outside_of_the_folder_takes_its_pieces_along() {
    let paths: Vec<Bencode> = ["", "../../etc/passwd"].map(Bencode::from).into();
    let imported = import([
        VERSION_2,
        ("pieces", bits(0xe0)),
        ("mapped_files", paths.into()),
        ("save_path", "/srv".into()),
    ]);
    assert_eq!(sets(&imported.have), (vec![0], vec![]));
    let first = "../../etc/passwd".to_owned();
    assert_eq!(imported.notes, [Note::PathsOutside { count: 1, first }]);
    assert_eq!(imported.paths.len(), 0);
}

#[test]
fn a_folder_of_windows_is_asked_for_and_its_paths_are_read() {
    let paths: Vec<Bencode> = ["", r"pack\other\b"].map(Bencode::from).into();
    let windows = ("save_path", r"D:\films".into());
    let imported = import([windows, ("mapped_files", paths.into())]);
    assert!(imported.paths.values().eq(["pack/other/b"]));
    #[cfg(not(windows))]
    assert!(
        imported
            .notes
            .contains(&Note::FolderElsewhere(r"D:\films".into()))
    );
    assert!(import([]).notes.contains(&Note::NoFolder));
}

#[test]
fn lengths_and_times_of_old_versions_are_kept() {
    let sizes = Bencode::List(vec![numbers(&[40_000, 77]), numbers(&[30_000, 78])]);
    let imported = import([("pieces", vec![1u8; 3].into()), ("file sizes", sizes)]);
    let modified = Some(Modified::At(77));
    let length = Some(40_000);
    assert_eq!(imported.stamps[&FileIndex(0)], Stamp { length, modified });
}

#[test]
fn trackers_that_were_all_removed_stay_removed() {
    let imported = import([("trackers", Bencode::List(vec![]))]);
    assert_eq!(imported.trackers, Some(vec![]));
    assert_eq!(import([]).trackers, None);
}

#[test]
fn a_limit_of_minus_one_is_none_and_of_minus_two_that_of_the_session() {
    use crate::imported::Limit;
    let of = |ratio: i64, minutes: i64| {
        let limits = [
            ("qBt-ratioLimit", ratio.into()),
            ("qBt-seedingTimeLimit", minutes.into()),
        ];
        let limits = import(limits).share_limits;
        (limits.ratio, limits.seeding_s)
    };
    assert_eq!(of(-2000, -2), (Limit::Inherited, Limit::Inherited));
    assert_eq!(of(-1000, -1), (Limit::Unlimited, Limit::Unlimited));
    assert_eq!(of(0, 0), (Limit::At(0.0), Limit::At(0)));
    assert_eq!(import([]).share_limits.ratio, Limit::Inherited);
    let text = import([("qBt-ratioLimit", "1.25".into())]);
    assert_eq!(text.share_limits.ratio, Limit::At(1.25));
}

/// A v2 torrent of one file of `blocks` blocks, two in a piece, and the hashes of these.
fn v2_torrent(blocks: u8) -> (Vec<u8>, Vec<merkle::Hash>) {
    let leaves: Vec<merkle::Hash> = (1..=blocks).map(|block| [block; 32]).collect();
    let layer: Vec<merkle::Hash> = leaves
        .chunks(2)
        .map(|piece| merkle::root(piece, 2))
        .collect();
    let root = merkle::root_from_piece_layer(&layer, 32_768);
    let length = i64::from(blocks) * 16_384;
    let file = Bencode::dict([
        ("length", length.into()),
        ("pieces root", root.to_vec().into()),
    ]);
    let tree = dict([("f", dict([("", file)]))]);
    let info = dict([
        ("file tree", tree),
        ("meta version", 2i64.into()),
        ("name", "f".into()),
        ("piece length", 32_768i64.into()),
    ]);
    (dict([("info", info)]).encode(), leaves)
}

fn completed(torrent: &[u8], hashes: &[merkle::Hash], mask: Option<Bencode>) -> Option<usize> {
    let mut tree = vec![("hashes", Bencode::from(hashes.as_flattened()))];
    tree.extend(mask.map(|mask| ("mask", mask)));
    let trees = vec![Bencode::dict([("hashes", "".into())]), Bencode::dict(tree)];
    let resume = dict([("trees", trees.into()), VERSION_2]).encode();
    let document = decode(&resume, Limits::LOCAL).unwrap();
    let bytes = layers::complete(document.root(), torrent)?;
    let metainfo = Metainfo::parse(&bytes, Limits::LOCAL).unwrap();
    Some(metainfo.piece_layer(FileIndex(0)).len())
}

#[test]
fn piece_layers_come_from_layers_from_blocks_or_from_whole_trees() {
    let (torrent, leaves) = v2_torrent(5);
    let layer: Vec<_> = leaves
        .chunks(2)
        .map(|piece| merkle::root(piece, 2))
        .collect();
    // The tree has eight leaves: nodes 3 to 6 are pieces, 7 to 14 blocks.
    let pieces = Some(vec![0b0001_1100u8, 0].into());
    assert_eq!(completed(&torrent, &layer, pieces.clone()), Some(3));
    let blocks = Some(vec![0b0000_0001u8, 0b1111_0000].into());
    assert_eq!(completed(&torrent, &leaves, blocks), Some(3));
    let mut whole = vec![[0; 32]; 15];
    whole[3..6].copy_from_slice(&layer);
    assert_eq!(completed(&torrent, &whole, None), Some(3));

    assert_eq!(
        completed(&torrent, &layer[..2], pieces.clone()),
        None,
        "one is missing"
    );
    let wrong = [layer[1], layer[0], layer[2]];
    assert_eq!(completed(&torrent, &wrong, pieces), None);
    assert_eq!(completed(&torrent, &[], None), None);
}

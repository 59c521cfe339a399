//! A small torrent for tests, and files of clients with chosen fields.

use crate::Have;
use shoal_metainfo::Bitfield;
use shoal_metainfo::bencode::Bencode;

/// A v1 torrent `pack` of `a` (40,000 bytes) and `sub/b` (30,000), three pieces of 32 KiB: the second is in both files.
pub(crate) fn torrent() -> Vec<u8> {
    let file = |length: i64, path: &[&str]| {
        let path = path.iter().map(|part| Bencode::from(*part)).collect();
        Bencode::dict([("length", length.into()), ("path", Bencode::List(path))])
    };
    let files = vec![file(40_000, &["a"]), file(30_000, &["sub", "b"])];
    let info = Bencode::dict([
        ("files", files.into()),
        ("name", "pack".into()),
        ("piece length", 32_768i64.into()),
        ("pieces", vec![7u8; 60].into()),
    ]);
    let tracker = "http://tracker.example/announce";
    Bencode::dict([("announce", tracker.into()), ("info", info)]).encode()
}

/// A dictionary of these fields.
pub(crate) fn dict<const N: usize>(entries: [(&str, Bencode); N]) -> Bencode {
    Bencode::dict(entries)
}

/// A list of numbers.
pub(crate) fn numbers(numbers: &[i64]) -> Bencode {
    Bencode::List(numbers.iter().map(|&number| number.into()).collect())
}

/// The verified pieces, and those that must be verified.
pub(crate) fn pieces(have: &Have) -> (Vec<u32>, Vec<u32>) {
    let Have::Pieces { verified, doubtful } = have else {
        panic!("{have:?}");
    };
    let numbers = |set: &Bitfield| set.iter().map(|piece| piece.0).collect();
    (numbers(verified), numbers(doubtful))
}

//! Info dictionaries that came alone.

use super::*;
use crate::metainfo::{Dictionary, is_named, torrent_file};

const KINDS: [Kind; 3] = [Kind::V1, Kind::V2, Kind::Hybrid];

fn layers_of(whole: &Metainfo) -> BTreeMap<[u8; 32], Vec<[u8; 32]>> {
    let files = (0..).zip(whole.files());
    files
        .filter_map(|(index, file)| {
            let layer = whole.piece_layer(FileIndex(index));
            Some((file.root?, layer)).filter(|(_, layer)| !layer.is_empty())
        })
        .collect()
}

#[test]
fn a_dictionary_and_what_it_misses_make_the_torrent_again() {
    for kind in KINDS {
        let whole = parse(&sample(kind)).unwrap();
        let read = Dictionary::read(whole.raw_info(), Limits::REMOTE).unwrap();
        assert_eq!(read.info_hashes, whole.info_hashes());
        let layers = layers_of(&whole);
        let missing: Vec<_> = read.missing.iter().map(|layer| layer.root).collect();
        assert_eq!(missing.len(), layers.len(), "{kind:?}");
        for layer in &read.missing {
            assert_eq!(layers[&layer.root].len() as u64, layer.pieces());
        }
        let tracker = TrackerUrl::parse("http://tracker.example/announce").unwrap();
        let seed = "http://seed.example/".to_owned();
        let file = torrent_file(
            whole.raw_info(),
            &layers,
            std::slice::from_ref(&tracker),
            std::slice::from_ref(&seed),
        );
        let again = Metainfo::parse(&file, Limits::LOCAL).unwrap();
        assert_eq!(again.info_hashes(), whole.info_hashes());
        assert_eq!(again.verifier(), whole.verifier());
        assert_eq!(again.trackers(), [[tracker]]);
        assert_eq!(again.web_seeds(), [seed]);
        assert_eq!(again.warnings(), []);
    }
}

#[test]
fn without_its_layers_a_hybrid_is_a_v1_torrent_and_a_v2_torrent_is_none() {
    for kind in KINDS {
        let whole = parse(&sample(kind)).unwrap();
        let file = torrent_file(whole.raw_info(), &BTreeMap::new(), &[], &[]);
        let parsed = Metainfo::parse(&file, Limits::LOCAL);
        assert_eq!(parsed.is_ok(), kind == Kind::V1);
        let v1 = Metainfo::parse_v1(&file, Limits::LOCAL);
        assert_eq!(v1.is_ok(), kind != Kind::V2);
        if let Ok(v1) = v1 {
            assert_eq!(v1.info_hashes().v1(), whole.info_hashes().v1());
            assert_eq!(v1.info_hashes().v2(), None);
            assert!(matches!(v1.verifier(), Verifier::V1(_)));
            assert_eq!(paths(&v1), paths(&whole));
        }
    }
}

#[test]
fn every_hash_of_a_name_must_hold() {
    let whole = parse(&sample(Kind::Hybrid)).unwrap();
    let (v1, v2) = (whole.info_hashes().v1(), whole.info_hashes().v2());
    let wrong = Some(InfoHashV1([9; 20]));
    for (v1, v2, right) in [
        (v1, v2, true),
        (v1, None, true),
        (None, v2, true),
        (wrong, v2, false),
        (v1, Some(InfoHashV2([9; 32])), false),
        (wrong, None, false),
    ] {
        let hashes = InfoHashes::new(v1, v2).unwrap();
        assert_eq!(is_named(whole.raw_info(), &hashes), right);
    }
}

#[test]
fn what_is_no_info_dictionary_is_refused() {
    let info = parse(&sample(Kind::V2)).unwrap().raw_info().to_vec();
    let with_more = [&info[..], b"x"].concat();
    for wrong in [b"".as_slice(), b"i1e", b"le", &info[1..], &with_more] {
        assert!(Dictionary::read(wrong, Limits::REMOTE).is_err());
    }
    let small = Limits {
        bytes: info.len() - 1,
        ..Limits::REMOTE
    };
    assert!(Dictionary::read(&info, small).is_err());
}

//! Whatever another client's file holds, it is read or refused, and what is read keeps its promises.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its fixtures fails"
)]

use proptest::prelude::*;
use shoal_import::{Have, Imported, deluge, qbittorrent, rtorrent, transmission};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The recorded files of every client, and what each of them is decoded as.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders = vec![root];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            match path.is_dir() {
                true => folders.push(path),
                false => files.extend(
                    // The database is of another kind.
                    path.extension()
                        .is_none_or(|extension| extension != "db")
                        .then(|| fs::read(path).unwrap()),
                ),
            }
        }
    }
    files
});

/// A change of a file: cut at a place, some bytes left out, and others put there.
#[derive(Clone, Debug)]
struct Change {
    at: prop::sample::Index,
    left_out: usize,
    put: Vec<u8>,
}

fn change() -> impl Strategy<Value = Change> {
    let words: Vec<&[u8]> = vec![
        b"i0e",
        b"i-1e",
        b"i9223372036854775807e",
        b"le",
        b"de",
        b"0:",
        b"e",
        b"d",
        b"l",
        b"99999999:",
        b"\xff\xff\xff\xff",
        b"..",
        b"/",
        b"\\",
        b"\0",
        b"(",
        b"h\x01",
        b"]",
        b"}",
        b"u",
        b"b",
        b"R",
        b"\x81",
        b".",
    ];
    let put = prop_oneof![
        prop::sample::select(words).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<prop::sample::Index>(), 0usize..6, put).prop_map(|(at, left_out, put)| Change {
        at,
        left_out,
        put,
    })
}

/// One of the recorded files, changed.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(), 0..5);
    (any::<prop::sample::Index>(), changes).prop_map(|(file, changes)| {
        let mut bytes = file.get(&FILES).clone();
        for change in changes {
            let at = change.at.index(bytes.len() + 1);
            let end = (at + change.left_out).min(bytes.len());
            bytes.splice(at..end, change.put);
        }
        bytes
    })
}

fn check(imported: &Imported) {
    for path in imported.paths.values() {
        assert!(!path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    let files = imported
        .metainfo()
        .map_or(0, |metainfo| metainfo.files().len());
    let known = imported.paths.keys().chain(imported.stamps.keys());
    assert!(
        known
            .chain(imported.priorities.keys())
            .all(|file| file.get() < files)
    );
    if let Have::Pieces { verified, doubtful } = &imported.have {
        assert!(verified.iter().all(|piece| !doubtful.get(piece)));
        let metainfo = imported.metainfo().unwrap();
        assert_eq!(verified.len(), metainfo.layout().piece_count());
    }
    assert!(
        imported
            .notes
            .iter()
            .all(|note| !note.to_string().is_empty())
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn no_files_of_any_client_do_harm(first in file(), second in file(), third in file()) {
        let imported = [
            qbittorrent::torrent(&first, Some(&second)),
            qbittorrent::torrent(&first, None),
            transmission::torrent(&first, Some(&second)),
            transmission::magnet(&first, Some(&second)),
            rtorrent::torrent(&first, Some(&second), Some(&third)),
        ];
        imported.iter().flatten().for_each(check);
        for fault in imported.iter().filter_map(|imported| imported.as_ref().err()) {
            prop_assert!(!fault.to_string().is_empty());
        }
        let _ = deluge::labels(&first);
        if let Ok(ranges) = deluge::resume_data(&first) {
            prop_assert!(ranges.into_values().all(|range| first.get(range).is_some()));
        }
        if let Ok(state) = deluge::State::decode(first) {
            for place in 0..state.ids().count() + 1 {
                let torrent = state.torrent(place, Some(&second), Some(&third), Some("label"));
                torrent.iter().for_each(check);
                state.torrent(place, None, None, None).iter().for_each(check);
            }
        }
    }
}

/// The right files together, each changed a little: most of these are accepted.
mod belonging {
    use super::*;

    fn read(path: &str) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        fs::read(root.join(path)).unwrap()
    }

    fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            // As many bytes as before, so that most of it stays bencode.
            let at = change.at.index(bytes.len());
            for (byte, new) in bytes[at..].iter_mut().zip(&change.put) {
                *byte = *new;
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn resume_data_that_is_a_little_wrong_does_no_harm(changes in prop::collection::vec(change(), 0..3)) {
            const V1: &str = "b57d6d4ea108f4ec6cca0fd3d11c0acd7c4adb6e";
            const V2: &str = "f03ab27456e15d5ec8394e79476a79546ab38ed6";
            for id in [V1, V2] {
                let torrent = read(&format!("qbittorrent/BT_backup/{id}.torrent"));
                let resume = read(&format!("qbittorrent/BT_backup/{id}.fastresume"));
                qbittorrent::torrent(&changed(resume, &changes), Some(&torrent)).iter().for_each(check);
            }
            let torrent = read(&format!("transmission/torrents/{V1}.torrent"));
            let resume = changed(read(&format!("transmission/resume/{V1}.resume")), &changes);
            transmission::torrent(&torrent, Some(&resume)).iter().for_each(check);
            let base = format!("rtorrent/{}.torrent", V1.to_uppercase());
            let torrent = read(&base);
            let settings = changed(read(&format!("{base}.rtorrent")), &changes);
            let resume = changed(read(&format!("{base}.libtorrent_resume")), &changes);
            rtorrent::torrent(&torrent, Some(&settings), Some(&resume)).iter().for_each(check);
            let state = changed(read("deluge/state/torrents.state"), &changes);
            if let Ok(state) = deluge::State::decode(state) {
                let all = read("deluge/state/torrents.fastresume");
                let ranges = deluge::resume_data(&all).unwrap();
                for (place, id) in state.ids().enumerate() {
                    let resume = ranges.get(id).and_then(|range| all.get(range.clone()));
                    let torrent = [V1, V2].contains(&id).then(|| read(&format!("deluge/state/{id}.torrent")));
                    state.torrent(place, torrent.as_deref(), resume, None).iter().for_each(check);
                }
            }
        }
    }
}

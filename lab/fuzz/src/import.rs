//! What other clients write about their torrents.
//!
//! Invariant: as for the whole crate.

use shoal_import::{
    Have, Imported, MAX_PATH_BYTES, MAX_TAGS, deluge, qbittorrent, rtorrent, transmission,
};
use shoal_metainfo::PieceIndex;

/// What is between the files of an input.
pub const SEPARATOR: &[u8] = b"\n====\n";

/// The input is a letter for the client and up to three of its files. What is taken over fits the torrent and stays in its folder.
pub fn import(input: &[u8]) {
    let Some((&client, files)) = input.split_first() else {
        return;
    };
    let (first, rest) = split(files);
    let (second, rest) = rest.map_or((None, None), |rest| {
        let (second, rest) = split(rest);
        (Some(second), rest)
    });
    let imported = match client {
        b'q' => qbittorrent::torrent(first, second),
        b't' => transmission::torrent(first, second),
        b'm' => transmission::magnet(first, second),
        b'r' => rtorrent::torrent(first, second, rest),
        b'f' => return deluge_resume(first),
        _ => return deluge_state(first, second, rest),
    };
    imported.iter().for_each(check);
}

/// The file before the first separator, and what is after it.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let at = bytes
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR);
    match at {
        Some(at) => (&bytes[..at], Some(&bytes[at + SEPARATOR.len()..])),
        None => (bytes, None),
    }
}

fn deluge_resume(file: &[u8]) {
    for range in deluge::resume_data(file)
        .into_iter()
        .flatten()
        .map(|(_, range)| range)
    {
        assert!(file.get(range).is_some());
    }
    let ids = deluge::labels(file).into_keys();
    ids.for_each(|id| assert_eq!(id, id.to_ascii_lowercase()));
}

fn deluge_state(state: &[u8], torrent: Option<&[u8]>, resume: Option<&[u8]>) {
    let Ok(state) = deluge::State::decode(state.to_vec()) else {
        return;
    };
    // Each has the same files here, so that a few tell as much as all.
    for place in 0..state.ids().count().min(4) {
        let imported = state.torrent(place, torrent, resume, Some("label"));
        imported.iter().for_each(check);
    }
}

fn check(imported: &Imported) {
    let files = imported
        .metainfo()
        .map_or(0, |metainfo| metainfo.files().len());
    let known = imported.paths.keys().chain(imported.stamps.keys());
    assert!(
        known
            .chain(imported.priorities.keys())
            .all(|file| file.get() < files)
    );
    for path in imported.paths.values() {
        assert!(path.len() <= MAX_PATH_BYTES);
        assert!(
            path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path:?}"
        );
    }
    assert!(imported.tags.len() <= MAX_TAGS);
    if let Have::Pieces { verified, doubtful } = &imported.have {
        let pieces = imported
            .metainfo()
            .map(|metainfo| metainfo.layout().piece_count());
        assert_eq!(Some(verified.len()), pieces);
        assert!(verified.iter().all(|piece| !doubtful.get(piece)));
    }
    assert!(!imported.have.has(PieceIndex(u32::MAX)) || imported.have == Have::All);
}

//! What a torrent file or a link says: bencode, metainfo, magnets and names.
//!
//! Invariant: as for the whole crate.

use shoal_metainfo::bencode::{Bencode, Limits, Value, decode, decode_canonical};
use shoal_metainfo::magnet::MAX_SELECTED_RANGES;
use shoal_metainfo::metainfo::{MAX_CONTACTS, MAX_TRACKERS, MAX_WEB_SEEDS};
use shoal_metainfo::metalink::{MAX_FILES, MAX_URLS, Metalink, MetalinkUrl};
use shoal_metainfo::names::{MAX_NAME_BYTES, Names, Place, sanitise};
use shoal_metainfo::{FileIndex, Magnet, Metainfo};
use std::collections::{BTreeMap, BTreeSet};

/// Values lie where they say, what is canonical encodes to itself, and tight limits refuse nothing but what exceeds them.
pub fn bencode(input: &[u8]) {
    let tight = Limits {
        bytes: 1024,
        tokens: 32,
        depth: 4,
    };
    let Ok(document) = decode(input, Limits::REMOTE) else {
        assert!(decode(input, tight).is_err());
        assert!(decode_canonical(input, Limits::REMOTE).is_err());
        return;
    };
    let root = document.root();
    assert_eq!(input.len(), root.raw().len() + document.rest().len());
    let rebuilt = rebuild(input, root);
    let canonical = document.rest().is_empty() && root.unsorted().is_none();
    assert_eq!(canonical, decode_canonical(input, Limits::REMOTE).is_ok());
    assert_eq!(rebuilt.encode() == input, canonical);
}

/// The value, owned. The depth of the recursion is bounded by the limits of the decoder.
fn rebuild(input: &[u8], value: Value<'_>) -> Bencode {
    assert!(input[value.offset()..].starts_with(value.raw()));
    if let Some(items) = value.as_list() {
        Bencode::List(items.map(|item| rebuild(input, item)).collect())
    } else if let Some(entries) = value.as_dict() {
        let entries = entries.map(|(key, value)| (key.to_vec(), rebuild(input, value)));
        Bencode::Dict(entries.collect::<BTreeMap<_, _>>())
    } else if let Some(bytes) = value.as_bytes() {
        Bencode::Bytes(bytes.to_vec())
    } else {
        match value.as_int() {
            Some(number) => Bencode::Int(number),
            None => panic!("a value of no kind: {value:?}"),
        }
    }
}

/// A torrent that is accepted is whole: files in their places, a promise for every piece, and paths that are safe.
pub fn metainfo(input: &[u8]) {
    let Ok(metainfo) = Metainfo::parse(input, Limits::REMOTE) else {
        return;
    };
    let again = Metainfo::parse(input, Limits::REMOTE).map(|again| again.info_hashes());
    assert_eq!(again.ok(), Some(metainfo.info_hashes()));
    if let Ok(document) = decode(input, Limits::REMOTE) {
        let info = document.root().get("info").map(|info| info.raw());
        assert_eq!(info, Some(metainfo.raw_info()));
    }
    let layout = metainfo.layout();
    assert!(layout.piece_count() > 0);
    assert_eq!(metainfo.verifier().piece_count(), layout.piece_count());
    assert!(metainfo.trackers().iter().map(Vec::len).sum::<usize>() <= MAX_TRACKERS);
    assert!(metainfo.web_seeds().len() <= MAX_WEB_SEEDS && metainfo.nodes().len() <= MAX_CONTACTS);
    check_component(metainfo.name());
    check_files(&metainfo);
    check_paths(
        metainfo
            .files()
            .iter()
            .filter(|file| !file.padding)
            .map(|file| file.path.as_str()),
    );
}

/// Files lie in the address space one after the other, and each is covered by the pieces that it says.
fn check_files(metainfo: &Metainfo) {
    let layout = metainfo.layout();
    let mut end = 0;
    for (at, file) in (0..).zip(metainfo.files()) {
        assert!(file.offset >= end || file.length == 0, "files overlap");
        end = end.max(file.range().end);
        let pieces = metainfo.pieces_of(FileIndex(at));
        assert_eq!(pieces.is_empty(), file.length == 0);
        assert!(pieces.end <= layout.piece_count());
        let layer = metainfo.piece_layer(FileIndex(at));
        assert!(layer.is_empty() || layer.len() == pieces.len());
    }
    // The last piece of a v2 torrent is as long as its content; no file ends beyond it.
    let last = layout.pieces().next_back();
    assert!(last.is_some_and(|last| end <= layout.range_of(last).end));
}

/// A link that is read and written says the same again.
pub fn magnet(input: &[u8]) {
    let Some(mut magnet) = core::str::from_utf8(input)
        .ok()
        .and_then(|link| Magnet::parse(link).ok())
    else {
        return;
    };
    assert!(magnet.trackers.len() <= MAX_TRACKERS && magnet.web_seeds.len() <= MAX_WEB_SEEDS);
    assert!(magnet.peers.len() <= MAX_CONTACTS);
    assert!(
        magnet
            .selected
            .as_ref()
            .is_none_or(|ranges| ranges.len() <= MAX_SELECTED_RANGES)
    );
    magnet.warnings.clear();
    assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
}

/// What a Metalink says is within its bounds, and its files are content that stays below the folder, or none.
pub fn metalink(input: &[u8]) {
    let Ok(metalink) = Metalink::parse(input) else {
        return;
    };
    assert!((1..=MAX_FILES).contains(&metalink.files.len()));
    for file in &metalink.files {
        let lists = [&file.urls, &file.torrents];
        assert!(lists.iter().all(|urls| urls.len() <= MAX_URLS));
        let web = |url: &MetalinkUrl| matches!(url.url.scheme(), "http" | "https");
        assert!(lists.into_iter().flatten().all(web));
        let Some(plain) = file.plain() else { continue };
        let Ok(content) = Metainfo::plain(&[plain], file.pieces.clone(), input) else {
            continue;
        };
        let path = &content.files()[0].path;
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        assert_eq!(Some(content.layout().total_length()), file.size);
    }
}

/// The input is a list of paths, a line each, their components apart by NUL. What comes out stays below the folder and no
/// two are the same.
pub fn names(input: &[u8]) {
    for component in input.split(|&byte| byte == b'\n' || byte == 0) {
        check_component(&sanitise(component));
    }
    let mut tree = Names::new();
    let mut places = Vec::new();
    for line in input.split(|&byte| byte == b'\n') {
        let mut components: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        let Some(name) = components.pop() else {
            continue;
        };
        let directory = components
            .into_iter()
            .try_fold(Names::ROOT, |parent, raw| tree.directory(parent, raw));
        let Ok(directory) = directory else {
            return;
        };
        places.push(Place { directory, name });
    }
    let Ok(resolved) = tree.resolve(&places) else {
        return;
    };
    assert_eq!(resolved.len(), places.len());
    check_paths(resolved.iter().map(|file| file.path.as_str()));
}

/// Paths that stay below their folder, no two the same and none within another, on disks that ignore case too.
fn check_paths<'a>(paths: impl Iterator<Item = &'a str> + Clone) {
    let folded: BTreeSet<String> = paths.clone().map(str::to_lowercase).collect();
    assert_eq!(
        folded.len(),
        paths.clone().count(),
        "two files with one path"
    );
    paths.for_each(|path| path.split('/').for_each(check_component));
    for path in &folded {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        assert!(
            above.all(|directory| !folded.contains(directory)),
            "a file is a directory"
        );
    }
}

/// One component that means what it shows, and only that.
fn check_component(name: &str) {
    assert!(!name.is_empty() && name != "." && name != "..", "{name:?}");
    assert!(name.len() <= MAX_NAME_BYTES, "{name:?}");
    assert!(!name.contains(['/', '\\', '\0']), "{name:?}");
    assert!(!name.contains(char::is_control), "{name:?}");
    assert_eq!(
        sanitise(name.as_bytes()),
        name,
        "doing it twice changes nothing"
    );
}

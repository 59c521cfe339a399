//! What a torrent file or a link says: bencode and names.
//!
//! Invariant: as for the whole crate.

use shoal_metainfo::bencode::{Bencode, Limits, Value, decode, decode_canonical};
use shoal_metainfo::names::{MAX_NAME_BYTES, Names, Place, sanitise};
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
    let folded: BTreeSet<String> = resolved
        .iter()
        .map(|file| file.path.to_lowercase())
        .collect();
    assert_eq!(folded.len(), places.len(), "two files with one path");
    for file in resolved {
        file.path.split('/').for_each(check_component);
        let above = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        for directory in above {
            assert!(
                !folded.contains(&directory.to_lowercase()),
                "a file is a directory"
            );
        }
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

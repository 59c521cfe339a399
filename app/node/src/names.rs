//! How a person names torrents of the session: by number, by the beginning of an info hash, by name, or all of them.
//!
//! Invariant: a name leads to one torrent or to none; where it could mean several it is refused.

use crate::entry::Entry;
use crate::session::NodeError;
use std::collections::BTreeMap;

/// The word for every torrent.
const ALL: &str = "all";

/// Fewer digits of an info hash are a number, or too easily another torrent's.
const LEAST_HASH_DIGITS: usize = 6;

/// The torrents that these names mean, each once, in the order in which they were added.
pub(crate) fn resolve(
    entries: &BTreeMap<i64, Entry>,
    names: &[String],
) -> Result<Vec<i64>, NodeError> {
    let mut ids = Vec::new();
    for name in names {
        match name == ALL {
            true => ids.extend(entries.keys()),
            false => ids.push(one(entries, name)?),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn one(entries: &BTreeMap<i64, Entry>, name: &str) -> Result<i64, NodeError> {
    if let Ok(id) = name.parse::<i64>()
        && entries.contains_key(&id)
    {
        return Ok(id);
    }
    let hash = name.to_ascii_lowercase();
    let like_a_hash =
        hash.len() >= LEAST_HASH_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let meant = |entry: &Entry| {
        entry.name() == name || (like_a_hash && entry.hash_text().starts_with(&hash))
    };
    let mut matching = entries.iter().filter(|(_, entry)| meant(entry));
    let (first, second) = (matching.next(), matching.next());
    match (first, second) {
        (Some((id, _)), None) => Ok(*id),
        (Some(_), Some(_)) => Err(NodeError::Ambiguous(name.to_owned())),
        (None, _) => Err(NodeError::NotFound(name.to_owned())),
    }
}

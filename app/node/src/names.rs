//! How a person says which torrents: numbers and ranges of them, info hashes, names, or what torrents have in common.
//!
//! Invariant: what names one torrent leads to one or to none; where it could mean several it is refused.

use crate::entry::Entry;
use crate::error::NodeError;
use crate::message::State;
use shoal_session::queue::Standing;
use shoal_session::rules::CategoryName;
use std::collections::BTreeMap;

/// The word for every torrent.
const ALL: &str = "all";

/// The category or tag of those that have none.
const NONE: &str = "none";

/// Fewer digits of an info hash are a number, or too easily another torrent's.
const LEAST_HASH_DIGITS: usize = 8;

/// The words before a colon that say what torrents have in common.
const KINDS: [&str; 5] = ["category", "tag", "state", "tracker", "private"];

/// Whether a word says which torrents without being the name of one: by numbers, digits of an info hash, or what they have in common.
#[must_use]
pub fn reads_as_id(word: &str) -> bool {
    let one = |part: &str| {
        let selects = |(kind, _): (&str, &str)| KINDS.contains(&kind);
        part == ALL
            || part.parse::<i64>().is_ok_and(|number| number >= 0)
            || range(part).is_some()
            || is_like_a_hash(part)
            || part.split_once(':').is_some_and(selects)
    };
    word.split(',').all(one)
}

fn is_like_a_hash(digits: &str) -> bool {
    digits.len() >= LEAST_HASH_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The torrents that these words mean together, each once, in the order in which they were added.
pub(crate) fn resolve(
    entries: &BTreeMap<i64, Entry>,
    standing: &dyn Fn(i64) -> Option<Standing>,
    words: &[String],
) -> Result<Vec<i64>, NodeError> {
    let mut ids = Vec::new();
    for word in words {
        // A name may have commas in it.
        if let Some(id) = by_name(entries, word)? {
            ids.push(id);
            continue;
        }
        for part in word.split(',') {
            meant(entries, standing, part, &mut ids)?;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What is about to be forgotten has no name any more.
fn present(entries: &BTreeMap<i64, Entry>) -> impl Iterator<Item = &Entry> {
    entries.values().filter(|entry| !entry.removed)
}

fn meant(
    entries: &BTreeMap<i64, Entry>,
    standing: &dyn Fn(i64) -> Option<Standing>,
    word: &str,
    ids: &mut Vec<i64>,
) -> Result<(), NodeError> {
    if word == ALL {
        ids.extend(present(entries).map(|entry| entry.id));
        return Ok(());
    }
    if let Some((kind, value)) = word.split_once(':')
        && let Some(common) = in_common(kind, value)?
    {
        ids.extend(
            present(entries)
                .filter(|entry| common.holds(entry, standing))
                .map(|entry| entry.id),
        );
        return Ok(());
    }
    if let Some((first, last)) = range(word) {
        if first > last {
            let what = format!("the range {word} ends before it begins");
            return Err(NodeError::Usage(what));
        }
        ids.extend(
            entries
                .range(first..=last)
                .filter(|(_, entry)| !entry.removed)
                .map(|(id, _)| *id),
        );
        return Ok(());
    }
    ids.push(one(entries, word)?);
    Ok(())
}

fn range(word: &str) -> Option<(i64, i64)> {
    let (first, last) = word.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// What torrents can have in common.
enum Common<'a> {
    Category(Option<CategoryName>),
    Tag(Option<&'a str>),
    State(State),
    Tracker(&'a str),
    Private(bool),
}

/// `None` where a word with a colon in it means something else.
fn in_common<'a>(kind: &str, value: &'a str) -> Result<Option<Common<'a>>, NodeError> {
    let usage = |what: String| Err(NodeError::Usage(what));
    let common = match kind {
        "category" if value == NONE => Common::Category(None),
        "category" => match value.parse::<CategoryName>() {
            Ok(name) => Common::Category(Some(name)),
            Err(error) => return usage(error.to_string()),
        },
        "tag" => Common::Tag((value != NONE).then_some(value)),
        "state" => match State::ALL.iter().find(|state| state.name() == value) {
            Some(state) => Common::State(*state),
            None => {
                let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
                let names = names.join(", ");
                return usage(format!("there is no state {value:?}; they are {names}"));
            }
        },
        "tracker" => Common::Tracker(value),
        "private" => match value {
            "yes" => Common::Private(true),
            "no" => Common::Private(false),
            _ => return usage("write private:yes or private:no".to_owned()),
        },
        _ => return Ok(None),
    };
    Ok(Some(common))
}

impl Common<'_> {
    fn holds(&self, entry: &Entry, standing: &dyn Fn(i64) -> Option<Standing>) -> bool {
        match self {
            Common::Category(None) => entry.options.category.is_none(),
            // Those below it are in it too.
            Common::Category(Some(name)) => {
                let own = entry.options.category.as_deref();
                let own = own.and_then(|own| own.parse::<CategoryName>().ok());
                own.is_some_and(|own| own.lineage().any(|above| above == name.as_str()))
            }
            Common::Tag(None) => entry.options.tags.is_empty(),
            Common::Tag(Some(tag)) => entry.options.tags.contains(*tag),
            Common::State(state) => entry.line(standing(entry.id)).state == *state,
            Common::Tracker(host) => entry.tracker_hosts().iter().any(|tracker| tracker == host),
            Common::Private(private) => entry.is_private() == *private,
        }
    }
}

fn by_name(entries: &BTreeMap<i64, Entry>, word: &str) -> Result<Option<i64>, NodeError> {
    let mut matching = present(entries).filter(|entry| entry.name() == word);
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(Some(entry.id)),
        (Some(_), Some(_)) => Err(NodeError::Ambiguous(word.to_owned())),
        (None, _) => Ok(None),
    }
}

fn one(entries: &BTreeMap<i64, Entry>, word: &str) -> Result<i64, NodeError> {
    let number = word.parse::<i64>().ok();
    if let Some(entry) = number.and_then(|id| entries.get(&id))
        && !entry.removed
    {
        return Ok(entry.id);
    }
    if let Some(id) = by_name(entries, word)? {
        return Ok(id);
    }
    let hash = word.to_ascii_lowercase();
    let mut matching =
        present(entries).filter(|entry| is_like_a_hash(&hash) && entry.is_called(&hash));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry.id),
        (Some(_), Some(_)) => Err(NodeError::Ambiguous(word.to_owned())),
        (None, _) => Err(NodeError::NotFound(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_hashes_and_what_is_common_read_as_ids_and_names_do_not() {
        for id in [
            "3",
            "3,7-9",
            "all",
            "0a0a0a0a",
            "category:films",
            "state:x,4",
        ] {
            assert!(reads_as_id(id), "{id}");
        }
        for name in [
            "",
            "a",
            "./3",
            "-3",
            "3.torrent",
            "0a0a0a",
            "3,",
            "c:films",
            "al",
        ] {
            assert!(!reads_as_id(name), "{name}");
        }
    }
}

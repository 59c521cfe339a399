//! What stands for what in the arguments of a hook.
//!
//! Invariant: an argument stays one, of bounded length and without zero bytes, whatever a torrent says.

use crate::entry::{Entry, Source};

/// The words, as they stand between braces.
const WORDS: [&str; 13] = [
    "name",
    "category",
    "tags",
    "content",
    "root",
    "folder",
    "files",
    "size",
    "tracker",
    "comment",
    "info_hash_v1",
    "info_hash_v2",
    "id",
];

/// The most bytes that one word stands for. Paths are shorter, and the system takes 128 KiB for an argument.
const MAX_WORD_BYTES: usize = 8 * 1024;

/// What each word stands for, in the order of [`WORDS`].
pub(super) struct Meanings([String; WORDS.len()]);

/// Those of a torrent. What is not known of it, as of a magnet link that is still looked for, is nothing.
pub(super) fn of(entry: &Entry) -> Meanings {
    let metainfo = match &entry.source {
        Source::Metainfo(metainfo) => Some(metainfo),
        Source::Magnet(_) => None,
    };
    let below = |name: &str| entry.directory.join(name).to_string_lossy().into_owned();
    let tags: Vec<&str> = entry.options.tags.iter().map(String::as_str).collect();
    let files = metainfo.map(|metainfo| metainfo.files().iter().filter(|file| !file.padding));
    let size = files
        .clone()
        .map(|files| files.map(|file| file.length).sum::<u64>());
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let count = files.map(|files| u64::try_from(files.count()).unwrap_or(u64::MAX));
    let own = metainfo.and_then(|metainfo| metainfo.comment());
    let comment = entry.options.comment.as_deref().or(own);
    Meanings([
        entry.name(),
        entry.options.category.clone().unwrap_or_default(),
        tags.join(","),
        metainfo.map_or_else(String::new, |metainfo| below(metainfo.name())),
        metainfo
            .and_then(|metainfo| metainfo.folder())
            .map_or_else(String::new, below),
        entry.directory.to_string_lossy().into_owned(),
        number(count),
        number(size),
        entry.tracker_hosts().into_iter().next().unwrap_or_default(),
        comment.unwrap_or_default().to_owned(),
        entry
            .hashes
            .v1()
            .map_or_else(String::new, |hash| hash.to_string()),
        entry
            .hashes
            .v2()
            .map_or_else(String::new, |hash| hash.to_string()),
        entry.id.to_string(),
    ])
}

/// Whether all words of an argument are known.
pub(super) fn check(argument: &str) -> Result<(), String> {
    let unknown = parts(argument).find_map(|part| match part {
        Part::Word(word) if !WORDS.contains(&word) => Some(word),
        _ => None,
    });
    match unknown {
        None => Ok(()),
        Some(word) => {
            let words = WORDS.map(|word| format!("{{{word}}}"));
            Err(format!(
                "{{{word}}} stands for nothing; these do: {}",
                words.join(", ")
            ))
        }
    }
}

/// The argument with everything in its place.
pub(super) fn fill(argument: &str, Meanings(meanings): &Meanings) -> String {
    let mut filled = String::new();
    for part in parts(argument) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Word(word) => {
                let place = WORDS.iter().position(|known| *known == word);
                let meaning = place.map_or("", |place| meanings[place].as_str());
                let bounded = &meaning[..meaning.floor_char_boundary(MAX_WORD_BYTES)];
                filled.extend(bounded.chars().filter(|&char| char != '\0'));
            }
        }
    }
    filled
}

/// A part of an argument.
enum Part<'a> {
    Text(&'a str),
    /// What stands between braces, where that is a word.
    Word(&'a str),
}

fn parts(mut rest: &str) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        if let Some((word, behind)) = word(rest) {
            rest = behind;
            return Some(Part::Word(word));
        }
        let begin = rest.char_indices().skip(1);
        let next = begin
            .map(|(at, _)| at)
            .find(|&at| word(&rest[at..]).is_some());
        let (text, behind) = rest.split_at(next.unwrap_or(rest.len()));
        rest = behind;
        (!text.is_empty()).then_some(Part::Text(text))
    })
}

fn word(text: &str) -> Option<(&str, &str)> {
    let (word, behind) = text.strip_prefix('{')?.split_once('}')?;
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!word.is_empty() && word.bytes().all(is_letter)).then_some((word, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meanings(name: &str) -> Meanings {
        let mut meanings = WORDS.map(str::to_uppercase);
        meanings[0] = name.to_owned();
        Meanings(meanings)
    }

    #[test]
    fn words_stand_for_what_the_torrent_says_and_the_rest_stays() {
        let hostile = "a b; rm -rf ~ \"$(x)\" {id}\n--flag\0";
        let name = hostile.replace('\0', "");
        for (argument, expected) in [
            ("{name}", name.clone()),
            ("--name={name}/{id}", format!("--name={name}/ID")),
            ("{{name}}", format!("{{{name}}}")),
            ("{", "{".to_owned()),
            ("{} {Name} { id}", "{} {Name} { id}".to_owned()),
            ("\u{e9}{size}\u{e9}", "\u{e9}SIZE\u{e9}".to_owned()),
            ("", String::new()),
        ] {
            assert_eq!(fill(argument, &meanings(hostile)), expected, "{argument}");
        }
        let long = fill("{name}", &meanings(&"\u{e9}".repeat(MAX_WORD_BYTES)));
        assert_eq!(long.len(), MAX_WORD_BYTES);
    }

    proptest! {
        #[test]
        fn an_argument_without_words_is_itself(argument in "[a-z{} \u{e9}]{0,12}") {
            let has_none = parts(&argument).all(|part| matches!(part, Part::Text(_)));
            if has_none {
                prop_assert_eq!(fill(&argument, &meanings("x")), argument);
            } else {
                let braces = argument.contains('{') && argument.contains('}');
                prop_assert!(braces);
            }
        }
    }
}

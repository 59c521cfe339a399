//! URLs that a person says of torrents.
//!
//! Invariant: none is part of an error, as those of private sites are secrets.

use crate::error::NodeError;
use url::Url;

/// Longer than any that means something.
const MAX_BYTES: usize = 4096;

/// As they are stored: all of them, or that they are not what they have to be, `what`.
pub(crate) fn readable(
    urls: &[String],
    schemes: &[&str],
    what: &str,
) -> Result<Vec<String>, NodeError> {
    let read = |url: &String| {
        let parsed = Url::parse(url).ok();
        let known = |parsed: &Url| schemes.contains(&parsed.scheme());
        let parsed = parsed.filter(|parsed| url.len() <= MAX_BYTES && known(parsed));
        parsed.map(String::from)
    };
    let urls: Option<Vec<String>> = urls.iter().map(read).collect();
    urls.ok_or_else(|| NodeError::Usage(what.to_owned()))
}

/// As the engine takes them: those that can be read.
pub(crate) fn parsed<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Url> {
    let texts = texts.into_iter();
    texts.filter_map(|url| url.parse().ok()).collect()
}

//! Why an announce or a scrape came to nothing, and how text from trackers is made fit to be shown.
//!
//! Invariant: text from a tracker that leaves this crate has no control or bidirectional characters and at most
//! [`MAX_TEXT_CHARS`] characters.

use shoal_metainfo::bencode::DecodeError;

/// Why an announce or a scrape came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The tracker answered that it will not (BEP 3, `failure reason`; BEP 15, action 3).
    #[error("the tracker refused: {reason}")]
    Failure {
        /// What it said, cleaned.
        reason: String,
        /// When it may be asked again, if it said so (BEP 31).
        retry_in: Option<RetryIn>,
    },
    /// The reply is not what the protocol allows.
    #[error("the tracker's reply makes no sense: {0}")]
    Malformed(&'static str),
    /// The reply is not bencode, perhaps a page of HTML.
    #[error("the tracker's reply is {0}")]
    NotBencode(DecodeError),
    /// The reply is larger than we read.
    #[error("the tracker's reply is longer than {limit} bytes")]
    TooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// An HTTP status other than success, and no reason in the body.
    #[error("the tracker answered with HTTP status {0}")]
    HttpStatus(u16),
    /// No reply within the bound.
    #[error("the tracker did not answer in time")]
    TimedOut,
    /// The tracker could not be reached: name resolution, connection, TLS, or an address that the policy forbids. The driver
    /// says it in words.
    #[error("the tracker cannot be reached: {0}")]
    Unreachable(String),
    /// The URL of the tracker cannot be used.
    #[error("the tracker's URL cannot be used: {0}")]
    UnusableUrl(&'static str),
    /// By convention a tracker has a scrape only where the last component of its path begins with `announce` (BEP 48).
    #[error("the tracker has no scrape: the last part of its path does not begin with `announce`")]
    NoScrape,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    /// Not in this session.
    Never,
    /// After that many minutes.
    Minutes(u32),
}

/// Enough for a sentence or two; a reason that is longer was not written for people.
pub const MAX_TEXT_CHARS: usize = 256;

/// Text from a tracker, fit to be shown: invalid UTF-8 replaced, without characters that control a terminal or turn the
/// direction of writing, cut to [`MAX_TEXT_CHARS`].
pub(crate) fn cleaned(bytes: &[u8]) -> String {
    // A character takes at most four bytes, so that no more of a long text than that is looked at.
    let bytes = &bytes[..bytes.len().min(MAX_TEXT_CHARS * 4)];
    let text = String::from_utf8_lossy(bytes);
    let shown = text
        .chars()
        .filter(|&c| !c.is_control() && !turns_direction(c));
    let shown: String = shown.take(MAX_TEXT_CHARS).collect();
    shown.trim().to_owned()
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_tracker_cannot_drive_a_terminal_or_turn_the_line_around() {
        assert_eq!(cleaned(b" \x1b[31mred\r\n\x07 "), "[31mred");
        assert_eq!(cleaned("a\u{202e}b\u{2066}c".as_bytes()), "abc");
        assert_eq!(cleaned(b"caf\xe9"), "caf\u{fffd}");
    }

    #[test]
    fn text_from_a_tracker_is_cut() {
        let long = "\u{1f980}".repeat(10_000);
        assert_eq!(cleaned(long.as_bytes()).chars().count(), MAX_TEXT_CHARS);
    }
}

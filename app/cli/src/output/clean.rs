//! Strangers' text, made harmless for a terminal.
//!
//! Invariant: what leaves here moves no cursor, changes no colour, and reads in the order in which it is written.

use std::borrow::Cow;

/// Replaces control characters and what changes the direction of text or cannot be seen; line breaks and tabs become
/// spaces.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let harmless = |c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_unsafe(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(harmless).collect())
}

/// Control characters (C0, C1), bidirectional formatting (UAX #9), line and paragraph separators, invisible characters and
/// tags.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{ad}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_reversals_are_made_harmless() {
        let replaced = "a\u{fffd}[31mb\u{fffd}c d";
        assert_eq!(clean("a\u{1b}[31mb\u{202e}c\nd"), replaced);
        assert_eq!(clean("\u{9b}2J"), "\u{fffd}2J");
        assert!(matches!(clean("Grüße, 世界 🎬"), Cow::Borrowed(_)));
    }
}

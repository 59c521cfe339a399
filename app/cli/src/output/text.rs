//! Lines for people, in which what strangers wrote is harmless and what we wrote may be coloured.

use std::io::{self, Write};

use super::clean::clean;

/// How a part of a line looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Label,
    Good,
    Bad,
}

impl Style {
    /// SGR parameters (ECMA-48), of the colours that every terminal has.
    const fn sgr(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Label => "2",
            Style::Good => "32",
            Style::Bad => "31",
        }
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Style, String)>);

/// Width of the labels on the left.
const LABEL_WIDTH: usize = 14;

impl Line {
    pub(super) fn plain(text: impl Into<String>) -> Line {
        Line(vec![(Style::Plain, text.into())])
    }

    pub(super) fn good(text: impl Into<String>) -> Line {
        Line(vec![(Style::Good, text.into())])
    }

    pub(super) fn bad(text: impl Into<String>) -> Line {
        Line(vec![(Style::Bad, text.into())])
    }

    pub(super) fn label(text: impl Into<String>) -> Line {
        Line(vec![(Style::Label, text.into())])
    }

    /// A label and what it is about.
    pub(super) fn field(label: &str, value: impl Into<String>) -> Line {
        Line::label(format!("{label:<LABEL_WIDTH$}")).then(value)
    }

    /// The line with more text behind it.
    #[must_use]
    pub(super) fn then(mut self, text: impl Into<String>) -> Line {
        self.0.push((Style::Plain, text.into()));
        self
    }

    /// Writes the line and a line break.
    pub(super) fn write(&self, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        for (style, text) in &self.0 {
            let text = clean(text);
            match style.sgr() {
                "" => out.write_all(text.as_bytes())?,
                _ if !colour => out.write_all(text.as_bytes())?,
                sgr => write!(out, "\u{1b}[{sgr}m{text}\u{1b}[0m")?,
            }
        }
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &Line, colour: bool) -> String {
        let mut out = Vec::new();
        line.write(&mut out, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_ours_only_and_none_without_colour() {
        let line = Line::field("comment", "\u{1b}[2Jboo");
        assert_eq!(written(&line, false), "comment       \u{fffd}[2Jboo\n");
        let coloured = written(&line, true);
        assert_eq!(coloured.matches('\u{1b}').count(), 2);
    }
}

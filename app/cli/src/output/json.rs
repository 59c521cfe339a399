//! One JSON object a line, for programs.
//!
//! Invariant: a line is plain text for a terminal too: what could move a cursor or turn text around is escaped.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use super::Renderer;
use super::clean::is_unsafe;
use super::event::Event;

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Writes JSON lines to standard output.
#[derive(Default)]
pub(super) struct Json {
    last_progress: Option<Instant>,
}

impl Renderer for Json {
    fn show(&mut self, event: &Event) -> io::Result<()> {
        if event.is_progress() {
            let now = Instant::now();
            let due = |last: Instant| now.duration_since(last) >= PROGRESS_INTERVAL;
            if !self.last_progress.is_none_or(due) {
                return Ok(());
            }
            self.last_progress = Some(now);
        }
        let line = line(event)?;
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    }
}

/// The event and a line break.
fn line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    event.serialize(&mut Serializer::with_formatter(&mut line, Escaping))?;
    line.push(b'\n');
    Ok(line)
}

/// Compact JSON that escapes more than JSON asks for.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            let mut characters = rest[at..].chars();
            if let Some(c) = characters.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Warning;
    use super::*;

    #[test]
    fn text_survives_and_is_harmless_on_a_terminal() {
        let message = "a\u{1b}[2J\u{9b}\u{202e}\u{e0041}\"ü".to_owned();
        let event = Event::Warning(Warning {
            message: message.clone(),
        });
        let line = String::from_utf8(line(&event).unwrap()).unwrap();
        assert!(!line.trim_end().contains(is_unsafe), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], message);
        assert_eq!(read["event"], "warning");
    }
}

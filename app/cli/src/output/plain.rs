//! Plain lines, for pipes and files: what happens as it happens, and how far it is every few seconds.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::event::Event;
use super::{Renderer, human};

/// How often progress is told. A log should not be full of it.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Writes lines to standard output.
pub(super) struct Plain {
    colour: bool,
    last_progress: Instant,
}

impl Plain {
    pub(super) fn new(colour: bool) -> Plain {
        Plain {
            colour,
            last_progress: Instant::now(),
        }
    }
}

impl Renderer for Plain {
    fn show(&mut self, event: &Event) -> io::Result<()> {
        if event.is_progress() {
            if self.last_progress.elapsed() < PROGRESS_INTERVAL {
                return Ok(());
            }
            self.last_progress = Instant::now();
        }
        write_lines(event, self.colour)
    }
}

/// Writes what an event says to standard output.
pub(super) fn write_lines(event: &Event, colour: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in human::lines(event) {
        line.write(&mut out, colour)?;
    }
    out.flush()
}

//! What happened, as one number, and as lines for whoever asks.
//!
//! Invariant: everything that is noted enters the hash, whether lines are kept or not.

use core::fmt;
use shoal_machine::Moment;
use std::io::Write;

/// The hash of a run and, where asked for, its lines.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Box<dyn Write>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: None,
        }
    }

    pub(crate) fn write_to(&mut self, lines: Box<dyn Write>) {
        self.lines = Some(lines);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// Notes numbers that stand for what happened.
    pub(crate) fn note(&mut self, now: Moment, numbers: [u64; 3]) {
        self.events += 1;
        self.mix(now.as_nanos());
        for number in numbers {
            self.mix(number);
        }
    }

    /// A line, if somebody reads it. A reader who went away misses it.
    pub(crate) fn line(&mut self, now: Moment, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let _gone = writeln!(lines, "{:>12.6} {}", now.as_secs_f64(), what());
        }
    }

    fn mix(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x}, {} events)", self.hash, self.events)
    }
}

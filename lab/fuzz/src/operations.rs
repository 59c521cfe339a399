//! Bytes as a list of operations: what a fuzzer mutates, read as choices.
//!
//! Invariant: every input is a valid list, and reading ends with the input: past its end, all choices are 0.

use core::time::Duration;
use shoal_machine::Moment;

/// Numbers at which arithmetic goes wrong.
const EDGES: [u32; 8] = [
    0,
    1,
    16 * 1024,
    16 * 1024 + 1,
    128 * 1024,
    0x7fff_ffff,
    0xffff_c000,
    u32::MAX,
];

/// Steps of time, in milliseconds: below, at and beyond the timers of the machines.
const STEPS_MS: [u64; 8] = [0, 1, 50, 600, 2_500, 21_000, 70_000, 250_000];

/// Reads choices from an input.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    /// All of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Operations { rest: input }
    }

    /// The kind of the next operation, `None` once the input is used up.
    pub fn next_kind(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.next_kind().unwrap_or(0)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Yes, once in so many times.
    pub fn one_in(&mut self, times: u8) -> bool {
        self.byte() % times == 1
    }

    /// Below `end`, which is at most 256 and not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of `items`, `None` where there are none.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        match items.len() {
            0 => None,
            count => Some(items[self.below(count.min(256))]),
        }
    }

    /// Small numbers mostly, numbers at the edges, seldom any number.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..=239 => u32::from(small),
            edge @ 240..=254 => EDGES[usize::from(edge) % EDGES.len()],
            u8::MAX => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    /// How much time passes.
    pub fn step(&mut self) -> Duration {
        Duration::from_millis(STEPS_MS[self.below(STEPS_MS.len())])
    }

    /// The next bytes, as many as the first one says and there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Drains a machine, as its driver has to after each input.
///
/// # Panics
/// Where one input has more than `most` outputs.
pub fn drain<M: shoal_machine::Machine>(machine: &mut M, most: usize) -> Vec<M::Output> {
    let outputs: Vec<_> = core::iter::from_fn(|| machine.poll())
        .take(most + 1)
        .collect();
    assert!(outputs.len() <= most, "more than {most} outputs at once");
    outputs
}

/// Whether a machine wants its tick at `now`.
pub fn is_due<M: shoal_machine::Machine>(machine: &M, now: Moment) -> bool {
    machine.deadline().is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_to_its_end_and_then_all_is_zero() {
        let mut operations = Operations::new(&[7, 3, b'a', b'b', b'c', 255, 1, 2, 3, 4, 9, 1]);
        assert_eq!(operations.next_kind(), Some(7));
        assert_eq!(operations.bytes(), b"abc");
        assert_eq!(operations.number(), 0x0102_0304);
        assert_eq!(operations.one_of(&[1, 2, 3, 4]), Some(2));
        assert!(operations.flag());
        assert_eq!((operations.next_kind(), operations.number()), (None, 0));
        assert_eq!(operations.one_of::<u8>(&[]), None);
    }
}

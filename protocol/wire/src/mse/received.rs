//! What a remote has sent of its handshake and is not understood yet.
//!
//! Invariant: between two calls fewer bytes are kept than the longest padding and the pattern behind it have.

use super::{MAX_PAD_LENGTH, MseError};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    /// Where a pattern that is looked for does not begin before.
    scanned: usize,
}

impl Received {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn begins_with(&self, beginning: &[u8]) -> bool {
        self.bytes.starts_with(beginning)
    }

    /// The next `N` bytes, once they have come.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.first_chunk()?;
        self.bytes.drain(..N);
        Some(taken)
    }

    /// The next `count` bytes, once they have come.
    pub(super) fn take_count(&mut self, count: usize) -> Option<Vec<u8>> {
        if self.bytes.len() < count {
            return None;
        }
        let rest = self.bytes.split_off(count);
        Some(core::mem::replace(&mut self.bytes, rest))
    }

    /// All that is left.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Drops everything up to and including `pattern`, behind padding of at most [`MAX_PAD_LENGTH`]; false where it has not come.
    /// However the bytes were cut, each is looked at once.
    pub(super) fn skip_past(&mut self, pattern: &[u8]) -> Result<bool, MseError> {
        let bound = self.bytes.len().min(MAX_PAD_LENGTH + pattern.len());
        let mut windows = self.bytes[self.scanned..bound].windows(pattern.len());
        if let Some(at) = windows.position(|window| window == pattern) {
            self.bytes.drain(..self.scanned + at + pattern.len());
            self.scanned = 0;
            return Ok(true);
        }
        self.scanned = (bound + 1).saturating_sub(pattern.len());
        if self.scanned > MAX_PAD_LENGTH {
            return Err(MseError::Synchronisation);
        }
        Ok(false)
    }
}

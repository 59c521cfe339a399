//! Hashes pieces that lie in files, as many side by side as the processor takes at once.
//!
//! Invariant: a thread holds [`READ_CHUNK`] bytes of each of its pieces at a time, whatever their length.

use shoal_metainfo::PieceHasher;
use shoal_metainfo::hasher::{Run, hash_together};

/// As much of each piece is read at a time: few enough bytes that those of all lanes are still in a core's second cache when
/// they are hashed, enough that a call costs little beside them.
const READ_CHUNK: u32 = 128 * 1024;

/// So many bytes from a multiple of this on are about to be read one after the other, which whoever reads may tell the
/// kernel: a disk that must move between pieces should stay with each for a while.
pub(crate) const READ_AHEAD: u32 = 2 * 1024 * 1024;

/// A piece that is hashed.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) hasher: PieceHasher,
    /// In bytes.
    pub(crate) length: u32,
    /// Whether all bytes that were asked for were there.
    pub(crate) whole: bool,
}

impl Lane {
    pub(crate) const fn new(hasher: PieceHasher, length: u32) -> Self {
        Lane {
            hasher,
            length,
            whole: true,
        }
    }
}

/// Feeds the hashers of all lanes. `read` fills a buffer with the bytes of the given lane from the given one on, and says
/// whether they are there; a lane whose bytes are not is left.
pub(crate) fn hash_lanes<E>(
    lanes: &mut [Lane],
    scratch: &mut Vec<u8>,
    mut read: impl FnMut(usize, u32, &mut [u8]) -> Result<bool, E>,
) -> Result<(), E> {
    scratch.resize(lanes.len() * READ_CHUNK as usize, 0);
    let longest = lanes.iter().map(|lane| lane.length).max().unwrap_or(0);
    for begin in (0..longest).step_by(READ_CHUNK as usize) {
        let mut chunks: Vec<(&mut PieceHasher, [&[u8]; 1])> = Vec::with_capacity(lanes.len());
        let buffers = scratch.chunks_exact_mut(READ_CHUNK as usize);
        for (at, (lane, buffer)) in lanes.iter_mut().zip(buffers).enumerate() {
            let len = lane.length.saturating_sub(begin).min(READ_CHUNK);
            if !lane.whole || len == 0 {
                continue;
            }
            let chunk = &mut buffer[..len as usize];
            lane.whole = read(at, begin, chunk)?;
            if lane.whole {
                chunks.push((&mut lane.hasher, [chunk]));
            }
        }
        let runs = chunks
            .iter_mut()
            .map(|(hasher, chunks)| Run { hasher, chunks });
        hash_together(&mut runs.collect::<Vec<_>>());
    }
    Ok(())
}

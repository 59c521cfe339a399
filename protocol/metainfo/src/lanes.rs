//! SHA-1 and SHA-256 of several messages at once, each of which comes in chunks of any size.
//!
//! Where the processor has SHA extensions, up to [`MOST_LANES`] messages are compressed in lockstep in one thread, which takes
//! little longer than one of them. Elsewhere they are compressed one after the other by the crates `sha1` and `sha2`.
//!
//! Invariant: a digest depends on the bytes of its message alone, not on how they were cut, which messages it shared a call
//! with, or what the processor can do.

#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use none::ShaExtensions;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::ShaExtensions;

use core::fmt::Debug;
use smallvec::SmallVec;

/// What the compression functions take at a time.
pub(crate) type Block = [u8; 64];

const BLOCK_BYTES: usize = size_of::<Block>();

/// How many messages are compressed in lockstep at the most. Four keep the unit for SHA-1 nine tenths busy; with more,
/// registers run out and little is won.
pub(crate) const MOST_LANES: usize = 4;

/// One lane of a step: a chaining value, and the blocks that go into it.
pub(crate) type Lane<'a, C> = (&'a mut C, &'a [Block]);

/// The chaining value of a hash function of the Merkle-Damgård kind with 64-byte blocks: five words for SHA-1, eight for
/// SHA-256 (FIPS 180-4).
pub(crate) trait Chain: Copy + Debug + AsRef<[u32]> {
    /// Of the empty message.
    const START: Self;

    /// Compresses all blocks of one message.
    fn compress(&mut self, blocks: &[Block]);

    /// Compresses the blocks of two to [`MOST_LANES`] messages, equally many of each, in lockstep.
    fn lockstep(lanes: &mut [Lane<'_, Self>], extensions: ShaExtensions);
}

/// SHA-1.
pub(crate) type Sha1Chain = [u32; 5];
/// SHA-256.
pub(crate) type Sha256Chain = [u32; 8];

impl Chain for Sha1Chain {
    const START: Self = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];

    fn compress(&mut self, blocks: &[Block]) {
        sha1::block_api::compress(self, blocks);
    }

    fn lockstep(lanes: &mut [Lane<'_, Self>], extensions: ShaExtensions) {
        match lanes {
            [(a, x), (b, y)] => extensions.sha1([a, b], [x, y]),
            [(a, x), (b, y), (c, z)] => extensions.sha1([a, b, c], [x, y, z]),
            [(a, w), (b, x), (c, y), (d, z)] => extensions.sha1([a, b, c, d], [w, x, y, z]),
            others => one_by_one(others),
        }
    }
}

impl Chain for Sha256Chain {
    const START: Self = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    fn compress(&mut self, blocks: &[Block]) {
        sha2::block_api::compress256(self, blocks);
    }

    fn lockstep(lanes: &mut [Lane<'_, Self>], extensions: ShaExtensions) {
        match lanes {
            [(a, x), (b, y)] => extensions.sha256([a, b], [x, y]),
            [(a, x), (b, y), (c, z)] => extensions.sha256([a, b, c], [x, y, z]),
            [(a, w), (b, x), (c, y), (d, z)] => extensions.sha256([a, b, c, d], [w, x, y, z]),
            others => one_by_one(others),
        }
    }
}

fn one_by_one<C: Chain>(lanes: &mut [Lane<'_, C>]) {
    for (chain, blocks) in lanes {
        chain.compress(blocks);
    }
}

/// The hash of one message in the making.
#[derive(Clone, Debug)]
pub(crate) struct Stream<C> {
    chain: C,
    /// Bytes of the message that do not fill a block yet, at the front.
    begun: Block,
    /// How many these are, less than a block.
    filled: usize,
    /// Bytes of the message so far.
    length: u64,
}

impl<C: Chain> Stream<C> {
    pub(crate) const fn new() -> Self {
        Stream {
            chain: C::START,
            begun: [0; BLOCK_BYTES],
            filled: 0,
            length: 0,
        }
    }

    /// Bytes taken so far.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Takes as many of `bytes` as fill a begun block, or all where they do not fill one; returns the rest.
    fn take_part<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
        self.begun[self.filled..][..part.len()].copy_from_slice(part);
        self.filled += part.len();
        self.length += part.len() as u64;
        if self.filled == BLOCK_BYTES {
            self.chain.compress(&[self.begun]);
            self.filled = 0;
        }
        rest
    }

    /// The chaining value after the end of the message.
    fn finish(mut self) -> C {
        let bits = self.length.wrapping_mul(8);
        self.take_part(&[0x80]);
        let room = BLOCK_BYTES - size_of::<u64>();
        if self.filled > room {
            self.take_part(&[0; BLOCK_BYTES][self.filled..]);
        }
        self.take_part(&[0; BLOCK_BYTES][self.filled..room]);
        self.take_part(&bits.to_be_bytes());
        self.chain
    }

    /// The digest, of which `N` is the length in bytes: four for each word of the chain.
    pub(crate) fn digest<const N: usize>(self) -> [u8; N] {
        let mut digest = [0; N];
        let chain = self.finish();
        for (bytes, word) in digest.chunks_exact_mut(4).zip(chain.as_ref()) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

/// A message and what comes next of it.
#[derive(Debug)]
pub(crate) struct Feed<'a, C> {
    stream: &'a mut Stream<C>,
    /// What is left of the chunk that is being taken.
    chunk: &'a [u8],
    /// The chunks behind it.
    chunks: &'a [&'a [u8]],
}

impl<'a, C: Chain> Feed<'a, C> {
    pub(crate) const fn new(stream: &'a mut Stream<C>, chunks: &'a [&'a [u8]]) -> Self {
        Feed {
            stream,
            chunk: &[],
            chunks,
        }
    }

    /// Takes what is not a whole block, until a whole one lies at the front; false where everything has been taken.
    fn settle(&mut self) -> bool {
        loop {
            if self.stream.filled == 0 && self.chunk.len() >= BLOCK_BYTES {
                return true;
            }
            self.chunk = match (self.chunk, self.chunks) {
                ([], []) => return false,
                ([], [next, others @ ..]) => {
                    self.chunks = others;
                    next
                }
                (chunk, _) => self.stream.take_part(chunk),
            };
        }
    }

    /// The whole blocks at the front.
    const fn whole(&self) -> &'a [Block] {
        self.chunk.as_chunks().0
    }

    /// Notes that `count` blocks went into the chain.
    fn advance(&mut self, count: usize) {
        self.chunk = &self.chunk[count * BLOCK_BYTES..];
        self.stream.length += (count * BLOCK_BYTES) as u64;
    }
}

/// Takes everything that `feeds` hold.
pub(crate) fn take_all<C: Chain>(feeds: &mut [Feed<'_, C>], extensions: Option<ShaExtensions>) {
    loop {
        let ready = feeds
            .iter_mut()
            .filter_map(|feed| feed.settle().then_some(feed));
        let mut ready: SmallVec<[_; MOST_LANES]> = ready.take(MOST_LANES).collect();
        let Some(count) = ready.iter().map(|feed| feed.whole().len()).min() else {
            return;
        };
        let lanes = ready.iter_mut().map(|feed| {
            let blocks = &feed.whole()[..count];
            (&mut feed.stream.chain, blocks)
        });
        let mut lanes: SmallVec<[Lane<'_, C>; MOST_LANES]> = lanes.collect();
        match extensions {
            Some(extensions) => C::lockstep(&mut lanes, extensions),
            None => one_by_one(&mut lanes),
        }
        drop(lanes);
        for feed in ready {
            feed.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest, Sha1};
    use sha2::Sha256;

    /// Every way of hashing that this processor can.
    fn ways() -> impl Iterator<Item = Option<ShaExtensions>> {
        core::iter::once(None).chain(ShaExtensions::detect().map(Some))
    }

    fn digests<C: Chain, const N: usize>(
        messages: &[&[u8]],
        extensions: Option<ShaExtensions>,
    ) -> Vec<[u8; N]> {
        let mut streams: Vec<Stream<C>> = messages.iter().map(|_| Stream::new()).collect();
        let chunks: Vec<[&[u8]; 1]> = messages.iter().map(|message| [*message]).collect();
        let feeds = streams.iter_mut().zip(&chunks);
        let mut feeds: Vec<_> = feeds
            .map(|(stream, chunks)| Feed::new(stream, chunks))
            .collect();
        take_all(&mut feeds, extensions);
        streams.into_iter().map(Stream::digest).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of FIPS 180 (its examples for SHA-1 and SHA-256), and of the empty message.
    #[test]
    fn the_vectors_of_the_standard_hold_in_every_lane() {
        let million = vec![b'a'; 1_000_000];
        let messages: [&[u8]; 4] = [
            b"",
            b"abc",
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            &million,
        ];
        let sha1 = [
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
        ];
        let sha256 = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ];
        for extensions in ways() {
            for turned in 0..messages.len() {
                let mut messages = messages;
                messages.rotate_left(turned);
                let mut expected = sha1;
                expected.rotate_left(turned);
                let found = digests::<Sha1Chain, 20>(&messages, extensions);
                assert_eq!(found.iter().map(|d| hex(d)).collect::<Vec<_>>(), expected);
                let mut expected = sha256;
                expected.rotate_left(turned);
                let found = digests::<Sha256Chain, 32>(&messages, extensions);
                assert_eq!(found.iter().map(|d| hex(d)).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn every_length_around_the_end_of_a_block_is_padded_rightly() {
        let bytes: Vec<u8> = (0..=255).collect();
        for extensions in ways() {
            let messages: Vec<&[u8]> = (0..=bytes.len()).map(|length| &bytes[..length]).collect();
            let sha1 = digests::<Sha1Chain, 20>(&messages, extensions);
            let sha256 = digests::<Sha256Chain, 32>(&messages, extensions);
            for (at, message) in messages.iter().enumerate() {
                assert_eq!(sha1[at], <[u8; 20]>::from(Sha1::digest(message)));
                assert_eq!(sha256[at], <[u8; 32]>::from(Sha256::digest(message)));
            }
        }
    }

    proptest! {
        #[test]
        fn each_lane_compresses_as_if_it_were_alone(
            count in 1..=MOST_LANES,
            blocks in 0usize..20,
            seed in any::<u64>(),
        ) {
            let Some(extensions) = ShaExtensions::detect() else {
                return Ok(());
            };
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut noise = || -> Vec<Block> {
                (0..blocks).map(|_| core::array::from_fn(|_| rng.u8(..))).collect()
            };
            let messages: Vec<Vec<Block>> = (0..count).map(|_| noise()).collect();
            let mut words = || core::array::from_fn(|_| rng.u32(..));
            let starts: Vec<Sha256Chain> = (0..count).map(|_| words()).collect();
            let mut together = starts.clone();
            let lanes = together.iter_mut().zip(&messages);
            let mut lanes: Vec<Lane<'_, Sha256Chain>> =
                lanes.map(|(chain, blocks)| (chain, &blocks[..])).collect();
            Chain::lockstep(&mut lanes, extensions);
            let short = |chain: &Sha256Chain| [chain[0], chain[1], chain[2], chain[3], chain[4]];
            let mut shorter: Vec<Sha1Chain> = starts.iter().map(short).collect();
            let lanes = shorter.iter_mut().zip(&messages);
            let mut lanes: Vec<Lane<'_, Sha1Chain>> =
                lanes.map(|(chain, blocks)| (chain, &blocks[..])).collect();
            Chain::lockstep(&mut lanes, extensions);
            for (at, blocks) in messages.iter().enumerate() {
                let (mut long, mut alone) = (starts[at], short(&starts[at]));
                long.compress(blocks);
                alone.compress(blocks);
                prop_assert_eq!((together[at], shorter[at]), (long, alone));
            }
        }
    }
}

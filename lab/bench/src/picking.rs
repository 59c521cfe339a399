//! A torrent's picker in the middle of a download, for counting and timing what one call costs.
//!
//! A tenth of the peers are seeds, the others have any part of the pieces. A step is what happens all the time: a peer asks for
//! blocks, a peer says that it has one more piece, and the blocks that were leased longest ago arrive.

use anyhow::{Context, Result};
use shoal_machine::Moment;
use shoal_metainfo::{BLOCK_LENGTH, Bitfield, BlockRun, Layout, PieceIndex};
use shoal_swarm::picker::{Ask, Picker, Receipt};
use shoal_swarm::{Has, PeerKey};
use std::collections::VecDeque;
use std::hint::black_box;

/// Blocks of a piece.
const PIECE_BLOCKS: u32 = 16;
/// How many blocks a peer asks for at once: half a piece.
const ASKED_BLOCKS: u32 = 8;
/// Runs that are on their way from each peer, on average.
const RUNS_ON_THE_WAY: usize = 4;
/// One peer in so many is a seed.
const SEEDS: u32 = 10;
/// What a peer delivers in a second.
const RATE: u64 = 1_000_000;

/// See the module.
pub struct Scene {
    picker: Picker,
    peers: Vec<Has>,
    on_the_way: VecDeque<(PeerKey, Vec<BlockRun>)>,
    rng: fastrand::Rng,
    steps: u64,
    piece_count: u32,
}

impl Scene {
    /// A torrent of so many pieces, of which we have a third, and so many peers.
    ///
    /// # Errors
    ///
    /// There are no pieces, or more than a torrent has.
    pub fn new(pieces: u32, peers: u32) -> Result<Scene> {
        let mut rng = fastrand::Rng::with_seed(11);
        let piece_length = PIECE_BLOCKS * BLOCK_LENGTH;
        let layout = Layout::contiguous(u64::from(pieces) * u64::from(piece_length), piece_length)?;
        let some = |rng: &mut fastrand::Rng, part: f64| {
            let mut some = Bitfield::empty(pieces);
            for piece in (0..pieces).map(PieceIndex) {
                if rng.f64() < part {
                    some.insert(piece);
                }
            }
            some
        };
        let have = some(&mut rng, 1.0 / 3.0);
        let mut picker = Picker::new(layout, &have, &mut rng);
        let peers: Vec<Has> = (0..peers)
            .map(|peer| match peer % SEEDS {
                0 => Has::All,
                _ => {
                    let part = rng.f64();
                    Has::Some(some(&mut rng, part))
                }
            })
            .collect();
        for has in &peers {
            picker.peer_joined(has);
        }
        Ok(Scene {
            picker,
            peers,
            on_the_way: VecDeque::new(),
            rng,
            steps: 0,
            piece_count: pieces,
        })
    }

    /// Goes on by one step.
    ///
    /// # Errors
    ///
    /// There are no peers, or nothing is left to pick.
    pub fn step(&mut self) -> Result<()> {
        between_steps(&mut self.steps);
        self.have();
        let at = self.rng.usize(..self.peers.len());
        let peer = PeerKey(at as u64);
        let has = self.peers.get(at).context("there are no peers")?;
        let ask = Ask {
            peer,
            has,
            only: None,
            suggested: &[],
            parole: false,
            rate_bytes_per_s: RATE,
            in_runs: false,
        };
        let now = Moment::from_millis(self.steps);
        let mut runs = Vec::with_capacity(ASKED_BLOCKS as usize);
        measured_pick(&mut self.picker, now, &ask, &mut self.rng, &mut runs);
        if !runs.is_empty() {
            self.on_the_way.push_back((peer, runs));
        }
        if self.on_the_way.len() > self.peers.len() * RUNS_ON_THE_WAY {
            self.deliver();
        }
        Ok(())
    }

    /// A peer that is no seed gets a piece.
    fn have(&mut self) {
        let at = self.rng.usize(..self.peers.len());
        if let Has::Some(pieces) = &mut self.peers[at] {
            let piece = PieceIndex(self.rng.u32(..self.piece_count));
            if pieces.insert(piece) {
                measured_have(&mut self.picker, piece);
            }
        }
    }

    fn deliver(&mut self) {
        let Some((peer, runs)) = self.on_the_way.pop_front() else {
            return;
        };
        for block in runs.into_iter().flat_map(BlockRun::blocks) {
            let receipt = self.picker.received(block, peer);
            if let Receipt::New {
                piece_complete: true,
                ..
            } = receipt
            {
                black_box(self.picker.verified(block.piece));
            }
        }
    }
}

/// One pick, under a name that callgrind can find.
#[inline(never)]
fn measured_pick(
    picker: &mut Picker,
    now: Moment,
    ask: &Ask<'_>,
    rng: &mut fastrand::Rng,
    out: &mut Vec<BlockRun>,
) {
    picker.pick(now, ask, ASKED_BLOCKS, rng, black_box(out));
}

/// Where callgrind ends one account and begins the next. It cannot do that where it begins to count.
#[inline(never)]
fn between_steps(steps: &mut u64) {
    *black_box(steps) += 1;
}

/// One have message, likewise.
#[inline(never)]
fn measured_have(picker: &mut Picker, piece: PieceIndex) {
    black_box(picker).piece_gained(piece);
}

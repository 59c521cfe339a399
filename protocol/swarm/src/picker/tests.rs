//! The picker against a naive model that keeps the state of every block and knows what each answer must fulfil.

use super::*;
use core::time::Duration;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use shoal_metainfo::BLOCK_LENGTH;
use std::collections::{BTreeMap, BTreeSet};

const PIECES: u32 = 12;
const BLOCKS_PER_PIECE: u32 = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ModelBlock {
    from: Option<PeerKey>,
    live: Vec<PeerKey>,
    revoked: Vec<PeerKey>,
}

impl ModelBlock {
    fn is_open(&self) -> bool {
        self.from.is_none() && self.live.is_empty()
    }
}

struct Model {
    picker: Picker,
    rng: fastrand::Rng,
    now: Moment,
    layout: Layout,
    blocks: BTreeMap<Block, ModelBlock>,
    have: BTreeSet<PieceIndex>,
    priorities: Vec<Priority>,
    peers: BTreeMap<PeerKey, Has>,
    next_peer: u64,
    readers: Vec<DeadlineLease>,
    sequential: bool,
}

impl Model {
    fn new(seed: u64, have: &[u32]) -> Self {
        let total = u64::from(PIECES * BLOCKS_PER_PIECE * BLOCK_LENGTH) - 20_000;
        let layout = Layout::contiguous(total, BLOCKS_PER_PIECE * BLOCK_LENGTH).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut field = Bitfield::empty(PIECES);
        for &piece in have {
            field.insert(PieceIndex(piece));
        }
        let mut model = Model {
            picker: Picker::new(layout.clone(), &field, &mut rng),
            rng,
            now: Moment::from_secs(100),
            blocks: BTreeMap::new(),
            have: field.iter().collect(),
            priorities: vec![Priority::Normal; PIECES as usize],
            peers: BTreeMap::new(),
            next_peer: 0,
            readers: Vec::new(),
            sequential: false,
            layout,
        };
        for piece in model.layout.pieces() {
            model.clear(piece);
        }
        model
    }

    fn of(&self, piece: PieceIndex) -> impl Iterator<Item = (Block, &ModelBlock)> {
        (0..self.layout.block_count(piece)).map(move |block| {
            let block = Block {
                piece,
                block: BlockIndex(block),
            };
            (block, &self.blocks[&block])
        })
    }

    fn clear(&mut self, piece: PieceIndex) {
        for block in (0..self.layout.block_count(piece)).map(BlockIndex) {
            self.blocks
                .insert(Block { piece, block }, ModelBlock::default());
        }
    }

    fn is_wanted(&self, piece: PieceIndex) -> bool {
        !self.have.contains(&piece) && self.priorities[piece.get()] != Priority::Skip
    }

    fn is_idle(&self, piece: PieceIndex) -> bool {
        !self.have.contains(&piece)
            && self
                .of(piece)
                .all(|(_, block)| *block == ModelBlock::default())
    }

    fn is_complete(&self, piece: PieceIndex) -> bool {
        self.of(piece).all(|(_, block)| block.from.is_some())
    }

    fn availability(&self, piece: PieceIndex) -> usize {
        self.peers
            .values()
            .filter(|has| hunt::holds(has, piece))
            .count()
    }

    fn peer(&self, choice: u32) -> Option<PeerKey> {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        (!peers.is_empty()).then(|| peers[choice as usize % peers.len()])
    }

    /// A lease that has not come back.
    fn lease(&self, choice: u32) -> Option<(Block, PeerKey)> {
        let leases: Vec<_> = self
            .blocks
            .iter()
            .flat_map(|(&at, block)| {
                block
                    .live
                    .iter()
                    .chain(&block.revoked)
                    .map(move |&peer| (at, peer))
            })
            .collect();
        (!leases.is_empty()).then(|| leases[choice as usize % leases.len()])
    }

    fn step(&mut self, (op, a, b, c): (u8, u32, u32, u32)) -> TestCaseResult {
        let piece = PieceIndex(a % PIECES);
        match op {
            0 => self.join(a, b),
            1 => self.leave(a),
            2 => self.gain_or_lose(a, PieceIndex(b % PIECES)),
            3..=8 => self.pick(a, b, c)?,
            9..=14 => self.receive(a)?,
            15 | 16 => self.give_back(a),
            17 | 18 => self.judge(piece, b)?,
            19 => self.set_priority(piece, b)?,
            20 => {
                self.sequential = b.is_multiple_of(3);
                self.picker.set_sequential(self.sequential);
            }
            21 => self.read(piece, b, c),
            22 => self.now = self.now + Duration::from_millis(u64::from(a % 20_000)),
            23 => {
                self.picker.lost(piece);
                if self.have.remove(&piece) {
                    self.clear(piece);
                }
            }
            _ => self.nonsense(a, b)?,
        }
        self.check()
    }

    fn join(&mut self, kind: u32, bits: u32) {
        let has = match kind % 4 {
            0 => Has::All,
            1 => Has::None,
            _ => {
                let mut pieces = Bitfield::empty(PIECES);
                for piece in (0..PIECES).filter(|piece| bits >> piece & 1 == 1) {
                    pieces.insert(PieceIndex(piece));
                }
                Has::Some(pieces)
            }
        };
        self.picker.peer_joined(&has);
        self.peers.insert(PeerKey(self.next_peer), has);
        self.next_peer += 1;
    }

    fn leave(&mut self, choice: u32) {
        let Some(peer) = self.peer(choice) else {
            return;
        };
        for (&at, block) in &mut self.blocks {
            if block.live.contains(&peer) || block.revoked.contains(&peer) {
                self.picker.returned(at, peer);
                block.live.retain(|&other| other != peer);
                block.revoked.retain(|&other| other != peer);
            }
        }
        let has = self.peers.remove(&peer).unwrap();
        self.picker.peer_left(&has);
    }

    fn gain_or_lose(&mut self, choice: u32, piece: PieceIndex) {
        let Some(peer) = self.peer(choice) else {
            return;
        };
        if let Some(Has::Some(pieces)) = self.peers.get_mut(&peer) {
            if pieces.insert(piece) {
                self.picker.piece_gained(piece);
            } else {
                pieces.remove(piece);
                self.picker.piece_lost(piece);
            }
        }
    }

    fn receive(&mut self, choice: u32) -> TestCaseResult {
        let Some((at, peer)) = self.lease(choice) else {
            return Ok(());
        };
        let block = self.blocks.get_mut(&at).unwrap();
        let receipt = self.picker.received(at, peer);
        if block.revoked.contains(&peer) {
            block.revoked.retain(|&other| other != peer);
            let known = block.from.is_some();
            let expected = if known {
                Receipt::Duplicate
            } else {
                Receipt::Unleased
            };
            prop_assert_eq!(receipt, expected);
            return Ok(());
        }
        block.live.retain(|&other| other != peer);
        let revoked = core::mem::take(&mut block.live);
        block.revoked.extend(&revoked);
        block.from = Some(peer);
        let expected = Receipt::New {
            piece_complete: self.is_complete(at.piece),
            others: revoked.into(),
        };
        prop_assert_eq!(receipt, expected);
        Ok(())
    }

    fn give_back(&mut self, choice: u32) {
        if let Some((at, peer)) = self.lease(choice) {
            self.picker.returned(at, peer);
            let block = self.blocks.get_mut(&at).unwrap();
            block.live.retain(|&other| other != peer);
            block.revoked.retain(|&other| other != peer);
        }
    }

    /// Storage has its say about a piece.
    fn judge(&mut self, piece: PieceIndex, choice: u32) -> TestCaseResult {
        if choice.is_multiple_of(7) {
            // A check of the files finds it, whatever is in flight.
            return self.verify(piece);
        }
        let complete = self
            .layout
            .pieces()
            .find(|&piece| self.is_wanted(piece) && self.is_complete(piece));
        let Some(piece) = complete else {
            self.forget(piece, |_| true);
            self.picker.dropped(piece);
            return Ok(());
        };
        match choice % 4 {
            0 => {
                self.picker.failed(piece, &[]);
                self.forget(piece, |_| true);
            }
            1 => {
                let bad = BlockIndex(choice / 4 % BLOCKS_PER_PIECE);
                let exists = bad.0 < self.layout.block_count(piece);
                self.picker.failed(piece, &[bad]);
                self.forget(piece, |block| block == bad || !exists);
            }
            _ => return self.verify(piece),
        }
        Ok(())
    }

    fn verify(&mut self, piece: PieceIndex) -> TestCaseResult {
        let revoked = self.picker.verified(piece);
        let expected = self.live_leases(piece);
        prop_assert_eq!(flat(&revoked), expected);
        if self.have.insert(piece) {
            self.clear(piece);
        }
        Ok(())
    }

    fn forget(&mut self, piece: PieceIndex, which: impl Fn(BlockIndex) -> bool) {
        for (at, block) in &mut self.blocks {
            if at.piece == piece && which(at.block) {
                block.from = None;
            }
        }
    }

    fn live_leases(&self, piece: PieceIndex) -> BTreeSet<(PeerKey, Block)> {
        self.of(piece)
            .flat_map(|(at, block)| block.live.iter().map(move |&peer| (peer, at)))
            .collect()
    }

    fn set_priority(&mut self, piece: PieceIndex, choice: u32) -> TestCaseResult {
        let priority = [
            Priority::Skip,
            Priority::Normal,
            Priority::High,
            Priority::Highest,
        ][choice as usize % 4];
        let revoked = self.picker.set_priority(piece, priority);
        self.priorities[piece.get()] = priority;
        let mut expected = BTreeSet::new();
        if priority == Priority::Skip {
            expected = self.live_leases(piece);
            for (_, block) in self.blocks.iter_mut().filter(|(at, _)| at.piece == piece) {
                block.from = None;
                block.revoked.append(&mut block.live);
            }
        }
        prop_assert_eq!(flat(&revoked), expected);
        Ok(())
    }

    fn read(&mut self, first: PieceIndex, length: u32, rate: u32) {
        let id = u64::from(rate % 2);
        self.readers.retain(|reader| reader.id != id);
        if length.is_multiple_of(3) {
            return self.picker.end_due(id);
        }
        let lease = DeadlineLease {
            id,
            first,
            last: PieceIndex(first.0 + length % 5),
            deadline: self.now + Duration::from_secs(u64::from(length % 9)),
            rate_bytes_per_s: u64::from(rate % 100_000),
        };
        assert!(self.picker.set_due(lease));
        self.readers.push(lease);
    }

    /// What no lease stands behind changes nothing.
    fn nonsense(&mut self, a: u32, b: u32) -> TestCaseResult {
        let at = Block {
            piece: PieceIndex(a % (PIECES + 2)),
            block: BlockIndex(b % (BLOCKS_PER_PIECE + 2)),
        };
        let stranger = PeerKey(u64::MAX);
        self.picker.returned(at, stranger);
        let known = self.have.contains(&at.piece) && self.blocks.contains_key(&at)
            || self
                .blocks
                .get(&at)
                .is_some_and(|block| block.from.is_some());
        let expected = if known {
            Receipt::Duplicate
        } else {
            Receipt::Unleased
        };
        prop_assert_eq!(self.picker.received(at, stranger), expected);
        self.picker.piece_gained(PieceIndex(PIECES));
        self.picker.set_priority(PieceIndex(PIECES), Priority::High);
        Ok(())
    }

    fn pick(&mut self, choice: u32, blocks: u32, flavour: u32) -> TestCaseResult {
        let Some(peer) = self.peer(choice) else {
            return Ok(());
        };
        let has = self.peers[&peer].clone();
        let listed = [PieceIndex(blocks % PIECES), PieceIndex(flavour % PIECES)];
        let ask = Ask {
            peer,
            has: &has,
            only: flavour.is_multiple_of(5).then_some(&listed[..]),
            suggested: if flavour.is_multiple_of(7) {
                &listed
            } else {
                &[]
            },
            parole: flavour.is_multiple_of(3),
            rate_bytes_per_s: [0, 1_000, 100_000][flavour as usize % 3],
            in_runs: false,
        };
        let blocks = blocks % 9;
        let before = self.picker.clone();
        let idle: BTreeSet<_> = self
            .layout
            .pieces()
            .filter(|&piece| self.is_idle(piece))
            .collect();
        let mut out = Vec::new();
        self.picker
            .pick(self.now, &ask, blocks, &mut self.rng, &mut out);
        let picked: Vec<_> = out.into_iter().flat_map(BlockRun::blocks).collect();
        prop_assert!(picked.len() <= blocks as usize);

        let mut endgame = false;
        for &at in &picked {
            let known = self.blocks.get_mut(&at).unwrap();
            prop_assert!(known.from.is_none() && !self.have.contains(&at.piece));
            prop_assert!(!known.live.contains(&peer) && !known.revoked.contains(&peer));
            if !known.live.is_empty() {
                prop_assert!(known.live.len() < MAX_HOLDERS && !ask.parole);
                endgame |= !self
                    .readers
                    .iter()
                    .any(|reader| is_late(&before, reader, at, self.now));
            }
            known.live.push(peer);
            prop_assert!(self.is_wanted(at.piece) && hunt::holds(&has, at.piece));
            prop_assert!(ask.only.is_none_or(|only| only.contains(&at.piece)));
            check_exclusive(&before, &ask, at.piece)?;
        }
        let open = |at: &Block| self.is_wanted(at.piece) && self.blocks[at].is_open();
        let mut left = self.blocks.keys().filter(|at| open(at));
        if endgame {
            prop_assert!(
                !left.any(|at| self.availability(at.piece) > 0),
                "too early for endgame"
            );
        } else if picked.len() < blocks as usize {
            let missed = left.find(|at| {
                let exclusive = before
                    .partial_of(at.piece)
                    .is_some_and(|partial| partial.exclusive);
                hunt::holds(&has, at.piece)
                    && ask.only.is_none_or(|only| only.contains(&at.piece))
                    && !self.blocks[at].revoked.contains(&peer)
                    && !exclusive
                    && (!ask.parole || idle.contains(&at.piece))
            });
            prop_assert_eq!(missed, None, "an open block was withheld");
        }
        if self.readers.is_empty() && ask.only.is_none() && ask.suggested.is_empty() {
            self.check_order(&has, &idle)?;
        }
        Ok(())
    }

    /// Of the pieces that were idle, those begun come before those not begun.
    fn check_order(&self, has: &Has, idle: &BTreeSet<PieceIndex>) -> TestCaseResult {
        let rank = |piece: PieceIndex| {
            let place = match self.sequential {
                true => piece.get(),
                false if self.have.len() < 4 => 0,
                false => self.availability(piece),
            };
            (class_of(self.priorities[piece.get()]), place)
        };
        let (left, begun): (Vec<PieceIndex>, Vec<PieceIndex>) = idle
            .iter()
            .filter(|&&piece| self.is_wanted(piece) && hunt::holds(has, piece))
            .partition(|&&piece| self.is_idle(piece));
        let (last, first) = (
            begun.into_iter().map(rank).max(),
            left.into_iter().map(rank).min(),
        );
        prop_assert!(last.is_none() || first.is_none() || last <= first);
        Ok(())
    }

    fn check(&self) -> TestCaseResult {
        let picker = &self.picker;
        let (mut blocks_left, mut bytes_left) = (0, 0);
        for piece in self.layout.pieces() {
            prop_assert_eq!(picker.have().get(piece), self.have.contains(&piece));
            prop_assert_eq!(picker.wanted_missing().get(piece), self.is_wanted(piece));
            prop_assert_eq!(
                picker.availability(piece) as usize,
                self.availability(piece)
            );
            let progress = !self.have.contains(&piece) && !self.is_idle(piece);
            prop_assert_eq!(picker.is_in_progress(piece), progress);
            let mut sources = Vec::new();
            for (at, block) in self.of(piece) {
                prop_assert_eq!(picker.holders(at).to_vec(), block.live.clone());
                prop_assert!(block.live.is_empty() || block.from.is_none());
                sources.extend(block.from.map(|from| (at.block, from)));
                if self.is_wanted(piece) && block.from.is_none() {
                    blocks_left += 1;
                    bytes_left += u64::from(self.layout.block_length(at));
                }
            }
            prop_assert_eq!(picker.sources(piece), sources.clone());
            let givers: BTreeSet<_> = sources.into_iter().map(|(_, peer)| peer).collect();
            prop_assert!(picker.contributors(piece).into_iter().eq(givers));
        }
        prop_assert_eq!(picker.remaining_blocks(), blocks_left);
        prop_assert_eq!(picker.remaining_bytes(), bytes_left);
        let mut wanted = self.layout.pieces().filter(|&piece| self.is_wanted(piece));
        prop_assert_eq!(picker.is_complete(), wanted.next().is_none());
        for has in self.peers.values() {
            let interesting = (self.layout.pieces())
                .any(|piece| self.is_wanted(piece) && hunt::holds(has, piece));
            prop_assert_eq!(picker.is_interesting(has), interesting);
        }
        self.check_internals()
    }

    fn check_internals(&self) -> TestCaseResult {
        let picker = &self.picker;
        let mut work = BTreeMap::<PeerKey, (u32, BTreeSet<usize>)>::new();
        for (key, partial) in &picker.partials {
            prop_assert_eq!(picker.key_of(partial.piece), key);
            let open = partial.cells.iter().filter(|cell| cell.is_open()).count();
            prop_assert_eq!(partial.open as usize, open);
            for worker in &partial.workers {
                let entry = work.entry(worker.peer).or_default();
                entry.0 += worker.leases;
                entry.1.insert(key);
            }
            let priority = picker.priority(partial.piece);
            let list = (open > 0 && priority != Priority::Skip)
                .then(|| list_of(class_of(priority), partial.attendance()));
            prop_assert_eq!(partial.listed.map(|(list, _)| list), list);
            if let Some((list, at)) = partial.listed {
                prop_assert_eq!(picker.lists[list][at], key);
            }
        }
        let listed: usize = picker.lists.iter().map(Vec::len).sum();
        let should = picker
            .partials
            .iter()
            .filter(|(_, partial)| partial.listed.is_some());
        prop_assert_eq!(listed, should.count());
        let theirs = picker.work.iter().map(|(&peer, work)| {
            (
                peer,
                (
                    work.leases,
                    work.partials.iter().copied().collect::<BTreeSet<_>>(),
                ),
            )
        });
        prop_assert!(theirs.eq(work));
        let cells: usize = picker
            .partials
            .iter()
            .map(|(_, partial)| partial.cells.len())
            .sum();
        prop_assert_eq!(picker.cells, cells as u64);
        let ordered: BTreeSet<_> = picker
            .orders
            .iter()
            .flat_map(|order| order.pieces())
            .collect();
        for piece in self.layout.pieces() {
            let belongs = self.is_wanted(piece) && self.is_idle(piece);
            prop_assert_eq!(ordered.contains(&piece), belongs);
            prop_assert_eq!(picker.closed.get(piece), !belongs);
        }
        Ok(())
    }
}

fn flat(revocations: &Revocations) -> BTreeSet<(PeerKey, Block)> {
    revocations
        .iter()
        .flat_map(|&(peer, run)| run.blocks().map(move |block| (peer, block)))
        .collect()
}

/// Whether a block leased to others may be leased again for this reader.
fn is_late(before: &Picker, reader: &DeadlineLease, at: Block, now: Moment) -> bool {
    if !(reader.first..=reader.last).contains(&at.piece) {
        return false;
    }
    let ahead = u64::from(at.piece.0 - reader.first.0) * u64::from(BLOCKS_PER_PIECE * BLOCK_LENGTH);
    let seconds = ahead.checked_div(reader.rate_bytes_per_s).unwrap_or(0);
    let deadline = reader.deadline + Duration::from_secs(seconds);
    before.partial_of(at.piece).is_some_and(|partial| {
        let holders = || partial.cells[at.block.get()].holders();
        holders().all(|holder| holder.expected > deadline)
            || holders().all(|holder| holder.expected + Duration::from_secs(1) < now)
    })
}

/// A peer on parole works alone, or helps with what nobody else works on where it would be idle.
fn check_exclusive(before: &Picker, ask: &Ask<'_>, piece: PieceIndex) -> TestCaseResult {
    let Some(partial) = before.partial_of(piece) else {
        return Ok(());
    };
    if partial.exclusive {
        prop_assert!(partial.has_worker(ask.peer));
    }
    if ask.parole && !partial.belongs_to(ask.peer) {
        prop_assert!(partial.workers.is_empty() && !before.work.contains_key(&ask.peer));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_model_that_knows_every_block(
        seed in any::<u64>(),
        have in proptest::collection::vec(0u32..PIECES, 0..10),
        ops in proptest::collection::vec((0u8..25, any::<u32>(), any::<u32>(), any::<u32>()), 0..200),
    ) {
        let mut model = Model::new(seed, &have);
        model.check()?;
        for op in ops {
            model.step(op)?;
        }
    }
}

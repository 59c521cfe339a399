//! The order in which a peer that asks is given work.

use super::hunt::{Hunt, holds};
use super::partial::{Attendance, Partial};
use super::{ATTENDANCES, CLASSES, MAX_HOLDERS, Picker, State, class_of, list_of};
use crate::message::Has;
use crate::torrent::Priority;
use core::cmp::Reverse;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Block, PieceIndex};

/// The first pieces are picked at random: rare ones come slowly, and whoever has nothing has nothing to trade.
const RANDOM_FIRST_PIECES: u32 = 4;

/// While more pieces than this have open blocks, for each two peers connected, they are finished before others are begun.
const OPEN_PIECES_PER_TWO_PEERS: u32 = 3;

/// So many pieces may have open blocks however few the peers.
const MIN_OPEN_PIECES: u32 = 4;

/// The most blocks of pieces in progress, 4 GiB of content and some 15 MB of memory. Beyond it only a peer without any
/// lease begins a piece, so that nobody waits for a piece whose peers have left.
const MAX_BLOCKS_IN_PROGRESS: u64 = 262_144;

/// How many open pieces are compared before the one closest to its end is taken. Few in tests, so that small torrents
/// reach the bound.
const PARTIAL_PROBES: usize = if cfg!(test) { 3 } else { 32 };

/// How many of the rarest pieces are looked at before the peer's own pieces are all compared. Most peers have one of the
/// first few. Few in tests, too.
const ORDER_PROBES: usize = if cfg!(test) { 3 } else { 512 };

/// For so many of the most urgent pieces a block that would be late is asked for again elsewhere.
const LATE_PIECES: usize = 4;

/// A block is late when it was expected this long ago.
const LATE_SLACK: Duration = Duration::from_secs(1);

/// At how many blocks of pieces in progress endgame looks, from a random piece on.
const ENDGAME_PROBES: usize = 16_384;

impl Picker {
    pub(super) fn choose(&mut self, hunt: &mut Hunt<'_>) {
        if let Some(only) = hunt.ask.only {
            self.choose_among(hunt, only.iter());
        } else {
            self.choose_due(hunt);
            // Where an order is wanted, it comes before what would suit the peer.
            if !self.sequential {
                self.choose_among(hunt, hunt.ask.suggested.iter().rev());
            }
            for class in 0..CLASSES {
                self.choose_of_class(hunt, class);
            }
            if hunt.ask.parole && hunt.leased == 0 {
                self.choose_orphans(hunt);
            }
        }
        if hunt.left > 0 && !hunt.ask.parole && !self.has_open_blocks() {
            self.choose_endgame(hunt);
        }
    }

    /// What readers wait for. A piece that others work on is joined, and the blocks that will be late are leased again.
    fn choose_due(&mut self, hunt: &mut Hunt<'_>) {
        if self.readers.is_empty() {
            return;
        }
        let piece_length = self.layout.piece_length();
        let mut walk = (self.readers).walk(hunt.now, piece_length, &self.wanted_missing);
        let mut late_pieces = 0;
        while hunt.left > 0
            && let Some((piece, deadline)) = walk.next(&self.readers, &self.wanted_missing)
        {
            if !hunt.serves(piece) {
                continue;
            }
            self.work_on(hunt, piece);
            if late_pieces < LATE_PIECES && self.is_in_progress(piece) {
                late_pieces += 1;
                self.choose_late(hunt, piece, deadline);
            }
        }
    }

    /// Pieces by name: suggested, or served while the peer chokes us.
    fn choose_among<'p>(
        &mut self,
        hunt: &mut Hunt<'_>,
        pieces: impl Iterator<Item = &'p PieceIndex>,
    ) {
        for &piece in pieces {
            if hunt.left > 0 && hunt.serves(piece) {
                self.work_on(hunt, piece);
            }
        }
    }

    fn choose_of_class(&mut self, hunt: &mut Hunt<'_>, class: usize) {
        let lists = &self.lists[class * ATTENDANCES..][..ATTENDANCES];
        if hunt.left == 0 || self.orders[class].is_empty() && lists.iter().all(Vec::is_empty) {
            return;
        }
        self.choose_own(hunt, class);
        self.choose_open(hunt, class, Attendance::Orphaned);
        if !hunt.fast {
            self.choose_open(hunt, class, Attendance::Slow);
        }
        while hunt.left > 0 && !self.should_finish() && self.choose_new(hunt, class) {}
        let strangers = if hunt.fast {
            [Attendance::Fast, Attendance::Slow]
        } else {
            [Attendance::Slow, Attendance::Fast]
        };
        for attendance in strangers {
            self.choose_open(hunt, class, attendance);
        }
        while hunt.left > 0 && self.choose_new(hunt, class) {}
    }

    /// The open blocks of pieces in which the peer has leases.
    fn choose_own(&mut self, hunt: &mut Hunt<'_>, class: usize) {
        for at in 0..hunt.own.len() {
            let key = hunt.own[at];
            let partial = &self.partials[key];
            if class_of(self.priorities[partial.piece.get()]) == class
                && partial.open > 0
                && hunt.serves(partial.piece)
                && may_join(partial, hunt)
            {
                self.take_open(hunt, key);
            }
        }
    }

    /// The open blocks of pieces of one list, piece by piece.
    fn choose_open(&mut self, hunt: &mut Hunt<'_>, class: usize, attendance: Attendance) {
        let list = list_of(class, attendance);
        let mut before = u32::MAX;
        while (1..before).contains(&hunt.left)
            && let Some(key) = self.best_open(hunt, list)
        {
            before = hunt.left;
            self.take_open(hunt, key);
        }
    }

    /// The piece of a list that the peer may join and that is closest to its end (or comes first, where pieces are picked
    /// in order), among the first [`PARTIAL_PROBES`] from a random one on.
    fn best_open(&mut self, hunt: &mut Hunt<'_>, list: usize) -> Option<usize> {
        let list = &self.lists[list];
        if list.is_empty() {
            return None;
        }
        let start = hunt.rng.usize(..list.len());
        let mut best = None;
        for (probe, &key) in list[start..].iter().chain(&list[..start]).enumerate() {
            if probe >= PARTIAL_PROBES && best.is_some() {
                break;
            }
            let partial = &self.partials[key];
            let rank = if self.sequential {
                partial.piece.0
            } else {
                partial.open
            };
            if best.is_none_or(|(least, _)| rank < least)
                && hunt.serves(partial.piece)
                && may_join(partial, hunt)
                && partial.has_open_for(hunt.ask.peer)
            {
                best = Some((rank, key));
            }
        }
        best.map(|(_, key)| key)
    }

    /// Begins the best idle piece; returns whether there was one.
    fn choose_new(&mut self, hunt: &mut Hunt<'_>, class: usize) -> bool {
        if !self.has_room(hunt) {
            return false;
        }
        let Some(piece) = self.best_idle(hunt, class) else {
            return false;
        };
        let key = self.begin(piece);
        self.take_open(hunt, key);
        true
    }

    /// The lowest piece that the peer has, a random one, or a random one of the rarest.
    fn best_idle(&self, hunt: &mut Hunt<'_>, class: usize) -> Option<PieceIndex> {
        let order = &self.orders[class];
        if order.is_empty() {
            return None;
        }
        if self.sequential {
            return self.startable(hunt.ask.has, class).next();
        }
        if let Some(next) = self.next_in_run(hunt, class) {
            return Some(next);
        }
        let random = self.have_count < RANDOM_FIRST_PIECES;
        // What nobody but seeds has, only a seed can serve.
        let least = usize::from(!matches!(hunt.ask.has, Has::All));
        let mut probes = 0;
        let mut probe = |bucket: &[PieceIndex], rng: &mut fastrand::Rng| {
            let start = rng.usize(..bucket.len());
            let mut pieces = bucket[start..].iter().chain(&bucket[..start]).copied();
            pieces.find(|&piece| {
                probes += 1;
                probes > ORDER_PROBES || holds(hunt.ask.has, piece)
            })
        };
        let found = if random {
            probe(order.pieces(), hunt.rng)
        } else {
            order
                .buckets(least)
                .find_map(|bucket| probe(bucket, hunt.rng))
        };
        if probes <= ORDER_PROBES {
            return found;
        }
        let mut ties = 0;
        let mut best: Option<(u32, PieceIndex)> = None;
        let rng = &mut *hunt.rng;
        for piece in self.startable(hunt.ask.has, class) {
            let rank = if random {
                0
            } else {
                self.availability[piece.get()]
            };
            match best {
                Some((least, _)) if rank > least => continue,
                Some((least, _)) if rank == least => ties += 1,
                _ => ties = 1,
            }
            if rng.u32(..ties) == 0 {
                best = Some((rank, piece));
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// The piece behind the last one that the peer works on, where it is best asked for runs. Where a run begins, rarity decides.
    fn next_in_run(&self, hunt: &Hunt<'_>, class: usize) -> Option<PieceIndex> {
        if !hunt.ask.in_runs {
            return None;
        }
        let own = hunt.own.iter().map(|&key| self.partials[key].piece);
        let last = hunt.last_piece().or_else(|| own.max())?;
        let next = PieceIndex(last.0 + 1);
        let idle = self.layout.contains(next) && !self.closed.get(next) && hunt.serves(next);
        let same = || class_of(self.priorities[next.get()]) == class;
        (idle && same()).then_some(next)
    }

    /// The idle wanted pieces of a class that a peer has, rising.
    fn startable<'a>(
        &'a self,
        has: &'a Has,
        class: usize,
    ) -> impl Iterator<Item = PieceIndex> + use<'a> {
        let pieces = match has {
            Has::All => Some(&self.all),
            Has::Some(pieces) => Some(pieces),
            Has::None => None,
        };
        pieces
            .into_iter()
            .flat_map(|pieces| pieces.difference(&self.closed))
            .filter(move |piece| class_of(self.priorities[piece.get()]) == class)
    }

    /// Begins or joins this piece, whatever others there are, if the peer may.
    fn work_on(&mut self, hunt: &mut Hunt<'_>, piece: PieceIndex) {
        if self.priority(piece) == Priority::Skip {
            return;
        }
        match self.states[piece.get()] {
            State::Idle if self.has_room(hunt) => {
                let key = self.begin(piece);
                self.take_open(hunt, key);
            }
            State::Partial if may_join(&self.partials[self.key_of(piece)], hunt) => {
                self.take_open(hunt, self.key_of(piece));
            }
            _ => {}
        }
    }

    /// A suspected peer that finds nothing of its own helps with what everybody else has left. Smart ban tells its blocks
    /// from those of others, and without it such a piece might never be finished.
    fn choose_orphans(&mut self, hunt: &mut Hunt<'_>) {
        for class in 0..CLASSES {
            let list = &self.lists[list_of(class, Attendance::Orphaned)];
            let orphan = list.iter().copied().find(|&key| {
                let partial = &self.partials[key];
                hunt.serves(partial.piece) && partial.has_open_for(hunt.ask.peer)
            });
            if let Some(key) = orphan {
                return self.take_open(hunt, key);
            }
        }
    }

    /// Leases blocks of a due piece again whose holders will all be late, if this peer would be sooner.
    fn choose_late(&mut self, hunt: &mut Hunt<'_>, piece: PieceIndex, deadline: Moment) {
        let key = self.key_of(piece);
        if hunt.ask.parole || self.partials[key].exclusive {
            return;
        }
        let late: Vec<_> = self.partials[key]
            .blocks()
            .filter(|(_, cell)| cell.from.is_none() && !cell.knows(hunt.ask.peer))
            .filter(|(_, cell)| (1..MAX_HOLDERS).contains(&cell.holders().count()))
            .filter_map(|(block, cell)| {
                let soonest = cell.holders().map(|holder| holder.expected).min()?;
                let overdue = cell.holders().all(|h| h.expected + LATE_SLACK < hunt.now);
                (soonest > deadline || overdue).then_some((block, (!overdue).then_some(soonest)))
            })
            .take(hunt.left as usize)
            .collect();
        for (block, soonest) in late {
            if soonest.is_none_or(|soonest| hunt.arrival() < soonest) {
                self.take_again(hunt, key, Block { piece, block });
            }
        }
    }

    /// Everything that is left is leased: blocks of others, those of the fewest holders first, and of the slowest.
    fn choose_endgame(&mut self, hunt: &mut Hunt<'_>) {
        let (mut leased, mut probes) = (Vec::new(), 0);
        let start = hunt.rng.usize(..self.partials.len().max(1));
        let partials = self.partials.iter();
        for (key, partial) in partials.skip(start).chain(self.partials.iter().take(start)) {
            if partial.exclusive
                || partial.workers.is_empty()
                || !hunt.serves(partial.piece)
                || !self.wanted_missing.get(partial.piece)
            {
                continue;
            }
            for (block, cell) in partial.blocks() {
                let holders = cell.holders().count();
                if cell.from.is_none()
                    && (1..MAX_HOLDERS).contains(&holders)
                    && !cell.knows(hunt.ask.peer)
                {
                    let soonest = cell.holders().map(|holder| holder.expected).min();
                    leased.push((holders, Reverse(soonest), partial.piece, block, key));
                }
            }
            probes += partial.cells.len();
            if probes >= ENDGAME_PROBES {
                break;
            }
        }
        leased.sort_unstable();
        leased.truncate(hunt.left as usize);
        leased.sort_unstable_by_key(|&(_, _, piece, block, _)| (piece, block));
        for (_, _, piece, block, key) in leased {
            self.take_again(hunt, key, Block { piece, block });
        }
    }

    /// Leases open blocks of a partial to the peer, as many as it wants and there are.
    fn take_open(&mut self, hunt: &mut Hunt<'_>, key: usize) {
        let partial = &mut self.partials[key];
        let (peer, fast, piece) = (hunt.ask.peer, hunt.fast, partial.piece);
        let taken = partial.lease_open(peer, fast, hunt.left, |block| {
            hunt.take(Block { piece, block })
        });
        if taken > 0 {
            partial.exclusive = hunt.ask.parole && partial.belongs_to(peer);
            self.employ(peer, key, taken);
        }
        self.settle(key);
    }

    fn take_again(&mut self, hunt: &mut Hunt<'_>, key: usize, block: Block) {
        let expected = hunt.take(block);
        self.partials[key].lease_again(hunt.ask.peer, hunt.fast, block.block, expected);
        self.employ(hunt.ask.peer, key, 1);
        self.settle(key);
    }

    /// Whether enough pieces have open blocks.
    fn should_finish(&self) -> bool {
        let open: usize = self.lists.iter().map(Vec::len).sum();
        let allowed = MIN_OPEN_PIECES.max(self.peers.saturating_mul(OPEN_PIECES_PER_TWO_PEERS) / 2);
        open >= allowed as usize
    }

    fn has_room(&self, hunt: &Hunt<'_>) -> bool {
        self.cells < MAX_BLOCKS_IN_PROGRESS || hunt.leased == 0
    }

    /// Whether any connected peer could be asked for a block that nobody is asked for: then duplicates would only delay
    /// it.
    fn has_open_blocks(&self) -> bool {
        let idle = self.orders.iter().any(|order| {
            !order.is_empty() && (self.seeds > 0 || order.buckets(1).next().is_some())
        });
        idle || self
            .lists
            .iter()
            .flatten()
            .any(|&key| self.availability(self.partials[key].piece) > 0)
    }
}

/// Whether a peer may have blocks of a piece in progress: one on parole only where nobody else has a part in it, and the
/// others where none such is at work.
fn may_join(partial: &Partial, hunt: &Hunt<'_>) -> bool {
    if hunt.ask.parole {
        partial.belongs_to(hunt.ask.peer)
    } else {
        !partial.exclusive || partial.has_worker(hunt.ask.peer)
    }
}

//! The pieces of one priority that could be begun, by availability.
//!
//! Invariant: bucket `a` holds exactly the pieces of the order that `a` peers have, seeds not counted, and the place of each
//! piece is its position here. A piece moves between neighbouring buckets with one swap, so that a have message costs the
//! same whatever the number of pieces. Pieces leave from the rare end, where they are begun: what has to close up behind them
//! are the buckets of rarer ones, of which there are few.

use shoal_metainfo::PieceIndex;

/// See the module. Places are kept by the caller in one vector for all orders, indexed by piece.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// From `first` on bucket after bucket; random within a bucket, as far as chance decided who came first. What is before
    /// `first` is free.
    pieces: Vec<PieceIndex>,
    first: u32,
    /// Where each bucket ends. Never empty.
    ends: Vec<u32>,
}

impl Order {
    pub(super) fn new() -> Self {
        Order {
            pieces: Vec::new(),
            first: 0,
            ends: vec![0],
        }
    }

    /// The order of these pieces, all of availability zero.
    pub(super) fn of(pieces: Vec<PieceIndex>, places: &mut [u32]) -> Self {
        let mut order = Order::new();
        for (place, piece) in (0u32..).zip(&pieces) {
            places[piece.get()] = place;
        }
        order.ends[0] = length(&pieces);
        order.pieces = pieces;
        order
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces().is_empty()
    }

    /// All pieces, rarest first.
    pub(super) fn pieces(&self) -> &[PieceIndex] {
        &self.pieces[self.first as usize..]
    }

    /// The buckets of pieces that at least `availability` peers have, rarest first.
    pub(super) fn buckets(&self, availability: usize) -> impl Iterator<Item = &[PieceIndex]> {
        let mut start = self.start(availability.min(self.ends.len()));
        core::iter::from_fn(move || {
            // Ends rise, so that the first bucket that is not empty need not be walked to.
            let bucket = self.ends.partition_point(|&end| end <= start);
            let &end = self.ends.get(bucket)?;
            let pieces = &self.pieces[start as usize..end as usize];
            start = end;
            Some(pieces)
        })
    }

    pub(super) fn insert(&mut self, piece: PieceIndex, availability: u32, places: &mut [u32]) {
        let bucket = availability as usize;
        self.reach(bucket);
        let hole = if self.first > 0 {
            self.open_before(bucket, places)
        } else {
            self.open_behind(bucket, places)
        };
        self.pieces[hole as usize] = piece;
        places[piece.get()] = hole;
    }

    /// Moves what is rarer into the free room before it; returns the place that a bucket has gained.
    fn open_before(&mut self, bucket: usize, places: &mut [u32]) -> u32 {
        self.first -= 1;
        let mut hole = self.first;
        for rarer in 0..bucket {
            let last = self.ends[rarer] - 1;
            self.relocate(last, hole, places);
            self.ends[rarer] = last;
            hole = last;
        }
        hole
    }

    /// Moves what is commoner towards the end, by one; returns the place that a bucket has gained.
    fn open_behind(&mut self, bucket: usize, places: &mut [u32]) -> u32 {
        let mut hole = length(&self.pieces);
        self.pieces.push(PieceIndex(0));
        for later in (bucket + 1..self.ends.len()).rev() {
            let first = self.start(later);
            self.relocate(first, hole, places);
            self.ends[later] += 1;
            hole = first;
        }
        self.ends[bucket] += 1;
        hole
    }

    pub(super) fn remove(&mut self, piece: PieceIndex, availability: u32, places: &mut [u32]) {
        let mut hole = places[piece.get()];
        let mut bucket = availability as usize;
        while hole > self.first {
            let start = self.start(bucket);
            self.relocate(start, hole, places);
            hole = start;
            // What is left of the hole is in a rarer bucket.
            bucket = bucket.saturating_sub(1);
        }
        self.first += 1;
        for end in &mut self.ends[..availability as usize] {
            // No end is above the number of pieces, and without a check many are counted up at once.
            *end = end.wrapping_add(1);
        }
        self.trim();
    }

    /// One peer more than `availability` has the piece.
    pub(super) fn raise(&mut self, piece: PieceIndex, availability: u32, places: &mut [u32]) {
        let bucket = availability as usize;
        self.reach(bucket + 1);
        self.ends[bucket] -= 1;
        self.swap(places[piece.get()], self.ends[bucket], places);
    }

    /// One peer fewer than `availability`, which is at least 1, has the piece.
    pub(super) fn lower(&mut self, piece: PieceIndex, availability: u32, places: &mut [u32]) {
        let bucket = availability as usize - 1;
        self.swap(places[piece.get()], self.ends[bucket], places);
        self.ends[bucket] += 1;
        self.trim();
    }

    fn start(&self, bucket: usize) -> u32 {
        bucket
            .checked_sub(1)
            .map_or(self.first, |before| self.ends[before])
    }

    fn reach(&mut self, bucket: usize) {
        if self.ends.len() <= bucket {
            self.ends.resize(bucket + 1, length(&self.pieces));
        }
    }

    /// Gives empty buckets at the end back, so that their number follows the availability of the commonest piece.
    fn trim(&mut self) {
        while self.ends.len() > 1 && self.start(self.ends.len() - 1) == length(&self.pieces) {
            self.ends.pop();
        }
    }

    fn swap(&mut self, a: u32, b: u32, places: &mut [u32]) {
        self.pieces.swap(a as usize, b as usize);
        places[self.pieces[a as usize].get()] = a;
        places[self.pieces[b as usize].get()] = b;
    }

    /// Copies a piece into a hole. What remains at `from` is the next hole: where an empty bucket makes them the same, there is
    /// nothing to copy.
    fn relocate(&mut self, from: u32, to: u32, places: &mut [u32]) {
        if from == to {
            return;
        }
        let piece = self.pieces[from as usize];
        self.pieces[to as usize] = piece;
        places[piece.get()] = to;
    }
}

/// There are at most `MAX_PIECES` pieces.
fn length(pieces: &[PieceIndex]) -> u32 {
    u32::try_from(pieces.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_sorted_buckets(ops in proptest::collection::vec((0u8..4, 0u32..12, 0u32..6), 0..200)) {
            let mut places = vec![0; 12];
            let (mut order, mut model) = (Order::new(), BTreeMap::new());
            for (op, piece, availability) in ops {
                let piece = PieceIndex(piece);
                let known = model.get(&piece).copied();
                match (op, known) {
                    (0, None) => {
                        order.insert(piece, availability, &mut places);
                        model.insert(piece, availability);
                    }
                    (1, Some(known)) => {
                        order.remove(piece, known, &mut places);
                        model.remove(&piece);
                    }
                    (2, Some(known)) => {
                        order.raise(piece, known, &mut places);
                        model.insert(piece, known + 1);
                    }
                    (3, Some(known)) if known > 0 => {
                        order.lower(piece, known, &mut places);
                        model.insert(piece, known - 1);
                    }
                    _ => {}
                }
                for (place, piece) in (order.first..).zip(order.pieces()) {
                    prop_assert_eq!(places[piece.get()], place);
                }
                for from in 0..4u32 {
                    let mut ours: Vec<_> = order.buckets(from as usize).map(<[_]>::to_vec).collect();
                    ours.iter_mut().for_each(|bucket| bucket.sort_unstable());
                    let mut theirs = BTreeMap::<u32, Vec<PieceIndex>>::new();
                    for (&piece, &availability) in model.iter().filter(|&(_, &a)| a >= from) {
                        theirs.entry(availability).or_default().push(piece);
                    }
                    prop_assert_eq!(ours, theirs.into_values().collect::<Vec<_>>());
                }
            }
        }
    }
}

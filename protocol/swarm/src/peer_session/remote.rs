//! What the remote has, as it says.
//!
//! Invariant: a remote that has every piece and never lost one is `Has::All`, so that seeds cost nothing.

use crate::message::Has;
use shoal_metainfo::{Bitfield, PieceIndex};

impl Has {
    /// What `field` says, as compactly as possible.
    #[must_use]
    pub fn from_bitfield(field: Bitfield) -> Self {
        match field.count() {
            0 => Has::None,
            count if count == field.len() => Has::All,
            _ => Has::Some(field),
        }
    }

    /// Whether `piece` is among them.
    #[must_use]
    pub fn contains(&self, piece: PieceIndex) -> bool {
        match self {
            Has::All => true,
            Has::None => false,
            Has::Some(field) => field.get(piece),
        }
    }

    /// How many pieces of `piece_count` there are.
    #[must_use]
    pub fn count(&self, piece_count: u32) -> u32 {
        match self {
            Has::All => piece_count,
            Has::None => 0,
            Has::Some(field) => field.count(),
        }
    }
}

/// A [`Has`] that changes piece by piece, counted.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    has: Has,
    count: u32,
    piece_count: u32,
    /// It has lost a piece. From then on it stays a bitfield, so that a remote that loses and regains its only missing
    /// piece, over and over, does not make us build one each time.
    unsteady: bool,
}

impl Pieces {
    pub(crate) fn new(has: Has, piece_count: u32) -> Self {
        let count = has.count(piece_count);
        Pieces {
            has,
            count,
            piece_count,
            unsteady: false,
        }
    }

    pub(crate) const fn has(&self) -> &Has {
        &self.has
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.piece_count && self.has.contains(piece)
    }

    pub(crate) const fn is_all(&self) -> bool {
        self.count == self.piece_count
    }

    /// Whether it has ever lost a piece.
    pub(crate) const fn is_unsteady(&self) -> bool {
        self.unsteady
    }

    /// Adds `piece`; returns whether it was new.
    pub(crate) fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.piece_count {
            return false;
        }
        if matches!(self.has, Has::None) {
            self.has = Has::Some(Bitfield::empty(self.piece_count));
        }
        let Has::Some(field) = &mut self.has else {
            return false;
        };
        let new = field.insert(piece);
        self.count += u32::from(new);
        if self.is_all() && !self.unsteady {
            self.has = Has::All;
        }
        new
    }

    /// Takes `piece` out; returns whether it was in.
    pub(crate) fn remove(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.piece_count {
            return false;
        }
        if matches!(self.has, Has::All) {
            self.has = Has::Some(Bitfield::full(self.piece_count));
        }
        let Has::Some(field) = &mut self.has else {
            return false;
        };
        let was = field.remove(piece);
        self.count -= u32::from(was);
        self.unsteady |= was;
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_behave_like_a_set(ops in proptest::collection::vec((any::<bool>(), 0u32..6), 0..60)) {
            let (mut pieces, mut model) = (Pieces::new(Has::None, 5), Bitfield::empty(5));
            for (add, piece) in ops {
                let piece = PieceIndex(piece);
                let (a, b) = if add {
                    (pieces.insert(piece), model.insert(piece))
                } else {
                    (pieces.remove(piece), model.remove(piece))
                };
                prop_assert_eq!(a, b);
                prop_assert_eq!(pieces.count(), model.count());
                prop_assert_eq!(pieces.is_all(), model.is_full());
                prop_assert_eq!(pieces.has().count(5), model.count());
                prop_assert!((0..5).all(|p| pieces.contains(PieceIndex(p)) == model.get(PieceIndex(p))));
            }
        }
    }
}

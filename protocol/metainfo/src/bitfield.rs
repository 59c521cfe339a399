//! A set of pieces, as BEP 3 puts it on the wire: the first piece is the highest bit of the first byte.
//!
//! Invariant: bits beyond `len` are zero, so that counting and comparing whole words is right.

use crate::geometry::PieceIndex;

/// A fixed-length set of pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    /// Piece 0 is the most significant bit of the first word.
    words: Vec<u64>,
    len: u32,
}

impl Bitfield {
    /// No piece of `len`.
    #[must_use]
    pub fn empty(len: u32) -> Self {
        Bitfield {
            words: vec![0; len.div_ceil(64) as usize],
            len,
        }
    }

    /// Every piece of `len`.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut field = Bitfield {
            words: vec![u64::MAX; len.div_ceil(64) as usize],
            len,
        };
        field.clear_spare();
        field
    }

    /// Reads the payload of a bitfield message. `None` where its length is not the one of `len` pieces or a spare bit is
    /// set (BEP 3: such a connection is dropped).
    #[must_use]
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut words = vec![0u64; len.div_ceil(64) as usize];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0u8; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_be_bytes(whole);
        }
        let field = Bitfield { words, len };
        let mut cleared = field.clone();
        cleared.clear_spare();
        (cleared == field).then_some(field)
    }

    /// The payload of a bitfield message.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes
    }

    /// How many pieces the set is over.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the set is over no pieces at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `piece` is in the set; false beyond its end.
    #[must_use]
    pub fn get(&self, piece: PieceIndex) -> bool {
        piece.0 < self.len && self.words[piece.get() / 64] & mask(piece) != 0
    }

    /// Adds `piece`; returns whether it was new. A piece beyond the end is ignored.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.get(piece) {
            return false;
        }
        self.words[piece.get() / 64] |= mask(piece);
        true
    }

    /// Takes `piece` out; returns whether it was in.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let was = self.get(piece);
        if was {
            self.words[piece.get() / 64] &= !mask(piece);
        }
        was
    }

    /// How many pieces are in the set. Looks at every word.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The pieces in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        ones(self.words.iter().copied())
    }

    /// The pieces that are in this set and not in `other`, rising.
    pub fn difference<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        let others = other.words.iter().copied().chain(core::iter::repeat(0));
        ones(self.words.iter().zip(others).map(|(&a, b)| a & !b))
    }

    /// Whether any piece is in this set and not in `other`.
    #[must_use]
    pub fn exceeds(&self, other: &Bitfield) -> bool {
        self.difference(other).next().is_some()
    }

    fn clear_spare(&mut self) {
        let spare = (64 - self.len % 64) % 64;
        if let Some(last) = self.words.last_mut() {
            *last = *last >> spare << spare;
        }
    }
}

const fn mask(piece: PieceIndex) -> u64 {
    1 << (63 - piece.0 % 64)
}

fn ones(words: impl Iterator<Item = u64>) -> impl Iterator<Item = PieceIndex> {
    (0u32..).zip(words).flat_map(|(at, mut word)| {
        core::iter::from_fn(move || {
            let bit = word.leading_zeros();
            (bit < 64).then(|| {
                word &= !(1 << (63 - bit));
                PieceIndex(at * 64 + bit)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_spare_bit_or_a_wrong_length_is_refused() {
        assert!(Bitfield::from_wire(&[0xff, 0x80], 9).is_some());
        assert!(Bitfield::from_wire(&[0xff, 0xc0], 9).is_none());
        assert!(Bitfield::from_wire(&[0xff], 9).is_none());
        assert!(Bitfield::from_wire(&[0xff, 0, 0], 9).is_none());
        assert_eq!(
            Bitfield::from_wire(&[], 0).map(|field| field.count()),
            Some(0)
        );
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 1u32..300, ops in proptest::collection::vec((any::<bool>(), 0u32..320), 0..200)) {
            let (mut field, mut model) = (Bitfield::empty(len), BTreeSet::new());
            for (add, piece) in ops {
                let piece = PieceIndex(piece);
                if add {
                    prop_assert_eq!(field.insert(piece), piece.0 < len && model.insert(piece));
                } else {
                    prop_assert_eq!(field.remove(piece), model.remove(&piece));
                }
            }
            prop_assert_eq!(field.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(field.count() as usize, model.len());
            prop_assert_eq!(Bitfield::from_wire(&field.to_wire(), len), Some(field.clone()));
            let absent = Bitfield::full(len).difference(&field).count();
            prop_assert_eq!(absent, len as usize - model.len());
            prop_assert_eq!(Bitfield::full(len).exceeds(&field), !field.is_full());
        }
    }
}

//! Places in the space of 160 bits, and how far they are from each other (BEP 5).

use core::fmt;
use shoal_metainfo::InfoHash;

/// Bits of an [`Id`].
pub const ID_BITS: u32 = 160;

/// A place in the space: a contact's id, an info hash, or the key of an item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 20]);

/// The XOR of two places, as a number: the smaller, the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 20]);

impl Id {
    /// How far `other` is.
    #[must_use]
    pub fn distance(&self, other: &Id) -> Distance {
        let mut xor = self.0;
        for (byte, other) in xor.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        Distance(xor)
    }

    /// How many bits are the same before the first that differs: 160 for the same place.
    #[must_use]
    pub fn common_bits(&self, other: &Id) -> u32 {
        let mut bits = 0;
        for (byte, other) in self.0.iter().zip(other.0) {
            let same = (byte ^ other).leading_zeros();
            bits += same;
            if same < 8 {
                break;
            }
        }
        bits
    }

    /// Any place.
    #[must_use]
    pub fn random(rng: &mut fastrand::Rng) -> Id {
        let mut bytes = [0; 20];
        rng.fill(&mut bytes);
        Id(bytes)
    }

    /// A place that has the first `bits` bits of this one, and any other bits after those.
    #[must_use]
    pub fn random_near(&self, bits: u32, rng: &mut fastrand::Rng) -> Id {
        let mut bytes = Id::random(rng).0;
        let mut left = bits.min(ID_BITS);
        for (byte, own) in bytes.iter_mut().zip(self.0) {
            let keep = left.min(8);
            let mask = !(0xff_u8.checked_shr(keep).unwrap_or(0));
            *byte = (own & mask) | (*byte & !mask);
            left -= keep;
        }
        Id(bytes)
    }

    /// This place with the bit at `index` (0 is the most significant) turned over.
    #[must_use]
    pub fn flipped(mut self, index: u32) -> Id {
        let byte = self.0.get_mut((index / 8) as usize);
        if let Some(byte) = byte {
            *byte ^= 0x80 >> (index % 8);
        }
        self
    }
}

impl From<InfoHash> for Id {
    fn from(hash: InfoHash) -> Self {
        Id(hash.0)
    }
}

impl TryFrom<&[u8]> for Id {
    type Error = core::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Id)
    }
}

/// Shows the first four bytes only: where somebody looks says what they read.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_more_bits_two_places_share_the_closer_they_are(
            a in any::<[u8; 20]>(),
            seed in any::<u64>(),
            bits in 0_u32..160,
        ) {
            let (a, mut rng) = (Id(a), fastrand::Rng::with_seed(seed));
            let b = a.random_near(bits, &mut rng);
            prop_assert!(a.common_bits(&b) >= bits);
            let c = b.flipped(a.common_bits(&b).saturating_sub(1));
            prop_assert!(bits == 0 || a.distance(&b) < a.distance(&c));
        }

        #[test]
        fn a_flipped_bit_is_the_first_that_differs(a in any::<[u8; 20]>(), bit in 0_u32..160) {
            prop_assert_eq!(Id(a).common_bits(&Id(a).flipped(bit)), bit);
        }
    }
}

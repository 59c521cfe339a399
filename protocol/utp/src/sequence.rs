//! Sequence numbers of packets: 16 bits that wrap (BEP 29).
//!
//! Invariant: two numbers are only compared while they are less than half of the numbers apart, which the bounds on what is
//! in flight and what is held guarantee.

/// The number of a packet within its direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u16);

impl Sequence {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Sequence(self.0.wrapping_add(1))
    }

    /// The number before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Sequence(self.0.wrapping_sub(1))
    }

    /// How many packets this one is after `earlier`; negative where it is before.
    #[must_use]
    pub const fn after(self, earlier: Sequence) -> i16 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_hold_across_the_wrap() {
        assert_eq!(Sequence(2).after(Sequence(65_534)), 4);
        assert_eq!(Sequence(65_534).after(Sequence(2)), -4);
        assert_eq!(Sequence(u16::MAX).next(), Sequence(0));
        assert_eq!(Sequence(0).previous(), Sequence(u16::MAX));
    }
}

//! The bloom filters that scrapes count with (BEP 33).

use core::net::IpAddr;
use sha1::{Digest, Sha1};

/// Bytes of a filter.
pub const BLOOM_BYTES: usize = 256;

const BITS: u16 = 2048;
const HASHES: f64 = 2.0;

/// A set of addresses of which only the size can be told, roughly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BloomFilter(pub [u8; BLOOM_BYTES]);

impl Default for BloomFilter {
    fn default() -> Self {
        BloomFilter([0; BLOOM_BYTES])
    }
}

impl core::fmt::Debug for BloomFilter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "BloomFilter({:.0})", self.estimate())
    }
}

impl BloomFilter {
    /// Adds an address.
    pub fn insert(&mut self, ip: IpAddr) {
        let hash: [u8; 20] = match ip.to_canonical() {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()).into(),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()).into(),
        };
        let [a, b, c, d, ..] = hash;
        for pair in [[a, b], [c, d]] {
            let index = u16::from_le_bytes(pair) % BITS;
            self.0[usize::from(index / 8)] |= 1 << (index % 8);
        }
    }

    /// Adds all that are in `other`.
    pub fn unite(&mut self, other: &BloomFilter) {
        for (byte, other) in self.0.iter_mut().zip(other.0) {
            *byte |= other;
        }
    }

    /// About how many addresses are in it. Breaks down near 6,000 (BEP 33).
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let ones: u32 = self.0.iter().map(|byte| byte.count_ones()).sum();
        let bits = f64::from(BITS);
        let zeros = (bits - f64::from(ones)).clamp(1.0, bits - 1.0);
        if ones == 0 {
            return 0.0;
        }
        (zeros / bits).ln() / (HASHES * (1.0 - 1.0 / bits).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_vector_of_bep_33() {
        let mut filter = BloomFilter::default();
        for last in 0..=255 {
            filter.insert(Ipv4Addr::new(192, 0, 2, last).into());
        }
        for last in 0..=0x3e7 {
            filter.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        }
        let expected = "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
            FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
            7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
            D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
            FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
            BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
            62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
            FD8F72EF";
        let hex: String = filter.0.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex, expected);
        assert!((filter.estimate() - 1224.9308).abs() < 0.0001);
    }

    #[test]
    fn an_empty_filter_holds_nothing_and_a_full_one_has_a_size() {
        assert!(BloomFilter::default().estimate().abs() < f64::EPSILON);
        assert!(BloomFilter([0xff; BLOOM_BYTES]).estimate().is_finite());
    }

    #[test]
    fn a_union_counts_an_address_once() {
        let (mut a, mut b) = (BloomFilter::default(), BloomFilter::default());
        a.insert(Ipv4Addr::new(192, 0, 2, 1).into());
        b.insert(Ipv4Addr::new(192, 0, 2, 1).into());
        b.insert(Ipv4Addr::new(192, 0, 2, 2).into());
        a.unite(&b);
        assert_eq!(a, b);
    }
}

//! The pieces a peer may fetch while it is choked (BEP 6): the same few whoever offers them, so that a newcomer gets
//! something to trade and nobody gets a whole torrent that way.
//!
//! Invariant: the set has no duplicates and at most as many pieces as the torrent.

use core::net::IpAddr;
use sha1::{Digest, Sha1};
use shoal_metainfo::{InfoHash, PieceIndex};

/// How many pieces we offer: what BEP 6 names as current.
pub const ALLOWED_FAST_COUNT: u32 = 10;

/// Rounds of hashing after which a set is left short. Only a set of nearly every piece of a small torrent gets near: ten
/// of eleven pieces take 23 draws on average, and these rounds are 500.
const MAX_ROUNDS: u32 = 100;

/// The first `count` pieces of the set of the peer at `address`, in the order of BEP 6's algorithm. Where the torrent has
/// no more than `count` pieces, these are all of them.
///
/// BEP 6 defines no set for IPv6. As elsewhere, an IPv6 peer's set is made from its whole address.
#[must_use]
pub fn allowed_fast_set(
    count: u32,
    piece_count: u32,
    info_hash: InfoHash,
    address: IpAddr,
) -> Vec<PieceIndex> {
    if piece_count <= count {
        return (0..piece_count).map(PieceIndex).collect();
    }
    let mut state: [u8; 20] = seed(info_hash, address);
    let mut set = Vec::new();
    for _ in 0..MAX_ROUNDS {
        for word in state.as_chunks::<4>().0 {
            if set.len() == count as usize {
                return set;
            }
            let piece = PieceIndex(u32::from_be_bytes(*word) % piece_count);
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        state = Sha1::digest(state).into();
    }
    set
}

/// The first hash: of the network of 256 that an IPv4 address is in, so that its neighbours share one set.
fn seed(info_hash: InfoHash, address: IpAddr) -> [u8; 20] {
    let mut hasher = Sha1::new();
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            hasher.update([a, b, c, 0]);
        }
        IpAddr::V6(v6) => hasher.update(v6.octets()),
    }
    hasher.update(info_hash.0);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(count: u32, pieces: u32, address: &str) -> Vec<u32> {
        let address = address.parse().unwrap();
        let set = allowed_fast_set(count, pieces, InfoHash([0xaa; 20]), address);
        set.into_iter().map(|piece| piece.0).collect()
    }

    #[test]
    fn the_vectors_of_bep_6() {
        let seven = [1059, 431, 808, 1217, 287, 376, 1188];
        let nine = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(set(7, 1313, "80.4.4.200"), seven);
        assert_eq!(set(9, 1313, "80.4.4.200"), nine);
    }

    #[test]
    fn neighbours_share_a_set_and_mapped_addresses_are_ipv4() {
        assert_eq!(set(9, 1313, "80.4.4.1"), set(9, 1313, "80.4.4.200"));
        assert_eq!(
            set(9, 1313, "::ffff:80.4.4.200"),
            set(9, 1313, "80.4.4.200")
        );
        assert_ne!(set(9, 1313, "80.4.5.200"), set(9, 1313, "80.4.4.200"));
        assert_ne!(set(9, 1313, "2001:db8::1"), set(9, 1313, "2001:db8::2"));
    }

    #[test]
    fn a_small_torrent_is_offered_whole() {
        assert_eq!(set(10, 3, "80.4.4.200"), [0, 1, 2]);
        assert_eq!(set(10, 0, "80.4.4.200"), []);
    }

    proptest! {
        #[test]
        fn a_set_is_distinct_in_range_and_ends(count in 0u32..64, pieces in 0u32..128, address in any::<[u8; 4]>()) {
            let set = allowed_fast_set(count, pieces, InfoHash([7; 20]), IpAddr::from(address));
            let distinct: BTreeSet<_> = set.iter().copied().collect();
            prop_assert_eq!(distinct.len(), set.len());
            prop_assert!(set.len() <= count as usize && set.iter().all(|piece| piece.0 < pieces));
        }
    }
}

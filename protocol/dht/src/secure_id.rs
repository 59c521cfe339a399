//! Ids that follow from the address of who has them (BEP 42), so that nobody can choose to be near a target.
//!
//! Invariant: [`secure_id`] gives an id that [`is_secure`] accepts for the same address.

use crate::id::Id;
use core::net::IpAddr;
use shoal_machine::{Reach, crc32c};

const V4_MASK: u32 = 0x030f_3fff;
const V6_MASK: u64 = 0x0103_070f_1f3f_7fff;

/// The bits that the hash decides.
const HASH_MASK: u32 = 0xffff_f800;

/// What the first 21 bits of an id are to be, for the number in its last byte.
fn prefix(ip: IpAddr, last: u8) -> u32 {
    let variant = last & 7;
    let hash = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let masked = ip.to_bits() & V4_MASK | u32::from(variant) << 29;
            crc32c(&masked.to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let masked = high & V6_MASK | u64::from(variant) << 61;
            crc32c(&masked.to_be_bytes())
        }
    };
    hash & HASH_MASK
}

/// Whether `id` may belong to somebody at `ip`. Addresses that are not global are exempt (BEP 42).
#[must_use]
pub fn is_secure(id: &Id, ip: IpAddr) -> bool {
    let [a, b, c, d, ..] = id.0;
    let claimed = u32::from_be_bytes([a, b, c, d]) & HASH_MASK;
    Reach::of(ip) != Reach::Global || claimed == prefix(ip, id.0[19])
}

/// An id for somebody at `ip`; any id where the address is not global.
#[must_use]
pub fn secure_id(ip: IpAddr, rng: &mut fastrand::Rng) -> Id {
    let mut id = Id::random(rng);
    if Reach::of(ip) == Reach::Global {
        let prefix = prefix(ip, id.0[19]).to_be_bytes();
        id.0[..2].copy_from_slice(&prefix[..2]);
        id.0[2] = prefix[2] | (id.0[2] & 7);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_bep_42() {
        let rows = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, hex) in rows {
            let id = Id(core::array::from_fn(|at| {
                u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()
            }));
            let ip: IpAddr = ip.parse().unwrap();
            assert!(is_secure(&id, ip), "{ip}");
            assert!(!is_secure(&id.flipped(20), ip), "the 21st bit counts");
            assert!(is_secure(&id.flipped(21), ip), "the 22nd does not");
        }
    }

    #[test]
    fn who_is_on_a_local_network_is_exempt() {
        for ip in ["10.1.2.3", "127.0.0.1", "fe80::1", "fd00::1", "::1"] {
            assert!(is_secure(&Id([7; 20]), ip.parse().unwrap()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_for_an_address_is_accepted_for_it(bits in any::<u128>(), v6 in any::<bool>(), seed in any::<u64>()) {
            let ip = if v6 {
                IpAddr::from(bits.to_be_bytes())
            } else {
                IpAddr::from(core::net::Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32))
            };
            let mut rng = fastrand::Rng::with_seed(seed);
            let id = secure_id(ip, &mut rng);
            prop_assert!(is_secure(&id, ip));
        }
    }
}

//! How much one address may ask of us.
//!
//! Invariant: at most [`MAX_SOURCES`] are kept; who is not kept shares one allowance with all others that are not.

use core::net::IpAddr;
use core::time::Duration;
use shoal_machine::{Moment, TokenBucket};
use std::collections::BTreeMap;

/// Queries a second of one source. Those of an honest contact come to less than one in a minute; libtorrent allows as many.
const RATE_PER_S: u64 = 5;

/// What may come at once: a client that begins asks for many torrents in few seconds.
const BURST: u64 = 50;

/// Sources that asked too much are not heard until they have been silent for this long.
const SILENCE: Duration = Duration::from_secs(60);

/// A hundred bytes each.
const MAX_SOURCES: usize = 1024;

#[derive(Clone, Debug)]
struct Source {
    allowance: TokenBucket,
    asked_at: Moment,
    is_blocked: bool,
}

/// Who has asked us lately.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    sources: BTreeMap<u64, Source>,
    others: TokenBucket,
}

impl Sources {
    pub(crate) fn new(now: Moment) -> Self {
        Sources {
            sources: BTreeMap::new(),
            others: TokenBucket::new(now, 10 * RATE_PER_S, BURST),
        }
    }

    /// Whether a datagram from `ip` is to be read.
    pub(crate) fn admits(&mut self, now: Moment, ip: IpAddr) -> bool {
        let key = key(ip);
        if !self.sources.contains_key(&key) {
            if self.sources.len() >= MAX_SOURCES {
                self.sources
                    .retain(|_, source| now - source.asked_at < SILENCE);
            }
            if self.sources.len() >= MAX_SOURCES {
                return self.others.take(now, 1) == 1;
            }
        }
        let source = self.sources.entry(key).or_insert_with(|| Source {
            allowance: TokenBucket::new(now, RATE_PER_S, BURST),
            asked_at: now,
            is_blocked: false,
        });
        if source.is_blocked && now - source.asked_at >= SILENCE {
            source.is_blocked = false;
        }
        source.asked_at = now;
        source.is_blocked |= source.allowance.take(now, 1) == 0;
        !source.is_blocked
    }
}

/// An IPv4 address, or the /64 of an IPv6 address, which one customer has all addresses of.
fn key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0b00_0000 + number).into()
    }

    #[test]
    fn who_asks_too_much_is_not_heard_until_it_is_silent() {
        let mut sources = Sources::new(Moment::ZERO);
        let heard = (0..100)
            .filter(|_| sources.admits(Moment::ZERO, ip(1)))
            .count();
        assert_eq!(heard, 50);
        assert!(sources.admits(Moment::ZERO, ip(2)));
        assert!(!sources.admits(Moment::from_secs(59), ip(1)));
        assert!(
            !sources.admits(Moment::from_secs(118), ip(1)),
            "it was not silent"
        );
        assert!(sources.admits(Moment::from_secs(178), ip(1)));
    }

    #[test]
    fn a_flood_of_forged_sources_shares_one_allowance_and_silences_nobody_known() {
        let mut sources = Sources::new(Moment::ZERO);
        assert!(sources.admits(Moment::ZERO, ip(0)));
        let heard = (1..100_000)
            .filter(|&at| sources.admits(Moment::ZERO, ip(at)))
            .count();
        assert_eq!(heard, MAX_SOURCES - 1 + 50);
        assert!(sources.admits(Moment::from_secs(1), ip(0)));
        assert!(sources.admits(Moment::from_secs(61), ip(200_000)));
    }
}

//! Path MTU discovery by probes (RFC 8899 without ICMP): how long a datagram may be.
//!
//! A packet of uTP keeps its payload for ever, since the remote may have it, so that what was sent too long cannot be sent again
//! shorter. Probes therefore carry a payload that is known to fit and are filled up with an extension that everybody skips: a
//! probe that is lost is sent again without the filling, and delays the stream as any lost packet does.
//!
//! Invariant: payload is only ever as long as fits a datagram that was acknowledged, or [`BASE_BYTES`].

use crate::sequence::Sequence;
use core::net::SocketAddr;

/// What fits everywhere: the least MTU of IPv6, 1,280 bytes, without the headers of IPv6 and UDP (RFC 8899, `BASE_PLPMTU`).
const BASE_BYTES: usize = 1_232;
/// Ethernet's 1,500 bytes without the headers of IPv4 and UDP: longer datagrams would be fragmented nearly everywhere.
const MAX_IPV4_BYTES: usize = 1_472;
/// The same with the header of IPv6.
const MAX_IPV6_BYTES: usize = 1_452;
/// The search ends where less is to be gained.
const PRECISION_BYTES: usize = 8;
/// A length is given up after so many probes in vain, as losses may have other reasons.
const ATTEMPTS: u8 = 2;

/// The search for the longest datagram.
#[derive(Clone, Debug)]
pub(crate) struct PathMtu {
    /// Acknowledged.
    known_bytes: usize,
    /// Not given up.
    limit_bytes: usize,
    /// The probe under way.
    probe: Option<(Sequence, usize)>,
    failures: u8,
}

impl PathMtu {
    pub(crate) const fn new(remote: SocketAddr) -> Self {
        PathMtu {
            known_bytes: BASE_BYTES,
            limit_bytes: match remote {
                SocketAddr::V4(_) => MAX_IPV4_BYTES,
                SocketAddr::V6(_) => MAX_IPV6_BYTES,
            },
            probe: None,
            failures: 0,
        }
    }

    /// The longest datagram for payload.
    pub(crate) const fn datagram_bytes(&self) -> usize {
        self.known_bytes
    }

    /// How long a probe should be, if one is due. The longest comes first: it succeeds on most paths.
    pub(crate) const fn probe_bytes(&self) -> Option<usize> {
        let gap = self.limit_bytes - self.known_bytes;
        if self.probe.is_some() || gap < PRECISION_BYTES {
            return None;
        }
        let is_first = self.limit_bytes == MAX_IPV4_BYTES || self.limit_bytes == MAX_IPV6_BYTES;
        let step = if is_first { gap } else { gap.div_ceil(2) };
        Some(self.known_bytes + step)
    }

    /// A probe of `bytes` left as the packet `sequence`.
    pub(crate) const fn sent(&mut self, sequence: Sequence, bytes: usize) {
        self.probe = Some((sequence, bytes));
    }

    /// A packet was acknowledged.
    pub(crate) fn acknowledged(&mut self, sequence: Sequence) {
        if let Some((probe, bytes)) = self.probe
            && probe == sequence
        {
            self.probe = None;
            self.failures = 0;
            self.known_bytes = bytes;
        }
    }

    /// A packet was lost; whether it was the probe.
    pub(crate) fn lost(&mut self, sequence: Sequence) -> bool {
        let Some((probe, bytes)) = self.probe else {
            return false;
        };
        if probe != sequence {
            return false;
        }
        self.probe = None;
        self.failures += 1;
        if self.failures == ATTEMPTS {
            self.failures = 0;
            self.limit_bytes = bytes - 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the search comes to on a path that lets datagrams of `fits` bytes pass, and how many probes it took.
    fn search(remote: &str, fits: usize) -> (usize, u16) {
        let mut mtu = PathMtu::new(remote.parse().unwrap());
        let mut probes = 0;
        while let Some(bytes) = mtu.probe_bytes() {
            let sequence = Sequence(probes);
            mtu.sent(sequence, bytes);
            assert_eq!(mtu.probe_bytes(), None);
            assert!(!mtu.lost(sequence.next()));
            if bytes <= fits {
                mtu.acknowledged(sequence);
            } else {
                assert!(mtu.lost(sequence));
            }
            probes += 1;
        }
        (mtu.datagram_bytes(), probes)
    }

    #[test]
    fn an_ordinary_path_takes_one_probe() {
        assert_eq!(search("192.0.2.1:1", 9_000), (1_472, 1));
        assert_eq!(search("[2001:db8::1]:1", 1_460), (1_452, 1));
    }

    #[test]
    fn tunnels_are_found_to_within_a_few_bytes() {
        for fits in [1_232, 1_252, 1_392, 1_464, 1_471] {
            let (found, probes) = search("192.0.2.1:1", fits);
            assert!(
                found <= fits && found + PRECISION_BYTES > fits,
                "{found} of {fits}"
            );
            assert!(probes <= 14, "{probes}");
        }
    }
}

//! The messages of the Port Control Protocol (RFC 6887) that map one port over IPv4.
//!
//! Invariant: an answer counts only where it repeats what was asked: nonce, protocol and internal port.

use super::{Failure, Grant, Kind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const VERSION: u8 = 2;
const OPCODE_MAP: u8 = 1;
/// Set in the opcode of answers.
const ANSWER: u8 = 0x80;
/// A header of 24 bytes and the 36 of MAP (section 11.1), in both directions. Answers may have options after that.
const LENGTH: usize = 60;
/// The result codes (section 7.4) that are treated apart.
const SUCCESS: u8 = 0;
const UNSUPPORTED_VERSION: u8 = 1;

/// One wish for a port, or the end of it where the lifetime is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) nonce: [u8; 12],
    pub(super) kind: Kind,
    /// Our address as the router sees it.
    pub(super) client: Ipv4Addr,
    pub(super) internal: u16,
    /// The external port that we would like; 0 is any.
    pub(super) external: u16,
    pub(super) lifetime_s: u32,
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH);
        out.extend([VERSION, OPCODE_MAP, 0, 0]);
        out.extend(self.lifetime_s.to_be_bytes());
        out.extend(self.client.to_ipv6_mapped().octets());
        out.extend(self.nonce);
        out.extend([self.kind.number(), 0, 0, 0]);
        out.extend(self.internal.to_be_bytes());
        out.extend(self.external.to_be_bytes());
        // No address is preferred to another, as long as it is one of IPv4.
        out.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
        out
    }

    /// What an answer to this grants; `None` where it is an answer to something else.
    pub(super) fn granted(&self, answer: &[u8]) -> Option<Result<Grant, Failure>> {
        let [version, opcode, _, result, ..] = *answer else {
            return None;
        };
        // A router of NAT-PMP alone answers in its own version (appendix A).
        if version != VERSION || result == UNSUPPORTED_VERSION {
            return Some(Err(Failure::Unsupported));
        }
        if opcode != OPCODE_MAP | ANSWER || answer.len() < LENGTH {
            return None;
        }
        let asked = (self.nonce, self.kind.number(), self.internal);
        if (array(answer, 24)?, answer[36], u16_at(answer, 40)?) != asked {
            return None;
        }
        if result != SUCCESS {
            return Some(Err(Failure::Refused(u32::from(result))));
        }
        let address = IpAddr::V6(Ipv6Addr::from(array::<16>(answer, 44)?)).to_canonical();
        let (IpAddr::V4(address), port @ 1..) = (address, u16_at(answer, 42)?) else {
            return Some(Err(Failure::Unusable));
        };
        Some(Ok(Grant {
            address,
            port,
            lifetime_s: u32::from_be_bytes(array(answer, 4)?),
        }))
    }
}

/// The bytes at an offset, where there are as many.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The number at an offset, in network byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        Request {
            nonce: *b"twelve bytes",
            kind: Kind::Udp,
            client: [10, 0, 0, 2].into(),
            internal: 6881,
            external: 6881,
            lifetime_s: 1200,
        }
    }

    /// The answer of a router that grants what was asked, laid out as in RFC 6887 sections 7.2 and 11.1.
    fn answer() -> Vec<u8> {
        let mut answer = vec![2, 0x81, 0, 0, 0, 0, 2, 88, 0, 0, 0, 9];
        answer.extend([0; 12]);
        answer.extend(*b"twelve bytes");
        answer.extend([17, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        answer.extend([0; 10]);
        answer.extend([0xff, 0xff, 11, 1, 1, 1]);
        answer
    }

    #[test]
    fn a_request_is_laid_out_as_the_rfc_has_it() {
        let mut expected = vec![2, 1, 0, 0, 0, 0, 0x04, 0xb0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
        expected.extend(*b"twelve bytes");
        expected.extend([17, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(request().encode(), expected);
    }

    #[test]
    fn an_answer_grants_a_port() {
        let grant = Grant {
            address: [11, 1, 1, 1].into(),
            port: 6882,
            lifetime_s: 600,
        };
        assert_eq!(request().granted(&answer()), Some(Ok(grant)));
    }

    #[test]
    fn what_answers_another_request_is_not_heard() {
        for (at, byte) in [(1, 0x82), (24, b'x'), (36, 6), (41, 0)] {
            let mut other = answer();
            other[at] = byte;
            assert_eq!(request().granted(&other), None, "{at}");
        }
        assert_eq!(request().granted(&answer()[..59]), None);
        assert_eq!(request().granted(&[]), None);
    }

    #[test]
    fn a_router_of_the_older_protocol_says_so() {
        let unsupported = Some(Err(Failure::Unsupported));
        assert_eq!(request().granted(&[0, 128, 0, 1, 0, 0, 0, 0]), unsupported);
        let mut refusal = answer();
        refusal[3] = 2;
        assert_eq!(request().granted(&refusal), Some(Err(Failure::Refused(2))));
    }

    #[test]
    fn a_grant_of_no_port_or_of_ipv6_is_of_no_use() {
        let mut none = answer();
        (none[42], none[43]) = (0, 0);
        assert_eq!(request().granted(&none), Some(Err(Failure::Unusable)));
        let mut six = answer();
        six[44] = 0x26;
        assert_eq!(request().granted(&six), Some(Err(Failure::Unusable)));
    }

    proptest! {
        #[test]
        fn no_answer_panics(answer in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = request().granted(&answer);
        }
    }
}

//! The messages of the NAT Port Mapping Protocol (RFC 6886).
//!
//! Invariant: an answer counts only where it repeats what was asked: operation and internal port.

use super::pcp::{array, u16_at};
use super::{Failure, Kind};
use std::net::Ipv4Addr;

const VERSION: u8 = 0;
/// Added to the operation in answers.
const ANSWER: u8 = 128;
const OPERATION_ADDRESS: u8 = 0;

/// Asks for the external address (section 3.2).
pub(super) const ADDRESS_REQUEST: [u8; 2] = [VERSION, OPERATION_ADDRESS];

/// What the answer to [`ADDRESS_REQUEST`] says; `None` where it is an answer to something else.
pub(super) fn address(answer: &[u8]) -> Option<Result<Ipv4Addr, Failure>> {
    Some(match opened(answer, OPERATION_ADDRESS)? {
        Ok(()) => Ok(array::<4>(answer, 8)?.into()),
        Err(failure) => Err(failure),
    })
}

/// One wish for a port, or the end of it where the lifetime is 0 (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) internal: u16,
    /// The external port that we would like; 0 where it is the end.
    pub(super) external: u16,
    pub(super) lifetime_s: u32,
}

impl Request {
    const fn operation(&self) -> u8 {
        match self.kind {
            Kind::Udp => 1,
            Kind::Tcp => 2,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.operation(), 0, 0];
        out.extend(self.internal.to_be_bytes());
        out.extend(self.external.to_be_bytes());
        out.extend(self.lifetime_s.to_be_bytes());
        out
    }

    /// The external port and for how many seconds; `None` where it is an answer to something else.
    pub(super) fn granted(&self, answer: &[u8]) -> Option<Result<(u16, u32), Failure>> {
        if let Err(failure) = opened(answer, self.operation())? {
            return Some(Err(failure));
        }
        if u16_at(answer, 8)? != self.internal {
            return None;
        }
        let (port, lifetime_s) = (u16_at(answer, 10)?, u32::from_be_bytes(array(answer, 12)?));
        Some(if port == 0 && self.lifetime_s != 0 {
            Err(Failure::Unusable)
        } else {
            Ok((port, lifetime_s))
        })
    }
}

/// What every answer begins with (section 3.5).
fn opened(answer: &[u8], operation: u8) -> Option<Result<(), Failure>> {
    let result = u16_at(answer, 2)?;
    if answer[0] != VERSION {
        return Some(Err(Failure::Unsupported));
    }
    if answer[1] != operation + ANSWER {
        return None;
    }
    Some(match result {
        0 => Ok(()),
        1 | 5 => Err(Failure::Unsupported),
        other => Err(Failure::Refused(u32::from(other))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Request = Request {
        kind: Kind::Tcp,
        internal: 6881,
        external: 6882,
        lifetime_s: 7200,
    };

    #[test]
    fn messages_are_laid_out_as_the_rfc_has_them() {
        let expected = [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x1c, 0x20];
        assert_eq!(REQUEST.encode(), expected);
        let answer = [
            0, 130, 0, 0, 0, 0, 0, 7, 0x1a, 0xe1, 0x1a, 0xe3, 0, 0, 0x0e, 0x10,
        ];
        assert_eq!(REQUEST.granted(&answer), Some(Ok((6883, 3600))));
        assert_eq!(
            address(&[0, 128, 0, 0, 0, 0, 0, 7, 11, 1, 1, 1]),
            Some(Ok([11, 1, 1, 1].into()))
        );
    }

    #[test]
    fn what_answers_another_request_is_not_heard() {
        let udp = [
            0, 129, 0, 0, 0, 0, 0, 7, 0x1a, 0xe1, 0x1a, 0xe3, 0, 0, 0x0e, 0x10,
        ];
        assert_eq!(REQUEST.granted(&udp), None);
        let other_port = [0, 130, 0, 0, 0, 0, 0, 7, 0x1a, 0xe2, 0x1a, 0xe3, 0, 0, 0, 9];
        assert_eq!(REQUEST.granted(&other_port), None);
        assert_eq!(address(&[0, 128, 0, 0, 0, 0, 0, 7, 11, 1, 1]), None);
    }

    #[test]
    fn a_refusal_is_told() {
        assert_eq!(
            REQUEST.granted(&[0, 130, 0, 2]),
            Some(Err(Failure::Refused(2)))
        );
        assert_eq!(address(&[2, 128, 0, 1]), Some(Err(Failure::Unsupported)));
    }

    proptest! {
        #[test]
        fn no_answer_panics(answer in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = (address(&answer), REQUEST.granted(&answer));
        }
    }
}

//! What others must not be able to guess: transaction ids, and the tokens that show that somebody receives at its address.
//!
//! They come from a secret that the driver gives, not from the generator of ids and pauses: that one's numbers are seen by
//! everybody, and from enough of them the next ones follow.
//!
//! Invariant: a token is good for the address and the target it was made for, for five to ten minutes (BEP 5).

use crate::id::Id;
use crate::krpc::Token;
use core::net::IpAddr;
use core::time::Duration;
use sha2::{Digest, Sha256};
use shoal_machine::Moment;

/// How long tokens are made from one secret (BEP 5); those of the one before are taken as well.
const TOKEN_PERIOD: Duration = Duration::from_secs(5 * 60);

/// 2^64 guesses at 5 a second and address.
const TOKEN_BYTES: usize = 8;

/// A source of numbers that nobody can guess without the secret.
#[derive(Clone)]
pub(crate) struct Secrets {
    secret: [u8; 32],
    counter: u64,
    /// What is left of the last block.
    ready: Vec<u32>,
}

impl Secrets {
    pub(crate) const fn new(secret: [u8; 32]) -> Self {
        Secrets {
            secret,
            counter: 0,
            ready: Vec::new(),
        }
    }

    /// Half an hour of guessing at the limits of a network finds one of two to the 32 with a chance of one in a thousand,
    /// and only from the address that was asked.
    pub(crate) fn transaction(&mut self) -> u32 {
        if let Some(number) = self.ready.pop() {
            return number;
        }
        let block = Sha256::new()
            .chain_update(b"transaction")
            .chain_update(self.secret)
            .chain_update(self.counter.to_be_bytes())
            .finalize();
        self.counter += 1;
        let numbers = block.as_chunks::<4>().0;
        self.ready
            .extend(numbers.iter().map(|bytes| u32::from_be_bytes(*bytes)));
        self.ready.pop().unwrap_or(0)
    }

    /// The token for somebody at `ip` who asked for `target`.
    pub(crate) fn token(&self, now: Moment, ip: IpAddr, target: &Id) -> Token {
        self.token_of(period(now), ip, target)
    }

    /// Whether `token` was given to `ip` for `target`, not too long ago.
    pub(crate) fn accepts(&self, now: Moment, ip: IpAddr, target: &Id, token: &[u8]) -> bool {
        let period = period(now);
        let before = period.saturating_sub(1);
        // Comparing in constant time is of no use here: a try costs a datagram, and each try is one of 2^64.
        [period, before]
            .into_iter()
            .any(|period| self.token_of(period, ip, target).as_slice() == token)
    }

    fn token_of(&self, period: u64, ip: IpAddr, target: &Id) -> Token {
        let ip = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let hash = Sha256::new()
            .chain_update(b"token")
            .chain_update(self.secret)
            .chain_update(period.to_be_bytes())
            .chain_update(ip)
            .chain_update(target.0)
            .finalize();
        Token::from_slice(&hash[..TOKEN_BYTES])
    }
}

fn period(now: Moment) -> u64 {
    now.as_nanos() / u64::try_from(TOKEN_PERIOD.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_and_target_and_ten_minutes() {
        let secrets = Secrets::new([1; 32]);
        let (ip, target) = (IpAddr::from([192, 0, 2, 1]), Id([7; 20]));
        let token = secrets.token(Moment::from_secs(290), ip, &target);
        let accepts = |s, ip, target| secrets.accepts(Moment::from_secs(s), ip, target, &token);
        assert!(accepts(290, ip, &target));
        assert!(accepts(599, ip, &target));
        assert!(!accepts(600, ip, &target));
        assert!(!accepts(290, IpAddr::from([192, 0, 2, 2]), &target));
        assert!(!accepts(290, ip, &Id([8; 20])));
        assert!(!Secrets::new([2; 32]).accepts(Moment::from_secs(290), ip, &target, &token));
        assert!(!secrets.accepts(Moment::ZERO, ip, &target, b""));
    }

    #[test]
    fn transaction_ids_do_not_repeat_soon() {
        let mut secrets = Secrets::new([1; 32]);
        let mut seen: Vec<u32> = (0..1000).map(|_| secrets.transaction()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() >= 999);
    }
}

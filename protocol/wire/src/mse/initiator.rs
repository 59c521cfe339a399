//! The side that opened the connection.
//!
//! Invariant: nothing is sent that tells the torrent before the remote's public key was found good.

use super::keys::{Ciphers, Shared, SkeyHash};
use super::received::Received;
use super::{
    CIPHER, Established, MAX_INITIAL_PAYLOAD, MAX_PAD_LENGTH, Methods, MseError, Noise, PLAINTEXT,
    VERIFICATION,
};
use crate::handshake::PROTOCOL;
use shoal_metainfo::InfoHash;

#[derive(Debug)]
enum State {
    /// The remote's public key comes next.
    Key,
    /// Padding, then the verification constant, which looks like this.
    Verification(Box<Ciphers>, [u8; VERIFICATION.len()]),
    /// The method that the remote chose, and the length of padding.
    Choice(Box<Ciphers>),
    /// So much padding.
    Padding(Box<Ciphers>, u32, usize),
    /// It is done, or has failed.
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Initiator {
    skey: InfoHash,
    offered: Methods,
    noise: Noise,
    initial: Vec<u8>,
    received: Received,
    state: State,
    answered: bool,
}

impl Initiator {
    /// Begins a handshake about the torrent `skey`; what is to be sent at once is appended to `out`. `initial` is what the connection
    /// begins with, encrypted in any case: our handshake. It is cut at [`MAX_INITIAL_PAYLOAD`].
    #[must_use]
    pub fn new(
        skey: InfoHash,
        offered: Methods,
        noise: Noise,
        initial: &[u8],
        out: &mut Vec<u8>,
    ) -> Self {
        noise.open(out);
        Initiator {
            skey,
            offered,
            noise,
            initial: initial[..initial.len().min(MAX_INITIAL_PAYLOAD)].to_vec(),
            received: Received::default(),
            state: State::Key,
            answered: false,
        }
    }

    /// Whether the remote has sent a public key: it speaks MSE, so that calling it again without is of no use.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered
    }

    /// Hears bytes of the remote and appends what is to be sent to `out`. Once it has returned something else than `Ok(None)` it is
    /// over.
    ///
    /// # Errors
    /// Where the remote breaks the protocol or chooses what was not offered.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, MseError> {
        self.received.extend(bytes);
        loop {
            let before = core::mem::replace(&mut self.state, State::Over);
            match self.step(before, out)? {
                Step::Next(state) => self.state = state,
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(None);
                }
                Step::Done(established) => return Ok(Some(established)),
            }
        }
    }

    fn step(&mut self, state: State, out: &mut Vec<u8>) -> Result<Step, MseError> {
        Ok(match state {
            State::Key if self.received.begins_with(&PROTOCOL) => return Err(MseError::Plaintext),
            State::Key => match self.received.take() {
                Some(key) => {
                    self.answered = true;
                    let mut ciphers = self.introduce(&Shared(self.noise.secret.shared(&key)?), out);
                    let mut pattern = VERIFICATION;
                    ciphers.receive.apply(&mut pattern);
                    Step::Next(State::Verification(ciphers, pattern))
                }
                None => Step::Wait(State::Key),
            },
            State::Verification(ciphers, pattern) => match self.received.skip_past(&pattern)? {
                true => Step::Next(State::Choice(ciphers)),
                false => Step::Wait(State::Verification(ciphers, pattern)),
            },
            State::Choice(mut ciphers) => match self.received.take::<6>() {
                Some(mut choice) => {
                    ciphers.receive.apply(&mut choice);
                    let [a, b, c, d, length @ ..] = choice;
                    let length = pad_length(length)?;
                    let method = u32::from_be_bytes([a, b, c, d]);
                    if !matches!(method, PLAINTEXT | CIPHER) || method & self.offered.0 == 0 {
                        return Err(MseError::Choice(method));
                    }
                    Step::Next(State::Padding(ciphers, method, length))
                }
                None => Step::Wait(State::Choice(ciphers)),
            },
            State::Padding(mut ciphers, method, length) => match self.received.take_count(length) {
                Some(mut pad) => {
                    ciphers.receive.apply(&mut pad);
                    let mut received = self.received.take_all();
                    let ciphers = (method == CIPHER).then_some(ciphers);
                    let ciphers = ciphers.map(|mut ciphers| {
                        ciphers.receive.apply(&mut received);
                        ciphers
                    });
                    Step::Done(Established {
                        skey: self.skey,
                        ciphers,
                        received,
                    })
                }
                None => Step::Wait(State::Padding(ciphers, method, length)),
            },
            State::Over => Step::Wait(State::Over),
        })
    }

    /// Says which torrent it is about, what is offered, and how the connection begins.
    fn introduce(&self, shared: &Shared, out: &mut Vec<u8>) -> Box<Ciphers> {
        let mut ciphers = Box::new(shared.initiator(self.skey));
        out.extend_from_slice(&shared.sync());
        out.extend_from_slice(&shared.mask(SkeyHash::of(self.skey)).0);
        let encrypted = out.len();
        out.extend_from_slice(&VERIFICATION);
        out.extend_from_slice(&self.offered.0.to_be_bytes());
        append_padding(self.noise.crypto_pad, out);
        // Bounded where it was taken.
        let length = u16::try_from(self.initial.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.initial);
        ciphers.send.apply(&mut out[encrypted..]);
        ciphers
    }
}

enum Step {
    Next(State),
    Wait(State),
    Done(Established),
}

/// A length of padding, as the remote claims it.
pub(super) const fn pad_length(bytes: [u8; 2]) -> Result<usize, MseError> {
    let length = u16::from_be_bytes(bytes);
    if length as usize > MAX_PAD_LENGTH {
        return Err(MseError::PadLength(length));
    }
    Ok(length as usize)
}

/// A length and so many zeros.
pub(super) fn append_padding(length: usize, out: &mut Vec<u8>) {
    let claimed = u16::try_from(length).unwrap_or(0);
    out.extend_from_slice(&claimed.to_be_bytes());
    out.resize(out.len() + usize::from(claimed), 0);
}

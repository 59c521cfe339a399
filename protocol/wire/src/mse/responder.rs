//! The side that was called.
//!
//! Invariant: the torrents are looked at once, after the remote has shown that it knows the shared secret; a remote that
//! names a torrent that is not here is told nothing.

use super::initiator::{append_padding, pad_length};
use super::keys::{Ciphers, HASH_LENGTH, Shared, SkeyHash};
use super::received::Received;
use super::{
    CIPHER, Established, MAX_INITIAL_PAYLOAD, Methods, MseError, Noise, VERIFICATION, choose,
};
use shoal_metainfo::InfoHash;

/// The verification constant, the methods on offer, and the length of padding.
const OFFER_LENGTH: usize = VERIFICATION.len() + 4 + 2;

#[derive(Debug)]
enum State {
    /// The remote's public key comes next.
    Key,
    /// Padding, then the first of these.
    Synchronisation([u8; HASH_LENGTH], Box<Shared>),
    /// The torrent's masked name.
    Torrent(Box<Shared>),
    /// The remote's offer.
    Offer(Agreed),
    /// So much padding, and the length of the initial payload.
    Padding(Agreed, u32, usize),
    /// So much initial payload.
    Initial(Agreed, u32, usize),
    /// It is done, or has failed.
    Over,
}

/// The torrent, and the keys that come with it.
#[derive(Debug)]
struct Agreed {
    skey: InfoHash,
    ciphers: Box<Ciphers>,
}

/// See the module.
#[derive(Debug)]
pub struct Responder {
    allowed: Methods,
    noise: Noise,
    received: Received,
    state: State,
}

impl Responder {
    /// Waits for a remote's public key.
    #[must_use]
    pub fn new(allowed: Methods, noise: Noise) -> Self {
        Responder {
            allowed,
            noise,
            received: Received::default(),
            state: State::Key,
        }
    }

    /// Hears bytes of the remote and appends what is to be sent to `out`. `find` looks up the torrent that the remote means: see
    /// [`SkeyHash::of`]. Once it has returned something else than `Ok(None)` it is over.
    ///
    /// # Errors
    /// Where the remote breaks the protocol, wants another torrent, or offers nothing that is allowed.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        find: impl FnOnce(SkeyHash) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, MseError> {
        self.received.extend(bytes);
        let mut find = Some(find);
        loop {
            let before = core::mem::replace(&mut self.state, State::Over);
            let find = |name| find.take().and_then(|find| find(name));
            match self.step(before, find, out)? {
                Step::Next(state) => self.state = state,
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(None);
                }
                Step::Done(established) => return Ok(Some(established)),
            }
        }
    }

    fn step(
        &mut self,
        state: State,
        find: impl FnOnce(SkeyHash) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Step, MseError> {
        Ok(match state {
            State::Key => match self.received.take() {
                Some(key) => {
                    let shared = Shared(self.noise.secret.shared(&key)?);
                    self.noise.open(out);
                    let sync = shared.sync();
                    Step::Next(State::Synchronisation(sync, Box::new(shared)))
                }
                None => Step::Wait(State::Key),
            },
            State::Synchronisation(sync, shared) => match self.received.skip_past(&sync)? {
                true => Step::Next(State::Torrent(shared)),
                false => Step::Wait(State::Synchronisation(sync, shared)),
            },
            State::Torrent(shared) => match self.received.take() {
                Some(masked) => {
                    let name = shared.mask(SkeyHash(masked));
                    let skey = find(name).ok_or(MseError::UnknownTorrent)?;
                    let ciphers = Box::new(shared.responder(skey));
                    Step::Next(State::Offer(Agreed { skey, ciphers }))
                }
                None => Step::Wait(State::Torrent(shared)),
            },
            State::Offer(mut agreed) => match self.received.take::<OFFER_LENGTH>() {
                Some(mut offer) => {
                    agreed.ciphers.receive.apply(&mut offer);
                    let (method, length) = self.judge(offer)?;
                    Step::Next(State::Padding(agreed, method, length))
                }
                None => Step::Wait(State::Offer(agreed)),
            },
            State::Padding(mut agreed, method, length) => {
                match self.received.take_count(length + 2) {
                    Some(mut padding) => {
                        agreed.ciphers.receive.apply(&mut padding);
                        let length = initial_length(&padding)?;
                        self.answer(&mut agreed.ciphers, method, out);
                        Step::Next(State::Initial(agreed, method, length))
                    }
                    None => Step::Wait(State::Padding(agreed, method, length)),
                }
            }
            State::Initial(agreed, method, length) => match self.received.take_count(length) {
                Some(initial) => Step::Done(self.establish(agreed, method, initial)),
                None => Step::Wait(State::Initial(agreed, method, length)),
            },
            State::Over => Step::Wait(State::Over),
        })
    }

    /// The method to go on with, and the length of the padding.
    fn judge(&self, offer: [u8; OFFER_LENGTH]) -> Result<(u32, usize), MseError> {
        let [v0, v1, v2, v3, v4, v5, v6, v7, a, b, c, d, length @ ..] = offer;
        if [v0, v1, v2, v3, v4, v5, v6, v7] != VERIFICATION {
            return Err(MseError::Verification);
        }
        let offered = u32::from_be_bytes([a, b, c, d]);
        let method = choose(offered, self.allowed).ok_or(MseError::Offer(offered))?;
        Ok((method, pad_length(length)?))
    }

    /// Says what was chosen.
    fn answer(&self, ciphers: &mut Ciphers, method: u32, out: &mut Vec<u8>) {
        let encrypted = out.len();
        out.extend_from_slice(&VERIFICATION);
        out.extend_from_slice(&method.to_be_bytes());
        append_padding(self.noise.crypto_pad, out);
        ciphers.send.apply(&mut out[encrypted..]);
    }

    /// The initial payload is encrypted whatever was chosen, and what follows it only where RC4 was.
    fn establish(&mut self, agreed: Agreed, method: u32, mut initial: Vec<u8>) -> Established {
        let Agreed { skey, mut ciphers } = agreed;
        ciphers.receive.apply(&mut initial);
        let mut rest = self.received.take_all();
        let ciphers = (method == CIPHER).then(|| {
            ciphers.receive.apply(&mut rest);
            ciphers
        });
        initial.append(&mut rest);
        Established {
            skey,
            ciphers,
            received: initial,
        }
    }
}

enum Step {
    Next(State),
    Wait(State),
    Done(Established),
}

/// The length of the initial payload, which the padding ends with.
fn initial_length(padding: &[u8]) -> Result<usize, MseError> {
    let claimed = padding.last_chunk().copied().unwrap_or_default();
    let length = u16::from_be_bytes(claimed);
    if usize::from(length) > MAX_INITIAL_PAYLOAD {
        return Err(MseError::InitialPayload(length));
    }
    Ok(usize::from(length))
}

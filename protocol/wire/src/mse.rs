//! Message Stream Encryption, also called protocol encryption: the handshake before the handshake, with which two peers that know
//! the same info hash agree on RC4, or on going on in the open. Its specification is that of the Azureus wiki; where that is open,
//! this does what libtorrent does.
//!
//! It is obfuscation: it keeps devices on the way from recognising BitTorrent by its first bytes. It authenticates nobody, and
//! whoever knows the info hash and sits in the middle reads everything.
//!
//! ```
//! use shoal_wire::mse::{Initiator, Methods, Noise, Responder, SkeyHash};
//! use shoal_metainfo::InfoHash;
//!
//! # fn main() -> Result<(), shoal_wire::mse::MseError> {
//! let torrent = InfoHash([7; 20]);
//! let mut random = fastrand::Rng::with_seed(1);
//! let (mut forth, mut back) = (Vec::new(), Vec::new());
//! let noise = Noise::new([1; 20], &mut random);
//! let mut ours = Initiator::new(torrent, Methods::RC4, noise, b"our handshake", &mut forth);
//! let mut theirs = Responder::new(Methods::ALL, Noise::new([2; 20], &mut random));
//! let find = |name| (name == SkeyHash::of(torrent)).then_some(torrent);
//!
//! theirs.receive(&std::mem::take(&mut forth), find, &mut back)?;
//! ours.receive(&std::mem::take(&mut back), &mut forth)?;
//! let accepted = theirs.receive(&forth, find, &mut back)?.expect("nothing is missing");
//! let opened = ours.receive(&back, &mut forth)?.expect("nothing is missing");
//! assert_eq!(accepted.received, b"our handshake");
//! assert!(accepted.ciphers.is_some() && opened.ciphers.is_some());
//! # Ok(()) }
//! ```
//!
//! Invariant: what a machine says and when it ends does not depend on how the bytes that it hears were cut; it keeps no more than
//! the longest part of a handshake and what came in one call.

mod diffie_hellman;
mod initiator;
mod keys;
mod rc4;
mod received;
mod responder;
#[cfg(test)]
mod tests;

pub use diffie_hellman::Secret;
pub use initiator::Initiator;
pub use keys::{Ciphers, SkeyHash};
pub use rc4::Rc4;
pub use responder::Responder;

use crate::handshake::PROTOCOL;
use diffie_hellman::SECRET_LENGTH;
use shoal_metainfo::InfoHash;

/// The longest padding, of each of the four.
pub const MAX_PAD_LENGTH: usize = 512;

/// The longest initial payload that is accepted, and the longest that is sent. Clients send their handshake of 68 bytes, which is all
/// that libtorrent takes; a few messages behind it do no harm.
pub const MAX_INITIAL_PAYLOAD: usize = 1_024;

/// The verification constant: eight zeros, by which a side sees that the other has the same keys.
const VERIFICATION: [u8; 8] = [0; 8];

/// When connections begin encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncryptionPolicy {
    /// Never: encrypted handshakes are neither begun nor answered.
    Disabled,
    /// Where the remote knows how, and otherwise not. What follows the handshake is in the open where the remote agrees, as it costs
    /// nothing then.
    #[default]
    Enabled,
    /// Always, and all that follows is encrypted. Remotes that do not know how are not spoken to.
    Forced,
}

impl EncryptionPolicy {
    /// What may follow a handshake.
    #[must_use]
    pub const fn methods(self) -> Methods {
        match self {
            EncryptionPolicy::Disabled => Methods(0),
            EncryptionPolicy::Enabled => Methods::ALL,
            EncryptionPolicy::Forced => Methods::RC4,
        }
    }
}

/// What may follow an encrypted handshake: `crypto_provide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u32);

impl Methods {
    /// RC4, or nothing.
    pub const ALL: Methods = Methods(PLAINTEXT | CIPHER);
    /// RC4.
    pub const RC4: Methods = Methods(CIPHER);
    /// Nothing.
    pub const PLAINTEXT: Methods = Methods(PLAINTEXT);
}

const PLAINTEXT: u32 = 1;
const CIPHER: u32 = 2;

/// What is in common is one of the two, or both, or nothing that anybody defined.
const fn choose(offered: u32, allowed: Methods) -> Option<u32> {
    match offered & allowed.0 {
        common if common & PLAINTEXT != 0 => Some(PLAINTEXT),
        common if common & CIPHER != 0 => Some(CIPHER),
        _ => None,
    }
}

/// The dice of one handshake.
#[derive(Clone, Debug)]
pub struct Noise {
    secret: Secret,
    /// Behind the public key.
    pad: Vec<u8>,
    /// The length of the encrypted padding, which is zeros.
    crypto_pad: usize,
}

impl Noise {
    /// `secret` is to come from where keys come from. `random` decides only how the handshake looks.
    #[must_use]
    pub fn new(secret: [u8; SECRET_LENGTH], random: &mut fastrand::Rng) -> Self {
        let mut pad = vec![0; random.usize(..=MAX_PAD_LENGTH)];
        random.fill(&mut pad);
        Noise {
            secret: Secret::new(secret),
            pad,
            crypto_pad: random.usize(..=MAX_PAD_LENGTH),
        }
    }

    /// A handshake that looks like this: what is longer than [`MAX_PAD_LENGTH`] is cut.
    #[must_use]
    pub fn fixed(secret: [u8; SECRET_LENGTH], mut pad: Vec<u8>, crypto_pad: usize) -> Self {
        pad.truncate(MAX_PAD_LENGTH);
        Noise {
            secret: Secret::new(secret),
            pad,
            crypto_pad: crypto_pad.min(MAX_PAD_LENGTH),
        }
    }

    /// The first part of either side.
    fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.secret.public_key());
        out.extend_from_slice(&self.pad);
    }
}

/// A handshake that is done.
#[derive(Debug)]
pub struct Established {
    /// The torrent that it is about.
    pub skey: InfoHash,
    /// What is encrypted from here on, in both directions; `None` where nothing is.
    pub ciphers: Option<Box<Ciphers>>,
    /// What the remote has sent of the connection that begins: decrypted.
    pub received: Vec<u8>,
}

/// Why an encrypted connection cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// The remote's public key would fix the shared secret.
    #[error("the remote's public key is degenerate, so that anybody would know the shared secret")]
    PublicKey,
    /// It begins with the handshake of BEP 3.
    #[error("the remote speaks in the clear")]
    Plaintext,
    /// The padding does not end.
    #[error(
        "no synchronisation within {MAX_PAD_LENGTH} bytes: the remote has other keys or speaks another protocol"
    )]
    Synchronisation,
    /// The keys differ.
    #[error("the remote has other keys: its verification constant is wrong")]
    Verification,
    /// None of the torrents.
    #[error("the remote asks for a torrent that is not here")]
    UnknownTorrent,
    /// No method in common.
    #[error("the remote offers the methods {0:#x}, none of which is allowed here")]
    Offer(u32),
    /// Not one of the methods that were offered.
    #[error("the remote chose the method {0:#x}, which was not offered")]
    Choice(u32),
    /// Longer than any.
    #[error("padding of {0} bytes; none has over {MAX_PAD_LENGTH}")]
    PadLength(u16),
    /// Longer than we take.
    #[error("an initial payload of {0} bytes; none has over {MAX_INITIAL_PAYLOAD}")]
    InitialPayload(u16),
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Too few bytes to tell.
    Undecided,
    /// With the handshake of BEP 3.
    Plaintext,
    /// With something else: a public key, if the remote speaks MSE.
    Encrypted,
}

impl Opening {
    /// Judges the first bytes of an accepted connection. A public key that looks like a handshake comes once in 2^160.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let known = bytes.len().min(PROTOCOL.len());
        if bytes[..known] != PROTOCOL[..known] {
            Opening::Encrypted
        } else if known < PROTOCOL.len() {
            Opening::Undecided
        } else {
            Opening::Plaintext
        }
    }
}

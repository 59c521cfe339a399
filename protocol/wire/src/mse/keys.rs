//! What both sides derive from the shared secret and the stream key, which is the info hash.

use super::diffie_hellman::KEY_LENGTH;
use super::rc4::Rc4;
use core::fmt;
use sha1::{Digest, Sha1};
use shoal_metainfo::InfoHash;

/// Bytes of a hash.
pub(super) const HASH_LENGTH: usize = 20;

/// `HASH('req2', SKEY)`: the name of a torrent in an encrypted handshake. One who does not know the info hash does not learn it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkeyHash(pub [u8; HASH_LENGTH]);

impl SkeyHash {
    /// The name of the torrent with this info hash; that of a v2 torrent is truncated. Whoever accepts connections makes one for
    /// each torrent when the torrent is added, so that a stranger costs a look-up and not a hash for each torrent.
    #[must_use]
    pub fn of(skey: InfoHash) -> Self {
        SkeyHash(hash(&[b"req2", &skey.0]))
    }
}

/// Shows enough to tell two apart.
impl fmt::Debug for SkeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}..", self.0[0], self.0[1])
    }
}

/// The pair of ciphers of a connection on which RC4 was agreed.
#[derive(Clone, Debug)]
pub struct Ciphers {
    /// For what we send.
    pub send: Rc4,
    /// For what the remote sends.
    pub receive: Rc4,
}

/// What two peers know together.
pub(super) struct Shared(pub(super) [u8; KEY_LENGTH]);

/// Shows nothing.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// `HASH('req1', S)`: where the initiator's padding ends.
    pub(super) fn sync(&self) -> [u8; HASH_LENGTH] {
        hash(&[b"req1", &self.0])
    }

    /// `HASH('req2', SKEY) xor HASH('req3', S)` from the former, and back again.
    pub(super) fn mask(&self, skey: SkeyHash) -> SkeyHash {
        let mask = hash(&[b"req3", &self.0]);
        SkeyHash(core::array::from_fn(|at| skey.0[at] ^ mask[at]))
    }

    /// The ciphers of the side that opened the connection.
    pub(super) fn initiator(&self, skey: InfoHash) -> Ciphers {
        Ciphers {
            send: Rc4::for_mse(&hash(&[b"keyA", &self.0, &skey.0])),
            receive: Rc4::for_mse(&hash(&[b"keyB", &self.0, &skey.0])),
        }
    }

    /// The ciphers of the side that was called.
    pub(super) fn responder(&self, skey: InfoHash) -> Ciphers {
        let Ciphers { send, receive } = self.initiator(skey);
        Ciphers {
            send: receive,
            receive: send,
        }
    }
}

fn hash(parts: &[&[u8]]) -> [u8; HASH_LENGTH] {
    let mut hasher = Sha1::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

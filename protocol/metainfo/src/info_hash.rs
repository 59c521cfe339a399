//! The identity of a torrent: the SHA-1 (BEP 3) or SHA-256 (BEP 52) of its info dictionary as it stands in the file.

use core::fmt;

/// SHA-1 of the info dictionary of a v1 or hybrid torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV1(pub [u8; 20]);

/// SHA-256 of the info dictionary of a v2 or hybrid torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

/// The 20 bytes that name a swarm in handshakes and announces: a v1 info hash, or a v2 one cut short (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHashV2 {
    /// The first 20 bytes, which stand for it in handshakes and announces.
    #[must_use]
    pub fn truncated(&self) -> InfoHash {
        let mut short = [0; 20];
        short.copy_from_slice(&self.0[..20]);
        InfoHash(short)
    }
}

impl From<InfoHashV1> for InfoHash {
    fn from(hash: InfoHashV1) -> Self {
        InfoHash(hash.0)
    }
}

/// The info hashes of one torrent; a hybrid torrent has both. At least one is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashes {
    v1: Option<InfoHashV1>,
    v2: Option<InfoHashV2>,
}

impl InfoHashes {
    /// `None` where both are absent.
    #[must_use]
    pub fn new(v1: Option<InfoHashV1>, v2: Option<InfoHashV2>) -> Option<Self> {
        (v1.is_some() || v2.is_some()).then_some(InfoHashes { v1, v2 })
    }

    /// The v1 info hash.
    #[must_use]
    pub const fn v1(&self) -> Option<InfoHashV1> {
        self.v1
    }

    /// The v2 info hash.
    #[must_use]
    pub const fn v2(&self) -> Option<InfoHashV2> {
        self.v2
    }

    /// The names of the swarms the torrent is in, v1 first: one, or two for a hybrid torrent.
    pub fn swarms(&self) -> impl Iterator<Item = InfoHash> + use<> {
        let (v1, v2) = (self.v1, self.v2);
        v1.map(InfoHash::from)
            .into_iter()
            .chain(v2.map(|hash| hash.truncated()))
    }

    /// The name of the swarm to use where there is room for only one: the v1 one where there is one, as every client of
    /// a hybrid torrent knows it.
    #[must_use]
    pub fn primary(&self) -> InfoHash {
        match (self.v1, self.v2) {
            (Some(v1), _) => v1.into(),
            (None, Some(v2)) => v2.truncated(),
            (None, None) => InfoHash([0; 20]),
        }
    }
}

macro_rules! hexadecimal {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        /// Shows the first four bytes only: an info hash says what somebody reads, and debug output ends up in logs.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("..")
            }
        }
    )*};
}

hexadecimal!(InfoHashV1, InfoHashV2, InfoHash);

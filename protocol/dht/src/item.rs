//! What can be stored in the DHT: values under their own hash, and values under a key that signs them (BEP 44); and the
//! torrents that such values point to (BEP 46).
//!
//! Invariant: an [`Item`] that came from elsewhere is given on only after [`Item::verify`].

use crate::id::Id;
use core::fmt;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};
use shoal_metainfo::InfoHash;
use shoal_metainfo::bencode::{Bencode, Limits, decode_canonical};

/// The longest value that every contact stores, encoded (BEP 44).
pub const MAX_VALUE_BYTES: usize = 1000;

/// The longest salt (BEP 44).
pub const MAX_SALT_BYTES: usize = 64;

/// A value is small, so that these bound nothing that is of use.
const VALUE_LIMITS: Limits = Limits {
    bytes: MAX_VALUE_BYTES,
    tokens: MAX_VALUE_BYTES,
    depth: 32,
};

/// Why something cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Contacts would refuse it.
    #[error(
        "the value has more than {MAX_VALUE_BYTES} bytes: store it elsewhere and keep its hash here"
    )]
    ValueTooLong,
    /// Contacts would refuse it.
    #[error("the salt has more than {MAX_SALT_BYTES} bytes: use a hash of it")]
    SaltTooLong,
    /// Two readers could read it differently.
    #[error("the value is not canonical bencode")]
    NotCanonical,
    /// Sequence numbers are from 0.
    #[error("the sequence number is negative")]
    NegativeSequence,
    /// Not signed by the key that it names.
    #[error("the signature is not one of this key, salt, sequence number and value")]
    BadSignature,
}

/// An ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Shows the first four bytes only.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}..")
    }
}

/// A value that its owner can replace.
#[derive(Clone, PartialEq, Eq)]
pub struct MutableItem {
    /// Who signs it.
    pub key: PublicKey,
    /// Which of the owner's items it is; empty where there is only one.
    pub salt: Vec<u8>,
    /// Counts the replacements.
    pub seq: i64,
    /// Canonical bencode.
    pub value: Vec<u8>,
    /// Over [`signed_bytes`].
    pub signature: [u8; 64],
}

/// Without salt and value: they are somebody's.
impl fmt::Debug for MutableItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MutableItem({:?}, seq {})", self.key, self.seq)
    }
}

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Under the SHA-1 of the value, which is canonical bencode.
    Immutable(Vec<u8>),
    /// Under the SHA-1 of key and salt.
    Mutable(MutableItem),
}

/// What somebody looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemName {
    /// The value with this SHA-1.
    Immutable(Id),
    /// The newest value of this owner.
    Mutable {
        /// Who signs it.
        key: PublicKey,
        /// Which of the owner's items.
        salt: Vec<u8>,
    },
}

/// Where an owner's item is stored: the SHA-1 of key and salt (BEP 44).
#[must_use]
pub fn mutable_target(key: &PublicKey, salt: &[u8]) -> Id {
    Id(Sha1::new()
        .chain_update(key.0)
        .chain_update(salt)
        .finalize()
        .into())
}

/// Where a value is stored: its SHA-1 (BEP 44).
#[must_use]
pub fn immutable_target(value: &[u8]) -> Id {
    Id(Sha1::digest(value).into())
}

/// What the owner signs (BEP 44).
#[must_use]
pub fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(salt.len() + value.len() + 48);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

impl ItemName {
    /// Where it is stored.
    #[must_use]
    pub fn target(&self) -> Id {
        match self {
            ItemName::Immutable(target) => *target,
            ItemName::Mutable { key, salt } => mutable_target(key, salt),
        }
    }
}

impl MutableItem {
    /// Signs a value.
    ///
    /// # Errors
    /// As [`Item::verify`].
    pub fn sign(
        key: &SigningKey,
        salt: &[u8],
        seq: i64,
        value: Vec<u8>,
    ) -> Result<Self, ItemError> {
        let signature = key.sign(&signed_bytes(salt, seq, &value)).to_bytes();
        let item = MutableItem {
            key: PublicKey(key.verifying_key().to_bytes()),
            salt: salt.to_vec(),
            seq,
            value,
            signature,
        };
        item.verify()?;
        Ok(item)
    }

    fn verify(&self) -> Result<(), ItemError> {
        check_value(&self.value)?;
        if self.salt.len() > MAX_SALT_BYTES {
            return Err(ItemError::SaltTooLong);
        }
        if self.seq < 0 {
            return Err(ItemError::NegativeSequence);
        }
        let signed = signed_bytes(&self.salt, self.seq, &self.value);
        let signature = Signature::from_bytes(&self.signature);
        let key = VerifyingKey::from_bytes(&self.key.0);
        key.and_then(|key| key.verify_strict(&signed, &signature))
            .map_err(|_| ItemError::BadSignature)
    }
}

impl Item {
    /// Where it is stored.
    #[must_use]
    pub fn target(&self) -> Id {
        match self {
            Item::Immutable(value) => immutable_target(value),
            Item::Mutable(item) => mutable_target(&item.key, &item.salt),
        }
    }

    /// The value, which is bencode.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        match self {
            Item::Immutable(value) => value,
            Item::Mutable(item) => &item.value,
        }
    }

    /// The number that counts replacements, `None` where there are none.
    #[must_use]
    pub fn seq(&self) -> Option<i64> {
        match self {
            Item::Immutable(_) => None,
            Item::Mutable(item) => Some(item.seq),
        }
    }

    /// Whether every contact would take it.
    ///
    /// # Errors
    /// What is wrong with it: its length, its form, its signature.
    pub fn verify(&self) -> Result<(), ItemError> {
        match self {
            Item::Immutable(value) => check_value(value),
            Item::Mutable(item) => item.verify(),
        }
    }
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(ItemError::ValueTooLong);
    }
    let canonical = decode_canonical(value, VALUE_LIMITS);
    canonical.map(drop).map_err(|_| ItemError::NotCanonical)
}

/// The value of a mutable torrent: a pointer to an info hash (BEP 46).
#[must_use]
pub fn torrent_value(info_hash: InfoHash) -> Vec<u8> {
    Bencode::dict([("ih", Bencode::from(info_hash.0.as_slice()))]).encode()
}

/// Reads what [`torrent_value`] writes; further keys are ignored.
#[must_use]
pub fn torrent_of(value: &[u8]) -> Option<InfoHash> {
    let document = decode_canonical(value, VALUE_LIMITS).ok()?;
    let hash = document.root().get("ih")?.as_bytes()?;
    hash.try_into().ok().map(InfoHash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    const VALUE: &[u8] = b"12:Hello World!";

    fn vector(salt: &[u8], signature: &str) -> Item {
        Item::Mutable(MutableItem {
            key: PublicKey(hex(KEY)),
            salt: salt.to_vec(),
            seq: 1,
            value: VALUE.to_vec(),
            signature: hex(signature),
        })
    }

    #[test]
    fn the_vectors_of_bep_44() {
        let plain = vector(
            b"",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        );
        let salted = vector(
            b"foobar",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        );
        let immutable = Item::Immutable(VALUE.to_vec());
        for (item, target) in [
            (&plain, "4a533d47ec9c7d95b1ad75f576cffc641853b750"),
            (&salted, "411eba73b6f087ca51a3795d9c8c938d365e32c1"),
            (&immutable, "e5f96f6f38320f0f33959cb4d3d656452117aadb"),
        ] {
            assert_eq!(item.verify(), Ok(()));
            assert_eq!(item.target(), Id(hex(target)));
        }
        assert_eq!(
            signed_bytes(b"foobar", 1, VALUE),
            b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
        );
    }

    #[test]
    fn the_vectors_of_bep_46() {
        let key = PublicKey(hex(
            "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e",
        ));
        let plain = hex("cc3f9d90b572172053626f9980ce261a850d050b");
        let salted = hex("59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f");
        assert_eq!(mutable_target(&key, b""), Id(plain));
        assert_eq!(mutable_target(&key, &[0x6e]), Id(salted));
    }

    #[test]
    fn a_changed_byte_breaks_the_signature() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let good = MutableItem::sign(&key, b"salt", 5, b"i1e".to_vec()).unwrap();
        let changed = [
            MutableItem {
                seq: 6,
                ..good.clone()
            },
            MutableItem {
                salt: b"salu".to_vec(),
                ..good.clone()
            },
            MutableItem {
                value: b"i2e".to_vec(),
                ..good.clone()
            },
            MutableItem {
                key: PublicKey([0; 32]),
                ..good
            },
        ];
        for item in changed {
            assert_eq!(Item::Mutable(item).verify(), Err(ItemError::BadSignature));
        }
    }

    #[test]
    fn what_contacts_would_refuse_is_refused_before_it_is_sent() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let long_salt = [0; MAX_SALT_BYTES + 1];
        let sign = |salt: &[u8], seq, value: &[u8]| {
            MutableItem::sign(&key, salt, seq, value.to_vec()).map(drop)
        };
        assert_eq!(sign(&long_salt, 0, b"i1e"), Err(ItemError::SaltTooLong));
        assert_eq!(sign(b"", -1, b"i1e"), Err(ItemError::NegativeSequence));
        assert_eq!(
            sign(b"", 0, b"d1:bi1e1:ai1ee"),
            Err(ItemError::NotCanonical)
        );
        assert_eq!(sign(b"", 0, b"i1ei2e"), Err(ItemError::NotCanonical));
        assert_eq!(sign(b"", 0, &[b'l'; 1001]), Err(ItemError::ValueTooLong));
    }

    #[test]
    fn a_torrent_is_read_back_from_its_value() {
        let hash = InfoHash([9; 20]);
        assert_eq!(torrent_of(&torrent_value(hash)), Some(hash));
        assert_eq!(torrent_of(b"d2:ih3:abce"), None);
        assert_eq!(torrent_of(b"i1e"), None);
    }
}

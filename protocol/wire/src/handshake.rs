//! The 68 bytes that open a connection (BEP 3), and which swarm of a hybrid torrent they settle on (BEP 52).
//!
//! Invariant: a remote that speaks something else is found out at its first differing byte, and an accepting side learns
//! the info hash before the remote's peer id has arrived, because the remote may wait for our handshake before it sends
//! that.

use core::fmt;
use shoal_metainfo::{InfoHash, InfoHashes};

/// Bytes of a handshake.
pub const HANDSHAKE_LENGTH: usize = 68;

/// Bytes of a handshake up to and including the info hash.
const OPENING_LENGTH: usize = 48;

/// The length of the protocol's name and the name itself, with which every handshake begins.
pub(crate) const PROTOCOL: [u8; 20] = *b"\x13BitTorrent protocol";

/// How our peer ids begin: the Azureus style's two letters and version 0.1.0.
const PEER_ID_PREFIX: [u8; 8] = *b"-SH0100-";

/// Something a peer announces by a bit of the reserved bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It runs a DHT contact (BEP 5).
    Dht,
    /// The fast extension (BEP 6).
    Fast,
    /// It named the v1 swarm of a hybrid torrent and would rather speak v2 (BEP 52).
    V2Upgrade,
    /// The extension protocol (BEP 10).
    Extended,
}

impl Feature {
    /// The byte and the bit in it.
    const fn place(self) -> (usize, u8) {
        match self {
            Feature::Dht => (7, 0x01),
            Feature::Fast => (7, 0x04),
            Feature::V2Upgrade => (7, 0x10),
            Feature::Extended => (5, 0x10),
        }
    }
}

/// The eight reserved bytes. Bits that nobody defined are kept and mean nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// These and one more.
    #[must_use]
    pub const fn with(mut self, feature: Feature) -> Self {
        let (byte, bit) = feature.place();
        self.0[byte] |= bit;
        self
    }

    /// Whether `feature` is announced.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        let (byte, bit) = feature.place();
        self.0[byte] & bit != 0
    }

    /// What both sides announce, which is what a connection may use.
    #[must_use]
    pub fn and(self, other: Reserved) -> Reserved {
        Reserved(core::array::from_fn(|at| self.0[at] & other.0[at]))
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What a peer calls itself: the client in the first bytes by custom, then noise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// A fresh id of ours. Letters and digits after the prefix, so that it needs no escaping in an announce.
    #[must_use]
    pub fn generate(random: &mut fastrand::Rng) -> Self {
        let mut id = [0; 20];
        let (prefix, noise) = id.split_at_mut(PEER_ID_PREFIX.len());
        prefix.copy_from_slice(&PEER_ID_PREFIX);
        noise.fill_with(|| u8::try_from(random.alphanumeric()).unwrap_or(b'0'));
        PeerId(id)
    }

    /// A fresh id that says nothing of which program we are.
    #[must_use]
    pub fn anonymous(random: &mut fastrand::Rng) -> Self {
        let noise = |_| u8::try_from(random.alphanumeric()).unwrap_or(b'0');
        PeerId(core::array::from_fn(noise))
    }
}

/// Shows the part that names the client; the rest would tell one user from another in a log.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.0[..8].escape_ascii())
    }
}

/// A whole handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What the sender can do beyond BEP 3.
    pub reserved: Reserved,
    /// The swarm it means.
    pub info_hash: InfoHash,
    /// Who it is.
    pub peer_id: PeerId,
}

/// How much of a handshake has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The beginning, and it is right.
    Begun,
    /// All but the peer id: enough to answer.
    Opened {
        /// What the sender can do beyond BEP 3.
        reserved: Reserved,
        /// The swarm it means.
        info_hash: InfoHash,
    },
    /// All of it; messages follow [`HANDSHAKE_LENGTH`] bytes in.
    Complete(Handshake),
}

/// Why a connection cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Another protocol, or encryption.
    #[error(
        "byte {at} of the handshake is not BitTorrent's; the remote speaks another protocol or encrypts"
    )]
    Protocol {
        /// The first byte that differs.
        at: usize,
    },
    /// The remote is in another swarm.
    #[error("the remote answered with info hash {0:?}, which is not the torrent that we asked for")]
    InfoHash(InfoHash),
}

impl Handshake {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_LENGTH] {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        bytes[..20].copy_from_slice(&PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads what has arrived so far, from the first byte of the connection on; looks at no more than a handshake's
    /// length. Fails at the first byte that is not this protocol's.
    pub fn decode(bytes: &[u8]) -> Result<Progress, HandshakeError> {
        let differs = |(mine, theirs): (&u8, &u8)| mine != theirs;
        if let Some(at) = PROTOCOL.iter().zip(bytes).position(differs) {
            return Err(HandshakeError::Protocol { at });
        }
        let Some(opening) = bytes.first_chunk::<OPENING_LENGTH>() else {
            return Ok(Progress::Begun);
        };
        let (mut reserved, mut info_hash) = (Reserved::default(), InfoHash([0; 20]));
        reserved.0.copy_from_slice(&opening[20..28]);
        info_hash.0.copy_from_slice(&opening[28..]);
        Ok(match bytes[OPENING_LENGTH..].first_chunk() {
            None => Progress::Opened {
                reserved,
                info_hash,
            },
            Some(&peer_id) => Progress::Complete(Handshake {
                reserved,
                info_hash,
                peer_id: PeerId(peer_id),
            }),
        })
    }
}

/// The protocol a connection speaks: whether BEP 52's hash messages are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// BEP 3.
    V1,
    /// BEP 52.
    V2,
}

/// The reserved bytes to send with `info_hash` as the name of the torrent `hashes`: `ours`, and the wish for an upgrade
/// where the torrent is hybrid and the name is the v1 one.
#[must_use]
pub fn reserved_for(ours: Reserved, hashes: &InfoHashes, info_hash: InfoHash) -> Reserved {
    let names_v1 = hashes.v1().map(InfoHash::from) == Some(info_hash);
    if names_v1 && hashes.v2().is_some() {
        ours.with(Feature::V2Upgrade)
    } else {
        ours
    }
}

/// How an accepting side with the torrent `hashes` answers a remote that named it `asked`: the name to answer with and
/// what the connection speaks from then on. `None` where `asked` is another torrent.
///
/// A remote that named the v1 swarm and announced [`Feature::V2Upgrade`] is answered with the v2 name (BEP 52, upgrade path).
#[must_use]
pub fn answer(
    hashes: &InfoHashes,
    theirs: Reserved,
    asked: InfoHash,
) -> Option<(InfoHash, Version)> {
    let v2 = hashes.v2().map(|hash| hash.truncated());
    if v2 == Some(asked) {
        return Some((asked, Version::V2));
    }
    if hashes.v1().map(InfoHash::from) != Some(asked) {
        return None;
    }
    match v2 {
        Some(upgraded) if theirs.has(Feature::V2Upgrade) => Some((upgraded, Version::V2)),
        _ => Some((asked, Version::V1)),
    }
}

/// What a connection speaks on which we named the torrent `sent` and the remote answered `received`: the same name, or the
/// v2 name of a hybrid torrent of which we sent the v1 name.
pub fn judge_answer(
    hashes: &InfoHashes,
    sent: InfoHash,
    received: InfoHash,
) -> Result<Version, HandshakeError> {
    let known = hashes.swarms().any(|name| name == sent);
    let v2 = hashes.v2().map(|hash| hash.truncated());
    if known && v2 == Some(received) {
        Ok(Version::V2)
    } else if known && sent == received {
        Ok(Version::V1)
    } else {
        Err(HandshakeError::InfoHash(received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shoal_metainfo::{InfoHashV1, InfoHashV2};

    fn bytes_by_hand() -> Vec<u8> {
        let mut bytes = b"\x13BitTorrent protocol".to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0x10, 0, 0x15]);
        bytes.extend([0xaa; 20]);
        bytes.extend(b"-XX1234-abcdefghijkl");
        bytes
    }

    fn hybrid() -> InfoHashes {
        InfoHashes::new(Some(InfoHashV1([1; 20])), Some(InfoHashV2([2; 32]))).unwrap()
    }

    const V1: InfoHash = InfoHash([1; 20]);
    const V2: InfoHash = InfoHash([2; 20]);

    #[test]
    fn a_handshake_written_by_hand_is_read_and_written_back() {
        let bytes = bytes_by_hand();
        let Ok(Progress::Complete(handshake)) = Handshake::decode(&bytes) else {
            panic!("not complete");
        };
        let all = [
            Feature::Dht,
            Feature::Fast,
            Feature::V2Upgrade,
            Feature::Extended,
        ];
        let reserved = all.into_iter().fold(Reserved::default(), Reserved::with);
        assert_eq!(handshake.reserved, reserved);
        assert!(all.into_iter().all(|feature| reserved.has(feature)));
        assert_eq!(handshake.info_hash, InfoHash([0xaa; 20]));
        assert_eq!(&handshake.peer_id.0, b"-XX1234-abcdefghijkl");
        assert_eq!(handshake.encode().as_slice(), bytes);
    }

    #[test]
    fn the_info_hash_is_known_before_the_peer_id_and_messages_may_follow() {
        let mut bytes = bytes_by_hand();
        for length in 0..=68 {
            let progress = Handshake::decode(&bytes[..length]).unwrap();
            assert_eq!(matches!(progress, Progress::Begun), length < 48);
            assert_eq!(matches!(progress, Progress::Complete(_)), length == 68);
            if let Progress::Opened { info_hash, .. } = progress {
                assert_eq!(info_hash, InfoHash([0xaa; 20]));
            }
        }
        let whole = Handshake::decode(&bytes);
        bytes.extend([0, 0, 0, 0]);
        assert_eq!(Handshake::decode(&bytes), whole);
    }

    #[test]
    fn a_wrong_protocol_fails_at_the_first_differing_byte() {
        let bytes = bytes_by_hand();
        for at in 0..20 {
            let mut wrong = bytes[..=at].to_vec();
            assert_eq!(Handshake::decode(&wrong), Ok(Progress::Begun));
            wrong[at] ^= 0x20;
            assert_eq!(
                Handshake::decode(&wrong),
                Err(HandshakeError::Protocol { at })
            );
        }
        assert_eq!(
            Handshake::decode(b"GET / HTTP/1.1"),
            Err(HandshakeError::Protocol { at: 0 })
        );
    }

    #[test]
    fn only_what_both_announce_is_in_use() {
        let ours = Reserved::default()
            .with(Feature::Fast)
            .with(Feature::Extended);
        let theirs = Reserved([0xff, 0, 0, 0, 0, 0, 0, 0x05]);
        let both = ours.and(theirs);
        assert!(both.has(Feature::Fast));
        assert!(!both.has(Feature::Extended) && !both.has(Feature::Dht));
    }

    #[test]
    fn our_peer_ids_name_us_and_differ() {
        let mut random = fastrand::Rng::with_seed(7);
        let nameless = PeerId::anonymous(&mut random);
        assert!(nameless.client().is_none() && nameless != PeerId::anonymous(&mut random));
        let (a, b) = (PeerId::generate(&mut random), PeerId::generate(&mut random));
        assert!(a.0.starts_with(b"-SH0100-"));
        assert!(a.0[8..].iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(a, b);
        assert_eq!(format!("{a:?}"), "-SH0100-..");
    }

    #[test]
    fn a_hybrid_torrent_asks_for_v2_only_where_it_names_v1() {
        let none = Reserved::default();
        let v1_only = InfoHashes::new(Some(InfoHashV1([1; 20])), None).unwrap();
        assert!(reserved_for(none, &hybrid(), V1).has(Feature::V2Upgrade));
        assert_eq!(reserved_for(none, &hybrid(), V2), none);
        assert_eq!(reserved_for(none, &v1_only, V1), none);
    }

    #[test]
    fn an_accepting_side_upgrades_who_asks_for_it() {
        let plain = Reserved::default();
        let wish = plain.with(Feature::V2Upgrade);
        let v1_only = InfoHashes::new(Some(InfoHashV1([1; 20])), None).unwrap();
        let v2_only = InfoHashes::new(None, Some(InfoHashV2([2; 32]))).unwrap();
        assert_eq!(answer(&hybrid(), plain, V1), Some((V1, Version::V1)));
        assert_eq!(answer(&hybrid(), wish, V1), Some((V2, Version::V2)));
        assert_eq!(answer(&hybrid(), plain, V2), Some((V2, Version::V2)));
        assert_eq!(answer(&hybrid(), wish, InfoHash([3; 20])), None);
        assert_eq!(answer(&v1_only, wish, V1), Some((V1, Version::V1)));
        assert_eq!(answer(&v1_only, wish, V2), None);
        assert_eq!(answer(&v2_only, plain, V2), Some((V2, Version::V2)));
        assert_eq!(answer(&v2_only, wish, V1), None);
    }

    #[test]
    fn an_answer_is_the_name_we_sent_or_its_upgrade() {
        let v1_only = InfoHashes::new(Some(InfoHashV1([1; 20])), None).unwrap();
        assert_eq!(judge_answer(&hybrid(), V1, V1), Ok(Version::V1));
        assert_eq!(judge_answer(&hybrid(), V1, V2), Ok(Version::V2));
        assert_eq!(judge_answer(&hybrid(), V2, V2), Ok(Version::V2));
        for (hashes, sent, received) in [
            (hybrid(), V2, V1),
            (v1_only, V1, V2),
            (hybrid(), V1, InfoHash([0; 20])),
        ] {
            assert_eq!(
                judge_answer(&hashes, sent, received),
                Err(HandshakeError::InfoHash(received))
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), keep in 0usize..=20) {
            let _ = Handshake::decode(&bytes);
            let _ = Handshake::decode(&[&PROTOCOL[..keep], &bytes].concat());
        }
    }
}

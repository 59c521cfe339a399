//! What a torrent shows of itself: to a person, and to the choker, which decides across torrents.
//!
//! Invariant: looking changes nothing.

use super::peer::{Peer, Remote};
use super::{Origin, Priority, Torrent};
use crate::message::{PeerKey, Report};
use crate::peer_session::Pieces;
use crate::source::WebSeedIndex;
use core::net::SocketAddr;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Layout, PieceIndex};

/// How far a torrent is. Verified bytes only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of all pieces.
    pub total_bytes: u64,
    /// Bytes of the pieces that we have, wanted or not.
    pub have_bytes: u64,
    /// Bytes of the pieces that are wanted.
    pub wanted_bytes: u64,
    /// Bytes of the wanted pieces that we do not have.
    pub missing_bytes: u64,
    /// Pieces that we have.
    pub have_pieces: u32,
    /// Wanted pieces that we do not have.
    pub missing_pieces: u32,
    /// Payload that came twice, or after it was not wanted any more.
    pub wasted_bytes: u64,
    /// Payload of pieces that failed verification.
    pub failed_bytes: u64,
}

/// How often the pieces are there among the connected peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    /// Whole copies: the availability of the rarest piece.
    pub copies: u32,
    /// Pieces that are there more often than that, out of all.
    pub pieces_beyond: u32,
}

/// One peer as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSummary {
    /// Which connection.
    pub key: PeerKey,
    /// Where it is.
    pub address: SocketAddr,
    /// Who told us of it.
    pub origin: Origin,
    /// When the connection began.
    pub since: Moment,
    /// How many pieces it has.
    pub has_pieces: u32,
    /// What moved.
    pub report: Report,
    /// It wants something of us.
    pub interested: bool,
    /// We want something of it.
    pub we_are_interested: bool,
    /// It chokes us.
    pub chokes_us: bool,
    /// We have unchoked it.
    pub unchoked: bool,
    /// It will not download.
    pub upload_only: bool,
    /// The connection is one over uTP.
    pub over_utp: bool,
    /// Blocks that it was asked, or is about to be asked for.
    pub leased_blocks: usize,
}

/// One piece as a person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceSummary {
    /// We have it.
    pub have: bool,
    /// Blocks of it are received or asked for.
    pub in_progress: bool,
    /// How much it is wanted.
    pub priority: Priority,
    /// How many connected peers have it.
    pub availability: u32,
}

/// One web seed as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSeedSummary {
    /// Which connection.
    pub key: PeerKey,
    /// Which of those that were added.
    pub seed: WebSeedIndex,
    /// It is not asked for anything at the moment, as it failed or asked for a pause.
    pub pauses: bool,
    /// What moved.
    pub report: Report,
    /// Blocks that it was asked, or is about to be asked for.
    pub leased_blocks: usize,
}

/// One peer as the choker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokeCandidate {
    /// Which connection.
    pub key: PeerKey,
    /// It wants something of us: only such a peer can use a slot.
    pub interested: bool,
    /// It will not download.
    pub upload_only: bool,
    /// We have unchoked it.
    pub unchoked: bool,
    /// When the connection began.
    pub since: Moment,
    /// How many pieces it has.
    pub has_pieces: u32,
    /// What moved.
    pub report: Report,
}

impl Torrent {
    /// The pieces that we have.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// How it is cut.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether every wanted piece is verified.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether it was stopped.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether there is nothing to do until somebody speaks to it: it has all that is wanted, nobody is connected or being dialled, and no
    /// address is worth a dial at this moment. Those that may be later are no reason to wait: whoever misses pieces dials us as well.
    #[must_use]
    pub fn rests(&self) -> bool {
        let alone = self.peers.is_empty() && self.dialing.is_empty();
        let said_all = self.outputs.is_empty() && self.stated_dials == Some(0);
        self.complete && alone && said_all
    }

    /// How many connections are open, those that were told to close included.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            total_bytes: self.layout.total_length(),
            have_bytes: self.have.bytes,
            wanted_bytes: self.wanted.bytes,
            missing_bytes: self.missing.bytes,
            have_pieces: self.have.pieces,
            missing_pieces: self.missing.pieces,
            wasted_bytes: self.wasted_bytes,
            failed_bytes: self.failed_bytes,
        }
    }

    /// How often the pieces are there. Looks at every piece.
    #[must_use]
    pub fn availability(&self) -> Availability {
        let mut summary = Availability {
            copies: u32::MAX,
            pieces_beyond: 0,
        };
        let mut at_minimum = 0;
        for piece in self.layout.pieces() {
            let copies = self.picker.availability(piece);
            if copies < summary.copies {
                (summary.copies, at_minimum) = (copies, 0);
            }
            at_minimum += u32::from(copies == summary.copies);
        }
        summary.pieces_beyond = self.layout.piece_count() - at_minimum;
        summary
    }

    /// One piece; of one beyond the end, that it is not wanted.
    #[must_use]
    pub fn piece(&self, piece: PieceIndex) -> PieceSummary {
        PieceSummary {
            have: self.picker.have().get(piece),
            in_progress: self.picker.is_in_progress(piece),
            priority: self.picker.priority(piece),
            availability: self.picker.availability(piece),
        }
    }

    /// Every peer that speaks the peer protocol, in the order of their connections.
    pub fn peers(&self) -> impl Iterator<Item = PeerSummary> + '_ {
        self.peers
            .iter()
            .filter_map(|(&key, peer)| match peer.remote {
                Remote::Peer {
                    address, origin, ..
                } => Some(summary(key, address, origin, peer)),
                Remote::WebSeed(_) => None,
            })
    }

    /// Every web seed.
    pub fn web_seeds(&self) -> impl Iterator<Item = WebSeedSummary> + '_ {
        self.peers
            .iter()
            .filter_map(|(&key, peer)| match peer.remote {
                Remote::Peer { .. } => None,
                Remote::WebSeed(seed) => Some(WebSeedSummary {
                    key,
                    seed,
                    pauses: peer.chokes_us,
                    report: peer.report,
                    leased_blocks: peer.leases.len(),
                }),
            })
    }

    /// Every peer that could be unchoked.
    pub fn choke_candidates(&self) -> impl Iterator<Item = ChokeCandidate> + '_ {
        let open = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.closing && peer.has.is_some() && !peer.is_web_seed());
        open.map(|(&key, peer)| ChokeCandidate {
            key,
            interested: peer.interested,
            upload_only: peer.upload_only,
            unchoked: peer.unchoked,
            since: peer.since,
            has_pieces: peer.has.as_ref().map_or(0, Pieces::count),
            report: peer.report,
        })
    }
}

fn summary(key: PeerKey, address: SocketAddr, origin: Origin, peer: &Peer) -> PeerSummary {
    PeerSummary {
        key,
        address,
        origin,
        since: peer.since,
        has_pieces: peer.has.as_ref().map_or(0, Pieces::count),
        report: peer.report,
        interested: peer.interested,
        we_are_interested: peer.we_are_interested,
        chokes_us: peer.chokes_us,
        unchoked: peer.unchoked,
        upload_only: peer.upload_only,
        over_utp: peer.over_utp,
        leased_blocks: peer.leases.len(),
    }
}

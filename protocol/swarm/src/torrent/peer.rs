//! What a torrent knows of one of its peers.
//!
//! Invariant: `leases` are the blocks that the peer's session may still hold; a block leaves them once, when it comes back.

use super::Origin;
use super::hole_punch::Punching;
use super::super_seed::Shown;
use crate::message::{Has, Report};
use crate::peer_session::Pieces;
use crate::source::{Source, WebSeedIndex};
use core::net::SocketAddr;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Block, BlockIndex, BlockRun, PieceIndex};
use std::collections::BTreeSet;

/// The most suggestions that are remembered: the last ones, as they say what the remote has in its cache.
const MAX_SUGGESTED: usize = 16;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// Somebody who speaks the peer protocol.
    Peer {
        address: SocketAddr,
        peer_id: [u8; 20],
        origin: Origin,
    },
    /// An HTTP origin. It takes no connection of those that peers may have.
    WebSeed(WebSeedIndex),
}

/// One connection, from its handshake until it left.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) remote: Remote,
    /// The port where it listens, as it says.
    pub(super) listens_at: Option<u16>,
    pub(super) over_utp: bool,
    pub(super) punching: Punching,
    /// It was dialled while it dialled us: nobody else can.
    pub(super) punched: bool,
    pub(super) since: Moment,
    /// It was told to close and has not left yet.
    pub(super) closing: bool,
    /// What it has; `None` until it joined.
    pub(super) has: Option<Pieces>,
    /// How many pieces it has that we want and miss.
    pub(super) interesting: u32,
    pub(super) we_are_interested: bool,
    pub(super) interested: bool,
    /// Since when neither side has wanted anything of the other.
    pub(super) indifferent_since: Moment,
    pub(super) upload_only: bool,
    pub(super) chokes_us: bool,
    pub(super) unchoked: bool,
    pub(super) allowed_fast: Vec<PieceIndex>,
    pub(super) suggested: Vec<PieceIndex>,
    /// A piece that it alone delivered was right.
    pub(super) proved: bool,
    /// It speaks the fast extension (BEP 6).
    pub(super) fast: bool,
    /// Pieces that we suggested to it and that it has not announced.
    pub(super) offered: Vec<PieceIndex>,
    /// What it was shown by us as a super-seed and has not passed on.
    pub(super) shown: Vec<Shown>,
    /// All that it was ever shown.
    pub(super) ever_shown: Option<Bitfield>,
    /// Blocks it wishes for and has not got.
    pub(super) wish: u32,
    /// It is in the queue of the hungry.
    pub(super) queued: bool,
    pub(super) rate_bytes_per_s: u64,
    pub(super) leases: BTreeSet<Block>,
    /// It delivered blocks.
    pub(super) contributed: bool,
    pub(super) report: Report,
}

impl Peer {
    pub(super) fn new(now: Moment, remote: Remote) -> Self {
        Peer {
            remote,
            listens_at: None,
            over_utp: false,
            punching: Punching::default(),
            punched: false,
            since: now,
            closing: false,
            has: None,
            interesting: 0,
            we_are_interested: false,
            interested: false,
            indifferent_since: now,
            upload_only: false,
            chokes_us: true,
            unchoked: false,
            allowed_fast: Vec::new(),
            suggested: Vec::new(),
            proved: false,
            fast: false,
            offered: Vec::new(),
            shown: Vec::new(),
            ever_shown: None,
            wish: 0,
            queued: false,
            rate_bytes_per_s: 0,
            leases: BTreeSet::new(),
            contributed: false,
            report: Report::default(),
        }
    }

    /// Whom its blocks are blamed on.
    pub(super) const fn source(&self) -> Source {
        match self.remote {
            Remote::Peer { address, .. } => Source::Peer(address.ip()),
            Remote::WebSeed(seed) => Source::WebSeed(seed),
        }
    }

    /// Its address, if it is one of those who speak the peer protocol.
    pub(super) const fn address(&self) -> Option<SocketAddr> {
        match self.remote {
            Remote::Peer { address, .. } => Some(address),
            Remote::WebSeed(_) => None,
        }
    }

    pub(super) const fn is_web_seed(&self) -> bool {
        matches!(self.remote, Remote::WebSeed(_))
    }

    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.has.as_ref().is_some_and(|has| has.contains(piece))
    }

    /// The blocks of a piece that its session may still hold.
    pub(super) fn leases_on(&self, piece: PieceIndex) -> Vec<BlockRun> {
        let at = |block| Block {
            piece,
            block: BlockIndex(block),
        };
        let mut runs = Vec::new();
        for &block in self.leases.range(at(0)..=at(u32::MAX)) {
            BlockRun::push(&mut runs, block);
        }
        runs
    }

    pub(super) fn is_seed(&self) -> bool {
        self.has.as_ref().is_some_and(Pieces::is_all)
    }

    /// Counts anew how many of the pieces that we want and miss it has: looks at every piece.
    pub(super) fn recount(&mut self, missing: &Bitfield) {
        let count = match self.has.as_ref().map(Pieces::has) {
            None | Some(Has::None) => 0,
            Some(Has::All) => missing.count() as usize,
            Some(Has::Some(field)) => missing.iter().filter(|&piece| field.get(piece)).count(),
        };
        self.interesting = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Whether it could use a lease at this moment.
    pub(super) fn can_fetch(&self) -> bool {
        let lets_us = !self.chokes_us || !self.allowed_fast.is_empty();
        lets_us && !self.closing && self.wish > 0 && self.interesting > 0
    }

    pub(super) fn is_indifferent(&self) -> bool {
        !self.we_are_interested && !self.interested
    }

    pub(super) fn suggest(&mut self, piece: PieceIndex) {
        self.suggested.retain(|&other| other != piece);
        if self.suggested.len() == MAX_SUGGESTED {
            self.suggested.remove(0);
        }
        self.suggested.push(piece);
    }

    pub(super) const fn moved_payload(&self) -> bool {
        self.report.downloaded_bytes > 0 || self.report.uploaded_bytes > 0
    }
}

//! What a `PeerSession` and its `Torrent` tell each other.
//!
//! Messages of one pair keep their order; between pairs any interleaving is possible, and so is any delay. From a peer
//! session to its torrent they travel over a bounded channel that may make the session wait; the other way they never
//! wait, because everything a torrent says is bounded by what the session asked for or by the number of pieces.

use core::net::{IpAddr, SocketAddr};
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, BlockRun, PieceIndex};
use shoal_wire::{Contact, HolePunch};
use std::sync::Arc;

/// One connection of one torrent. Never used twice within a torrent's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// What a remote peer says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    /// Every piece.
    All,
    /// No piece.
    None,
    /// These.
    Some(Bitfield),
}

/// From a peer session to its torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPeer {
    /// The handshake is done and the first statement of what the remote has is in (or it stayed silent: `Has::None`).
    /// Always the first message of a session.
    Joined {
        /// What it has.
        has: Has,
        /// The remote speaks the fast extension.
        fast: bool,
    },
    /// The remote got a piece.
    Have(PieceIndex),
    /// The remote lost a piece (BEP 54).
    DontHave(PieceIndex),
    /// What the remote has, in place of all that was known of it: fewer pieces than before. From web seeds, of which a whole
    /// file turned out not to be there.
    HasOnly(Has),
    /// The remote became interested in us, or ceased to be.
    Interested(bool),
    /// The remote will not download any more (BEP 21): a seed or a partial seed.
    UploadOnly(bool),
    /// The session can use `blocks` more leased blocks. `choked` is true where the remote chokes us, so that only pieces
    /// of `allowed_fast` are of use; the session repeats its wish whenever that changes.
    Want {
        /// How many blocks more, on top of those it holds. Replaces an earlier wish that was not yet met.
        blocks: u32,
        /// The rate at which the remote delivers, bytes a second; 0 while unknown. Decides how large a run is worth granting
        /// and who gets what has a deadline.
        rate_bytes_per_s: u64,
    },
    /// The remote chokes us (true) or stopped to. A choking remote gets no leases, except for `AllowedFast` pieces.
    Choking(bool),
    /// The remote serves this piece even while it chokes us (BEP 6).
    AllowedFast(PieceIndex),
    /// The remote suggests this piece (BEP 6).
    Suggested(PieceIndex),
    /// The bytes of these leased blocks were handed to storage.
    Received(Vec<BlockRun>),
    /// These leased blocks will not come from this peer; the leases are over.
    Returned {
        /// The blocks.
        runs: Vec<BlockRun>,
        /// Why not.
        reason: ReturnReason,
    },
    /// Where the remote listens, on the address that it has: it says so (BEP 10).
    ListensAt(u16),
    /// The remote sees us at this address, as it says (BEP 10).
    SeesUsAt(IpAddr),
    /// The remote is connected to these (BEP 11). Never in a torrent that keeps to itself.
    Introduced(Vec<SocketAddr>),
    /// The remote can be brought together with others, and bring others together (BEP 55), or cannot any more. Never in a torrent that
    /// keeps to itself.
    Punches(bool),
    /// What the remote says of hole punching. Only while it said that it knows how.
    HolePunch(HolePunch),
    /// Bytes and rates since the last report. Sent about once a second while bytes move, and once when they stop.
    Report(Report),
    /// The connection is over; the session's leases have been returned. Always the last message of a session.
    Left(CloseReason),
}

/// Why leased blocks came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnReason {
    /// The remote choked us.
    Choked,
    /// The remote rejected the requests (BEP 6).
    Rejected,
    /// The remote is snubbing us: nothing came for too long.
    TimedOut,
    /// The torrent took the lease back.
    Cancelled,
    /// The block came, but storage had it already: somebody else was first. Who was decides whom a bad block is blamed on,
    /// and only storage knows: what two sessions announce can overtake each other.
    Duplicate,
    /// The connection ended.
    Closed,
}

/// What moved over one connection. Totals since the session began, rates over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Payload bytes received.
    pub downloaded_bytes: u64,
    /// Payload bytes sent.
    pub uploaded_bytes: u64,
    /// Payload bytes received a second.
    pub download_rate: u64,
    /// Payload bytes sent a second.
    pub upload_rate: u64,
    /// Nothing came for too long although blocks are requested.
    pub snubbed: bool,
}

/// From a torrent to one of its peer sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToPeer {
    /// Request these blocks from the remote.
    Lease(Vec<BlockRun>),
    /// Give these leased blocks back: somebody else delivered them or nobody wants them any more. The session answers with
    /// `Returned { reason: Cancelled }` for those it had not received yet.
    Revoke(Vec<BlockRun>),
    /// We have these pieces now: tell the remote, and serve them.
    Have(Vec<PieceIndex>),
    /// We lost this piece (a file changed behind our back): do not serve it, tell the remote where it understands.
    Lost(PieceIndex),
    /// Suggest this piece (BEP 6), where the remote understands.
    Suggest(PieceIndex),
    /// Say interested (true) or not interested.
    Interested(bool),
    /// Choke (true) or unchoke the remote.
    Choke(bool),
    /// We will not download any more (BEP 21).
    UploadOnly(bool),
    /// We are connected to these: tell the remote of changes, where it wants to know and it is time (BEP 11).
    Contacts(Arc<[Contact]>),
    /// Send this, where the remote knows how to punch holes (BEP 55).
    HolePunch(HolePunch),
    /// It sent bad data in this piece. Said to web seeds only, which may be wrong about one file and right about others; a
    /// peer is told to close.
    Blamed {
        /// The piece.
        piece: PieceIndex,
        /// How sure that is.
        blame: Blame,
    },
    /// End the connection.
    Close(CloseReason),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The remote closed it, or the socket failed.
    Remote,
    /// The remote broke the protocol: what it did.
    Protocol(&'static str),
    /// Nothing moved for too long.
    Idle,
    /// Neither side has anything the other wants, and the slot can be used better.
    Useless,
    /// It sent us bad data.
    Banned(Blame),
    /// We are connected to it already.
    Duplicate,
    /// It is ourselves.
    Ourselves,
    /// The torrent is private (BEP 27), and neither its trackers nor its user named the peer.
    Private,
    /// A person, or a list of theirs, forbids its address.
    Forbidden,
    /// Everything is read again, and until it has been nothing can be served.
    Rechecking,
    /// The torrent or the program stops.
    Stopping,
}

/// How sure we are that a peer sent bad data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It was the only one to contribute to a piece that failed, or a block hash proves it.
    Certain,
    /// Its block differed from the one with which the piece passed (smart ban).
    Differed,
    /// It took part in too many failed pieces.
    Suspected,
}

/// A reader's claim on a range: while it lives, its pieces are due by their deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineLease {
    /// Names the lease, so that it can be moved and ended.
    pub id: u64,
    /// The first piece.
    pub first: PieceIndex,
    /// The last piece, included.
    pub last: PieceIndex,
    /// When `first` is due.
    pub deadline: Moment,
    /// Bytes a second at which the reader goes on from there; gives each later piece its deadline.
    pub rate_bytes_per_s: u64,
}

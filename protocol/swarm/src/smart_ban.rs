//! Who sent the bad block: blame for pieces that fail verification.
//!
//! Invariant: at most [`MAX_RECORDS`] digests and [`MAX_SUSPECTS`] addresses are kept. They are kept by IP address, so that
//! a new connection does not wash off a suspicion.

use crate::message::Blame;
use core::net::IpAddr;
use shoal_metainfo::{BlockIndex, PieceIndex};

/// The most block digests kept: those of 64 failed pieces of 16 MiB.
pub const MAX_RECORDS: usize = 65_536;

/// The most addresses under suspicion at a time. The one with the fewest suspicions is forgotten first.
pub const MAX_SUSPECTS: usize = 1_024;

/// So many suspicions, without a piece of its own that passed in between, are enough.
pub const MAX_SUSPICIONS: u32 = 7;

/// Addresses found guilty, and how surely.
pub type Verdicts = Vec<(IpAddr, Blame)>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SmartBan {}

impl SmartBan {
    /// Nobody is suspected.
    #[must_use]
    pub fn new() -> Self {
        SmartBan::default()
    }

    /// A piece failed. `sources` says who delivered each block, `bad` which blocks are known to be wrong (none where only
    /// the whole is), `digests` has one short digest for each block of the piece. Returns who is guilty beyond doubt or
    /// once too often; all other contributors are on parole, unless the bad blocks are known.
    pub fn failed(
        &mut self,
        _piece: PieceIndex,
        _sources: &[(BlockIndex, IpAddr)],
        _bad: &[BlockIndex],
        _digests: &[u64],
    ) -> Verdicts {
        Vec::new()
    }

    /// A piece passed. `contributors` delivered it, each named once; `digests` has one for each block of the piece, or is
    /// empty where nobody computed them. Returns those whose blocks differed in an earlier attempt; a peer that was the
    /// only contributor is off parole.
    pub fn passed(
        &mut self,
        _piece: PieceIndex,
        _contributors: &[IpAddr],
        _digests: &[u64],
    ) -> Verdicts {
        Vec::new()
    }

    /// Whether an address is under suspicion, so that it should get pieces of its own.
    #[must_use]
    pub fn is_on_parole(&self, _address: IpAddr) -> bool {
        false
    }

    /// Whether digests of an earlier attempt at this piece are kept, so that those of the next one are of use.
    #[must_use]
    pub fn remembers(&self, _piece: PieceIndex) -> bool {
        false
    }
}

//! Everything is read again, as a person asks for.
//!
//! Invariant: reading begins when the last connection has gone and nothing else is being read, so that no block comes to a piece that is
//! read, and nobody reads it beside; what is lost while it is read is not taken for right because of what was read before.

use super::TorrentTask;
use crate::command::CommandError;
use crate::whole;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_storage::Check;
use shoal_swarm::torrent::Input;

/// See the module.
#[derive(Debug)]
pub(super) struct Verifying {
    /// Pieces that are to be read.
    awaited: Bitfield,
    check: Option<Check>,
}

impl Verifying {
    /// How many pieces were read, of how many.
    pub(super) fn progress(&self) -> (u32, u32) {
        let total = self.awaited.len();
        (total - self.awaited.count(), total)
    }
}

impl TorrentTask {
    pub(super) fn verify_all(&mut self) -> Result<(), CommandError> {
        if !self.parts.metainfo.verifier().can_tell() {
            return Err(CommandError::NoHashes);
        }
        if self.verifying.is_none() {
            self.verifying = Some(Verifying {
                awaited: Bitfield::full(self.parts.layout.piece_count()),
                check: None,
            });
            // What was to be read again is read anyhow.
            self.rechecks.call_off();
            self.unchecked = whole::is_promised(&self.parts.metainfo);
            self.web_seeds.rest();
            self.handle(Input::Recheck);
        }
        Ok(())
    }

    /// Whether pieces are being read.
    pub(super) fn reads_everything(&self) -> bool {
        let verifying = self.verifying.as_ref();
        verifying.is_some_and(|verifying| verifying.check.is_some())
    }

    /// Begins to read where nobody is connected any more.
    pub(super) fn begin_verifying(&mut self) {
        let Some(verifying) = &mut self.verifying else {
            return;
        };
        let in_the_way = !self.peers.is_empty() || self.rechecks.under_way() > 0;
        if verifying.check.is_some() || in_the_way || self.stopping {
            return;
        }
        verifying.check = Some(self.parts.on_disk.content.recheck());
    }

    /// A piece was read.
    pub(super) fn verified_again(&mut self, piece: PieceIndex, right: bool) {
        let Some(verifying) = &mut self.verifying else {
            return;
        };
        verifying.awaited.remove(piece);
        let is_over = verifying.awaited.is_clear();
        if right && !self.rechecks.awaits(piece) {
            let blocks = Vec::new();
            self.handle(Input::Verified { piece, blocks });
        } else if !right {
            self.handle(Input::Lost { piece });
        }
        if is_over {
            self.verifying = None;
            self.handle(Input::Rechecked);
            self.check_whole();
            self.start_web_seeds();
            self.report_early = true;
        }
    }
}

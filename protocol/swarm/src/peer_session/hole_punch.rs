//! What the remote and the torrent tell each other of hole punching (BEP 55).
//!
//! Invariant: where one side does not know how, nothing is sent and nothing is heard.

use super::PeerSession;
use crate::message::FromPeer;
use shoal_wire::{Extension, HolePunch, Message};

impl PeerSession {
    /// Whether we take part at all.
    pub(super) const fn may_punch(&self) -> bool {
        self.settings.exchange && self.settings.punches
    }

    /// The remote has said anew what it knows.
    pub(super) fn review_punching(&mut self) {
        let punches = self.may_punch() && self.remote_extensions.id(Extension::HolePunch).is_some();
        if punches != self.remote_punches {
            self.remote_punches = punches;
            if self.theirs.is_some() {
                self.tell(FromPeer::Punches(punches));
            }
        }
    }

    /// A message that is none of BEP 55 is ignored: it may be one of a later version.
    pub(super) fn on_hole_punch(&mut self, message: Option<HolePunch>) {
        let heard = self.remote_punches && self.theirs.is_some();
        if let Some(message) = message.filter(|_| heard) {
            self.tell(FromPeer::HolePunch(message));
        }
    }

    pub(super) fn send_hole_punch(&mut self, message: HolePunch) {
        if self.remote_punches {
            self.send(Message::HolePunch(Some(message)));
        }
    }
}

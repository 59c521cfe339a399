//! Torrents of other clients that become part of the session.
//!
//! Invariant: a torrent is in the database with all that it came to, or it is not there; what is there of its content was written down
//! before.

use super::{NodeError, Session, key};
use crate::entry::Entry;
use crate::import::Takeover;
use crate::message::CarrierKind;
use shoal_session::queue;
use shoal_store::{ShareState, StoredTorrent, TorrentOptions};
use std::collections::BTreeMap;

impl Session {
    pub(super) async fn take_over(&mut self, takeover: Takeover) -> Result<i64, NodeError> {
        self.check_room()?;
        let Takeover {
            torrent,
            past,
            source,
        } = takeover;
        self.make_carriers(&torrent.options).await?;
        let id = self.database.take_over(&torrent, &past).await?;
        let stored = StoredTorrent {
            id,
            torrent,
            completed_at: past.completed_at,
            totals: past.totals,
            share: ShareState {
                seeding_s: past.seeding_s,
                ..ShareState::default()
            },
            removing: None,
        };
        let entry = Entry::new(stored, source);
        let queued = self.queued(&entry);
        self.entries.insert(id, entry);
        self.tell(queue::Input::Added(key(id), queued));
        Ok(id)
    }

    /// The category and tags that it has are there from here on.
    async fn make_carriers(&mut self, options: &TorrentOptions) -> Result<(), NodeError> {
        let nothing = BTreeMap::new();
        if let Some(name) = &options.category
            && !self.carriers.categories.contains_key(name)
        {
            let kind = CarrierKind::Category;
            self.set_carrier(kind, name, &nothing).await?;
        }
        for name in &options.tags {
            if !self.carriers.tags.contains_key(name) {
                self.set_carrier(CarrierKind::Tag, name, &nothing).await?;
            }
        }
        Ok(())
    }
}

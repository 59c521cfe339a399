//! What moved of torrents that are here no more: a removed torrent takes nothing from the figures of all times.
//!
//! Invariant: a torrent is counted here when it is forgotten, and not before.

use super::Session;
use serde::{Deserialize, Serialize};
use shoal_store::{Database, StoreError, Totals};

/// The list of the database that this is in, which has one entry.
const KIND: &str = "gone";

const NAME: &str = "torrents";

/// Payload of all runs of torrents that were removed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Gone {
    pub(super) downloaded_bytes: u64,
    pub(super) uploaded_bytes: u64,
    /// Of it, in this life of the node.
    #[serde(skip)]
    pub(super) started_downloaded_bytes: u64,
    /// Likewise.
    #[serde(skip)]
    pub(super) started_uploaded_bytes: u64,
}

impl Gone {
    pub(super) async fn read(database: &Database) -> Result<Self, StoreError> {
        let entries = database.entries(KIND).await?;
        let Some(text) = entries.get(NAME) else {
            return Ok(Gone::default());
        };
        serde_json::from_str(text)
            .map_err(|error| StoreError::Damaged(format!("{error} in {text}")))
    }

    fn add(&mut self, totals: &Totals, before: &Totals) {
        let (down, up) = (totals.downloaded_bytes, totals.uploaded_bytes);
        let add = |sum: &mut u64, bytes: u64| *sum = sum.saturating_add(bytes);
        add(&mut self.downloaded_bytes, down);
        add(&mut self.uploaded_bytes, up);
        let since = (before.downloaded_bytes, before.uploaded_bytes);
        add(
            &mut self.started_downloaded_bytes,
            down.saturating_sub(since.0),
        );
        add(&mut self.started_uploaded_bytes, up.saturating_sub(since.1));
    }
}

impl Session {
    /// These are forgotten.
    pub(super) async fn count_gone(&mut self, ids: &[i64]) {
        let entries = ids.iter().filter_map(|id| self.entries.get(id));
        for entry in entries {
            self.gone.add(&entry.totals(), &entry.before);
        }
        let stored = match serde_json::to_string(&self.gone) {
            Ok(text) => self.database.set_entry(KIND, NAME, Some(&text)).await,
            Err(error) => Err(StoreError::Damaged(error.to_string())),
        };
        if let Err(error) = stored {
            tracing::warn!(%error, "what removed torrents have moved is not written down");
        }
    }
}

//! Torrents that had a life before they came here.
//!
//! Invariant: a torrent is there with its past or not at all.

use crate::torrents::{insert, names, signed};
use crate::{Database, NewTorrent, StoreError, Totals};
use shoal_metainfo::InfoHashes;
use sqlx::Row;

/// What a torrent came to elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When everything wanted was there for the first time, in Unix time in seconds.
    pub completed_at: Option<i64>,
    /// What it has come to.
    pub totals: Totals,
    /// How long it has seeded, in seconds.
    pub seeding_s: u64,
}

impl Database {
    /// Remembers a torrent with what it came to elsewhere, and gives its id.
    ///
    /// # Errors
    /// There is one of its names already, or the database fails.
    pub async fn take_over(&self, new: &NewTorrent, past: &Past) -> Result<i64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let id = insert(&mut transaction, new).await?;
        let update = "UPDATE torrent SET completed_at = ?, wanted_bytes = ?, verified_bytes = ?, downloaded_bytes = ?, \
             uploaded_bytes = ?, seeding_s = ? WHERE id = ?";
        sqlx::query(update)
            .bind(past.completed_at)
            .bind(signed(past.totals.wanted_bytes))
            .bind(signed(past.totals.verified_bytes))
            .bind(signed(past.totals.downloaded_bytes))
            .bind(signed(past.totals.uploaded_bytes))
            .bind(signed(past.seeding_s))
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// The torrent that has one of these names, if there is one.
    ///
    /// # Errors
    /// The database fails.
    pub async fn named(&self, hashes: InfoHashes) -> Result<Option<i64>, StoreError> {
        let (v1, v2) = names(hashes);
        let find = "SELECT id FROM torrent WHERE info_hash_v1 = ? OR info_hash_v2 = ?";
        let row = sqlx::query(find).bind(v1).bind(v2);
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TorrentOptions, Wish};
    use shoal_metainfo::{InfoHashV1, InfoHashV2};

    #[tokio::test]
    async fn what_a_torrent_came_to_elsewhere_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.db");
        let database = Database::open(&path).await.unwrap();
        let (v1, v2) = (InfoHashV1([1; 20]), InfoHashV2([2; 32]));
        let hashes = InfoHashes::new(Some(v1), Some(v2)).unwrap();
        let new = NewTorrent {
            info_hashes: hashes,
            file: Some(b"d4:infodee".to_vec()),
            magnet: None,
            directory: "/data".into(),
            wish: Wish::Queued,
            selection: None,
            sequential: false,
            added_at: 1_600_000_000,
            options: TorrentOptions::default(),
        };
        let past = Past {
            completed_at: Some(1_600_000_100),
            totals: Totals {
                wanted_bytes: 10,
                verified_bytes: 10,
                downloaded_bytes: 12,
                uploaded_bytes: 40,
            },
            seeding_s: 3_600,
        };
        assert_eq!(database.named(hashes).await.unwrap(), None);
        let id = database.take_over(&new, &past).await.unwrap();
        let again = database.take_over(&new, &past).await;
        assert!(matches!(again, Err(StoreError::Duplicate)));
        database.close().await;
        let database = Database::open(&path).await.unwrap();
        for other in [
            InfoHashes::new(Some(v1), None),
            InfoHashes::new(None, Some(v2)),
        ] {
            assert_eq!(database.named(other.unwrap()).await.unwrap(), Some(id));
        }
        let [stored] = &database.torrents().await.unwrap()[..] else {
            panic!("one torrent");
        };
        assert_eq!((&stored.torrent, stored.totals), (&new, past.totals));
        assert_eq!(stored.completed_at, past.completed_at);
        assert_eq!(stored.share.seeding_s, past.seeding_s);
    }
}

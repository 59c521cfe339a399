//! The torrents of a session: which there are, what a person wants of them, and what they came to.
//!
//! Invariant: no two rows share an info hash, and a row without a magnet link has its .torrent file.

use crate::options::{from_text, to_text};
use crate::{Database, StoreError, TorrentOptions};
use shoal_metainfo::{InfoHashV1, InfoHashV2, InfoHashes};
use shoal_session::queue::ShareLimit;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a person wants of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It runs when its turn has come.
    Queued,
    /// It rests.
    Paused,
    /// It runs, whatever the queue and its share limits say.
    Forced,
}

impl Wish {
    /// The columns `wish` and `forced`.
    const fn columns(self) -> (&'static str, bool) {
        match self {
            Wish::Queued => ("queued", false),
            Wish::Paused => ("paused", false),
            Wish::Forced => ("queued", true),
        }
    }

    fn of(name: &str, forced: bool) -> Result<Self, StoreError> {
        match (name, forced) {
            ("paused", _) => Ok(Wish::Paused),
            ("queued", false) => Ok(Wish::Queued),
            ("queued", true) => Ok(Wish::Forced),
            (other, _) => Err(StoreError::Damaged(format!("the wish {other:?}"))),
        }
    }
}

/// A torrent that is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTorrent {
    /// Its names.
    pub info_hashes: InfoHashes,
    /// Its .torrent file; `None` where that is not known yet.
    pub file: Option<Vec<u8>>,
    /// The link that leads to it, where there is no file.
    pub magnet: Option<String>,
    /// The folder that its top-level name is in.
    pub directory: PathBuf,
    /// What a person wants of it.
    pub wish: Wish,
    /// For each file whether it is wanted; `None` is all.
    pub selection: Option<Vec<bool>>,
    /// Pieces are fetched in order.
    pub sequential: bool,
    /// Unix time in seconds.
    pub added_at: i64,
    /// What else was told of it.
    pub options: TorrentOptions,
}

/// Which files of a torrent are wanted, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// For each file whether it is wanted; `None` is all.
    pub selection: Option<Vec<bool>>,
    /// Pieces are fetched in order.
    pub sequential: bool,
    /// What was told of it, with the priorities of files and whether their ends come first.
    pub options: TorrentOptions,
    /// More is wanted than before, so that it is not complete any more.
    pub more: bool,
}

/// What becomes of the data of a torrent that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removing {
    /// Its room is free at once.
    Delete,
    /// It lies in the trash.
    Trash,
}

impl Removing {
    const fn name(self) -> &'static str {
        match self {
            Removing::Delete => "delete",
            Removing::Trash => "trash",
        }
    }

    fn of(name: &str) -> Result<Self, StoreError> {
        match name {
            "delete" => Ok(Removing::Delete),
            "trash" => Ok(Removing::Trash),
            other => Err(StoreError::Damaged(format!("the removal {other:?}"))),
        }
    }
}

/// How it stands with its share limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareState {
    /// The limit that stopped it.
    pub gave_enough: Option<ShareLimit>,
    /// A person let it go on past its limits.
    pub beyond_limits: bool,
    /// How long it has seeded, in seconds.
    pub seeding_s: u64,
    /// How long of that since a byte was last sent, in seconds.
    pub idle_s: u64,
}

const SHARE_LIMITS: [(&str, ShareLimit); 3] = [
    ("ratio", ShareLimit::Ratio),
    ("seeding", ShareLimit::SeedingTime),
    ("idle", ShareLimit::IdleTime),
];

fn limit_name(limit: ShareLimit) -> Option<&'static str> {
    let mut limits = SHARE_LIMITS.iter();
    limits
        .find(|(_, known)| *known == limit)
        .map(|(name, _)| *name)
}

fn limit_of(name: &str) -> Result<ShareLimit, StoreError> {
    let mut limits = SHARE_LIMITS.iter();
    let known = limits.find(|(known, _)| *known == name);
    known
        .map(|(_, limit)| *limit)
        .ok_or_else(|| StoreError::Damaged(format!("the share limit {name:?}")))
}

/// What a torrent has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of wanted pieces, as seen last.
    pub wanted_bytes: u64,
    /// Those of them that are verified, as seen last.
    pub verified_bytes: u64,
    /// Payload bytes from others, in all runs.
    pub downloaded_bytes: u64,
    /// Payload bytes to others, in all runs.
    pub uploaded_bytes: u64,
}

/// A torrent that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTorrent {
    /// Never given to another one, also when this one is forgotten.
    pub id: i64,
    /// What was said when it was added, and has changed since.
    pub torrent: NewTorrent,
    /// When everything wanted was there, for the first time since it was wanted, in Unix time in seconds.
    pub completed_at: Option<i64>,
    /// What it has come to.
    pub totals: Totals,
    /// How it stands with its share limits.
    pub share: ShareState,
    /// Its data is being removed.
    pub removing: Option<Removing>,
}

/// Rows are larger than what is made of them: so many at a time are in memory.
const PAGE_ROWS: i64 = 256;

impl Database {
    /// All torrents, in the order of the queue: those that have a place in it, then the others as they were added.
    ///
    /// # Errors
    /// The database fails, or holds what it should not.
    pub async fn torrents(&self) -> Result<Vec<StoredTorrent>, StoreError> {
        let page = "SELECT torrent.*, metainfo.file FROM torrent \
             LEFT JOIN metainfo ON metainfo.torrent = torrent.id \
             WHERE torrent.id > ? ORDER BY torrent.id LIMIT ?";
        let (mut all, mut last) = (Vec::new(), 0);
        loop {
            let rows = sqlx::query(page).bind(last).bind(PAGE_ROWS);
            let rows = rows.fetch_all(&self.pool).await?;
            for row in &rows {
                let position: Option<i64> = row.try_get("position")?;
                let torrent = stored(row)?;
                last = torrent.id;
                all.push((position, torrent));
            }
            if i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE_ROWS) {
                break;
            }
        }
        // All of this is not needed again before the next start.
        sqlx::query("PRAGMA shrink_memory")
            .execute(&self.pool)
            .await?;
        // The sort is stable: among those without a place, who was added first is first.
        all.sort_by_key(|(position, _)| (position.is_none(), *position));
        Ok(all.into_iter().map(|(_, torrent)| torrent).collect())
    }

    /// The length of a torrent's file in bytes, and at most `most` of them from `from` on; `None` where there is no file.
    ///
    /// # Errors
    /// The database fails.
    pub async fn file_part(
        &self,
        id: i64,
        from: u64,
        most: u32,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        // Bytes of a blob are counted from 1.
        let part = "SELECT length(file) AS total, substr(file, ?, ?) AS part FROM metainfo WHERE torrent = ?";
        let first = i64::try_from(from).unwrap_or(i64::MAX).saturating_add(1);
        let row = sqlx::query(part).bind(first).bind(most).bind(id);
        let Some(row) = row.fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let total: i64 = row.try_get("total")?;
        Ok(Some((total.unsigned_abs(), row.try_get("part")?)))
    }

    /// Remembers a torrent, and gives its id.
    ///
    /// # Errors
    /// There is one of its names already, or the database fails.
    pub async fn add_torrent(&self, new: &NewTorrent) -> Result<i64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let id = insert(&mut transaction, new).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// A torrent that was known by its link alone has been found.
    ///
    /// # Errors
    /// Another one has one of its names, or the database fails.
    pub async fn found(&self, id: i64, hashes: InfoHashes, file: &[u8]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let (v1, v2) = names(hashes);
        let update =
            "UPDATE torrent SET info_hash_v1 = ?, info_hash_v2 = ?, magnet = NULL WHERE id = ?";
        sqlx::query(update)
            .bind(v1)
            .bind(v2)
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(duplicate)?;
        put_file(&mut transaction, id, file).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A person wants something else of some torrents.
    ///
    /// # Errors
    /// The database fails.
    pub async fn wish(&self, ids: &[i64], wish: Wish) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let (wish, forced) = wish.columns();
        for id in ids {
            let update = sqlx::query("UPDATE torrent SET wish = ?, forced = ? WHERE id = ?");
            let update = update.bind(wish).bind(forced).bind(id);
            update.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Something else is told of some torrents.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_options(&self, told: &[(i64, TorrentOptions)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (id, options) in told {
            let update = sqlx::query("UPDATE torrent SET options = ? WHERE id = ?");
            let update = update.bind(to_text(options)?).bind(id);
            update.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Other files of some are wanted, or in another order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_files(&self, told: &[(i64, Files)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (id, files) in told {
            let update = "UPDATE torrent SET selection = ?, sequential = ?, options = ?, \
                 completed_at = iif(?, NULL, completed_at) WHERE id = ?";
            sqlx::query(update)
                .bind(files.selection.as_deref().map(as_bytes))
                .bind(files.sequential)
                .bind(to_text(&files.options)?)
                .bind(files.more)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Its data is in another folder, or under other names, and that is told of it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn moved(
        &self,
        id: i64,
        directory: &Path,
        options: &TorrentOptions,
    ) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE torrent SET directory = ?, options = ? WHERE id = ?");
        let update = update.bind(directory.as_os_str().as_bytes());
        let update = update.bind(to_text(options)?).bind(id);
        update.execute(&self.pool).await?;
        Ok(())
    }

    /// The whole queue, first to last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn order(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (position, id) in (0i64..).zip(ids) {
            let update = "UPDATE torrent SET position = ? WHERE id = ? AND position IS NOT ?";
            let update = sqlx::query(update).bind(position).bind(id).bind(position);
            update.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// How it stands with its share limits.
    ///
    /// # Errors
    /// The database fails.
    pub async fn shared(&self, states: &[(i64, ShareState)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (id, state) in states {
            let update = "UPDATE torrent SET gave_enough = ?, beyond_limits = ?, seeding_s = ?, idle_s = ? \
                 WHERE id = ?";
            sqlx::query(update)
                .bind(state.gave_enough.and_then(limit_name))
                .bind(state.beyond_limits)
                .bind(signed(state.seeding_s))
                .bind(signed(state.idle_s))
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Everything wanted is there. The first time counts.
    ///
    /// # Errors
    /// The database fails.
    pub async fn completed(&self, id: i64, at: i64) -> Result<(), StoreError> {
        let update = "UPDATE torrent SET completed_at = ? WHERE id = ? AND completed_at IS NULL";
        let update = sqlx::query(update).bind(at).bind(id);
        update.execute(&self.pool).await?;
        Ok(())
    }

    /// What torrents have come to, all at once.
    ///
    /// # Errors
    /// The database fails.
    pub async fn totals(&self, totals: &[(i64, Totals)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (id, totals) in totals {
            let update = "UPDATE torrent SET wanted_bytes = ?, verified_bytes = ?, downloaded_bytes = ?, \
                 uploaded_bytes = ? WHERE id = ?";
            sqlx::query(update)
                .bind(signed(totals.wanted_bytes))
                .bind(signed(totals.verified_bytes))
                .bind(signed(totals.downloaded_bytes))
                .bind(signed(totals.uploaded_bytes))
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The data of some is being removed, or is not after all.
    ///
    /// # Errors
    /// The database fails.
    pub async fn removing(
        &self,
        ids: &[i64],
        removing: Option<Removing>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for id in ids {
            let update = sqlx::query("UPDATE torrent SET removing = ? WHERE id = ?");
            let update = update.bind(removing.map(Removing::name)).bind(id);
            update.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets some.
    ///
    /// # Errors
    /// The database fails.
    pub async fn remove_torrents(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for id in ids {
            let delete = sqlx::query("DELETE FROM torrent WHERE id = ?").bind(id);
            delete.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Puts a torrent in, and gives its id.
pub(crate) async fn insert(
    transaction: &mut sqlx::SqliteTransaction<'_>,
    new: &NewTorrent,
) -> Result<i64, StoreError> {
    let add = "INSERT INTO torrent (info_hash_v1, info_hash_v2, magnet, directory, wish, forced, selection, \
         sequential, added_at, options) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (v1, v2) = names(new.info_hashes);
    let (wish, forced) = new.wish.columns();
    let options = to_text(&new.options)?;
    let added = sqlx::query(add)
        .bind(v1)
        .bind(v2)
        .bind(new.magnet.as_deref())
        .bind(new.directory.as_os_str().as_bytes())
        .bind(wish)
        .bind(forced)
        .bind(new.selection.as_deref().map(as_bytes))
        .bind(new.sequential)
        .bind(new.added_at)
        .bind(options)
        .execute(&mut **transaction)
        .await
        .map_err(duplicate)?;
    let id = added.last_insert_rowid();
    if let Some(file) = &new.file {
        put_file(transaction, id, file).await?;
    }
    Ok(id)
}

async fn put_file(
    transaction: &mut sqlx::SqliteTransaction<'_>,
    id: i64,
    file: &[u8],
) -> Result<(), StoreError> {
    let put = "INSERT OR REPLACE INTO metainfo (torrent, file) VALUES (?, ?)";
    let put = sqlx::query(put).bind(id).bind(file);
    put.execute(&mut **transaction).await?;
    Ok(())
}

fn duplicate(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(why) if why.is_unique_violation() => StoreError::Duplicate,
        _ => StoreError::Failed(error),
    }
}

pub(crate) fn names(hashes: InfoHashes) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let v1 = hashes.v1().map(|hash| hash.0.to_vec());
    (v1, hashes.v2().map(|hash| hash.0.to_vec()))
}

fn as_bytes(selection: &[bool]) -> Vec<u8> {
    selection.iter().map(|&wanted| u8::from(wanted)).collect()
}

pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn stored(row: &SqliteRow) -> Result<StoredTorrent, StoreError> {
    let unsigned = |column| {
        let bytes: i64 = row.try_get(column)?;
        Ok::<u64, StoreError>(u64::try_from(bytes).unwrap_or(0))
    };
    let selection: Option<Vec<u8>> = row.try_get("selection")?;
    let torrent = NewTorrent {
        info_hashes: hashes(row)?,
        file: row.try_get("file")?,
        magnet: row.try_get("magnet")?,
        directory: OsString::from_vec(row.try_get("directory")?).into(),
        wish: Wish::of(row.try_get("wish")?, row.try_get("forced")?)?,
        selection: selection.map(|bytes| bytes.iter().map(|&byte| byte == 1).collect()),
        sequential: row.try_get("sequential")?,
        added_at: row.try_get("added_at")?,
        options: from_text(row.try_get("options")?)?,
    };
    if torrent.file.is_none() && torrent.magnet.is_none() {
        let name = torrent.info_hashes.primary();
        let what = format!("torrent {name:?} has neither a file nor a link");
        return Err(StoreError::Damaged(what));
    }
    let removing: Option<&str> = row.try_get("removing")?;
    let gave_enough: Option<&str> = row.try_get("gave_enough")?;
    Ok(StoredTorrent {
        id: row.try_get("id")?,
        torrent,
        completed_at: row.try_get("completed_at")?,
        totals: Totals {
            wanted_bytes: unsigned("wanted_bytes")?,
            verified_bytes: unsigned("verified_bytes")?,
            downloaded_bytes: unsigned("downloaded_bytes")?,
            uploaded_bytes: unsigned("uploaded_bytes")?,
        },
        share: ShareState {
            gave_enough: gave_enough.map(limit_of).transpose()?,
            beyond_limits: row.try_get("beyond_limits")?,
            seeding_s: unsigned("seeding_s")?,
            idle_s: unsigned("idle_s")?,
        },
        removing: removing.map(Removing::of).transpose()?,
    })
}

fn hashes(row: &SqliteRow) -> Result<InfoHashes, StoreError> {
    let v1: Option<Vec<u8>> = row.try_get("info_hash_v1")?;
    let v2: Option<Vec<u8>> = row.try_get("info_hash_v2")?;
    let v1 = v1.and_then(|bytes| bytes.try_into().ok()).map(InfoHashV1);
    let v2 = v2.and_then(|bytes| bytes.try_into().ok()).map(InfoHashV2);
    InfoHashes::new(v1, v2)
        .ok_or_else(|| StoreError::Damaged("a torrent without an info hash".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hybrid(name: u8) -> InfoHashes {
        InfoHashes::new(Some(InfoHashV1([name; 20])), Some(InfoHashV2([name; 32]))).unwrap()
    }

    fn new(name: u8) -> NewTorrent {
        NewTorrent {
            info_hashes: hybrid(name),
            file: Some(vec![name; 40]),
            magnet: None,
            directory: OsString::from_vec(b"/home/caf\xe9".to_vec()).into(),
            wish: Wish::Queued,
            selection: Some(vec![true, false, true]),
            sequential: true,
            added_at: 1_700_000_000,
            options: TorrentOptions::default(),
        }
    }

    async fn opened(folder: &Path) -> Database {
        Database::open(&folder.join("session.db")).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_added_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path()).await;
        let link = NewTorrent {
            info_hashes: InfoHashes::new(Some(InfoHashV1([9; 20])), None).unwrap(),
            file: None,
            magnet: Some("magnet:?xt=urn:btih:09".to_owned()),
            selection: None,
            ..new(9)
        };
        let first = database.add_torrent(&new(1)).await.unwrap();
        let second = database.add_torrent(&link).await.unwrap();
        database.wish(&[first], Wish::Paused).await.unwrap();
        database.completed(first, 1_700_000_100).await.unwrap();
        database.completed(first, 1_700_000_200).await.unwrap();
        let totals = Totals {
            wanted_bytes: 9,
            verified_bytes: 7,
            downloaded_bytes: 5,
            uploaded_bytes: i64::MAX as u64,
        };
        database.totals(&[(first, totals)]).await.unwrap();
        database.close().await;

        let database = opened(folder.path()).await;
        let all = database.torrents().await.unwrap();
        let paused = NewTorrent {
            wish: Wish::Paused,
            ..new(1)
        };
        assert_eq!((all[0].id, &all[0].torrent), (first, &paused));
        assert_eq!(all[0].completed_at, Some(1_700_000_100));
        assert_eq!(all[0].totals, totals);
        assert_eq!((all[1].id, &all[1].torrent), (second, &link));

        let names = hybrid(9);
        database.found(second, names, b"d4:infodee").await.unwrap();
        database.remove_torrents(&[first]).await.unwrap();
        let all = database.torrents().await.unwrap();
        assert_eq!(all.len(), 1);
        let found = &all[0].torrent;
        assert_eq!((found.info_hashes, &found.magnet), (names, &None));
        assert_eq!(found.file.as_deref(), Some(&b"d4:infodee"[..]));
        // An id is not used again, so that nobody mistakes one torrent for another.
        assert!(database.add_torrent(&new(3)).await.unwrap() > second);
    }

    #[tokio::test]
    async fn a_torrent_file_is_read_part_by_part() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path()).await;
        let file = Some(b"0123456789".to_vec());
        let torrent = NewTorrent { file, ..new(1) };
        let id = database.add_torrent(&torrent).await.unwrap();
        for (from, expected) in [(0, &b"0123"[..]), (8, b"89"), (10, b""), (u64::MAX, b"")] {
            let part = database.file_part(id, from, 4).await.unwrap();
            assert_eq!(part, Some((10, expected.to_vec())), "{from}");
        }
        assert_eq!(database.file_part(id + 1, 0, 4).await.unwrap(), None);
    }

    #[tokio::test]
    async fn no_two_torrents_share_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path()).await;
        database.add_torrent(&new(1)).await.unwrap();
        let v2 = InfoHashes::new(None, hybrid(1).v2()).unwrap();
        let same = NewTorrent {
            info_hashes: v2,
            ..new(1)
        };
        for again in [new(1), same] {
            let refused = database.add_torrent(&again).await.unwrap_err();
            assert!(matches!(refused, StoreError::Duplicate), "{refused}");
        }
        let other = database.add_torrent(&new(2)).await.unwrap();
        let refused = database.found(other, hybrid(1), b"").await.unwrap_err();
        assert!(matches!(refused, StoreError::Duplicate), "{refused}");
        assert_eq!(database.torrents().await.unwrap().len(), 2);
    }

    fn any_torrent() -> impl Strategy<Value = NewTorrent> {
        let path = proptest::collection::vec(1..=255u8, 1..40);
        let selection = proptest::option::of(proptest::collection::vec(any::<bool>(), 0..20));
        let wishes = prop_oneof![Just(Wish::Queued), Just(Wish::Paused), Just(Wish::Forced)];
        let flags = (any::<bool>(), wishes, any::<i64>());
        (any::<u8>(), path, selection, flags).prop_map(|(name, path, selection, flags)| {
            let (sequential, wish, added_at) = flags;
            NewTorrent {
                directory: OsString::from_vec(path).into(),
                wish,
                selection,
                sequential,
                added_at,
                ..new(name)
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn every_torrent_comes_back_as_it_was(torrent in any_torrent()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let database = opened(folder.path()).await;
                database.add_torrent(&torrent).await.unwrap();
                let all = database.torrents().await.unwrap();
                assert_eq!(all[0].torrent, torrent);
                database.close().await;
            });
        }
    }
}

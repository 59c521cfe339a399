//! The database of a node: what has to outlive the process and is not content.
//!
//! Invariant: what a call has returned from is on the disk (`synchronous=FULL`), and a call that was cut off has happened or has not.
//! Migrations run forward only; a database of a newer program is refused and stays as it is.

mod migrations;
mod options;
mod owner;
mod past;
mod torrents;

use sqlx::SqlitePool;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use options::{Moving, StopAt, StoredRules, TorrentOptions};
pub use owner::Carrier;
pub use past::Past;
pub use torrents::{Files, NewTorrent, Removing, ShareState, StoredTorrent, Totals, Wish};

/// How long a file is waited for that another process uses: one that is just ending.
const BUSY: Duration = Duration::from_millis(500);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error(
        "cannot open the database {path}: {source}; check that the folder can be written and that no other node uses it"
    )]
    Open {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A newer program has made it.
    #[error(
        "the database {path} is of a newer version ({found}, this program knows {known}); use that program, or another state folder"
    )]
    Newer {
        /// Where it is.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// A torrent of one of these info hashes is there already.
    #[error("the torrent is here already")]
    Duplicate,
    /// What is stored makes no sense.
    #[error("the database holds something that it should not: {0}; restore it from a copy")]
    Damaged(String),
    /// A statement failed.
    #[error("the database failed: {0}")]
    Failed(#[from] sqlx::Error),
}

/// An open database. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Database {
    pool: SqlitePool,
}

impl Database {
    /// Opens the file, makes it where there is none, and brings it up to date.
    ///
    /// # Errors
    /// It cannot be opened, another process uses it, or a newer program made it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // One node, one database: a second one must not come to see half of the truth.
            .locking_mode(SqliteLockingMode::Exclusive)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        // Writes follow each other anyway, and every read here is short.
        let pool = SqlitePoolOptions::new().max_connections(1);
        let failed = |source| StoreError::Open {
            path: path.to_path_buf(),
            source,
        };
        let pool = pool.connect_with(options).await.map_err(failed)?;
        migrations::run(&pool, path).await?;
        Ok(Database { pool })
    }

    /// Writes everything to its place, and closes the file.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

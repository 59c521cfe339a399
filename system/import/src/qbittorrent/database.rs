//! `torrents.db`, in which qBittorrent keeps what is otherwise in the files of `BT_backup`.
//!
//! Invariant: the folder stays as it is. The database is opened as a file that does not change, without locks and without a log beside it;
//! where there is such a log, the client has to write it back first.

use super::Settings;
use crate::error::{Fault, ImportError, Unread};
use crate::imported::{Imported, Run};
use crate::limits::{MAX_FILE_BYTES, MAX_TAGS, MAX_TORRENTS};
use crate::{Client, disk, fields, libtorrent};
use shoal_metainfo::bencode::{Limits, decode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Which torrents there are, and the bytes of each, in the order of the queue; those that are in none have a negative place.
const LIST: &str = "SELECT id, COALESCE(LENGTH(libtorrent_resume_data), 0) + COALESCE(LENGTH(metadata), 0) \
                    FROM torrents ORDER BY queue_position < 0, queue_position, id LIMIT ?";

/// A torrent, with the columns that the version of the database has.
const TORRENT: &str = "SELECT * FROM torrents WHERE id = ?";

type Torrent = Result<Imported, Unread>;

/// An open database: an iterator over its torrents.
///
/// A thread has the connection, as it can only be asked from within a runtime, and whoever iterates may be in one or not. It reads one
/// torrent ahead, and ends when this is dropped or the last was read.
#[derive(Debug)]
pub(crate) struct Database {
    torrents: Receiver<Torrent>,
    left: usize,
}

impl Database {
    pub(crate) fn open(path: PathBuf) -> Result<Self, ImportError> {
        let log = disk::with_suffix(&path, "-wal");
        if disk::is_filled(&log) {
            let client = Client::QBittorrent;
            return Err(ImportError::Running { client, path: log });
        }
        let unreadable = |reason: String| ImportError::Unreadable {
            path: path.clone(),
            fault: Fault::Database(reason),
        };
        let (opened, count) = sync_channel(1);
        let (sender, torrents) = sync_channel(1);
        let database = path.clone();
        thread::Builder::new()
            .name("import".to_owned())
            .spawn(move || serve(&database, &opened, &sender))
            .map_err(|error| unreadable(error.to_string()))?;
        let count = count
            .recv()
            .map_err(|error| unreadable(error.to_string()))?;
        match count.map_err(unreadable)? {
            left if left > MAX_TORRENTS => Err(ImportError::TooMany { folder: path }),
            left => Ok(Database { torrents, left }),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.left
    }
}

impl Iterator for Database {
    type Item = Torrent;

    fn next(&mut self) -> Option<Torrent> {
        let torrent = self.torrents.recv().ok();
        self.left = torrent.as_ref().map_or(0, |_| self.left.saturating_sub(1));
        torrent
    }
}

/// Says how many torrents there are, and sends one after the other until nobody listens.
fn serve(path: &Path, opened: &SyncSender<Result<usize, String>>, torrents: &SyncSender<Torrent>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let listed = match &runtime {
        Ok(runtime) => runtime
            .block_on(list(path))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let saved_at = disk::modified_at(path);
    let (mut connection, ids) = match listed {
        Ok(listed) => listed,
        Err(reason) => {
            // Who asked is waiting for exactly this.
            let _ = opened.send(Err(reason));
            return;
        }
    };
    let (Ok(runtime), Ok(())) = (runtime, opened.send(Ok(ids.len()))) else {
        return;
    };
    for (id, length) in ids {
        let row = runtime.block_on(sqlx::query(TORRENT).bind(id).fetch_one(&mut connection));
        let torrent = row
            .map_err(|error| (None, Fault::Database(error.to_string())))
            .and_then(|row| read(&row, length).map_err(|fault| (name(&row), fault)));
        let torrent = torrent.map(|mut imported| {
            imported.saved_at(saved_at);
            imported
        });
        let torrent = torrent.map_err(|(torrent, fault)| Unread {
            path: path.to_owned(),
            torrent,
            fault,
        });
        if torrents.send(torrent).is_err() {
            break;
        }
    }
    // It has nothing left to write.
    let _ = runtime.block_on(connection.close());
}

async fn list(path: &Path) -> Result<(SqliteConnection, Vec<(i64, i64)>), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true);
    let mut connection = options.connect().await?;
    let most = i64::try_from(MAX_TORRENTS).unwrap_or(i64::MAX);
    let query = sqlx::query_as(LIST).bind(most.saturating_add(1));
    let ids = query.fetch_all(&mut connection).await?;
    Ok((connection, ids))
}

/// The info hash by which the database names a torrent: a text in a column for blobs.
fn name(row: &SqliteRow) -> Option<String> {
    let text = row.try_get_unchecked::<Vec<u8>, _>("torrent_id").ok()?;
    fields::shown(&text)
}

fn read(row: &SqliteRow, length: i64) -> Result<Imported, Fault> {
    if u64::try_from(length).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(Fault::TooLong(MAX_FILE_BYTES));
    }
    let bytes = |column| row.try_get::<Option<Vec<u8>>, _>(column).ok().flatten();
    let whole = |column| row.try_get::<Option<String>, _>(column).ok().flatten();
    let text = |column| whole(column).and_then(|text| fields::shown(text.as_bytes()));
    let number = |column| row.try_get::<Option<i64>, _>(column).ok().flatten();
    let flag = |column| number(column).unwrap_or(0) != 0;

    let resume = bytes("libtorrent_resume_data").ok_or(Fault::Form("resume data"))?;
    let document = decode(&resume, Limits::LOCAL)?;
    let root = document.root();
    if root.as_dict().is_none() {
        return Err(Fault::Form("a dictionary"));
    }
    let metadata = bytes("metadata").filter(|metadata| !metadata.is_empty());
    let mut imported = Imported::new(libtorrent::torrent(root, metadata.as_deref())?);
    libtorrent::apply(root, &mut imported);
    imported.run = match text("operating_mode") {
        _ if flag("stopped") => Run::Paused,
        Some(mode) if mode == "Forced" => Run::Forced,
        _ => Run::Queued,
    };
    let tags = whole("tags").unwrap_or_default();
    let tags = tags
        .split(',')
        .filter_map(|tag| fields::shown(tag.as_bytes()));
    let ratio = number("ratio_limit").and_then(|thousandths| i32::try_from(thousandths).ok());
    let settings = Settings {
        name: text("name"),
        category: text("category"),
        tags: tags.take(MAX_TAGS).collect(),
        folder: whole("target_save_path").and_then(|folder| fields::path(folder.as_bytes())),
        ratio: ratio.map(|thousandths| f64::from(thousandths) / 1000.0),
        seeding_min: number("seeding_time_limit"),
        idle_min: number("inactive_seeding_time_limit"),
        first_last_first: flag("has_outer_pieces_priority"),
    };
    settings.apply(fields::text(root.get("name")), &mut imported);
    Ok(imported)
}

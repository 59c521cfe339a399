//! Watched folders: which there are, and what is told of them.
//!
//! Invariant: what is in the database is watched, each folder by one task.

mod files;
mod folder;

use super::{Answer, NodeError, Session, adding};
use crate::message::{Reply, Watch, WatchRequest, WatchedFolder};
use folder::{Folder, Standing};
use shoal_store::{Database, StoreError};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What they are called in the database.
const KIND: &str = "watch";

/// More folders than a person has in view.
const MAX_FOLDERS: usize = 64;

/// A folder, and who watches it, which ends with it.
pub(super) struct Watched {
    watch: Watch,
    standing: watch::Receiver<Standing>,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was told before. What cannot be read (a newer program wrote it) is not watched, and is told of.
pub(super) async fn read(database: &Database) -> Result<BTreeMap<String, Watch>, StoreError> {
    let mut folders = BTreeMap::new();
    for (path, text) in database.entries(KIND).await? {
        match serde_json::from_str(&text) {
            Ok(watch) => drop(folders.insert(path, watch)),
            Err(error) => tracing::warn!(%path, %error, "a folder is not watched"),
        }
    }
    Ok(folders)
}

impl Session {
    pub(super) async fn watch(&mut self, request: WatchRequest) -> Answer {
        match request {
            WatchRequest::List {} => {}
            WatchRequest::Add { path, watch } => self.watch_one_more(&path, *watch).await?,
            WatchRequest::Remove { paths } => self.watch_no_more(&paths).await?,
        }
        let shown = |(path, watched): (&String, &Watched)| {
            let standing = watched.standing.borrow().clone();
            WatchedFolder {
                path: path.clone(),
                watch: watched.watch.clone(),
                added: standing.added,
                message: standing.trouble,
                refused: standing.refused,
            }
        };
        let folders = self.watched.iter().map(shown).collect();
        Ok(Reply::WatchedFolders { folders })
    }

    async fn watch_one_more(&mut self, path: &str, watch: Watch) -> Result<(), NodeError> {
        let add = &watch.add;
        if add.torrent_bytes.is_some() || add.magnet.is_some() || add.url.is_some() {
            let what = "what is added comes from the folder; name no torrent";
            return Err(NodeError::Usage(what.to_owned()));
        }
        if add.selection.is_some() {
            let what = "which files its torrents have is not known; leave the selection out";
            return Err(NodeError::Usage(what.to_owned()));
        }
        // What would be refused of every torrent is refused here.
        let mut options = self.options(add)?;
        self.directory(add, &mut options)?;
        let path = adding::directory(path)?;
        let path = path.to_str().ok_or_else(|| {
            let what = "the name of the folder is no UTF-8; rename it or choose another";
            NodeError::Refused(what.to_owned())
        })?;
        if self.watched.len() >= MAX_FOLDERS && !self.watched.contains_key(path) {
            let what = format!("{MAX_FOLDERS} folders are watched already; watch one above some");
            return Err(NodeError::Refused(what));
        }
        let text = serde_json::to_string(&watch);
        let text = text.map_err(|error| StoreError::Damaged(error.to_string()))?;
        self.database.set_entry(KIND, path, Some(&text)).await?;
        self.begin_to_watch(path.to_owned(), watch);
        Ok(())
    }

    async fn watch_no_more(&mut self, paths: &[String]) -> Result<(), NodeError> {
        if let Some(path) = paths.iter().find(|path| !self.watched.contains_key(*path)) {
            let what = format!("the folder {path:?} is not watched; `shoal watch` shows which are");
            return Err(NodeError::Absent(what));
        }
        for path in paths {
            self.database.set_entry(KIND, path, None).await?;
            self.watched.remove(path);
            folder::forget(&self.database, path).await?;
        }
        Ok(())
    }

    pub(super) fn begin_to_watch(&mut self, path: String, watch: Watch) {
        // Who watched it by other rules ends first.
        self.watched.remove(&path);
        let (database, asks) = (self.database.clone(), self.asks.clone());
        let (folder, standing) = Folder::new(path.clone(), watch.clone(), database, asks);
        let task = tokio::spawn(folder.keep()).abort_handle();
        let watched = Watched {
            watch,
            standing,
            task,
        };
        self.watched.insert(path, watched);
    }
}

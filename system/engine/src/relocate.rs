//! Where the files of a torrent are: moving, renaming and removing them, and giving them up.
//!
//! Invariant: of one torrent one move goes on at a time, and nothing is asked of peers while it does.

use crate::engine::{AddTorrent, EngineError, EngineHandle, wanted_files};
use crate::handle::TorrentHandle;
use crate::inbox::Sender;
use crate::snapshot::Phase;
use crate::start;
use crate::torrent::ToTorrent;
use shoal_metainfo::FileIndex;
use shoal_storage::{
    Content, Fate, Location, Needed, Progress, Removed, StorageError, check_relocation,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Where files are to go, as a person says it.
#[derive(Debug)]
enum Destination {
    Directory(PathBuf),
    File(FileIndex, PathBuf),
    Folder(PathBuf, PathBuf),
    Place(Location),
}

/// A move that a person asks for.
#[derive(Debug)]
pub(crate) struct Relocate {
    to: Destination,
    progress: Arc<Progress>,
    reply: oneshot::Sender<Result<Arc<Location>, EngineError>>,
}

impl Relocate {
    fn location(&self, content: &Content) -> Result<Location, StorageError> {
        match &self.to {
            Destination::Directory(directory) => Ok(Location {
                directory: directory.clone(),
                renamed: content.location().renamed.clone(),
            }),
            Destination::File(file, path) => content.with_file_at(*file, path.clone()),
            Destination::Folder(old, new) => content.with_folder_at(old, new),
            Destination::Place(location) => Ok(location.clone()),
        }
    }
}

/// Has missing files taken for lost, and whoever asked told.
pub(crate) fn accept_missing(content: &Content, reply: oneshot::Sender<Result<(), EngineError>>) {
    let content = content.clone();
    tokio::task::spawn_blocking(move || {
        // Where nobody waits for it, nobody wants to know.
        drop(reply.send(content.accept_missing().map_err(EngineError::from)));
    });
}

/// The move of a torrent that is going on, if one is.
#[derive(Debug, Default)]
pub(crate) struct Moving(Option<Arc<Progress>>);

impl Moving {
    /// Begins a move, of whose end `torrent` hears. False where nothing begins, which whoever asked is told.
    pub(crate) fn begin(
        &mut self,
        relocate: Relocate,
        content: &Content,
        torrent: Sender<ToTorrent>,
    ) -> bool {
        let directory = &content.location().directory;
        let location = match self.0 {
            Some(_) => Err(StorageError::Moving(directory.clone())),
            None => relocate.location(content),
        };
        let location = match location {
            Ok(location) => location,
            Err(error) => {
                // Where nobody waits for it, nobody wants to know.
                drop(relocate.reply.send(Err(error.into())));
                return false;
            }
        };
        let progress = Arc::clone(&relocate.progress);
        self.0 = Some(Arc::clone(&progress));
        let content = content.clone();
        tokio::spawn(async move {
            let moving = tokio::task::spawn_blocking(move || {
                let moved = content.relocate(location, &progress);
                moved.map(|()| content.location())
            });
            let moved = moving.await.map_err(|_| EngineError::Stopped);
            // The torrent goes on before anybody is told that it is where it was to be.
            drop(torrent.send(ToTorrent::Relocated).await);
            drop(relocate.reply.send(moved.and_then(|moved| Ok(moved?))));
        });
        true
    }

    /// It has ended.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// It is to go back, where that can be.
    pub(crate) fn cancel(&self) {
        if let Some(progress) = &self.0 {
            progress.cancel();
        }
    }

    pub(crate) const fn is_going_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        let (done_bytes, total_bytes) = self.0.as_ref()?.bytes();
        Some(Phase::Moving {
            done_bytes,
            total_bytes,
        })
    }
}

impl TorrentHandle {
    /// Moves the files to another directory, which exists and in which nothing is in their way; also while they are in use, see
    /// [`Content::relocate`]. Returns when they are there: where that is, which is to be remembered (`AddTorrent::directory` and
    /// `AddTorrent::renamed`). A torrent that is being checked is moved afterwards.
    ///
    /// # Errors
    /// Where they cannot be moved; they stay where they are. Where the torrent ended before.
    pub async fn relocate(&self, directory: PathBuf) -> Result<Arc<Location>, EngineError> {
        self.place(Destination::Directory(directory)).await
    }

    /// Gives a file another path below the directory, by the rules for paths in torrents; otherwise as [`Self::relocate`].
    ///
    /// # Errors
    /// The same, and where there is no such file or the path cannot be used.
    pub async fn rename_file(
        &self,
        file: FileIndex,
        path: PathBuf,
    ) -> Result<Arc<Location>, EngineError> {
        self.place(Destination::File(file, path)).await
    }

    /// Gives a folder another path below the directory; otherwise as [`Self::rename_file`]. What is in it and is not the torrent's
    /// stays.
    ///
    /// # Errors
    /// The same.
    pub async fn rename_folder(
        &self,
        old: &Path,
        new: &Path,
    ) -> Result<Arc<Location>, EngineError> {
        self.place(Destination::Folder(old.to_owned(), new.to_owned()))
            .await
    }

    /// Moves the files to another directory, under other names, or both; otherwise as [`Self::relocate`]. `progress` tells how far that is,
    /// and can cancel it.
    ///
    /// # Errors
    /// The same, and where it was cancelled.
    pub async fn move_to(
        &self,
        location: Location,
        progress: Arc<Progress>,
    ) -> Result<Arc<Location>, EngineError> {
        self.place_with(Destination::Place(location), progress)
            .await
    }

    /// Takes files that are gone ([`shoal_storage::Reason::FilesMissing`]) for lost, as a person wants it: they are fetched again.
    ///
    /// # Errors
    /// Where their volume is missing, or the torrent has ended.
    pub async fn accept_missing(&self) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.sender.send(ToTorrent::AcceptMissing(reply)).await;
        sent.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    async fn place(&self, to: Destination) -> Result<Arc<Location>, EngineError> {
        self.place_with(to, Arc::default()).await
    }

    async fn place_with(
        &self,
        to: Destination,
        progress: Arc<Progress>,
    ) -> Result<Arc<Location>, EngineError> {
        let (reply, answer) = oneshot::channel();
        let relocate = Relocate {
            to,
            progress,
            reply,
        };
        let relocate = ToTorrent::Relocate(Box::new(relocate));
        let sent = self.sender.send(relocate).await;
        sent.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}

/// Tells whoever removes files that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl EngineHandle {
    /// Moves what a torrent that does not run has on the disk, see [`shoal_storage::Storage::relocate`]; it is not added meanwhile.
    /// Ends when the move has, or, where nobody waits any more, goes back.
    ///
    /// # Errors
    /// Where the torrent runs, or its files cannot be moved; they stay where they are.
    pub async fn relocate_content(
        &self,
        torrent: &AddTorrent,
        to: Location,
        progress: Arc<Progress>,
    ) -> Result<(), EngineError> {
        /// Whoever goes away wants nothing moved.
        struct Cancel(Arc<Progress>);
        impl Drop for Cancel {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let wanted = wanted_files(torrent)?;
        let spec = start::content_spec(torrent, &wanted);
        let place = self.reserve(torrent.metainfo.info_hashes())?;
        let storage = self.environment.storage.clone();
        let _cancel = Cancel(Arc::clone(&progress));
        let moving = tokio::task::spawn_blocking(move || {
            let moved = storage.relocate(spec, to, &progress);
            drop(place);
            moved
        });
        Ok(moving.await.map_err(|_| EngineError::Stopped)??)
    }

    /// Whether what torrents have on the disk can be moved to these places, all of them, as far as can be told without moving anything:
    /// see [`shoal_storage::check_relocation`]. They may run.
    ///
    /// # Errors
    /// Why the first one that cannot be moved cannot.
    pub async fn check_moves(&self, moves: Vec<(AddTorrent, Location)>) -> Result<(), EngineError> {
        let checking = tokio::task::spawn_blocking(move || {
            let mut needed = Needed::default();
            for (torrent, to) in &moves {
                let spec = start::content_spec(torrent, &[]);
                check_relocation(&spec, to, &mut needed)?;
            }
            Ok(())
        });
        checking.await.map_err(|_| EngineError::Stopped)?
    }

    /// Removes what `torrent` has on the disk: its own files and nothing else, see [`shoal_storage::Storage::remove`]. It does not run,
    /// and is not added meanwhile. Returns `within` the time whatever the disk does; what is left then goes with a second call.
    ///
    /// # Errors
    /// Where the torrent runs, the priorities do not fit, the directory is missing, or the disk took too long.
    pub async fn remove_content(
        &self,
        torrent: &AddTorrent,
        fate: Fate,
        within: Duration,
    ) -> Result<Removed, EngineError> {
        let wanted = wanted_files(torrent)?;
        let spec = start::content_spec(torrent, &wanted);
        let place = self.reserve(torrent.metainfo.info_hashes())?;
        let storage = self.environment.storage.clone();
        let cancelled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&cancelled));
        let removing = tokio::task::spawn_blocking(move || {
            let removed = storage.remove(&spec, &fate, &cancelled);
            // Nobody adds it before the last of its files was touched.
            drop(place);
            removed
        });
        let removed = tokio::time::timeout(within, removing).await;
        drop(waiting);
        let removed = removed.map_err(|_| EngineError::SlowDisk)?;
        Ok(removed.map_err(|_| EngineError::Stopped)??)
    }
}

//! Moving data: a move that is wanted is taken up when the torrent rests or runs, and goes on at the next start where the node ends before.
//!
//! Invariant: of one torrent one move goes on at a time. What storage has moved is found where it is, whenever the node ends; a second
//! attempt at the same move then comes to the same.

use super::folders::target;
use super::running::{News, addition, journal};
use super::{Session, key};
use crate::entry::{Entry, Run, Source};
use crate::{places, shape};
use shoal_engine::{AddTorrent, EngineError, EngineHandle, TorrentHandle};
use shoal_session::queue;
use shoal_storage::{Location, Progress, Reason, StorageError};
use shoal_store::{Moving, TorrentOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// So many moves go on at a time: a disk that copies two things at once copies both more slowly, and one that hangs is not to keep all.
const MOVES_AT_ONCE: usize = 4;

/// How soon a move is taken up again that gave way to the torrent's beginning or end.
const MOVE_AGAIN: Duration = Duration::from_millis(200);

/// How soon a move is tried again whose disk is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// The moves of a session.
#[derive(Default)]
pub(super) struct Moves {
    /// Torrents that are to be moved, which begins when there is room and they rest or run.
    waiting: BTreeSet<i64>,
    going_on: usize,
}

/// How a torrent is moved.
enum How {
    /// The engine has it.
    Running(TorrentHandle),
    /// It rests.
    Resting(Box<AddTorrent>),
    /// Nothing of it is on the disk, as nobody knows what it is.
    Nothing,
}

/// What a move came to.
pub(super) struct Moved {
    /// What was wanted when it began.
    wanted: Moving,
    result: Result<Arrival, EngineError>,
}

/// Where data is.
struct Arrival {
    location: Location,
    /// Somebody else had moved it: what is known of the files that it was in holds no more.
    by_others: bool,
}

impl Session {
    /// Has its data moved, where that is wanted.
    pub(super) fn pursue(&mut self, id: i64) {
        let wanted = |entry: &Entry| entry.options.moving.is_some() && !entry.removed;
        if self.entries.get(&id).is_some_and(wanted) {
            self.moves.waiting.insert(id);
        }
    }

    /// Begins moves, as far as there is room.
    pub(super) fn move_all(&mut self) {
        while self.moves.going_on < MOVES_AT_ONCE
            && let Some(id) = self.moves.waiting.pop_first()
        {
            self.begin_move(id);
        }
    }

    fn begin_move(&mut self, id: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(wanted) = entry.options.moving.clone() else {
            return;
        };
        if entry.mover.is_some() || entry.removed {
            return;
        }
        let how = match (&entry.run, &entry.source) {
            (Run::Running(handle, _), Source::Metainfo(_)) => How::Running(handle.clone()),
            (Run::Idle | Run::Searching(..), Source::Magnet(_)) => How::Nothing,
            (Run::Idle, Source::Metainfo(_)) => match addition(entry, &self.journals) {
                Some(add) => How::Resting(Box::new(add)),
                None => return,
            },
            // It is taken up when it rests or runs.
            _ => return,
        };
        if let How::Resting(_) = how {
            entry.run = Run::Moving;
        }
        let progress = Arc::new(Progress::default());
        entry.mover = Some(Arc::clone(&progress));
        self.moves.going_on += 1;
        let (run, to) = (entry.run_number, target(entry, &wanted));
        let (engine, news) = (self.engine.handle(), self.news.clone());
        tokio::spawn(async move {
            let result = carry_out(&engine, how, to, wanted.own, progress).await;
            let moved = Box::new(Moved { wanted, result });
            drop(news.send((id, run, News::Moved(moved))).await);
        });
    }

    /// A move has ended.
    pub(super) async fn moved(&mut self, id: i64, run: u64, moved: Moved) {
        self.moves.going_on -= 1;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.mover = None;
        if matches!(entry.run, Run::Moving) {
            entry.run = Run::Idle;
        }
        if entry.removed {
            return self.forget(id);
        }
        let superseded = entry.options.moving.as_ref() != Some(&moved.wanted);
        match moved.result {
            // Of another run: where this one looks, it finds out.
            _ if entry.run_number != run => self.pursue(id),
            Ok(arrival) => self.arrived(id, &moved.wanted, arrival).await,
            Err(_) if superseded => self.pursue(id),
            Err(error) => self.not_moved(id, run, error).await,
        }
        self.begin(id, None);
    }

    async fn arrived(&mut self, id: i64, wanted: &Moving, arrival: Arrival) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let location = arrival.location;
        if arrival.by_others {
            // Whoever opens it next reads all that is there.
            drop(shoal_storage::forget(&journal(entry, &self.journals)));
        }
        let mut options = TorrentOptions::clone(&entry.options);
        options.renamed = places::stored(&location.renamed);
        // A person may want something else by now.
        if options.moving.as_ref() == Some(wanted) {
            options.moving = None;
            let is_complete = entry.completed_at.is_some();
            options.mark = options
                .mark
                .filter(|mark| !is_complete || places::has_marks(&options.renamed, mark));
            options.home.clone_from(&wanted.home);
            if wanted.own {
                options.rules.folder = location.directory.to_str().map(str::to_owned);
            }
        }
        entry.directory = location.directory;
        entry.options = options.into();
        entry.unmoved = None;
        // What was in its way was where it was.
        let is_well = entry.obstacle.take().is_some();
        if is_well {
            entry.failure = None;
        }
        let is_away = entry.completed_at.is_some()
            && (entry.options.home.is_some() || entry.options.mark.is_some());
        let written = self.database.moved(id, &entry.directory, &entry.options);
        if let Err(error) = written.await {
            // The next start moves it again, and finds it there.
            tracing::warn!(torrent = id, %error, "that it was moved is not written down");
        }
        if is_away {
            self.go_home(id).await;
        }
        if is_well {
            self.tell(queue::Input::Well(key(id)));
        }
        self.pursue(id);
    }

    async fn not_moved(&mut self, id: i64, run: u64, error: EngineError) {
        match &error {
            EngineError::Stopped
            | EngineError::Duplicate
            | EngineError::Storage(
                StorageError::Cancelled | StorageError::Locked(_) | StorageError::Moving(_),
            ) => return self.move_after(MOVE_AGAIN, id, run),
            _ => {}
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if is_gone(&error) {
            entry.unmoved = Some(format!("its files wait to be moved: {error}"));
            return self.move_after(LOOK_AGAIN, id, run);
        }
        entry.unmoved = Some(format!("its files were not moved: {error}"));
        let mut options = TorrentOptions::clone(&entry.options);
        options.moving = None;
        let told = vec![(id, options)];
        if let Err(error) = self.database.set_options(&told).await {
            tracing::warn!(torrent = id, %error, "that it stays is not written down");
        }
        self.heed(told);
    }

    fn move_after(&self, pause: Duration, id: i64, run: u64) {
        let news = self.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(news.send((id, run, News::MoveAgain)).await);
        });
    }

    /// The engine says where its files are: elsewhere, where an earlier life of the node moved them and could not tell.
    pub(super) async fn located(&mut self, id: i64, location: &Location) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.is_located = true;
        let renamed = places::stored(&location.renamed);
        if entry.directory == location.directory && entry.options.renamed == renamed {
            return;
        }
        let mut options = TorrentOptions::clone(&entry.options);
        options.renamed = renamed;
        entry.directory.clone_from(&location.directory);
        entry.options = options.into();
        let written = self.database.moved(id, &entry.directory, &entry.options);
        if let Err(error) = written.await {
            tracing::warn!(torrent = id, %error, "where it is is not written down");
        }
    }
}

async fn carry_out(
    engine: &EngineHandle,
    how: How,
    mut to: Location,
    said_by_person: bool,
    progress: Arc<Progress>,
) -> Result<Arrival, EngineError> {
    // Without links and `..`, as journals are named by it. One that is not there is told of by storage.
    let directory = to.directory.clone();
    let found = tokio::task::spawn_blocking(move || directory.canonicalize()).await;
    if let Ok(Ok(directory)) = found {
        to.directory = directory;
    }
    let mut by_others = false;
    let location = match how {
        How::Running(handle) => {
            let there = handle.move_to(to, progress).await?;
            Arc::unwrap_or_clone(there)
        }
        How::Resting(add) => {
            let moved = engine.relocate_content(&add, to.clone(), progress).await;
            if let Err(error) = moved {
                let gone = is_gone(&error) && said_by_person;
                let place = to.clone();
                let look = move || gone && shape::is_there(&add.metainfo, &place);
                by_others = tokio::task::spawn_blocking(look).await.unwrap_or(false);
                if !by_others {
                    return Err(error);
                }
            }
            to
        }
        How::Nothing => to,
    };
    Ok(Arrival {
        location,
        by_others,
    })
}

/// Whether something is not there that may come back.
fn is_gone(error: &EngineError) -> bool {
    let gone = [
        Reason::VolumeMissing,
        Reason::FilesMissing,
        Reason::Unreachable,
    ];
    error.reason().is_some_and(|reason| gone.contains(&reason))
}

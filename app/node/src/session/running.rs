//! What the engine runs of a session: begun, followed, told to stop, and what it comes to.
//!
//! Invariant: each run of a torrent has a number, and news of an earlier one changes nothing.

use super::moving::Moved;
use super::rates::rates;
use super::telling::verify;
use super::tracker::parsed;
use super::{Session, key, unix_now};
use crate::entry::{Entry, Run, Source};
use crate::message::Occasion;
use crate::{journal, places, urls};
use shoal_engine::{
    AddMagnet, AddTorrent, Change, CommandError, EngineError, FoundTorrent, MagnetError,
    MagnetHandle, Phase, TorrentHandle,
};
use shoal_metainfo::{Magnet, Metainfo};
use shoal_session::queue;
use shoal_storage::{Fate, Removed, home_trash};
use shoal_store::{Files, Removing, StopAt, TorrentOptions};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

/// How soon a torrent is tried again whose name is still in use.
const BEGIN_AGAIN: Duration = Duration::from_millis(200);

/// What takes longer than this waits for a disk that is slow, or does not answer.
const BEGIN_SOON: Duration = Duration::from_millis(200);

/// So many torrents of one folder are opened one after the other, on one thread.
const BEGIN_TOGETHER: usize = 64;

/// So many such batches at a time on disks that answer: more threads would make nothing faster, and each keeps memory of its own.
const BATCHES_AT_ONCE: usize = 2;

/// How long data may take to be removed before a person hears that it does not go.
const ERASE_WITHIN: Duration = Duration::from_secs(10 * 60);

/// How soon a torrent is tried again whose disk did not let it begin.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What the engine is asked to run.
enum Begin {
    Torrent(Box<AddTorrent>),
    Magnet(Box<AddMagnet>),
}

/// A run that is about to begin.
pub(super) struct Beginning {
    id: i64,
    run: u64,
    search: Option<MagnetHandle>,
}

/// What it runs.
pub(super) enum Begun {
    Torrent(TorrentHandle),
    Search(MagnetHandle),
}

/// What the engine came to, of one run of one torrent.
pub(super) enum News {
    /// The engine has it, or does not take it.
    Begun(Result<Begun, EngineError>),
    /// It could not be started, and now perhaps can.
    Again,
    /// Its data was removed, or why not.
    Erased(Result<Removed, EngineError>),
    /// The move of its data has ended.
    Moved(Box<Moved>),
    /// It could not be moved, and now perhaps can.
    MoveAgain,
    /// What was told of its files holds, or why not.
    Settled(Result<(), CommandError>),
    /// What a magnet link means.
    Found(Box<MagnetHandle>, Result<FoundTorrent, MagnetError>),
}

impl Session {
    /// Stops whatever it does.
    pub(super) fn halt(&mut self, id: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut entry.run, Run::Idle) {
            Run::Searching(task, _) => task.abort(),
            Run::Beginning => {
                if let Some(withdrawn) = &entry.withdrawn {
                    withdrawn.cancel();
                }
                entry.run = Run::Beginning;
            }
            Run::Running(handle, _) => {
                entry.run = Run::Stopping(handle.watch());
                // It hears of it when it has room for messages, and the session does not wait for that.
                tokio::spawn(async move { handle.stop().await });
            }
            other => entry.run = other,
        }
    }

    /// Starts what is wanted to run and does not. What a search has found goes on with its connections.
    pub(super) fn begin(&mut self, id: i64, search: Option<MagnetHandle>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let rests = matches!(entry.run, Run::Idle) && entry.failure.is_none();
        if !entry.due || entry.removed || !rests {
            return;
        }
        entry.run_number += 1;
        entry.run = Run::Beginning;
        let run = entry.run_number;
        self.beginning.push_back(Beginning { id, run, search });
    }

    /// Begins what is about to, as far as there is room: torrents of one folder together, as they are on one disk.
    pub(super) fn begin_all(&mut self) {
        while self.batches < BATCHES_AT_ONCE
            && let Some(first) = self.beginning.pop_front()
        {
            let mut folder = None;
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(beginning) = next.take() {
                match self.ordered(beginning) {
                    Some((id, run, Begin::Magnet(add))) => self.begin_search(id, run, *add),
                    Some((id, run, Begin::Torrent(add))) => {
                        folder.get_or_insert_with(|| add.directory.clone());
                        batch.push((id, run, *add));
                    }
                    // It is not wanted any more.
                    None => {}
                }
                let goes_along = |beginning: &mut Beginning| {
                    let entry = self.entries.get(&beginning.id);
                    let there = entry.map(|entry| &entry.directory);
                    batch.len() < BEGIN_TOGETHER && (folder.is_none() || folder.as_ref() == there)
                };
                next = self.beginning.pop_front_if(goes_along);
            }
            if !batch.is_empty() {
                self.batches += 1;
                self.begin_these(batch);
            }
        }
    }

    /// What is to be begun, as it is wanted by now.
    fn ordered(&mut self, beginning: Beginning) -> Option<(i64, u64, Begin)> {
        let Beginning { id, run, search } = beginning;
        let current = |entry: &&mut Entry| entry.run_number == run;
        let entry = self.entries.get_mut(&id).filter(current)?;
        if !entry.due || entry.removed {
            entry.run = Run::Idle;
            self.forget(id);
            return None;
        }
        let (searched_by, entry) = (entry.route.take(), self.entries.get(&id)?);
        let (route, standing) = self.routes.standing(&self.route_of(entry));
        if let Err(why) = standing {
            self.await_route(id, route, &why);
            return None;
        }
        // A search by another route is no good, and ends.
        let search = search.filter(|_| searched_by.as_ref() == Some(&route));
        let entry = self.entries.get_mut(&id)?;
        let trackers = &self.settings.add_trackers;
        let mut begin = begin(entry, &self.journals, trackers, search);
        let withdrawn = CancellationToken::new();
        match &mut begin {
            Begin::Torrent(add) => {
                add.route = Some(route.to_string());
                add.withdrawn = withdrawn.clone();
            }
            Begin::Magnet(add) => add.route = Some(route.to_string()),
        }
        entry.no_way = self.shut_ways.get(&*route).cloned();
        (entry.route, entry.withdrawn) = (Some(route), Some(withdrawn));
        if let Begin::Torrent(add) = &mut begin {
            add.limits = rates(&entry.options.rules);
            add.limit_groups = self.groups.of(&self.carriers, &entry.options);
        }
        entry.trust = false;
        // All of it is in what the engine is asked for.
        entry.told_late = false;
        Some((id, run, begin))
    }

    fn begin_search(&self, id: i64, run: u64, add: AddMagnet) {
        let (engine, news) = (self.engine.handle(), self.news.clone());
        let entry = self.entries.get(&id);
        let withdrawn = entry.and_then(|entry| entry.withdrawn.clone());
        tokio::spawn(async move {
            let begun = match withdrawn.is_some_and(|withdrawn| withdrawn.is_cancelled()) {
                true => Err(EngineError::Withdrawn),
                false => engine.add_magnet(add).await.map(Begun::Search),
            };
            drop(news.send((id, run, News::Begun(begun))).await);
        });
    }

    fn begin_these(&self, torrents: Vec<(i64, u64, AddTorrent)>) {
        let (engine, news, room) = (self.engine.handle(), self.news.clone(), self.room.clone());
        let at_once = Arc::clone(&self.at_once);
        // A disk that does not answer keeps this task, and not the session.
        tokio::spawn(async move {
            let Ok(_permit) = at_once.acquire().await else {
                return;
            };
            let (whose, torrents): (Vec<_>, Vec<_>) = torrents
                .into_iter()
                .map(|(id, run, add)| ((id, run), add))
                .unzip();
            let mut beginning = pin!(engine.add_all(torrents));
            let soon = timeout(BEGIN_SOON, &mut beginning).await;
            // Nor does it keep others.
            room.send(()).await.ok();
            let begun = match soon {
                Ok(begun) => begun,
                Err(_) => beginning.await,
            };
            for ((id, run), begun) in whose.into_iter().zip(begun) {
                let begun = News::Begun(begun.map(Begun::Torrent));
                drop(news.send((id, run, begun)).await);
            }
        });
    }

    async fn begun(&mut self, id: i64, run: u64, begun: Result<Begun, EngineError>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.withdrawn = None;
        }
        let run = match begun {
            Ok(Begun::Torrent(handle)) => return self.runs(id, handle).await,
            Ok(Begun::Search(search)) => self.wait_for(id, run, search),
            Err(error) => {
                // No two torrents of a session share a name: this one's is that of a removed one, which takes leave, or it does so itself,
                // by another route. Which route it takes then is seen when it is begun again.
                let later = matches!(
                    error,
                    EngineError::Duplicate
                        | EngineError::Withdrawn
                        | EngineError::NoRoute(_)
                        | EngineError::RouteInChange(_)
                        | EngineError::OtherRoute
                );
                if later {
                    self.again_after(BEGIN_AGAIN, id, run);
                }
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.run = Run::Idle;
                }
                if !later {
                    let obstacle = error.reason();
                    if obstacle.is_some() {
                        self.again_after(LOOK_AGAIN, id, run);
                    }
                    self.fail(id, error.to_string());
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.obstacle = obstacle;
                    }
                }
                return self.forget(id);
            }
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.run = run;
        self.halt_unwanted(id);
    }

    /// What was begun while a person changed their mind ends.
    fn halt_unwanted(&mut self, id: i64) {
        let entry = self.entries.get(&id);
        if entry.is_some_and(|entry| !entry.due || entry.removed) {
            self.halt(id);
            self.forget(id);
        }
        self.follow_route(id);
    }

    /// The engine has it. What it has come to until now was told before it was known here.
    async fn runs(&mut self, id: i64, handle: TorrentHandle) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let (torrent, state) = (handle.id(), handle.watch());
        self.running.insert(torrent, id);
        entry.is_complete = false;
        entry.runs_since = Some(Instant::now());
        entry.is_located = false;
        entry.settling = 0;
        if std::mem::take(&mut entry.recheck) {
            verify(handle.clone());
        }
        let told_late = std::mem::take(&mut entry.told_late);
        entry.run = Run::Running(handle, state.clone());
        if told_late {
            self.tell_everything(id);
        }
        self.halt_unwanted(id);
        self.pursue(id);
        let ended = self.ended_early.remove(&torrent);
        let change = Change {
            torrent,
            state,
            ended,
        };
        self.follow(vec![change]).await;
    }

    /// What has become of torrents that run.
    pub(super) async fn follow(&mut self, changes: Vec<Change>) {
        let mut over = Vec::new();
        for change in changes {
            // One that is not known yet is looked at when it is.
            let Some(&id) = self.running.get(&change.torrent) else {
                if change.ended {
                    self.ended_early.insert(change.torrent);
                }
                continue;
            };
            self.moved.insert(id);
            let (complete, location) = {
                let seen = change.state.borrow();
                (seen.complete, seen.location.clone())
            };
            let entry = self.entries.get(&id);
            // Nobody told it to end but what it was begun with.
            let has_stopped = change.ended
                && entry.is_some_and(|entry| {
                    entry.options.stop_at == Some(StopAt::Checked)
                        && matches!(entry.run, Run::Running(..))
                        && change.state.borrow().phase == Phase::Stopped
                });
            let is_complete = complete && entry.is_some_and(|entry| entry.settling == 0);
            if let (Some(location), Some(false)) = (location, entry.map(|entry| entry.is_located)) {
                self.located(id, &location).await;
            }
            if is_complete {
                self.completed(id).await;
            }
            if has_stopped {
                self.stop_here(id).await;
            }
            if change.ended {
                self.running.remove(&change.torrent);
                over.push(id);
            }
        }
        if !over.is_empty() {
            self.ended(over).await;
        }
    }

    /// Has its data removed.
    pub(super) fn erase(&mut self, id: i64, removing: Removing) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.run_number += 1;
        entry.run = Run::Erasing;
        let begin = begin(entry, &self.journals, &[], None);
        let (run, engine, news) = (entry.run_number, self.engine.handle(), self.news.clone());
        tokio::spawn(async move {
            let fate = match removing {
                Removing::Delete => Fate::Deleted,
                Removing::Trash => Fate::Trashed { home: home_trash() },
            };
            let erased = match begin {
                Begin::Torrent(add) => engine.remove_content(&add, fate, ERASE_WITHIN).await,
                // Nothing came before it was known what it is.
                Begin::Magnet(_) => Ok(Removed::default()),
            };
            drop(news.send((id, run, News::Erased(erased))).await);
        });
    }

    async fn erased(&mut self, id: i64, erased: Result<Removed, EngineError>) {
        let done = match erased {
            Ok(removed) => {
                for reason in &removed.reasons {
                    tracing::warn!(torrent = id, %reason, "something stays where the data was");
                }
                self.database
                    .remove_torrents(&[id])
                    .await
                    .map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if done.is_ok() {
            self.count_gone(&[id]).await;
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.run = Run::Idle;
        entry.removing = None;
        match done {
            Ok(()) => self.forget(id),
            Err(why) => self.keep(id, &why).await,
        }
    }

    /// A torrent whose data could not be removed stays, so that a person sees it.
    async fn keep(&mut self, id: i64, why: &str) {
        if let Err(error) = self.database.removing(&[id], None).await {
            tracing::warn!(torrent = id, %error, "that its data stays is not written down");
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.removed = false;
        entry.failure = Some(format!(
            "its data could not be removed: {why}; remove it again"
        ));
        if let Some(entry) = self.entries.get(&id) {
            let queued = self.queued(entry);
            self.tell(queue::Input::Added(key(id), queued));
            self.tell(queue::Input::Failed(key(id)));
        }
    }

    fn again_after(&self, pause: Duration, id: i64, run: u64) {
        let news = self.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(news.send((id, run, News::Again)).await);
        });
    }

    fn wait_for(&self, id: i64, run: u64, mut search: MagnetHandle) -> Run {
        let (watched, news) = (search.watch(), self.news.clone());
        let task = tokio::spawn(async move {
            let found = search.found().await;
            let found = News::Found(Box::new(search), found);
            drop(news.send((id, run, found)).await);
        });
        Run::Searching(task.abort_handle(), watched)
    }

    pub(super) async fn learn(&mut self, id: i64, run: u64, news: News) {
        let news = match news {
            // Whichever run it is in by now.
            News::Moved(moved) => return self.moved(id, run, *moved).await,
            News::MoveAgain => return self.pursue(id),
            news => news,
        };
        let current = |entry: &&mut Entry| entry.run_number == run;
        let Some(entry) = self.entries.get_mut(&id).filter(current) else {
            return;
        };
        match news {
            News::Begun(begun) => self.begun(id, run, begun).await,
            News::Again if entry.obstacle.take().is_some() => {
                entry.failure = None;
                self.tell(queue::Input::Well(key(id)));
            }
            News::Again => self.begin(id, None),
            // They were heard above.
            News::Moved(_) | News::MoveAgain => {}
            News::Settled(settled) => self.settled(id, settled).await,
            News::Erased(erased) => self.erased(id, erased).await,
            News::Found(search, found) => {
                entry.run = Run::Idle;
                match found {
                    Ok(found) => self.found(id, *search, found).await,
                    // Its route has ended.
                    Err(MagnetError::Stopped) => self.begin(id, None),
                    Err(error) => self.fail(id, error.to_string()),
                }
            }
        }
    }

    /// Everything wanted is there, for the first time in this run.
    pub(super) async fn completed(&mut self, id: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut entry.is_complete, true) {
            return;
        }
        let (totals, seed_only) = (entry.totals(), entry.options.seed_only);
        // Most that run were complete in an earlier life of the node, which is written down.
        if entry.completed_at.is_none() {
            if let (true, Run::Running(handle, _)) =
                (self.settings.recheck_when_complete, &entry.run)
            {
                let handle = handle.clone();
                // The session does not wait for a torrent.
                tokio::spawn(async move { handle.verify().await });
            }
            let at = unix_now();
            entry.completed_at = Some(at);
            if let Err(error) = self.database.completed(id, at).await {
                tracing::warn!(%error, "a completion is not written down");
            }
            self.write_totals(&[(id, totals)]).await;
            // What was given to be served was complete before.
            if !seed_only {
                self.happened(id, Occasion::Complete).await;
            }
        }
        self.tell(queue::Input::Work(key(id), queue::Work::Seed));
        self.go_home(id).await;
    }

    /// Their runs are over.
    async fn ended(&mut self, ids: Vec<i64>) {
        let mut changed = Vec::new();
        for &id in &ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.ended();
                let totals = entry.totals();
                if totals != entry.written {
                    changed.push((id, totals));
                }
            }
        }
        // All at once: a person may have paused thousands.
        self.write_totals(&changed).await;
        self.write_shares(Some(&ids)).await;
        for id in ids {
            let entry = self.entries.get(&id);
            let failed = entry.is_some_and(|entry| entry.failure.is_some());
            self.forget(id);
            match failed {
                true => self.tell(queue::Input::Failed(key(id))),
                false => self.begin(id, None),
            }
            self.pursue(id);
        }
    }

    /// A magnet link has become a torrent.
    async fn found(&mut self, id: i64, search: MagnetHandle, found: FoundTorrent) {
        let hashes = found.metainfo.info_hashes();
        self.known(id, &found.metainfo).await;
        let kept = self.database.found(id, hashes, &found.file).await;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Err(error) = kept {
            return self.fail(id, error.to_string());
        }
        entry.hashes = hashes;
        entry.source = Source::Metainfo(found.metainfo);
        let stops = entry.options.stop_at == Some(StopAt::Metadata);
        self.name_journal(id).await;
        match stops {
            true => self.stop_here(id).await,
            false => self.begin(id, Some(search)),
        }
        self.pursue(id);
    }
}

/// What the completion journal of a torrent is called.
pub(super) fn journal_name(entry: &Entry) -> String {
    let named = entry.options.journal.clone();
    named.unwrap_or_else(|| journal::file_name(entry.hashes.primary(), &entry.directory))
}

impl Session {
    /// It is known what a torrent is: which of it is fetched, and under which names. That is in the database before what it is, so that the
    /// next start fetches no more.
    async fn known(&mut self, id: i64, metainfo: &Metainfo) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let mut selection = entry.selection.clone();
        // What the link selects holds where nobody has said more.
        if let (Source::Magnet(magnet), None) = (&entry.source, &selection) {
            selection = selected(magnet, metainfo);
        }
        let mut options = TorrentOptions::clone(&entry.options);
        self.shape(metainfo, &entry.directory, &mut selection, &mut options);
        let files = Files {
            selection,
            sequential: entry.sequential,
            options,
            more: false,
        };
        let told = [(id, files)];
        if let Err(error) = self.database.set_files(&told).await {
            tracing::warn!(torrent = id, %error, "what of it is fetched is not written down");
        }
        let [(_, files)] = told;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.selection = files.selection;
            entry.options = files.options.into();
        }
    }
}

pub(super) fn journal(entry: &Entry, journals: &Path) -> PathBuf {
    journals.join(journal_name(entry))
}

/// What the engine has to know of a torrent that does not run to find its data.
pub(super) fn addition(entry: &Entry, journals: &Path) -> Option<AddTorrent> {
    match begin(entry, journals, &[], None) {
        Begin::Torrent(add) => Some(*add),
        Begin::Magnet(_) => None,
    }
}

fn begin(
    entry: &Entry,
    journals: &Path,
    trackers: &[String],
    search: Option<MagnetHandle>,
) -> Begin {
    // Those of a private torrent are its own alone (BEP 27).
    let trackers = if entry.is_private() { &[] } else { trackers };
    let trackers = entry.options.more_trackers.iter().chain(trackers);
    let mut trackers: Vec<Url> = trackers.filter_map(|url| url.parse().ok()).collect();
    let told = entry.options.trackers.as_ref().map(parsed);
    match &entry.source {
        Source::Metainfo(metainfo) => {
            let mut add = AddTorrent::new(Arc::clone(metainfo), entry.directory.clone());
            add.priorities = entry.file_priorities();
            add.web_seeds = urls::parsed(&entry.options.web_seeds);
            add.renamed = places::paths(&entry.options.renamed);
            add.sequential = entry.sequential;
            add.first_last = entry.options.first_last;
            add.preallocate = entry.options.preallocate;
            add.max_connections = entry.options.max_peers;
            add.max_uploads = entry.options.max_slots;
            add.super_seed = entry.options.super_seed;
            add.trackers = trackers;
            add.tiers = told;
            add.without_web_seeds = urls::parsed(&entry.options.without_web_seeds);
            add.seed_only = entry.options.seed_only;
            add.accept_missing = entry.recheck;
            add.trust = entry.trust;
            add.until_checked = entry.options.stop_at == Some(StopAt::Checked);
            add.peers = entry.peers.clone();
            add.journal = Some(journal(entry, journals));
            add.search = search;
            Begin::Torrent(Box::new(add))
        }
        Source::Magnet(magnet) => Begin::Magnet(Box::new(AddMagnet {
            magnet: match told {
                Some(tiers) => {
                    trackers = tiers.into_iter().flatten().collect();
                    Magnet {
                        trackers: Vec::new(),
                        ..(**magnet).clone()
                    }
                }
                None => (**magnet).clone(),
            },
            peers: entry.peers.clone(),
            trackers,
            known: None,
            route: None,
        })),
    }
}

/// For each file whether the link selects it (BEP 53); `None` is all.
fn selected(magnet: &Magnet, metainfo: &Metainfo) -> Option<Vec<bool>> {
    let ranges = magnet.selected.as_ref()?;
    let files = (0u32..).zip(metainfo.files());
    let wanted = files
        .map(|(index, file)| !file.padding && ranges.iter().any(|range| range.contains(&index)));
    let wanted: Vec<bool> = wanted.collect();
    // A link that selects nothing that there is means nothing by it.
    wanted.contains(&true).then_some(wanted)
}

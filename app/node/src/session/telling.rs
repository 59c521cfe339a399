//! What a person tells of torrents that are there: that they rest or run, where they stand in the queue, what they are called and
//! belong to, and that they are to be forgotten.
//!
//! Invariant: what is told of several torrents is told of all of them or of none.

use super::folders::Folders;
use super::running::journal;
use super::{Answer, NodeError, Session, id_of, key};
use crate::connections;
use crate::entry::{Entry, Run};
use crate::message::{Change, Fate, Shift};
use shoal_engine::TorrentHandle;
use shoal_session::TorrentKey;
use shoal_session::queue::{self, Then};
use shoal_store::{Removing, TorrentOptions, Wish};
use std::collections::BTreeSet;

/// More tags than a person reads.
const MAX_TAGS: usize = 64;

/// Names and remarks in the list.
const MAX_TEXT_BYTES: usize = 4096;

impl Session {
    pub(super) async fn wish(
        &mut self,
        words: &[String],
        wish: Wish,
    ) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        self.wish_of(&ids, wish).await?;
        Ok(ids)
    }

    /// Writes down what is wished of torrents, and has it done.
    pub(super) async fn wish_of(&mut self, ids: &[i64], wish: Wish) -> Result<(), NodeError> {
        self.database.wish(ids, wish).await?;
        for &id in ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            entry.wish = wish;
            if wish != Wish::Paused {
                entry.failure = None;
                entry.obstacle = None;
                self.tell(queue::Input::Well(key(id)));
            }
            let told = self.wish_at_this_hour(wish);
            self.tell(queue::Input::Wish(key(id), told));
        }
        // All at once: a person may have paused thousands.
        self.write_shares(Some(ids)).await;
        Ok(())
    }

    /// A torrent that was to stop by itself has come that far, and rests from here on as if a person paused it.
    pub(super) async fn stop_here(&mut self, id: i64) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let mut options = TorrentOptions::clone(&entry.options);
        options.stop_at = None;
        let told = vec![(id, options)];
        // The wish before: cut off between the two, it stops once more where it has stopped already.
        let done = match self.wish_of(&[id], Wish::Paused).await {
            Ok(()) => self
                .database
                .set_options(&told)
                .await
                .map_err(NodeError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(torrent = id, %error, "that it stops is not written down");
        }
        self.heed(told);
    }

    /// Has torrents verified: at once where they run, or else when they do.
    pub(super) fn recheck(&mut self, words: &[String]) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        for &id in &ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            match &entry.run {
                Run::Running(handle, _) => verify(handle.clone()),
                _ => entry.recheck = true,
            }
            // What is missing is taken for gone, and so keeps it from nothing.
            if entry.obstacle.take().is_some() {
                entry.failure = None;
                self.tell(queue::Input::Well(key(id)));
            }
        }
        Ok(ids)
    }

    /// Has torrents announced.
    pub(super) fn announce(&self, words: &[String]) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        for id in &ids {
            if let Some(Run::Running(handle, _)) = self.entries.get(id).map(|entry| &entry.run) {
                let handle = handle.clone();
                // The session does not wait for a torrent.
                tokio::spawn(async move { handle.reannounce(None).await });
            }
        }
        Ok(ids)
    }

    pub(super) async fn shift(
        &mut self,
        words: &[String],
        to: Shift,
    ) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        let keys = ids.iter().copied().map(key).collect();
        let to = match to {
            Shift::Top => queue::Shift::Top,
            Shift::Up => queue::Shift::Up,
            Shift::Down => queue::Shift::Down,
            Shift::Bottom => queue::Shift::Bottom,
        };
        self.move_in_queue(keys, to).await?;
        Ok(ids)
    }

    /// The one thing that is in the queue before it is in the database, as the queue alone knows who comes where.
    pub(super) async fn move_in_queue(
        &mut self,
        keys: Vec<TorrentKey>,
        to: queue::Shift,
    ) -> Result<(), NodeError> {
        self.tell(queue::Input::Move(keys, to));
        let order: Vec<i64> = self.queue.order().into_iter().map(id_of).collect();
        self.database.order(&order).await?;
        Ok(())
    }

    pub(super) async fn change(&mut self, change: Change) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(&change.torrents)?;
        let mut told = Vec::new();
        for &id in &ids {
            if let Some(entry) = self.entries.get(&id) {
                let held = self.carriers.effective(&entry.options, &self.settings);
                let options = self.changed(&entry.options, &change)?;
                let when = self.settings.when_category_set;
                told.push((id, self.go_along(entry, &Folders::of(&held), options, when)));
            }
        }
        self.database.set_options(&told).await?;
        self.heed(told);
        Ok(ids)
    }

    /// Goes by what was told of torrents, which is in the database.
    pub(super) fn heed(&mut self, told: Vec<(i64, TorrentOptions)>) {
        for (id, options) in told {
            if let Some(entry) = self.entries.get_mut(&id) {
                if let Some(progress) = &entry.mover
                    && entry.options.moving != options.moving
                {
                    progress.cancel();
                }
                let before = std::mem::replace(&mut entry.options, options.into());
                let super_seed = entry.options.super_seed;
                if before.super_seed != super_seed {
                    self.heed_super_seed(id, super_seed);
                }
            }
            self.rules_changed(id);
            self.pursue(id);
        }
    }

    fn changed(
        &self,
        options: &TorrentOptions,
        change: &Change,
    ) -> Result<TorrentOptions, NodeError> {
        let mut options = options.clone();
        if let Some(name) = text(change.name.as_deref())? {
            options.name = name;
        }
        if let Some(comment) = text(change.comment.as_deref())? {
            options.comment = comment;
        }
        if let Some(category) = &change.category {
            options.category = Some(category.clone()).filter(|category| !category.is_empty());
        }
        if let Some(tags) = &change.tags {
            options.tags.clone_from(tags);
        }
        options.tags.extend(change.tags_too.iter().cloned());
        options.tags.retain(|tag| !change.tags_not.contains(tag));
        let category = change.category.as_deref().filter(|name| !name.is_empty());
        self.check_carriers(category, &options.tags)?;
        if let Some(word) = ["folder", "incomplete"]
            .into_iter()
            .find(|word| change.rules.contains_key(*word))
        {
            let what = format!("{word}: say where data lies with `shoal move`, which moves it");
            return Err(NodeError::Usage(what));
        }
        connections::tell_torrent(&mut options, &change.rules).map_err(NodeError::Usage)?;
        self.routes.check(&change.rules, &options.rules)?;
        Ok(options)
    }

    /// Whether there are such a category and tags.
    pub(super) fn check_carriers(
        &self,
        category: Option<&str>,
        tags: &BTreeSet<String>,
    ) -> Result<(), NodeError> {
        if let Some(name) = category.filter(|name| !self.carriers.categories.contains_key(*name)) {
            return Err(NodeError::NoCarrier("category", name.to_owned()));
        }
        if let Some(name) = tags
            .iter()
            .find(|name| !self.carriers.tags.contains_key(*name))
        {
            return Err(NodeError::NoCarrier("tag", name.clone()));
        }
        if tags.len() > MAX_TAGS {
            let what = format!("{MAX_TAGS} tags are the most of a torrent");
            return Err(NodeError::Usage(what));
        }
        Ok(())
    }

    /// The answer shows them as they were.
    pub(super) async fn remove(&mut self, words: &[String], data: Option<Fate>) -> Answer {
        let ids = self.resolve(words)?;
        let shown = self.torrents(&ids);
        let removing = data.map(|fate| match fate {
            Fate::Delete => Removing::Delete,
            Fate::Trash => Removing::Trash,
        });
        self.remove_these(&ids, removing).await?;
        Ok(shown)
    }

    async fn remove_these(
        &mut self,
        ids: &[i64],
        removing: Option<Removing>,
    ) -> Result<(), NodeError> {
        match removing {
            Some(_) => self.database.removing(ids, removing).await?,
            None => {
                self.database.remove_torrents(ids).await?;
                self.count_gone(ids).await;
            }
        }
        for &id in ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.removed = true;
                entry.removing = removing;
                // It goes from where it is.
                if let Some(progress) = &entry.mover {
                    progress.cancel();
                }
            }
            self.tell(queue::Input::Removed(key(id)));
            self.halt(id);
            self.forget(id);
        }
        Ok(())
    }

    /// Drops an entry that is to be forgotten, once it has stopped, with its data where that is wanted, and its journal.
    pub(super) fn forget(&mut self, id: i64) {
        let rests = |entry: &&Entry| entry.removed && matches!(entry.run, Run::Idle);
        let Some(entry) = self.entries.get(&id).filter(rests) else {
            return;
        };
        if let Some(removing) = entry.removing {
            return self.erase(id, removing);
        }
        // The same torrent may have been added again meanwhile, and goes on with the journal.
        let mut others = self.entries.values().filter(|other| other.id != id);
        let path = journal(entry, &self.journals);
        if !others.any(|other| journal(other, &self.journals) == path) {
            // Whoever opens it next finds out what it is worth.
            drop(shoal_storage::forget(&path));
        }
        self.entries.remove(&id);
    }

    /// Does what follows where a torrent has given enough. What fails is tried again at the next start, as the limit is reached then too.
    pub(super) async fn follow_limits(&mut self) {
        for (id, limit, then) in std::mem::take(&mut self.reached) {
            tracing::info!(torrent = id, ?limit, "a share limit is reached");
            let done = match then {
                Then::Pause => {
                    self.write_shares(Some(&[id])).await;
                    Ok(())
                }
                Then::Remove => self.remove_these(&[id], None).await,
                Then::RemoveData => self.remove_these(&[id], Some(Removing::Delete)).await,
                Then::SuperSeed => self.super_seed(id).await,
            };
            if let Err(error) = done {
                tracing::warn!(torrent = id, %error, "what follows a share limit was not done");
            }
        }
    }

    /// From here on it is shown piece by piece, until a person says otherwise.
    async fn super_seed(&mut self, id: i64) -> Result<(), NodeError> {
        let Some(entry) = self.entries.get(&id) else {
            return Ok(());
        };
        let options = TorrentOptions {
            super_seed: true,
            ..TorrentOptions::clone(&entry.options)
        };
        let told = vec![(id, options)];
        self.database.set_options(&told).await?;
        self.heed(told);
        Ok(())
    }

    /// Whether it is shown piece by piece, for as long as it runs.
    pub(super) fn heed_super_seed(&mut self, id: i64, super_seed: bool) {
        if let Some(handle) = self.engaged(id) {
            Session::tell_torrent(async move { handle.set_super_seed(super_seed).await });
        }
    }
}

/// The session does not wait for a torrent, which may have ended.
pub(super) fn verify(handle: TorrentHandle) {
    tokio::spawn(async move {
        drop(handle.accept_missing().await);
        drop(handle.verify().await);
    });
}

/// What a text is to be: nothing where it is not said, the torrent's own where it is empty.
#[expect(
    clippy::option_option,
    reason = "unsaid, taken back, and said are three things"
)]
fn text(said: Option<&str>) -> Result<Option<Option<String>>, NodeError> {
    match said {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) => {
            let what =
                format!("a name or remark is one line of {MAX_TEXT_BYTES} bytes at the most");
            Err(NodeError::Usage(what))
        }
        Some(text) => Ok(Some(Some(text.to_owned()))),
    }
}

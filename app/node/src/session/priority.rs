//! How much files are wanted, and in which order their pieces are fetched.

use super::running::News;
use super::{NodeError, Session, key};
use crate::entry::{Entry, Source};
use crate::message::Prioritize;
use crate::wanted::Wanted;
use shoal_engine::{CommandError, FilePriority, TorrentHandle};
use shoal_session::queue;
use shoal_store::{Files, TorrentOptions};

impl Session {
    pub(super) async fn prioritize(&mut self, told: Prioritize) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(&told.torrents)?;
        let mut all = Vec::new();
        for &id in &ids {
            if let Some(entry) = self.entries.get(&id) {
                all.push((id, files(entry, &told)?));
            }
        }
        self.database.set_files(&all).await?;
        for (id, files) in all {
            self.heed_files(id, files);
        }
        Ok(ids)
    }

    /// Goes by what was told, which is in the database.
    fn heed_files(&mut self, id: i64, told: Files) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let before = entry.file_priorities();
        let Files {
            selection,
            sequential,
            options,
            more,
        } = told;
        entry.selection = selection;
        entry.sequential = sequential;
        entry.options = options.into();
        if more {
            entry.completed_at = None;
            entry.is_complete = false;
        }
        let after = entry.file_priorities();
        let is_download = more && !entry.options.seed_only;
        if let Some(handle) = self.engaged(id) {
            if before != after {
                self.settle(id, handle.clone());
            }
            self.order(id, handle);
        }
        if is_download {
            self.tell(queue::Input::Work(key(id), queue::Work::Download));
        }
    }

    /// The torrent hears in which order pieces are wanted.
    pub(super) fn order(&self, id: i64, handle: TorrentHandle) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let (sequential, first_last) = (entry.sequential, entry.options.first_last);
        Session::tell_torrent(async move {
            handle.set_sequential(sequential).await?;
            handle.set_first_last(first_last).await
        });
    }

    /// The torrent hears how much its files are wanted. Until that holds, its completeness is that of what was wanted before.
    pub(super) fn settle(&mut self, id: i64, handle: TorrentHandle) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Source::Metainfo(metainfo) = &entry.source else {
            return;
        };
        let count = metainfo.files().len();
        let files = entry.file_priorities();
        let files = files.unwrap_or_else(|| vec![FilePriority::Normal; count]);
        entry.settling += 1;
        let (run, news) = (entry.run_number, self.news.clone());
        Session::tell_torrent(async move {
            let settled = handle.set_priorities(files).await;
            drop(news.send((id, run, News::Settled(settled))).await);
            Ok(())
        });
    }

    /// What was told of files holds, or not before the next run.
    pub(super) async fn settled(&mut self, id: i64, settled: Result<(), CommandError>) {
        if let Err(error) = settled
            && !matches!(error, CommandError::Overtaken | CommandError::Gone)
        {
            tracing::warn!(torrent = id, %error, "what was told of its files does not hold yet");
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.settling = entry.settling.saturating_sub(1);
            if entry.completes() {
                self.completed(id).await;
            }
        }
    }
}

/// What is to be stored of them.
fn files(entry: &Entry, told: &Prioritize) -> Result<Files, NodeError> {
    let mut options = TorrentOptions::clone(&entry.options);
    options.first_last = told.first_last.unwrap_or(options.first_last);
    let mut wanted = entry.wanted();
    let more = match (&entry.source, told.files.is_empty()) {
        (_, true) => false,
        (Source::Metainfo(metainfo), false) => {
            let name = entry.name();
            let more = wanted.tell(metainfo, &told.files);
            more.map_err(|error| NodeError::Usage(format!("{name}: {error}")))?
        }
        (Source::Magnet(_), false) => {
            let name = entry.name();
            let what =
                format!("{name}: what its files are is not known yet; say it when they are shown");
            return Err(NodeError::Usage(what));
        }
    };
    let Wanted {
        selection,
        priorities,
    } = wanted;
    options.priorities = priorities;
    Ok(Files {
        selection,
        sequential: told.sequential.unwrap_or(entry.sequential),
        options,
        more,
    })
}

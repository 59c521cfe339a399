//! How a torrent that the engine has hears what was told of it.
//!
//! Invariant: a torrent hears things in the order in which they were told, and the session waits for none. What is told of one that the
//! engine is just asked to run, it hears as soon as it is known there.

use super::Session;
use crate::entry::Run;
use shoal_engine::{CommandError, TorrentHandle};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

impl Session {
    /// The torrent, where it is one that can hear of something.
    pub(super) fn engaged(&mut self, id: i64) -> Option<TorrentHandle> {
        let entry = self.entries.get_mut(&id)?;
        match &entry.run {
            Run::Running(handle, _) => Some(handle.clone()),
            Run::Beginning => {
                entry.told_late = true;
                None
            }
            Run::Idle | Run::Searching(..) | Run::Moving | Run::Stopping(_) | Run::Erasing => None,
        }
    }

    /// Tells a torrent something. Where it has ended, its next run begins with that.
    pub(super) fn tell_torrent(
        telling: impl Future<Output = Result<(), CommandError>> + Send + 'static,
    ) {
        // The first look puts it into the queue of those who wait for room there.
        let mut telling = Box::pin(tokio::task::unconstrained(telling));
        let first = Pin::new(&mut telling).poll(&mut Context::from_waker(Waker::noop()));
        match first {
            Poll::Ready(told) => heard(told),
            Poll::Pending => drop(tokio::spawn(async move { heard(telling.await) })),
        }
    }

    /// Everything that can be told of it, as it may have missed some.
    pub(super) fn tell_everything(&mut self, id: i64) {
        let Some(handle) = self.engaged(id) else {
            return;
        };
        self.rules_changed(id);
        let options = self.entries.get(&id).map(|entry| &entry.options);
        if let Some(super_seed) = options.map(|options| options.super_seed) {
            self.heed_super_seed(id, super_seed);
        }
        self.heed_trackers(id);
        self.heed_peers(id);
        self.tell_web_seeds(id);
        self.settle(id, handle.clone());
        self.order(id, handle);
    }
}

fn heard(told: Result<(), CommandError>) {
    if let Err(error) = told
        && !matches!(error, CommandError::Gone)
    {
        tracing::warn!(%error, "a torrent did not do what it was told");
    }
}

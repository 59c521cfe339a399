//! A torrent's web seeds: a bounded number is asked at a time, and where one is given up the next has its turn.
//!
//! Invariant: each is asked by at most one session at a time, and never again once it was given up.

use super::connections::Peer;
use super::{ToTorrent, TorrentTask};
use crate::command::CommandError;
use crate::mailbox::Mailbox;
use crate::snapshot::WebSeedLine;
use crate::web_seed::{CHANGED, MAX_WEB_SEEDS, Place, Surroundings, WebTask};
use crate::whole;
use shoal_swarm::torrent::Input;
use shoal_swarm::{CloseReason, PeerKey, WebSeedIndex};
use std::sync::Arc;
use url::Url;

/// Origins that are asked at a time. More do not make a download faster, and each is somebody's bill.
const MAX_ACTIVE: usize = 8;

/// Origins of which a failure tells.
const MAX_REASONS: usize = 3;

/// One web seed as its torrent knows it.
#[derive(Debug)]
struct Entry {
    place: Place,
    /// Its session, while it is asked.
    key: Option<PeerKey>,
    /// What went wrong with it last.
    message: Option<String>,
    begun: bool,
    /// A person does without it. It keeps its place, by which it is blamed.
    removed: bool,
}

/// All of them, in the order of the torrent.
#[derive(Debug, Default)]
pub(super) struct WebSeeds(Vec<Entry>);

impl WebSeeds {
    pub(super) fn new(places: Vec<Place>) -> Self {
        let entry = |place| Entry {
            place,
            key: None,
            message: None,
            begun: false,
            removed: false,
        };
        WebSeeds(places.into_iter().map(entry).collect())
    }

    /// The next to be asked, if there is room for one.
    fn next(&self) -> Option<usize> {
        let active = self.0.iter().filter(|entry| entry.key.is_some()).count();
        let next = || {
            self.0
                .iter()
                .position(|entry| !entry.begun && !entry.removed)
        };
        (active < MAX_ACTIVE).then(next)?
    }

    /// All that a person has not done without.
    pub(super) fn into_places(self) -> Vec<Place> {
        let there = self.0.into_iter().filter(|entry| !entry.removed);
        there.map(|entry| entry.place).collect()
    }

    /// Whether one was asked.
    pub(super) fn any_begun(&self) -> bool {
        self.0.iter().any(|entry| entry.begun)
    }

    fn of(&mut self, key: PeerKey) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.key == Some(key))
    }

    pub(super) fn on_news(&mut self, key: PeerKey, news: String) {
        if let Some(entry) = self.of(key) {
            entry.message = Some(news);
        }
    }

    /// One more; one that was given up or removed is asked again.
    pub(super) fn add(&mut self, url: Url) -> Result<(), CommandError> {
        let place = Place::named(url);
        let known = |entry: &&mut Entry| entry.place.asked == place.asked;
        if let Some(entry) = self.0.iter_mut().find(known) {
            // One that is being closed is asked anew all the same.
            let was_removed = std::mem::take(&mut entry.removed);
            entry.begun = entry.key.is_some() && !was_removed;
            return Ok(());
        }
        if self.0.len() >= MAX_WEB_SEEDS {
            return Err(CommandError::TooManyWebSeeds(self.0.len()));
        }
        let mut added = WebSeeds::new(vec![place]);
        self.0.append(&mut added.0);
        Ok(())
    }

    /// Those that are asked are to be asked anew when their sessions have ended.
    pub(super) fn rest(&mut self) {
        for entry in self.0.iter_mut().filter(|entry| entry.key.is_some()) {
            entry.begun = false;
        }
    }

    /// Its session has ended.
    pub(super) fn on_left(&mut self, key: PeerKey) {
        if let Some(entry) = self.of(key) {
            entry.key = None;
        }
    }
}

impl TorrentTask {
    /// Begins to ask the next web seeds, as far as there is room.
    pub(super) fn start_web_seeds(&mut self) {
        // Whoever has everything asks nobody.
        while !self.stopping
            && self.verifying.is_none()
            && !self.parts.seed_only
            && !self.torrent.is_complete()
            && let Some(at) = self.web_seeds.next()
        {
            self.start_web_seed(at);
        }
    }

    pub(super) fn remove_web_seed(&mut self, url: &Url) {
        let entries = self.web_seeds.0.iter_mut();
        let found = entries.filter(|entry| entry.place.is_at(url));
        let keys: Vec<Option<PeerKey>> = found
            .map(|entry| {
                entry.removed = true;
                entry.key
            })
            .collect();
        for peer in keys.into_iter().flatten() {
            let reason = CloseReason::Useless;
            self.handle(Input::Disconnect { peer, reason });
        }
    }

    fn start_web_seed(&mut self, at: usize) {
        let key = self.torrent.next_key();
        let mailbox = Mailbox::new();
        self.peers.insert(key, Peer::web_seed(mailbox.clone()));
        let entry = &mut self.web_seeds.0[at];
        (entry.begun, entry.key) = (true, Some(key));
        let place = entry.place.clone();
        let seed = WebSeedIndex(u32::try_from(at).unwrap_or(u32::MAX));
        let parts = &self.parts;
        let around = Surroundings {
            clock: parts.environment.clock,
            storage: parts.environment.storage.clone(),
            transport: parts.environment.transport.clone(),
            metainfo: Arc::clone(&parts.metainfo),
            content: parts.on_disk.content.clone(),
            limiter: parts.limiter.clone(),
            torrent: parts.inbox.sender(),
        };
        let config = place.config(&parts.metainfo, &parts.layout, parts.id.0 ^ key.0);
        self.handle(Input::WebSeed { peer: key, seed });
        // The machine refused it, as the torrent stops.
        if !self.peers.contains_key(&key) {
            return self.web_seeds.on_left(key);
        }
        let task = move || WebTask::new(key, place, config, mailbox, around).run();
        self.parts
            .environment
            .pool
            .next()
            .spawn(async move { task().await });
    }

    /// Content without a torrent can come from its origins only: where all were given up, nothing will come any more.
    pub(super) fn review_sources(&mut self) {
        let over = self.web_seeds.0.iter().all(|entry| entry.key.is_none());
        if self.stopping
            || self.verifying.is_some()
            || !over
            || self.torrent.is_complete()
            || !self.parts.metainfo.is_plain()
        {
            return;
        }
        let last = self.web_seeds.0.iter().rev();
        let reasons = last.filter_map(|entry| {
            let message = entry.message.as_ref()?;
            Some(format!("{}: {message}", entry.place.site()))
        });
        let reasons: Vec<String> = reasons.take(MAX_REASONS).collect();
        let advice = if reasons.iter().any(|reason| reason.ends_with(CHANGED)) {
            "move away what is there, and begin anew"
        } else {
            "nothing verified is lost; mend that, and go on"
        };
        self.failed = Some(format!(
            "cannot download it: {}; {advice}",
            reasons.join("; ")
        ));
        self.report_early = true;
    }

    /// Checks what is promised of whole files, once everything is there.
    pub(super) fn check_whole(&self) {
        if !self.unchecked || !self.torrent.is_complete() || self.parts.seed_only {
            return;
        }
        let (metainfo, content) = (
            Arc::clone(&self.parts.metainfo),
            self.parts.on_disk.content.clone(),
        );
        let sender = self.parts.inbox.sender();
        let checking = tokio::task::spawn_blocking(move || whole::check(&metainfo, &content));
        tokio::spawn(async move {
            if let Ok(outcome) = checking.await {
                drop(sender.send(ToTorrent::Checked(outcome)).await);
            }
        });
    }

    pub(super) fn on_checked(&mut self, outcome: Result<(), String>) {
        self.report_early = true;
        match outcome {
            Ok(()) => self.unchecked = false,
            Err(reason) => {
                if !self.parts.metainfo.verifier().can_tell() {
                    // Nobody knows which part is wrong: none of it is kept as good.
                    let all = self.parts.layout.pieces().collect();
                    let _check = self.parts.on_disk.content.verify(all);
                }
                self.failed = Some(reason);
            }
        }
    }

    /// What there is to show of them.
    pub(super) fn web_seed_lines(&self) -> Vec<WebSeedLine> {
        let summaries: Vec<_> = self.torrent.web_seeds().collect();
        let line = |entry: &Entry| {
            let summary = summaries.iter().find(|one| Some(one.key) == entry.key);
            WebSeedLine {
                host: entry.place.site(),
                working: summary.is_some_and(|one| !one.pauses),
                message: entry.message.clone(),
                downloaded_bytes: summary.map_or(0, |one| one.report.downloaded_bytes),
                download_rate: summary.map_or(0, |one| one.report.download_rate),
            }
        };
        self.web_seeds
            .0
            .iter()
            .filter(|entry| entry.begun && !entry.removed)
            .map(line)
            .collect()
    }
}

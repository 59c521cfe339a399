//! The trackers of torrents: what they are, what a person changes of them, and how things stand with each.
//!
//! Invariant: once a person has changed the trackers of a torrent, the list in its options is all of them, and neither the torrent nor the
//! settings have a say any more. No URL is part of an error.

use super::{Answer, NodeError, Session};
use crate::entry::{Entry, Run, Source};
use crate::message::{Reply, Tracker, TrackerRequest, TrackerState};
use crate::urls;
use shoal_engine::{TrackerLine, TrackerState as Standing};
use shoal_store::TorrentOptions;
use std::time::Instant;
use url::Url;

/// As many as an engine announces to.
const MAX_TRACKERS: usize = 100;

type Tiers = Vec<Vec<String>>;

impl Session {
    pub(super) async fn tracker(&mut self, request: TrackerRequest) -> Answer {
        let ids = match request {
            TrackerRequest::List { torrents } => self.resolve(&torrents)?,
            TrackerRequest::Add {
                torrents,
                urls,
                tier,
            } => {
                let urls = readable(&urls)?;
                let change = |tiers: &mut Tiers| insert(tiers, &urls, tier);
                self.set_trackers(&torrents, change).await?
            }
            TrackerRequest::Set {
                torrents,
                url,
                to,
                tier,
            } => {
                let to = readable(to.as_slice())?.pop();
                let change = |tiers: &mut Tiers| replace(tiers, &url, to.as_deref(), tier);
                self.set_trackers(&torrents, change).await?
            }
            TrackerRequest::Remove { torrents, urls } => {
                let change = |tiers: &mut Tiers| urls.iter().try_for_each(|url| take(tiers, url));
                self.set_trackers(&torrents, change).await?
            }
            TrackerRequest::Announce { torrents, url } => {
                let ids = self.announce_to(&torrents, &url)?;
                return Ok(self.torrents(&ids));
            }
        };
        Ok(self.shown_trackers(&ids))
    }

    /// All of the torrents get other trackers, or none does.
    async fn set_trackers(
        &mut self,
        words: &[String],
        change: impl Fn(&mut Tiers) -> Result<(), String>,
    ) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        let mut told = Vec::new();
        for &id in &ids {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            let mut tiers = entry.tiers(&self.settings.add_trackers);
            let changed = change(&mut tiers);
            changed.map_err(|error| NodeError::Usage(format!("{}: {error}", entry.name())))?;
            tiers.retain(|tier| !tier.is_empty());
            if tiers.iter().map(Vec::len).sum::<usize>() > MAX_TRACKERS {
                let what = format!("{MAX_TRACKERS} trackers are the most of a torrent");
                return Err(NodeError::Usage(what));
            }
            let options = TorrentOptions {
                trackers: Some(tiers),
                more_trackers: Vec::new(),
                ..TorrentOptions::clone(&entry.options)
            };
            told.push((id, options));
        }
        self.database.set_options(&told).await?;
        for (id, options) in told {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.options = options.into();
            }
            self.heed_trackers(id);
        }
        Ok(ids)
    }

    /// The torrent hears which trackers it has. Who looks for it by its link begins anew with them.
    pub(super) fn heed_trackers(&mut self, id: i64) {
        let entry = self.entries.get(&id);
        let Some(tiers) = entry.and_then(|entry| entry.options.trackers.as_ref()) else {
            return;
        };
        let tiers = parsed(tiers);
        if let Some(handle) = self.engaged(id) {
            Session::tell_torrent(async move { handle.set_trackers(tiers).await });
        }
        let run = self.entries.get(&id).map(|entry| &entry.run);
        if matches!(run, Some(Run::Searching(..))) {
            self.halt(id);
            self.begin(id, None);
        }
    }

    fn announce_to(&self, words: &[String], url: &str) -> Result<Vec<i64>, NodeError> {
        let ids = self.resolve(words)?;
        let entries = || ids.iter().filter_map(|id| self.entries.get(id));
        let known = |entry: &Entry| {
            let tiers = entry.tiers(&self.settings.add_trackers);
            place(&tiers, url).is_some()
        };
        let (Some(_), Ok(url)) = (entries().find(|entry| known(entry)), url.parse::<Url>()) else {
            return Err(NodeError::Usage(NO_SUCH.to_owned()));
        };
        for entry in entries().filter(|entry| known(entry)) {
            if let Run::Running(handle, _) = &entry.run {
                let (handle, url) = (handle.clone(), url.clone());
                Session::tell_torrent(async move { handle.reannounce(Some(url)).await });
            }
        }
        Ok(ids)
    }

    fn shown_trackers(&self, ids: &[i64]) -> Reply {
        let mut trackers = Vec::new();
        for entry in ids.iter().filter_map(|id| self.entries.get(id)) {
            let lines = match &entry.run {
                Run::Running(handle, _) => handle.watch().borrow().trackers.clone(),
                _ => Vec::new(),
            };
            let tiers = entry.tiers(&self.settings.add_trackers);
            for (tier, urls) in (1..).zip(tiers) {
                for url in urls {
                    let of_url = lines.iter().filter(|line| is_at(&url, line.url.reveal()));
                    let before = trackers.len();
                    trackers.extend(of_url.map(|line| shown(entry.id, &url, tier, line)));
                    if trackers.len() == before {
                        let runs = matches!(entry.run, Run::Running(..));
                        trackers.push(unknown(entry.id, url, tier, runs));
                    }
                }
            }
        }
        Reply::Trackers { trackers }
    }
}

impl Entry {
    /// Its trackers in tiers, each once; `everywhere` are those of every torrent that is not private.
    pub(super) fn tiers(&self, everywhere: &[String]) -> Tiers {
        if let Some(tiers) = &self.options.trackers {
            return tiers.clone();
        }
        let mut tiers: Tiers = match &self.source {
            Source::Metainfo(metainfo) => {
                let own = metainfo.trackers().iter();
                own.map(|tier| tier.iter().map(|tracker| tracker.url.clone()).collect())
                    .collect()
            }
            Source::Magnet(magnet) => {
                let own = magnet.trackers.iter();
                own.map(|tracker| vec![tracker.url.clone()]).collect()
            }
        };
        // Those of a private torrent are its own alone (BEP 27).
        let everywhere = if self.is_private() { &[] } else { everywhere };
        for url in self.options.more_trackers.iter().chain(everywhere) {
            if place(&tiers, url).is_none() {
                tiers.push(vec![url.clone()]);
            }
        }
        tiers
    }
}

const NO_SUCH: &str = "there is no such tracker; `shoal tracker list` shows them";

/// As the engine takes them.
pub(super) fn parsed(tiers: &Tiers) -> Vec<Vec<Url>> {
    tiers.iter().map(urls::parsed).collect()
}

/// URLs of trackers, as they are stored.
/// URLs of trackers, as they are stored.
pub(super) fn readable(texts: &[String]) -> Result<Vec<String>, NodeError> {
    let what = "that is no tracker; write a URL like https://tracker.example/announce";
    urls::readable(texts, &["http", "https", "udp"], what)
}

fn is_at(url: &str, other: &Url) -> bool {
    url == other.as_str() || Url::parse(url).is_ok_and(|url| url == *other)
}

/// The tier, from 0, and the place in it.
fn place(tiers: &Tiers, url: &str) -> Option<(usize, usize)> {
    let other = Url::parse(url).ok()?;
    let mut places = (0..).zip(tiers).filter_map(|(tier, urls)| {
        let at = urls.iter().position(|url| is_at(url, &other))?;
        Some((tier, at))
    });
    places.next()
}

/// Puts URLs into a tier, from 1, or each behind all.
fn insert(tiers: &mut Tiers, urls: &[String], tier: Option<usize>) -> Result<(), String> {
    if tier == Some(0) {
        return Err("tiers are numbered from 1".to_owned());
    }
    let mut fresh = None;
    for url in urls {
        if place(tiers, url).is_some() {
            continue;
        }
        let known = tier
            .filter(|&tier| tier <= tiers.len())
            .map(|tier| tier - 1);
        match known.or(fresh.filter(|_| tier.is_some())) {
            Some(tier) => tiers[tier].push(url.clone()),
            None => {
                fresh = Some(tiers.len());
                tiers.push(vec![url.clone()]);
            }
        }
    }
    Ok(())
}

fn take(tiers: &mut Tiers, url: &str) -> Result<(), String> {
    let (tier, at) = place(tiers, url).ok_or(NO_SUCH)?;
    tiers[tier].remove(at);
    Ok(())
}

/// A tracker gets another URL or tier, and keeps its place where that is not said.
fn replace(
    tiers: &mut Tiers,
    url: &str,
    to: Option<&str>,
    tier: Option<usize>,
) -> Result<(), String> {
    let (old, at) = place(tiers, url).ok_or(NO_SUCH)?;
    if let Some(to) = to {
        if place(tiers, to).is_some_and(|known| known != (old, at)) {
            return Err("the other tracker is there already; remove this one".to_owned());
        }
        to.clone_into(&mut tiers[old][at]);
    }
    if let Some(tier) = tier {
        // Tiers keep their numbers until it is there.
        let url = tiers[old].remove(at);
        insert(tiers, &[url], Some(tier))?;
    }
    Ok(())
}

fn unknown(torrent: i64, url: String, tier: usize, runs: bool) -> Tracker {
    Tracker {
        torrent,
        url,
        tier,
        swarm: None,
        state: match runs {
            true => TrackerState::Untried,
            false => TrackerState::Idle,
        },
        message: None,
        seeds: None,
        leeches: None,
        completed: None,
        next_announce_s: None,
    }
}

fn shown(torrent: i64, url: &str, tier: usize, line: &TrackerLine) -> Tracker {
    let next = line.next_announce;
    Tracker {
        torrent,
        url: url.to_owned(),
        tier,
        swarm: Some(line.swarm.to_string()),
        state: match line.state {
            Standing::Untried => TrackerState::Untried,
            Standing::Announcing => TrackerState::Announcing,
            Standing::Working => TrackerState::Working,
            Standing::Failing => TrackerState::Failing,
            Standing::Refused => TrackerState::Refused,
            Standing::Unsupported => TrackerState::Unsupported,
        },
        message: line.message.clone(),
        seeds: line.seeds,
        leeches: line.leeches,
        completed: line.completed,
        next_announce_s: next.map(|at| at.saturating_duration_since(Instant::now()).as_secs()),
    }
}

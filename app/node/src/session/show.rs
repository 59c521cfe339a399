//! What is shown of the session and of single torrents, all at once.
//!
//! Invariant: looking changes nothing, and the session waits for no torrent that is looked at; one that does not answer in time is shown
//! as if it did not run.

mod content;

use super::{Heard, NodeError, Session, key};
use crate::entry::{Entry, Source};
use crate::message::{
    HeldRule, Reply, ShowRequest, Shown, ShownSession, ShownTorrent, State, StateCount, Torrent,
};
use crate::{rules_text, values};
use content::{FilesLook, Place, handle};
use shoal_engine::{Snapshot, TorrentHandle};
use shoal_metainfo::{Layout, Magnet, Metainfo};
use shoal_session::rules::{GroupRate, Origin, Rules, Told};
use shoal_store::{Carrier as Kind, Totals};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// More than a person looks at one by one.
const MAX_TORRENTS: usize = 1_000;

/// Why there are no files and pieces.
const NO_METADATA: &str = "nobody has told yet what the torrent of the magnet link is; `shoal list` shows when that is known";

impl Session {
    pub(super) fn show(&self, request: ShowRequest) -> Result<Heard, NodeError> {
        let database = self.database.clone();
        let later = match request {
            ShowRequest::Session {} => {
                let shown = Shown::Session(Box::new(self.shown_session()));
                return Ok(Heard::Done(Reply::Shown(shown)));
            }
            ShowRequest::Torrents { torrents } => {
                let shown = self.shown_torrents(&torrents)?;
                Heard::Later(Box::pin(async {
                    let torrents = content::with_availability(shown).await;
                    Ok(Reply::Shown(Shown::Torrents { torrents }))
                }))
            }
            ShowRequest::Files { torrents, from } => {
                let entry = self.only(&torrents)?;
                let look = FilesLook::new(entry, metainfo(entry)?);
                Heard::Later(Box::pin(async move {
                    Ok(Reply::Shown(look.answer(from).await))
                }))
            }
            ShowRequest::Pieces { torrents } => {
                let entry = self.only(&torrents)?;
                let (id, metainfo, handle) = (entry.id, metainfo(entry)?, handle(entry));
                Heard::Later(Box::pin(async move {
                    let shown = content::pieces(id, &metainfo, handle).await;
                    Ok(Reply::Shown(Shown::Pieces(Box::new(shown))))
                }))
            }
            ShowRequest::Hashes { torrents, from } => {
                let metainfo = metainfo(self.only(&torrents)?)?;
                let shown = content::hashes(&metainfo, from);
                return Ok(Heard::Done(Reply::Shown(shown)));
            }
            ShowRequest::File { torrents, from } => {
                let id = self.only(&torrents)?.id;
                Heard::Later(Box::pin(async move {
                    content::file_part(&database, id, from).await
                }))
            }
        };
        Ok(later)
    }

    /// The one torrent that is meant.
    fn only(&self, words: &[String]) -> Result<&Entry, NodeError> {
        let ids = self.resolve(words)?;
        let meant = words.join(",");
        match ids[..] {
            [id] => self.entries.get(&id).ok_or(NodeError::NotFound(meant)),
            [] => Err(NodeError::NotFound(meant)),
            _ => {
                let what = format!("{meant} means {} torrents; name one of them", ids.len());
                Err(NodeError::Usage(what))
            }
        }
    }

    fn shown_session(&self) -> ShownSession {
        let limits = self.limits_of_everything();
        let mut shown = ShownSession {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s: self.started_at,
            listening: self.engine.listening().to_vec(),
            mapped: self.engine.mapped().map(|mapped| mapped.address.into()),
            download_rate_bytes_per_s: 0,
            upload_rate_bytes_per_s: 0,
            download_limit_bytes_per_s: limits.down_bytes_per_s.map(Into::into),
            upload_limit_bytes_per_s: limits.up_bytes_per_s.map(Into::into),
            holds: self.hours.shown(),
            downloaded_bytes: self.gone.downloaded_bytes,
            uploaded_bytes: self.gone.uploaded_bytes,
            ratio_permille: None,
            started_downloaded_bytes: self.gone.started_downloaded_bytes,
            started_uploaded_bytes: self.gone.started_uploaded_bytes,
            wasted_bytes: 0,
            peers: 0,
            seeds: 0,
            torrents: 0,
            states: Vec::new(),
        };
        let mut states: BTreeMap<&'static str, (State, usize)> = BTreeMap::new();
        // One whose data is still being removed is not forgotten yet.
        let here = |entry: &&Entry| !entry.removed || entry.removing.is_some();
        for entry in self.entries.values().filter(here) {
            let line = entry.line(self.queue.standing(key(entry.id)));
            let (down, up) = since(&line, &entry.before);
            shown.downloaded_bytes += line.downloaded_bytes;
            shown.uploaded_bytes += line.uploaded_bytes;
            shown.started_downloaded_bytes += down;
            shown.started_uploaded_bytes += up;
            if entry.removed {
                continue;
            }
            shown.download_rate_bytes_per_s += line.download_rate_bytes_per_s;
            shown.upload_rate_bytes_per_s += line.upload_rate_bytes_per_s;
            shown.wasted_bytes += line.wasted_bytes;
            shown.peers += line.peers;
            shown.seeds += line.seeds;
            shown.torrents += 1;
            states.entry(line.state.name()).or_insert((line.state, 0)).1 += 1;
        }
        shown.ratio_permille = ratio(shown.uploaded_bytes, shown.downloaded_bytes);
        let states = states.into_values();
        shown.states = states
            .map(|(state, count)| StateCount { state, count })
            .collect();
        shown
    }

    /// As far as the session knows them, with those that can say more.
    fn shown_torrents(
        &self,
        words: &[String],
    ) -> Result<Vec<(ShownTorrent, Option<TorrentHandle>)>, NodeError> {
        let ids = self.resolve(words)?;
        if ids.len() > MAX_TORRENTS {
            let what = format!(
                "{} torrents are more than the {MAX_TORRENTS} that are shown at a time; `shoal list` has a line for each",
                ids.len()
            );
            return Err(NodeError::Usage(what));
        }
        let positions = self.positions();
        let entries = ids.iter().filter_map(|id| self.entries.get(id));
        let shown = entries.map(|entry| {
            let position = positions.get(&entry.id).copied();
            (self.shown_torrent(entry, position), handle(entry))
        });
        Ok(shown.collect())
    }

    fn shown_torrent(&self, entry: &Entry, position: Option<usize>) -> ShownTorrent {
        let line = entry.line(self.queue.standing(key(entry.id)));
        let stood = self.queue.stored(self.now(), key(entry.id));
        let stood = stood.map_or_else(Default::default, |torrent| torrent.progress);
        let (started_downloaded_bytes, started_uploaded_bytes) = since(&line, &entry.before);
        let snapshot = entry.snapshot();
        let snapshot = snapshot.as_ref();
        let swarm = snapshot.map(Swarm::of);
        let swarm = swarm.as_ref();
        let what = What::of(entry);
        let place = Place::of(entry);
        let run = entry.runs_since.map(|since| since.elapsed());
        let average = |moved: fn(&Snapshot) -> u64| {
            let run_s = run?.as_secs().max(1);
            Some(moved(snapshot?) / run_s)
        };
        let left_bytes = line.wanted_bytes.saturating_sub(line.verified_bytes);
        let options = &entry.options;
        ShownTorrent {
            id: line.id,
            name: line.name,
            info_hash_v1: entry.hashes.v1().map(|hash| hash.to_string()),
            info_hash_v2: entry.hashes.v2().map(|hash| hash.to_string()),
            magnet: what.magnet.clone(),
            has_metadata: what.metainfo.is_some(),
            private: what.metainfo.map(Metainfo::is_private),
            comment: options.comment.clone().or(what.text(Metainfo::comment)),
            source: what.text(Metainfo::source),
            created_by: what.text(Metainfo::created_by),
            created_unix_s: what.metainfo.and_then(Metainfo::creation_date),
            state: line.state,
            message: line.message,
            size_bytes: what.size_bytes,
            wanted_bytes: line.wanted_bytes,
            verified_bytes: line.verified_bytes,
            left_bytes,
            piece_length_bytes: what.layout(|layout| layout.piece_length()),
            piece_count: what.layout(|layout| layout.piece_count()),
            verified_pieces: snapshot.map(|snapshot| snapshot.verified_pieces),
            file_count: what.file_count,
            time_left_s: match line.state {
                State::Downloading => left_bytes.checked_div(line.download_rate_bytes_per_s),
                _ => None,
            },
            downloaded_bytes: line.downloaded_bytes,
            uploaded_bytes: line.uploaded_bytes,
            ratio_permille: ratio(line.uploaded_bytes, line.downloaded_bytes),
            started_downloaded_bytes,
            started_uploaded_bytes,
            wasted_bytes: line.wasted_bytes,
            failed_pieces: line.failed_pieces,
            download_rate_bytes_per_s: line.download_rate_bytes_per_s,
            upload_rate_bytes_per_s: line.upload_rate_bytes_per_s,
            average_download_bytes_per_s: average(|snapshot| snapshot.downloaded_bytes),
            average_upload_bytes_per_s: average(|snapshot| snapshot.uploaded_bytes),
            peers: line.peers,
            seeds: line.seeds,
            max_peers: options.max_peers,
            known_seeds: swarm.and_then(|swarm| swarm.seeds),
            known_leeches: swarm.and_then(|swarm| swarm.leeches),
            availability_permille: None,
            trackers: swarm.map(|swarm| swarm.trackers),
            working_trackers: swarm.map(|swarm| swarm.working),
            tracker_message: swarm.and_then(|swarm| swarm.message.clone()),
            next_announce_s: swarm.and_then(|swarm| swarm.next_announce_s),
            web_seeds: snapshot.map(|snapshot| snapshot.web_seeds.len()),
            added_unix_s: line.added_at,
            completed_unix_s: line.completed_at,
            run_s: run.map(|run| run.as_secs()),
            seeding_s: stood.seeding.as_secs(),
            idle_s: stood.idle.as_secs(),
            directory: place.folder(),
            home: line.home,
            moving_to: line.moving_to,
            content_path: what.metainfo.map(|of| place.content(of)),
            position,
            forced: line.forced,
            category: line.category,
            tags: line.tags,
            sequential: entry.sequential,
            first_last: options.first_last,
            super_seed: options.super_seed,
            seed_only: options.seed_only,
            preallocate: options.preallocate,
            rules: line.rules,
            held: self.held(entry),
        }
    }

    /// What holds for a torrent, and who says so.
    fn held(&self, entry: &Entry) -> Vec<HeldRule> {
        let held = self.carriers.effective(&entry.options, &self.settings);
        let carriers = self.carriers.of(&entry.options);
        let name = |kind: Kind, place: usize| {
            let mut of_kind = carriers.iter().filter(|(other, ..)| *other == kind);
            of_kind.nth(place).map(|(_, name, _)| (*name).to_owned())
        };
        let who = |from: Option<Origin>| match from {
            None => (None, None),
            Some(Origin::Torrent) => (Some("torrent"), None),
            Some(Origin::Category(place)) => (Some("category"), name(Kind::Category, place)),
            Some(Origin::Tag(place)) => (Some("tag"), name(Kind::Tag, place)),
            Some(Origin::Session) => (Some("session"), None),
        };
        let rule = |rule: &str, value: String, from: Option<Origin>| {
            let (from, name) = who(from);
            HeldRule {
                rule: rule.to_owned(),
                value,
                from: from.map(str::to_owned),
                name,
            }
        };
        let rates = |word: &'static str, rates: &[GroupRate]| {
            let rates = rates.iter();
            let shown =
                rates.map(|rate| rule(word, values::show_size(rate.bytes_per_s), Some(rate.from)));
            shown.collect::<Vec<_>>()
        };
        let limit = |value: Option<u64>| value.map_or(Told::None, Told::Some);
        let shown = rules_text::shown(&Rules {
            ratio_permille: limit(held.ratio_permille.value),
            seed_time_s: limit(held.seed_time_s.value),
            idle_time_s: limit(held.idle_time_s.value),
            when: Some(held.when.value),
            then: Some(held.then.value),
            folder: held.folder.value.clone(),
            incomplete: held.incomplete.value.clone().into(),
            route: held.route.value.clone(),
            ..Rules::default()
        });
        let others = shown.into_iter().map(|(word, value)| {
            let from = match word.as_str() {
                "ratio" => held.ratio_permille.from,
                "time" => held.seed_time_s.from,
                "idle" => held.idle_time_s.from,
                "when" => held.when.from,
                "then" => held.then.from,
                "folder" => held.folder.from,
                "incomplete" => held.incomplete.from,
                _ => held.route.from,
            };
            rule(&word, value, from)
        });
        let mut all = rates("down", &held.down);
        all.extend(rates("up", &held.up));
        all.extend(others);
        all
    }
}

fn metainfo(entry: &Entry) -> Result<Arc<Metainfo>, NodeError> {
    match &entry.source {
        Source::Metainfo(metainfo) => Ok(Arc::clone(metainfo)),
        Source::Magnet(_) => Err(NodeError::Unknown(NO_METADATA.to_owned())),
    }
}

/// What was downloaded and uploaded in this life of the node.
fn since(line: &Torrent, before: &Totals) -> (u64, u64) {
    (
        line.downloaded_bytes
            .saturating_sub(before.downloaded_bytes),
        line.uploaded_bytes.saturating_sub(before.uploaded_bytes),
    )
}

fn ratio(uploaded_bytes: u64, downloaded_bytes: u64) -> Option<u64> {
    let permille = u128::from(uploaded_bytes) * 1_000;
    let permille = permille.checked_div(u128::from(downloaded_bytes))?;
    Some(u64::try_from(permille).unwrap_or(u64::MAX))
}

/// What the torrent is, as far as that is known.
struct What<'a> {
    metainfo: Option<&'a Metainfo>,
    magnet: String,
    size_bytes: Option<u64>,
    file_count: Option<usize>,
}

impl<'a> What<'a> {
    fn of(entry: &'a Entry) -> Self {
        match &entry.source {
            Source::Metainfo(metainfo) => {
                let files = metainfo.files().iter().filter(|file| !file.padding);
                What {
                    metainfo: Some(metainfo),
                    magnet: Magnet::from(&**metainfo).to_string(),
                    size_bytes: Some(files.clone().map(|file| file.length).sum()),
                    file_count: Some(files.count()),
                }
            }
            Source::Magnet(magnet) => What {
                metainfo: None,
                magnet: magnet.to_string(),
                size_bytes: magnet.length,
                file_count: None,
            },
        }
    }

    fn text(&self, text: fn(&Metainfo) -> Option<&str>) -> Option<String> {
        self.metainfo.and_then(text).map(str::to_owned)
    }

    fn layout(&self, figure: fn(&Layout) -> u32) -> Option<u32> {
        self.metainfo.map(|metainfo| figure(metainfo.layout()))
    }
}

/// What trackers say together.
struct Swarm {
    trackers: usize,
    working: usize,
    message: Option<String>,
    next_announce_s: Option<u64>,
    seeds: Option<u32>,
    leeches: Option<u32>,
}

impl Swarm {
    fn of(snapshot: &Snapshot) -> Self {
        let (now, lines) = (Instant::now(), &snapshot.trackers);
        let failing = lines.iter().filter(|line| !line.working);
        let next = lines.iter().filter_map(|line| line.next_announce).min();
        Swarm {
            trackers: lines.len(),
            working: lines.iter().filter(|line| line.working).count(),
            message: failing.clone().find_map(|line| line.message.clone()),
            next_announce_s: next.map(|at| at.saturating_duration_since(now).as_secs()),
            seeds: lines.iter().filter_map(|line| line.seeds).max(),
            leeches: lines.iter().filter_map(|line| line.leeches).max(),
        }
    }
}

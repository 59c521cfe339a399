//! From the states of a torrent to what is worth saying about them.
//!
//! Invariant: each state says what is new in it, once.

use std::path::Path;
use std::time::Instant;

use shoal_engine::{Phase, Snapshot, TrackerLine, WebSeedLine};
use shoal_metainfo::Metainfo;

use crate::commands::{check, describe};
use crate::exit::{Exit, Failure};
use crate::output::event::{
    Checking, Complete, Continued, Event, Progress, Started, Stopped, Suspended, Warning, WebSeed,
};

/// What a torrent is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Purpose {
    /// To have it.
    Get,
    /// To serve it.
    Seed,
}

/// Remembers what was said.
pub(super) struct Reporter {
    purpose: Purpose,
    name: String,
    info_hash_v1: Option<String>,
    info_hash_v2: Option<String>,
    directory: String,
    path: String,
    piece_count: u32,
    begun: Instant,
    checking_since: Option<Instant>,
    started: bool,
    complete: bool,
    suspended: bool,
    /// Pieces that were lost so far, and whether some of them are being verified again.
    lost_pieces: u64,
    rechecking: bool,
    trackers: Vec<TrackerLine>,
    /// What was said of each web seed.
    web_seeds: Vec<WebSeed>,
}

impl Reporter {
    /// Nothing was said of `metainfo`, whose content goes into `directory`.
    pub(super) fn new(metainfo: &Metainfo, directory: &Path, purpose: Purpose) -> Reporter {
        // What no torrent describes has a name for its journal only.
        let (info_hash_v1, info_hash_v2) = match metainfo.is_plain() {
            true => (None, None),
            false => describe::info_hashes(&metainfo.info_hashes()),
        };
        Reporter {
            purpose,
            name: metainfo.name().to_owned(),
            info_hash_v1,
            info_hash_v2,
            directory: directory.display().to_string(),
            path: directory.join(metainfo.name()).display().to_string(),
            piece_count: metainfo.layout().piece_count(),
            begun: Instant::now(),
            checking_since: None,
            started: false,
            complete: false,
            suspended: false,
            lost_pieces: 0,
            rechecking: false,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
        }
    }

    /// What is new.
    pub(super) fn look(&mut self, snapshot: &Snapshot) -> Vec<Event> {
        let mut events = Vec::new();
        match &snapshot.phase {
            Phase::Starting | Phase::Stopped | Phase::Failed(_) => return events,
            Phase::Checking { checked, total } => {
                events.push(self.checking(*checked, *total));
                return events;
            }
            // A command moves nothing.
            Phase::Downloading
            | Phase::Seeding
            | Phase::Moving { .. }
            | Phase::Suspended { .. } => {}
        }
        if !self.started {
            self.started = true;
            events.push(self.start(snapshot));
            events.extend(self.partial_seed(snapshot));
        }
        self.look_at_disk(&snapshot.phase, &mut events);
        self.look_at_losses(snapshot, &mut events);
        self.look_at_trackers(&snapshot.trackers, &mut events);
        self.look_at_web_seeds(&snapshot.web_seeds, &mut events);
        events.push(self.progress(snapshot));
        if snapshot.complete && !self.complete && self.purpose == Purpose::Get {
            self.complete = true;
            events.push(self.complete(snapshot));
        }
        events
    }

    fn checking(&mut self, checked_pieces: u32, total_pieces: u32) -> Event {
        let since = *self.checking_since.get_or_insert_with(Instant::now);
        Event::Checking(Checking {
            checked_pieces,
            total_pieces,
            time_left_s: check::time_left_s(checked_pieces, total_pieces, since.elapsed()),
        })
    }

    fn start(&self, snapshot: &Snapshot) -> Event {
        Event::Started(Started {
            name: self.name.clone(),
            info_hash_v1: self.info_hash_v1.clone(),
            info_hash_v2: self.info_hash_v2.clone(),
            directory: self.directory.clone(),
            wanted_bytes: snapshot.wanted_bytes,
            verified_bytes: snapshot.wanted_verified_bytes,
            verified_pieces: snapshot.verified_pieces,
            resumed_pieces: snapshot.resumed_pieces,
            piece_count: self.piece_count,
        })
    }

    fn partial_seed(&self, snapshot: &Snapshot) -> Option<Event> {
        let partial = snapshot.verified_pieces < self.piece_count;
        (self.purpose == Purpose::Seed && partial).then(|| {
            let message = format!(
                "only {} of {} pieces are right and are served; `shoal check` shows what is wrong",
                snapshot.verified_pieces, self.piece_count
            );
            Event::Warning(Warning { message })
        })
    }

    /// The failure to seed where there is nothing. What is being verified again may turn out to be something.
    pub(super) fn nothing_to_seed(&self, snapshot: &Snapshot) -> Option<Failure> {
        let nothing =
            self.started && snapshot.verified_pieces == 0 && snapshot.rechecking_pieces == 0;
        (self.purpose == Purpose::Seed && nothing).then(|| {
            let message = format!(
                "nothing to seed: {}: no piece of it is right; check --data",
                self.path
            );
            Failure::new(Exit::Wrong, message)
        })
    }

    fn look_at_disk(&mut self, phase: &Phase, events: &mut Vec<Event>) {
        let suspended = match phase {
            Phase::Suspended { reason, path } => Some((reason, path)),
            _ => None,
        };
        let was = std::mem::replace(&mut self.suspended, suspended.is_some());
        match suspended {
            Some((reason, path)) if !was => events.push(Event::Suspended(Suspended {
                reason: reason.to_string(),
                path: path.display().to_string(),
            })),
            None if was => events.push(Event::Continued(Continued {})),
            _ => {}
        }
    }

    /// Files that somebody else changed: what that put in doubt, and what is left of it in the end.
    fn look_at_losses(&mut self, snapshot: &Snapshot, events: &mut Vec<Event>) {
        let lost = snapshot.lost_pieces - self.lost_pieces;
        self.lost_pieces = snapshot.lost_pieces;
        if lost > 0 {
            let message = format!(
                "{}: changed by another program: {lost} of its pieces are verified again",
                self.path
            );
            events.push(Event::Warning(Warning { message }));
        }
        let rechecking = snapshot.rechecking_pieces > 0;
        let was = std::mem::replace(&mut self.rechecking, rechecking);
        if !rechecking && (was || lost > 0) {
            events.extend(self.partial_seed(snapshot));
        }
    }

    fn look_at_trackers(&mut self, trackers: &[TrackerLine], events: &mut Vec<Event>) {
        let before = std::mem::replace(&mut self.trackers, trackers.to_vec());
        for (index, tracker) in trackers.iter().enumerate() {
            let untried = !tracker.working && tracker.message.is_none();
            // A hybrid torrent asks each tracker twice, and mostly hears the same.
            let said = before.contains(tracker) || trackers[..index].contains(tracker);
            if !said && !untried {
                events.push(Event::Tracker(tracker.into()));
            }
        }
    }

    /// What went wrong with a web seed, each time that it is something else.
    fn look_at_web_seeds(&mut self, lines: &[WebSeedLine], events: &mut Vec<Event>) {
        let said = lines.iter().map(|line| WebSeed {
            host: line.host.clone(),
            working: line.working,
            message: line.message.clone(),
        });
        let said: Vec<WebSeed> = said.collect();
        let before = std::mem::replace(&mut self.web_seeds, said.clone());
        let news = said
            .into_iter()
            .filter(|seed| seed.message.is_some() && !before.contains(seed));
        events.extend(news.map(Event::WebSeed));
    }

    fn progress(&self, snapshot: &Snapshot) -> Event {
        let left = snapshot
            .wanted_bytes
            .saturating_sub(snapshot.wanted_verified_bytes);
        let seeding = self.purpose == Purpose::Seed || snapshot.complete;
        Event::Progress(Progress {
            phase: match &snapshot.phase {
                Phase::Suspended { .. } => "suspended",
                _ if seeding => "seeding",
                _ => "downloading",
            },
            wanted_bytes: snapshot.wanted_bytes,
            verified_bytes: snapshot.wanted_verified_bytes,
            downloaded_bytes: snapshot.downloaded_bytes,
            uploaded_bytes: snapshot.uploaded_bytes,
            wasted_bytes: snapshot.wasted_bytes,
            failed_pieces: snapshot.failed_pieces,
            download_rate_bytes_per_s: snapshot.download_rate,
            upload_rate_bytes_per_s: snapshot.upload_rate,
            peers: snapshot.peers.len(),
            seeds: snapshot.peers.iter().filter(|peer| peer.seed).count(),
            time_left_s: if seeding {
                None
            } else {
                left.checked_div(snapshot.download_rate)
            },
        })
    }

    fn complete(&self, snapshot: &Snapshot) -> Event {
        Event::Complete(Complete {
            name: self.name.clone(),
            path: self.path.clone(),
            wanted_bytes: snapshot.wanted_bytes,
            verified_pieces: snapshot.verified_pieces,
            resumed_pieces: snapshot.resumed_pieces,
            downloaded_bytes: snapshot.downloaded_bytes,
            wasted_bytes: snapshot.wasted_bytes,
            failed_pieces: snapshot.failed_pieces,
            time_s: self.begun.elapsed().as_secs_f64(),
        })
    }

    /// The last word.
    pub(super) fn stopped(&self, snapshot: &Snapshot, reason: &'static str) -> Event {
        Event::Stopped(Stopped {
            reason,
            complete: snapshot.complete,
            verified_pieces: snapshot.verified_pieces,
            downloaded_bytes: snapshot.downloaded_bytes,
            uploaded_bytes: snapshot.uploaded_bytes,
        })
    }
}

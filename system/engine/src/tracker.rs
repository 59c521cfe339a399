//! The driver of a torrent's announces and scrapes: one [`Schedule`] for each of its swarms.
//!
//! Invariant: a tracker that is slow or dead holds up nothing: each request is a task of its own with a deadline, and what a
//! torrent says to this driver never waits.

mod client;

use crate::clock::Clock;
use crate::inbox::Sender;
use crate::mailbox::{Mailbox, separate};
use crate::ports::OurPort;
use crate::register::Spoken;
use crate::snapshot::{SecretUrl, TrackerLine};
use crate::torrent::ToTorrent;
use shoal_machine::{Machine, Moment, Sighting, earliest};
use shoal_metainfo::{BLOCK_LENGTH, InfoHash};
use shoal_swarm::torrent::{Origin, Progress, Torrent};
use shoal_tracker::schedule::{Input, Output};
use shoal_tracker::{
    AnnounceId, AnnounceReply, AnnounceRequest, Error, Event, Schedule, ScheduleSettings, ScrapeId,
    ScrapeReply,
};
use shoal_transport::OriginClass;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

pub(crate) use client::{Target, TrackerClient};

/// The port that trackers are told where nobody can connect to us. Several refuse an announce of port 0; at this one, TCPMUX, no peer is.
const NOBODY_LISTENS: u16 = 1;

/// Bytes moved in this run, written by the torrent and told to trackers.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    left: AtomicU64,
}

impl Totals {
    /// Nothing has moved yet.
    pub(crate) fn of(progress: &Progress) -> Self {
        let totals = Totals::default();
        totals.set(0, 0, progress);
        totals
    }

    /// How much there is to fetch is not known: more than nothing, so that nobody takes us for a seed.
    pub(crate) fn unknown() -> Self {
        let totals = Totals::default();
        totals
            .left
            .store(u64::from(BLOCK_LENGTH), Ordering::Relaxed);
        totals
    }

    pub(crate) fn set(&self, uploaded: u64, downloaded: u64, progress: &Progress) {
        let left = progress.total_bytes - progress.have_bytes;
        self.uploaded.store(uploaded, Ordering::Relaxed);
        self.downloaded.store(downloaded, Ordering::Relaxed);
        self.left.store(left, Ordering::Relaxed);
    }
}

/// Where a torrent stands, as trackers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It wants more.
    Leech,
    /// It has all that it wants, without being whole (BEP 21).
    PartialSeed,
    /// It has every piece.
    Seed,
}

impl Standing {
    pub(crate) fn of(torrent: &Torrent) -> Self {
        let progress = torrent.progress();
        if progress.have_pieces == torrent.layout().piece_count() {
            Standing::Seed
        } else if torrent.is_complete() {
            Standing::PartialSeed
        } else {
            Standing::Leech
        }
    }
}

/// What a torrent tells this driver.
#[derive(Clone, PartialEq, Eq)]
enum ToTrackers {
    WantsCandidates,
    Stands(Standing),
    /// The torrent had every piece at the start, which was not known then.
    WasComplete,
    /// The torrent is in this swarm too.
    Join(InfoHash),
    /// These tiers in place of all.
    Replace(Vec<Vec<Url>>),
    /// A person wants an announce: to one, or to all.
    Reannounce(Option<Url>),
    Stop,
}

/// A torrent's end: how it speaks to its trackers, none of which it waits for. Leave is taken when it is dropped, if not before.
/// Where there are no trackers there is nobody at the other end.
pub(crate) struct Trackers(Option<End>);

struct End {
    mailbox: Mailbox<ToTrackers>,
    lines: watch::Receiver<Vec<TrackerLine>>,
    totals: Arc<Totals>,
    standing: Standing,
}

impl End {
    fn tell(&self, message: ToTrackers) {
        self.mailbox.push(message, separate);
    }
}

impl Trackers {
    /// The two ends; the other one is to be run where there is one.
    pub(crate) fn new(
        announcer: Announcer,
        swarms: impl Iterator<Item = InfoHash>,
        tiers: &[Vec<Url>],
        torrent: Sender<ToTorrent>,
        mut rng: fastrand::Rng,
        standing: Standing,
    ) -> (Option<Box<TrackerTask>>, Self) {
        if tiers.iter().all(Vec::is_empty) {
            return (None, Trackers(None));
        }
        let dice = rng.fork();
        let settings = announcer.rules.schedule();
        let begin = |swarm| Schedule::new(swarm, tiers.to_vec(), settings, dice.clone());
        let schedules = swarms.map(begin).collect();
        let mailbox = Mailbox::new();
        let (sender, lines) = watch::channel(Vec::new());
        let totals = Arc::clone(&announcer.totals);
        let task = TrackerTask {
            around: Arc::new(announcer),
            standing,
            schedules,
            tiers: tiers.to_vec(),
            named_since: Vec::new(),
            dice,
            mailbox: mailbox.clone(),
            torrent,
            lines: sender,
            requests: JoinSet::new(),
            may_be_dropped: Vec::new(),
            rng,
            leaving: false,
            over: 0,
        };
        let end = End {
            mailbox,
            lines,
            totals,
            standing,
        };
        (Some(Box::new(task)), Trackers(Some(end)))
    }

    /// Whether somebody is at the other end.
    pub(crate) const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn tell(&self, message: ToTrackers) {
        if let Some(end) = &self.0 {
            end.tell(message);
        }
    }

    /// More addresses would help.
    pub(crate) fn want_candidates(&self) {
        self.tell(ToTrackers::WantsCandidates);
    }

    /// What the next announces are to say.
    pub(crate) fn update(&mut self, uploaded: u64, downloaded: u64, torrent: &Torrent) {
        let Some(end) = &mut self.0 else { return };
        end.totals.set(uploaded, downloaded, &torrent.progress());
        let standing = Standing::of(torrent);
        if standing != end.standing {
            end.standing = standing;
            end.tell(ToTrackers::Stands(standing));
        }
    }

    /// The torrent that was looked for begins to run: what is there by now was there before.
    pub(crate) fn begin(&mut self, torrent: &Torrent) {
        if Standing::of(torrent) == Standing::Seed {
            self.tell(ToTrackers::WasComplete);
        }
        self.update(0, 0, torrent);
    }

    /// Announces in this swarm too.
    pub(crate) fn join(&self, swarm: InfoHash) {
        self.tell(ToTrackers::Join(swarm));
    }

    /// These tiers in place of all: those that were not there are the user's word.
    pub(crate) fn replace(&self, tiers: Vec<Vec<Url>>) {
        self.tell(ToTrackers::Replace(tiers));
    }

    /// A person wants an announce: to one, or to all.
    pub(crate) fn reannounce(&self, tracker: Option<Url>) {
        self.tell(ToTrackers::Reannounce(tracker));
    }

    /// Takes leave.
    pub(crate) fn stop(&self) {
        self.tell(ToTrackers::Stop);
    }

    /// Waits until something is new in [`Trackers::lines`].
    pub(crate) async fn changed(&mut self) {
        if let Some(end) = &mut self.0
            && Box::pin(end.lines.changed()).await.is_ok()
        {
            return;
        }
        // Leave is taken of all, and nothing will be new.
        std::future::pending::<()>().await;
    }

    /// How things stand with each tracker of each swarm.
    pub(crate) fn lines(&mut self) -> Vec<TrackerLine> {
        let end = self.0.as_mut();
        end.map_or_else(Vec::new, |end| end.lines.borrow_and_update().clone())
    }
}

impl Drop for Trackers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Which trackers are announced to, and as what, as far as a person may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceRules {
    /// All trackers of a tier at once, in place of the first one that answers (BEP 12).
    pub all_trackers: bool,
    /// All tiers at once, in place of the first one in which a tracker answers.
    pub all_tiers: bool,
    /// Another address than the one that trackers see us at (BEP 7). Some believe it, of private networks at least.
    pub address: Option<IpAddr>,
    /// Another port than the one where peers connect, or the router passes them on from.
    pub port: Option<u16>,
}

impl Default for AnnounceRules {
    fn default() -> Self {
        let usual = ScheduleSettings::default();
        AnnounceRules {
            all_trackers: usual.announce_to_all_trackers,
            all_tiers: usual.announce_to_all_tiers,
            address: None,
            port: None,
        }
    }
}

impl AnnounceRules {
    fn schedule(&self) -> ScheduleSettings {
        ScheduleSettings {
            announce_to_all_trackers: self.all_trackers,
            announce_to_all_tiers: self.all_tiers,
            ..ScheduleSettings::default()
        }
    }
}

/// What every announce says.
pub(crate) struct Announcer {
    pub(crate) clock: Clock,
    pub(crate) client: TrackerClient,
    pub(crate) peer_id: [u8; 20],
    pub(crate) port: OurPort,
    pub(crate) rules: AnnounceRules,
    pub(crate) key: u32,
    pub(crate) totals: Arc<Totals>,
    /// The trackers that the user named; all others that were there from the start the torrent did.
    pub(crate) named_by_user: Vec<Url>,
    /// Until the last of them was taken leave of.
    pub(crate) _spoken: Spoken,
}

/// What came of a request of the schedule with this number.
struct Answered(usize, Answer);

enum Answer {
    /// With the port that was announced, and where the tracker sees us.
    Announce(
        AnnounceId,
        u16,
        Result<(AnnounceReply, Option<Sighting>), Error>,
    ),
    Scrape(ScrapeId, Result<ScrapeReply, Error>),
}

/// The driver.
pub(crate) struct TrackerTask {
    around: Arc<Announcer>,
    standing: Standing,
    schedules: Vec<Schedule>,
    /// For the schedules of swarms that it turns out to be in.
    tiers: Vec<Vec<Url>>,
    /// Those among them that a person named while it ran.
    named_since: Vec<Url>,
    dice: fastrand::Rng,
    mailbox: Mailbox<ToTrackers>,
    torrent: Sender<ToTorrent>,
    lines: watch::Sender<Vec<TrackerLine>>,
    requests: JoinSet<Answered>,
    /// Requests on their way that nobody waits for once leave is taken.
    may_be_dropped: Vec<AbortHandle>,
    rng: fastrand::Rng,
    leaving: bool,
    /// Schedules that have taken leave.
    over: usize,
}

impl TrackerTask {
    /// Runs until leave is taken of every tracker.
    pub(crate) async fn run(mut self: Box<Self>) {
        // Before the start, which says what the port is then.
        let mut port = self.around.port.followed();
        // So does the first announce of this.
        self.all(&Input::PartialSeed(self.standing == Standing::PartialSeed));
        let complete = self.standing == Standing::Seed;
        self.all(&Input::Start { complete });
        while self.over < self.schedules.len() {
            let deadline = self
                .schedules
                .iter()
                .map(Schedule::deadline)
                .fold(None, earliest);
            let mut mail = Vec::new();
            tokio::select! {
                () = self.mailbox.collect(&mut mail) => {
                    mail.into_iter().for_each(|message| self.hear(message));
                }
                Some(done) = self.requests.join_next(), if !self.requests.is_empty() => {
                    // A request that was dropped has no answer.
                    if let Ok(answered) = done {
                        // On the heap while it lasts: most of the time there is none.
                        Box::pin(self.answered(answered)).await;
                    }
                }
                () = self.around.clock.sleep_until(deadline) => self.all(&Input::Tick),
                // Peers that are told of the old one do not get here: trackers hear of the new one as soon as they let us.
                () = port.changed() => self.all(&Input::WantsCandidates),
            }
            let status = self.status();
            self.lines.send_if_modified(|lines| {
                let news = *lines != status;
                *lines = status;
                news
            });
        }
    }

    fn hear(&mut self, message: ToTrackers) {
        match message {
            ToTrackers::WantsCandidates => self.all(&Input::WantsCandidates),
            ToTrackers::Stands(standing) => {
                self.all(&Input::PartialSeed(standing == Standing::PartialSeed));
                if standing == Standing::Seed {
                    self.all(&Input::Completed);
                }
            }
            ToTrackers::WasComplete => self.all(&Input::WasComplete),
            ToTrackers::Join(swarm) if !self.leaving => self.join(swarm),
            ToTrackers::Join(_) => {}
            ToTrackers::Replace(tiers) => self.replace(tiers),
            ToTrackers::Reannounce(tracker) => self.all(&Input::Reannounce(tracker)),
            ToTrackers::Stop if self.leaving => {}
            ToTrackers::Stop => {
                self.leaving = true;
                // What arrived after the farewell would have the tracker believe that we are here.
                self.may_be_dropped
                    .drain(..)
                    .for_each(|announce| announce.abort());
                self.all(&Input::Stop);
            }
        }
    }

    fn replace(&mut self, tiers: Vec<Vec<Url>>) {
        let known: BTreeSet<&Url> = self.tiers.iter().flatten().collect();
        let new = tiers.iter().flatten().filter(|url| !known.contains(url));
        let new: Vec<Url> = new.cloned().collect();
        self.named_since.extend(new);
        let kept: BTreeSet<&Url> = tiers.iter().flatten().collect();
        self.named_since.retain(|url| kept.contains(url));
        self.all(&Input::Replace(tiers.clone()));
        self.tiers = tiers;
    }

    /// The tracker, and on whose word it is spoken to.
    fn target(&self, url: Url) -> Target {
        let named = self.around.named_by_user.contains(&url) || self.named_since.contains(&url);
        let origin = match named {
            true => OriginClass::User,
            false => OriginClass::Metainfo,
        };
        Target { url, origin }
    }

    fn join(&mut self, swarm: InfoHash) {
        let (tiers, dice) = (self.tiers.clone(), self.dice.clone());
        let settings = self.around.rules.schedule();
        let schedule = Schedule::new(swarm, tiers, settings, dice);
        self.schedules.push(schedule);
        let at = self.schedules.len() - 1;
        let partial = self.standing == Standing::PartialSeed;
        self.one(at, Input::PartialSeed(partial));
        let complete = self.standing == Standing::Seed;
        self.one(at, Input::Start { complete });
    }

    async fn answered(&mut self, Answered(schedule, answer): Answered) {
        match answer {
            Answer::Scrape(id, result) => self.one(schedule, Input::Scraped { id, result }),
            Answer::Announce(id, port, result) => {
                let mut news = Vec::new();
                let result = result.map(|(mut reply, seen)| {
                    news.extend(seen.map(ToTorrent::Seen));
                    let addresses = std::mem::take(&mut reply.peers);
                    if !addresses.is_empty() {
                        news.push(ToTorrent::Candidates(Origin::Tracker, addresses));
                    }
                    reply
                });
                self.one(schedule, Input::Reply { id, result });
                if port != self.around.port() {
                    self.one(schedule, Input::WantsCandidates);
                }
                for news in news {
                    // Where the torrent is gone, leave is being taken and nobody wants its peers.
                    drop(self.torrent.send(news).await);
                }
            }
        }
    }

    fn all(&mut self, input: &Input) {
        for schedule in 0..self.schedules.len() {
            self.one(schedule, input.clone());
        }
    }

    fn one(&mut self, at: usize, input: Input) {
        self.schedules[at].handle(self.around.clock.now(), input);
        while let Some(output) = self.schedules[at].poll() {
            self.carry_out(at, output);
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        let (around, rng) = (Arc::clone(&self.around), self.rng.fork());
        let (request, may_be_dropped) = match output {
            Output::StoppedAll => {
                self.over += 1;
                return;
            }
            Output::Scrape {
                id,
                tracker,
                info_hash,
                give_up_at,
            } => {
                let tracker = self.target(tracker);
                let request = self.requests.spawn(async move {
                    let result = around.scrape(tracker, info_hash, give_up_at, rng).await;
                    Answered(at, Answer::Scrape(id, result))
                });
                (request, true)
            }
            Output::Announce {
                id,
                tracker,
                info_hash,
                event,
                num_want,
                tracker_id,
                give_up_at,
            } => {
                let tracker = self.target(tracker);
                let announce = around.request(info_hash, event, num_want, tracker_id);
                let request = self.requests.spawn(async move {
                    let port = announce.port;
                    let result = around.announce(tracker, announce, give_up_at, rng).await;
                    Answered(at, Answer::Announce(id, port, result))
                });
                let matters = matches!(event, Some(Event::Completed | Event::Stopped));
                (request, !self.leaving && !matters)
            }
        };
        if may_be_dropped {
            self.may_be_dropped.retain(|other| !other.is_finished());
            self.may_be_dropped.push(request);
        }
    }

    fn status(&self) -> Vec<TrackerLine> {
        let swarms = self.schedules.iter();
        let lines = swarms.flat_map(|schedule| {
            let swarm = schedule.info_hash();
            let status = schedule.status().into_iter();
            status.map(move |tracker| (swarm, tracker))
        });
        let clock = self.around.clock;
        lines
            .map(|(swarm, tracker)| TrackerLine {
                host: host_of(tracker.url),
                url: SecretUrl(tracker.url.clone()),
                swarm,
                tier: tracker.tier,
                state: tracker.state,
                next_announce: tracker.next_announce.and_then(|at| clock.instant(at)),
                working: tracker.answers,
                message: tracker.message.map(str::to_owned),
                seeds: tracker.seeds,
                leeches: tracker.leeches,
                completed: tracker.downloads,
            })
            .collect()
    }
}

impl Announcer {
    /// The port that trackers are told.
    fn port(&self) -> u16 {
        if let Some(port) = self.rules.port {
            return port;
        }
        self.port.announced().unwrap_or(NOBODY_LISTENS)
    }

    /// What an announce says.
    fn request(
        &self,
        info_hash: InfoHash,
        event: Option<Event>,
        num_want: u32,
        tracker_id: Option<Vec<u8>>,
    ) -> AnnounceRequest {
        AnnounceRequest {
            info_hash,
            peer_id: self.peer_id,
            port: self.port(),
            uploaded: self.totals.uploaded.load(Ordering::Relaxed),
            downloaded: self.totals.downloaded.load(Ordering::Relaxed),
            left: self.totals.left.load(Ordering::Relaxed),
            event,
            num_want,
            key: self.key,
            ipv4: match self.rules.address {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            ipv6: match self.rules.address {
                Some(IpAddr::V6(address)) => Some(address),
                _ => None,
            },
            tracker_id,
        }
    }

    async fn announce(
        &self,
        tracker: Target,
        request: AnnounceRequest,
        give_up_at: Moment,
        rng: fastrand::Rng,
    ) -> Result<(AnnounceReply, Option<Sighting>), Error> {
        let within = give_up_at.since(self.clock.now());
        self.client.announce(&tracker, request, within, rng).await
    }

    async fn scrape(
        &self,
        tracker: Target,
        info_hash: InfoHash,
        give_up_at: Moment,
        rng: fastrand::Rng,
    ) -> Result<ScrapeReply, Error> {
        let within = give_up_at.since(self.clock.now());
        self.client
            .scrape(&tracker, &[info_hash], within, rng)
            .await
    }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_tracker_holds_no_secret() {
        let url = "https://user:word@tracker.example:8443/passkey/announce?key=1";
        let host = host_of(&url.parse().unwrap());
        assert_eq!(host, "https://tracker.example:8443");
    }
}

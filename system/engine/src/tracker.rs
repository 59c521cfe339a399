//! The driver of a torrent's announces: one [`Schedule`] for each of its swarms.
//!
//! Invariant: a tracker that is slow or dead holds up nothing: each announce is a task of its own with a deadline, and what a
//! torrent says to this driver never waits.

use crate::clock::Clock;
use crate::mailbox::{Mailbox, separate};
use crate::snapshot::TrackerLine;
use crate::torrent::ToTorrent;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHash;
use shoal_swarm::torrent::{Origin, Progress, Torrent};
use shoal_tracker::schedule::{Input, Output};
use shoal_tracker::udp;
use shoal_tracker::{
    AddressFamily, AnnounceId, AnnounceReply, AnnounceRequest, Error, Event, Schedule,
    ScheduleSettings, TrackerState, TrackerStatus, UdpExchange, UdpReply, UdpRequest, http,
};
use shoal_transport::{HttpLimits, OriginClass, Protocol, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

/// Trackers redirect from http to https, and from an old name to a new one.
const MAX_REDIRECTS: usize = 5;

/// Bytes moved in this run, written by the torrent and told to trackers.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    left: AtomicU64,
}

impl Totals {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToTrackers {
    WantsCandidates,
    Stands(Standing),
    Stop,
}

/// A torrent's end: how it speaks to its trackers, none of which it waits for. Leave is taken when it is dropped, if not before.
pub(crate) struct Trackers {
    mailbox: Mailbox<ToTrackers>,
    lines: watch::Receiver<Vec<TrackerLine>>,
    totals: Arc<Totals>,
    standing: Standing,
}

impl Trackers {
    /// The two ends.
    pub(crate) fn new(
        announcer: Announcer,
        swarms: impl Iterator<Item = InfoHash>,
        tiers: &[Vec<Url>],
        torrent: mpsc::Sender<ToTorrent>,
        mut rng: fastrand::Rng,
        standing: Standing,
    ) -> (TrackerTask, Self) {
        let dice = rng.fork();
        let settings = ScheduleSettings::default();
        let schedules = swarms
            .map(|swarm| Schedule::new(swarm, tiers.to_vec(), settings, dice.clone()))
            .collect();
        let mailbox = Mailbox::new();
        let (sender, lines) = watch::channel(Vec::new());
        let totals = Arc::clone(&announcer.totals);
        let task = TrackerTask {
            around: Arc::new(announcer),
            standing,
            schedules,
            mailbox: mailbox.clone(),
            torrent,
            lines: sender,
            announces: JoinSet::new(),
            may_be_dropped: Vec::new(),
            rng,
            leaving: false,
            over: 0,
        };
        let trackers = Trackers {
            mailbox,
            lines,
            totals,
            standing,
        };
        (task, trackers)
    }

    /// More addresses would help.
    pub(crate) fn want_candidates(&self) {
        self.mailbox.push(ToTrackers::WantsCandidates, separate);
    }

    /// What the next announces are to say.
    pub(crate) fn update(&mut self, uploaded: u64, downloaded: u64, torrent: &Torrent) {
        self.totals.set(uploaded, downloaded, &torrent.progress());
        let standing = Standing::of(torrent);
        if standing != self.standing {
            self.standing = standing;
            self.mailbox.push(ToTrackers::Stands(standing), separate);
        }
    }

    /// Takes leave.
    pub(crate) fn stop(&self) {
        self.mailbox.push(ToTrackers::Stop, separate);
    }

    /// How things stand with each tracker of each swarm.
    pub(crate) fn lines(&self) -> Vec<TrackerLine> {
        self.lines.borrow().clone()
    }
}

impl Drop for Trackers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What every announce says.
pub(crate) struct Announcer {
    pub(crate) clock: Clock,
    pub(crate) transport: Transport,
    pub(crate) peer_id: [u8; 20],
    pub(crate) port: u16,
    pub(crate) key: u32,
    pub(crate) totals: Arc<Totals>,
    /// The trackers that the user named; all others the torrent did.
    pub(crate) named_by_user: Vec<Url>,
}

/// The driver.
pub(crate) struct TrackerTask {
    around: Arc<Announcer>,
    standing: Standing,
    schedules: Vec<Schedule>,
    mailbox: Mailbox<ToTrackers>,
    torrent: mpsc::Sender<ToTorrent>,
    lines: watch::Sender<Vec<TrackerLine>>,
    announces: JoinSet<(usize, AnnounceId, Result<AnnounceReply, Error>)>,
    /// Announces on their way that nobody waits for once leave is taken.
    may_be_dropped: Vec<AbortHandle>,
    rng: fastrand::Rng,
    leaving: bool,
    /// Schedules that have taken leave.
    over: usize,
}

impl TrackerTask {
    /// Runs until leave is taken of every tracker.
    pub(crate) async fn run(mut self) {
        // Before the start, so that the first announce says so.
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
                Some(done) = self.announces.join_next(), if !self.announces.is_empty() => {
                    // An announce that was dropped has no answer.
                    if let Ok((schedule, id, result)) = done {
                        self.answered(schedule, id, result).await;
                    }
                }
                () = self.around.clock.sleep_until(deadline) => self.all(&Input::Tick),
            }
            self.lines.send_replace(self.status());
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

    async fn answered(
        &mut self,
        schedule: usize,
        id: AnnounceId,
        mut result: Result<AnnounceReply, Error>,
    ) {
        let mut addresses = Vec::new();
        if let Ok(reply) = &mut result {
            addresses = std::mem::take(&mut reply.peers);
        }
        self.one(schedule, Input::Reply { id, result });
        if !addresses.is_empty() {
            let found = ToTorrent::Candidates(Origin::Tracker, addresses);
            // Where the torrent is gone, leave is being taken and nobody wants its peers.
            drop(self.torrent.send(found).await);
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
            match output {
                Output::StoppedAll => self.over += 1,
                Output::Announce {
                    id,
                    tracker,
                    info_hash,
                    event,
                    num_want,
                    tracker_id,
                    give_up_at,
                } => {
                    let around = Arc::clone(&self.around);
                    let request = AnnounceRequest {
                        info_hash,
                        peer_id: around.peer_id,
                        port: around.port,
                        uploaded: around.totals.uploaded.load(Ordering::Relaxed),
                        downloaded: around.totals.downloaded.load(Ordering::Relaxed),
                        left: around.totals.left.load(Ordering::Relaxed),
                        event,
                        num_want,
                        key: around.key,
                        ipv4: None,
                        ipv6: None,
                        tracker_id,
                    };
                    let rng = self.rng.fork();
                    let announce = self.announces.spawn(async move {
                        let result = around.announce(&tracker, request, give_up_at, rng);
                        (at, id, result.await)
                    });
                    if !self.leaving && event != Some(Event::Completed) {
                        self.may_be_dropped.retain(|other| !other.is_finished());
                        self.may_be_dropped.push(announce);
                    }
                }
            }
        }
    }

    fn status(&self) -> Vec<TrackerLine> {
        let lines = self.schedules.iter().flat_map(Schedule::status);
        lines
            .map(|tracker| TrackerLine {
                host: host_of(tracker.url),
                working: works(&tracker),
                message: tracker.message.map(str::to_owned),
                seeds: tracker.seeds,
                leeches: tracker.leeches,
            })
            .collect()
    }
}

impl Announcer {
    /// On whose word a tracker is spoken to.
    fn origin(&self, tracker: &Url) -> OriginClass {
        if self.named_by_user.contains(tracker) {
            OriginClass::User
        } else {
            OriginClass::Metainfo
        }
    }

    async fn announce(
        &self,
        tracker: &Url,
        request: AnnounceRequest,
        give_up_at: Moment,
        rng: fastrand::Rng,
    ) -> Result<AnnounceReply, Error> {
        let within = give_up_at.since(self.clock.now());
        let work = async {
            match tracker.scheme() {
                "udp" => self.announce_udp(tracker, request, within, rng).await,
                _ => self.announce_http(tracker, &request, within).await,
            }
        };
        let done = tokio::time::timeout(within, work).await;
        done.unwrap_or(Err(Error::TimedOut))
    }

    async fn announce_http(
        &self,
        tracker: &Url,
        request: &AnnounceRequest,
        timeout: Duration,
    ) -> Result<AnnounceReply, Error> {
        let url = http::announce_url(tracker, request)?;
        let limits = HttpLimits {
            protocol: Protocol::TrackerHttp,
            max_body_bytes: http::MAX_REPLY_BYTES,
            timeout,
            max_redirects: MAX_REDIRECTS,
            family: None,
        };
        let reply = self
            .transport
            .http()
            .get(url, self.origin(tracker), limits)
            .await;
        let reply = reply.map_err(|error| Error::Unreachable(error.to_string()))?;
        http::announce_reply(reply.status, &reply.body)
    }

    /// Tries the tracker's addresses one after the other, with an equal share of the time for each, until one answers.
    ///
    /// Each exchange has a socket of its own, so that there is no connection id of an earlier one to go on with: trackers may
    /// tie it to the port.
    async fn announce_udp(
        &self,
        tracker: &Url,
        request: AnnounceRequest,
        within: Duration,
        mut rng: fastrand::Rng,
    ) -> Result<AnnounceReply, Error> {
        let until = self.clock.now() + within;
        let (host, port) = udp::endpoint(tracker)?;
        let origin = self.origin(tracker);
        let addresses = self
            .transport
            .resolve(&host.to_string(), port, origin, Protocol::TrackerUdp)
            .await
            .map_err(|error| Error::Unreachable(error.to_string()))?;
        let mut last = Error::Unreachable("its name has no address".into());
        let targets = targets(&addresses);
        for (target, share) in targets.iter().zip((1..=targets.len()).rev()) {
            let left = until.since(self.clock.now());
            let exchange = UdpExchange::new(
                UdpRequest::Announce(request.clone()),
                tracker,
                if target.is_ipv4() {
                    AddressFamily::V4
                } else {
                    AddressFamily::V6
                },
                None,
                left / u32::try_from(share).unwrap_or(u32::MAX),
                rng.fork(),
            );
            match self.exchange(*target, origin, exchange?).await {
                Ok(UdpReply::Announce(reply)) => return Ok(reply),
                Ok(UdpReply::Scrape(_)) => {}
                // Another address would refuse as well.
                Err(refusal @ Error::Failure { .. }) => return Err(refusal),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn exchange(
        &self,
        address: SocketAddr,
        origin: OriginClass,
        mut exchange: UdpExchange,
    ) -> Result<UdpReply, Error> {
        let unreachable = |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string());
        let channel = self
            .transport
            .udp(address, origin)
            .map_err(|e| unreachable(&e))?;
        let mut buffer = vec![0; udp::MAX_DATAGRAM_BYTES];
        let mut input = udp::Input::Start;
        loop {
            exchange.handle(self.clock.now(), input);
            while let Some(output) = exchange.poll() {
                match output {
                    udp::Output::Send(datagram) => {
                        channel.send(&datagram).await.map_err(|e| unreachable(&e))?;
                    }
                    udp::Output::Done(result) => return result,
                }
            }
            input = tokio::select! {
                received = channel.recv(&mut buffer) => match received {
                    Ok(count) => udp::Input::Datagram(buffer[..count].to_vec()),
                    Err(error) => return Err(unreachable(&error)),
                },
                () = self.clock.sleep_until(exchange.deadline()) => udp::Input::Tick,
            };
        }
    }
}

/// Whether a tracker answered the last announce, also while the next one is on its way.
fn works(tracker: &TrackerStatus<'_>) -> bool {
    match tracker.state {
        TrackerState::Working => true,
        TrackerState::Announcing => tracker.failures == 0 && tracker.seeds.is_some(),
        _ => false,
    }
}

/// The addresses to try: the first, and one of the other family rather than a second of the same.
fn targets(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some((first, others)) = addresses.split_first() else {
        return Vec::new();
    };
    let of_other_family = |address: &&SocketAddr| address.is_ipv4() != first.is_ipv4();
    let second = others.iter().find(of_other_family).or(others.first());
    std::iter::once(first).chain(second).copied().collect()
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
    fn a_tracker_is_tried_over_both_families_where_it_has_both() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (a, b, c) = ("192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1");
        assert_eq!(targets(&addresses(&[a, b, c])), addresses(&[a, c]));
        assert_eq!(targets(&addresses(&[a, b])), addresses(&[a, b]));
        assert_eq!(targets(&addresses(&[c])), addresses(&[c]));
        assert!(targets(&[]).is_empty());
    }

    #[test]
    fn the_name_of_a_tracker_holds_no_secret() {
        let url = "https://user:word@tracker.example:8443/passkey/announce?key=1";
        let host = host_of(&url.parse().unwrap());
        assert_eq!(host, "https://tracker.example:8443");
    }
}

//! The driver of a torrent's announces: one [`Schedule`] for each of its swarms.
//!
//! Invariant: a tracker that is slow or dead holds up nothing: each announce is a task of its own with a deadline, and what a
//! torrent says to this driver never waits.

use crate::clock::Clock;
use crate::mailbox::Mailbox;
use crate::snapshot::TrackerLine;
use crate::torrent::ToTorrent;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHash;
use shoal_swarm::torrent::Origin;
use shoal_tracker::schedule::{Input, Output};
use shoal_tracker::udp;
use shoal_tracker::{
    AddressFamily, AnnounceId, AnnounceReply, AnnounceRequest, Error, Schedule, ScheduleSettings,
    TrackerState, UdpExchange, UdpReply, UdpRequest, http,
};
use shoal_transport::{HttpLimits, OriginClass, Protocol, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use url::Url;

/// Trackers redirect from http to https, and from an old name to a new one.
const MAX_REDIRECTS: usize = 5;

/// Bytes moved in this run, written by the torrent and told to trackers.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) uploaded: AtomicU64,
    pub(crate) downloaded: AtomicU64,
    pub(crate) left: AtomicU64,
}

/// What a torrent tells this driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToTrackers {
    WantsCandidates,
    Completed,
    Stop,
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
    schedules: Vec<Schedule>,
    mailbox: Mailbox<ToTrackers>,
    torrent: mpsc::Sender<ToTorrent>,
    lines: watch::Sender<Vec<TrackerLine>>,
    announces: JoinSet<(usize, AnnounceId, Result<AnnounceReply, Error>)>,
    rng: fastrand::Rng,
    over: usize,
}

impl TrackerTask {
    pub(crate) fn new(
        around: Announcer,
        swarms: impl Iterator<Item = InfoHash>,
        tiers: &[Vec<Url>],
        mailbox: Mailbox<ToTrackers>,
        torrent: mpsc::Sender<ToTorrent>,
        mut rng: fastrand::Rng,
    ) -> (Self, watch::Receiver<Vec<TrackerLine>>) {
        let dice = rng.fork();
        let settings = ScheduleSettings::default();
        let schedules = swarms
            .map(|swarm| Schedule::new(swarm, tiers.to_vec(), settings, dice.clone()))
            .collect();
        let (lines, watched) = watch::channel(Vec::new());
        let task = TrackerTask {
            around: Arc::new(around),
            schedules,
            mailbox,
            torrent,
            lines,
            announces: JoinSet::new(),
            rng,
            over: 0,
        };
        (task, watched)
    }

    /// Runs until leave is taken of every tracker.
    pub(crate) async fn run(mut self, complete: bool) {
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
                    for message in mail {
                        self.all(&match message {
                            ToTrackers::WantsCandidates => Input::WantsCandidates,
                            ToTrackers::Completed => Input::Completed,
                            ToTrackers::Stop => Input::Stop,
                        });
                    }
                }
                Some(done) = self.announces.join_next(), if !self.announces.is_empty() => {
                    if let Ok((schedule, id, result)) = done {
                        self.answered(schedule, id, result).await;
                    }
                }
                () = self.around.clock.sleep_until(deadline) => self.all(&Input::Tick),
            }
            self.lines.send_replace(self.status());
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
                    self.announces.spawn(async move {
                        (
                            at,
                            id,
                            around.announce(&tracker, request, give_up_at, rng).await,
                        )
                    });
                }
            }
        }
    }

    fn status(&self) -> Vec<TrackerLine> {
        let lines = self.schedules.iter().flat_map(Schedule::status);
        lines
            .map(|tracker| TrackerLine {
                host: host_of(tracker.url),
                working: tracker.state == TrackerState::Working,
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
        done.unwrap_or_else(|_| Err(Error::Unreachable("it did not answer in time".into())))
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

    /// Tries the tracker's addresses one after the other, those of the other family too: a tracker may know other peers there.
    async fn announce_udp(
        &self,
        tracker: &Url,
        request: AnnounceRequest,
        within: Duration,
        mut rng: fastrand::Rng,
    ) -> Result<AnnounceReply, Error> {
        let (host, port) = udp::endpoint(tracker)?;
        let origin = self.origin(tracker);
        let addresses = self
            .transport
            .resolve(&host.to_string(), port, origin, Protocol::TrackerUdp)
            .await
            .map_err(|error| Error::Unreachable(error.to_string()))?;
        let until = self.clock.now() + within;
        let mut last = Error::Unreachable("its name has no address".into());
        for address in addresses.into_iter().take(2) {
            let left = until.since(self.clock.now());
            let exchange = UdpExchange::new(
                UdpRequest::Announce(request.clone()),
                tracker,
                if address.is_ipv4() {
                    AddressFamily::V4
                } else {
                    AddressFamily::V6
                },
                None,
                left / 2,
                rng.fork(),
            );
            match self.exchange(address, origin, exchange?).await {
                Ok(UdpReply::Announce(reply)) => return Ok(reply),
                Ok(UdpReply::Scrape(_)) => {}
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

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

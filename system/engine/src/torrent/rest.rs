//! A torrent at rest: it has all that is wanted and nobody speaks to it. What it takes to speak to somebody is let go, its content is
//! closed, and nothing of it runs until somebody comes.
//!
//! Invariant: whoever asks for it finds it as if it had been awake, and the session's books are as true as before: what was granted
//! meanwhile is given back.

use super::{Inbox, Kept, Parts, ToTorrent, TorrentId, TorrentTask};
use crate::clock::Clock;
use crate::connect::{Introduction, Ready};
use crate::dht::Membership;
use crate::engine::Environment;
use crate::local;
use crate::mailbox::Mailbox;
use crate::register::Registration;
use crate::session::{FromSession, ToSession};
use crate::snapshot::{Phase, Shown};
use crate::tracker::Trackers;
use crate::wishes::Wishes;
use shoal_machine::Moment;
use shoal_metainfo::Metainfo;
use shoal_session::Input as ToBooks;
use shoal_storage::Location;
use shoal_transport::TorrentLimiter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Whoever was woken stays awake for so long: peers that try each other again and again do not open and close a content each time.
pub(super) const AWAKE_FOR: Duration = Duration::from_secs(60);

/// How long those that a person named are left alone where they were not reached, or have gone.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(30 * 60);

/// What is left of a torrent at rest.
pub(crate) struct Resting {
    pub(crate) id: TorrentId,
    pub(crate) environment: Arc<Environment>,
    pub(crate) introduction: Introduction,
    pub(crate) registration: Registration,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) inbox: Inbox,
    pub(crate) mailbox: Mailbox<FromSession>,
    pub(crate) trackers: Trackers,
    pub(crate) dht: Option<Membership>,
    pub(crate) local: Option<local::Membership>,
    pub(crate) wishes: Wishes,
    pub(crate) shown: Shown,
    pub(crate) kept: Kept,
    /// Where the content is.
    pub(crate) location: Arc<Location>,
    /// The journal says what is verified.
    pub(crate) is_written_down: bool,
    /// Where a person named peers: when they are dialled again.
    pub(crate) tries_again_at: Option<Moment>,
}

/// Why a torrent wakes up.
pub(crate) enum Woken {
    /// Somebody has something to say to it.
    By(ToTorrent),
    /// Somebody has connected.
    Visited(Vec<Ready>),
    /// It is time to try those that a person named.
    ByTime,
    /// It is to end.
    Stopped,
}

impl Resting {
    /// Waits until somebody needs it awake.
    pub(crate) async fn wait(&mut self) -> Woken {
        loop {
            let mut mail = Vec::new();
            tokio::select! {
                message = self.inbox.receive() => match message {
                    ToTorrent::Stop => return Woken::Stopped,
                    // What is waited for now and then is on the heap: this is all that thousands of torrents are.
                    ToTorrent::Seen(sighting) => {
                        Box::pin(self.tell(ToBooks::Seen(sighting))).await;
                    }
                    // Of those who had ended when it went to rest.
                    ToTorrent::Peer(..)
                    | ToTorrent::Client(..)
                    | ToTorrent::DialFailed(_)
                    | ToTorrent::WebSeedNews(..) => {}
                    message => return Woken::By(message),
                },
                () = self.mailbox.collect(&mut mail) => {
                    let visitors = Box::pin(self.read(mail)).await;
                    if !visitors.is_empty() {
                        return Woken::Visited(visitors);
                    }
                }
                () = self.trackers.changed() => self.shown.trackers(self.trackers.lines()),
                () = until(self.environment.clock, self.tries_again_at) => return Woken::ByTime,
            }
        }
    }

    /// Deals with what the session decided. Gives those who have connected.
    async fn read(&mut self, mail: Vec<FromSession>) -> Vec<Ready> {
        let mut visitors = Vec::new();
        for message in mail {
            match message {
                FromSession::GrantDials(count) => {
                    for _ in 0..count {
                        let (torrent, connected) = (self.id, false);
                        self.tell(ToBooks::DialEnded { torrent, connected }).await;
                    }
                }
                FromSession::OurAddress(ip) => remember(&mut self.kept.ours, ip),
                FromSession::MaxConnections(most) => self.kept.session_max_connections = most,
                // Nobody is connected whom that could mean.
                FromSession::Unchoked(_) | FromSession::Shed(_) | FromSession::Review => {}
                FromSession::NetworkChanged(route) if route == self.environment.route => {
                    self.trackers.reannounce(None);
                }
                FromSession::NetworkChanged(_) => {}
                // Content without a torrent is nobody else's business.
                FromSession::Incoming(_) if self.metainfo.is_plain() => {
                    self.tell(ToBooks::Disconnected(self.id)).await;
                }
                FromSession::Incoming(ready) => visitors.push(*ready),
            }
        }
        visitors
    }

    /// Lets those go who have connected.
    pub(crate) async fn send_away(&self, visitors: Vec<Ready>) {
        for visitor in visitors {
            drop(visitor);
            self.tell(ToBooks::Disconnected(self.id)).await;
        }
    }

    /// Where the session is gone the engine stops, and there is nothing left to decide.
    async fn tell(&self, input: ToBooks) {
        let session = &self.environment.session;
        drop(session.send(ToSession::Torrent(input)).await);
    }

    /// It ends, at rest: it takes leave of trackers and of the session.
    pub(crate) async fn end(self, phase: Phase) {
        self.trackers.stop();
        self.tell(ToBooks::Removed(self.id)).await;
        // Whoever sees that it has stopped may add it again.
        drop(self.registration);
        self.shown.phase(phase);
    }
}

/// A timer is on the heap where there is one.
async fn until(clock: Clock, at: Option<Moment>) {
    match at {
        Some(_) => Box::pin(clock.sleep_until(at)).await,
        None => std::future::pending().await,
    }
}

/// Keeps the last word of a family.
pub(super) fn remember(ours: &mut [Option<IpAddr>; 2], ip: IpAddr) {
    ours[usize::from(ip.is_ipv6())] = Some(ip);
}

impl TorrentTask {
    /// When it may go to rest; `None` while there is something that it has to be awake for.
    pub(super) fn rests_at(&self) -> Option<Moment> {
        let nothing_to_do = self.torrent.rests()
            && self.peers.is_empty()
            && self.suspended.is_none()
            && self.failed.is_none()
            && self.rechecks.under_way() == 0
            && self.verifying.is_none()
            && !self.moving.is_going_on()
            && self.selecting.is_idle()
            && self.readers.is_empty()
            && !self.parts.wishes.super_seed
            && self.next_report.is_none()
            // What became of them is shown.
            && !self.web_seeds.any_begun()
            && !self.stopping;
        (nothing_to_do && self.parts.may_rest).then_some(self.awake_until)
    }

    /// Closes the content and lets everything go that can be had again.
    pub(super) async fn go_to_rest(self: Box<Self>) -> Resting {
        let TorrentTask {
            parts,
            torrent,
            web_seeds,
            mut kept,
            ..
        } = *self;
        let Parts {
            id,
            environment,
            introduction,
            registration,
            metainfo,
            mut on_disk,
            limiter,
            inbox,
            mailbox,
            trackers,
            dht,
            local,
            mut wishes,
            shown,
            names_peers,
            ..
        } = parts;
        let location = on_disk.content.location();
        let now = environment.clock.now();
        kept.counts.add_waste(&torrent.progress());
        wishes.web_seeds = web_seeds.into_places();
        // What storage tells at the end is found again when the content is opened.
        let closed = super::close(&mut on_disk).await;
        Resting {
            id,
            environment,
            introduction,
            registration,
            metainfo,
            limiter,
            inbox,
            mailbox,
            trackers,
            dht,
            local,
            wishes,
            shown,
            kept,
            location,
            is_written_down: closed.is_written_down,
            tries_again_at: names_peers.then(|| now + TRY_AGAIN_AFTER),
        }
    }
}

//! The owner of the session: choke rounds and dial grants over all torrents, and the door for connections from outside.
//!
//! Invariant: torrents and the door speak up to it over one bounded channel; it answers by mail that never waits.

use crate::clock::Clock;
use crate::connect::Ready;
use crate::mailbox::{Mailbox, separate};
use crate::route::RouteId;
use crate::torrent::TorrentId;
use shoal_machine::{Machine, Sighting};
use shoal_session::{Input, Output, Session, Settings, TorrentKey};
use shoal_swarm::PeerKey;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// Statements that may wait for the session. Torrents speak about once a second each.
const MAX_WAITING: usize = 256;

/// What the session is told.
pub(crate) enum ToSession {
    /// A torrent is there, and this is where its mail goes.
    Added(TorrentId, Mailbox<FromSession>),
    /// What one of the torrents says.
    Torrent(Input),
    /// Somebody connected to a torrent.
    Incoming(TorrentId, Box<Ready>),
    /// Where a contact of the DHT sees us.
    Seen(Sighting),
    /// What holds from here on.
    Settings(Box<Settings>),
    /// Other addresses are forbidden than were.
    Review,
    /// Those on this route are in another network, or in one again.
    NetworkChanged(RouteId),
}

/// What a torrent is told by the session.
pub(crate) enum FromSession {
    GrantDials(u32),
    Unchoked(Vec<PeerKey>),
    Incoming(Box<Ready>),
    /// Where the world sees us.
    OurAddress(IpAddr),
    /// The most connections of a torrent.
    MaxConnections(u32),
    /// So many connections are too many.
    Shed(u32),
    /// Who is connected may have been forbidden.
    Review,
    /// Those on this route are in another network, or in one again.
    NetworkChanged(RouteId),
}

/// The owner.
pub(crate) struct SessionTask {
    clock: Clock,
    session: Session,
    max_connections_per_torrent: u32,
    torrents: BTreeMap<TorrentKey, Mailbox<FromSession>>,
    inbox: mpsc::Receiver<ToSession>,
}

impl SessionTask {
    pub(crate) fn new(
        clock: Clock,
        settings: Settings,
        seed: u64,
    ) -> (Self, mpsc::Sender<ToSession>) {
        let (sender, inbox) = mpsc::channel(MAX_WAITING);
        let max_connections_per_torrent = settings.max_connections_per_torrent;
        let session = Session::new(settings, seed);
        (
            SessionTask {
                clock,
                session,
                max_connections_per_torrent,
                torrents: BTreeMap::new(),
                inbox,
            },
            sender,
        )
    }

    /// Runs until nobody can speak to it any more.
    pub(crate) async fn run(mut self) {
        loop {
            let deadline = self.session.deadline();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                () = self.clock.sleep_until(deadline) => self.handle(Input::Tick),
            }
        }
    }

    fn hear(&mut self, message: ToSession) {
        match message {
            ToSession::Added(torrent, mailbox) => {
                for address in self.session.our_addresses() {
                    mailbox.push(FromSession::OurAddress(address), separate);
                }
                let most = self.max_connections_per_torrent;
                mailbox.push(FromSession::MaxConnections(most), separate);
                self.torrents.insert(torrent, mailbox);
                self.handle(Input::Added(torrent));
            }
            ToSession::Torrent(input) => {
                if let Input::Removed(torrent) = input {
                    self.torrents.remove(&torrent);
                }
                self.handle(input);
            }
            ToSession::Seen(sighting) => self.handle(Input::Seen(sighting)),
            ToSession::Settings(settings) => {
                let most = settings.max_connections_per_torrent;
                self.max_connections_per_torrent = most;
                for mailbox in self.torrents.values() {
                    mailbox.push(FromSession::MaxConnections(most), separate);
                }
                self.handle(Input::Settings(*settings));
            }
            ToSession::Review => {
                for mailbox in self.torrents.values() {
                    mailbox.push(FromSession::Review, once);
                }
            }
            ToSession::NetworkChanged(route) => {
                for mailbox in self.torrents.values() {
                    mailbox.push(FromSession::NetworkChanged(route), once);
                }
            }
            ToSession::Incoming(torrent, ready) => {
                // A connection that is not admitted is dropped, which closes it.
                if self.session.admits(torrent) {
                    self.handle(Input::Accepted(torrent));
                    self.mail(torrent, FromSession::Incoming(ready));
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.session.handle(self.clock.now(), input);
        while let Some(output) = self.session.poll() {
            match output {
                Output::GrantDials { torrent, count } => {
                    self.mail(torrent, FromSession::GrantDials(count));
                }
                Output::Unchoked { torrent, peers } => {
                    self.mail(torrent, FromSession::Unchoked(peers));
                }
                Output::Shed { torrent, count } => {
                    self.mail(torrent, FromSession::Shed(count));
                }
                Output::OurAddress(address) => {
                    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                    tracing::info!(family, "many networks agree on where they see us");
                    tracing::trace!(%address, "our address");
                    for mailbox in self.torrents.values() {
                        mailbox.push(FromSession::OurAddress(address), separate);
                    }
                }
            }
        }
    }

    fn mail(&self, torrent: TorrentKey, message: FromSession) {
        if let Some(mailbox) = self.torrents.get(&torrent) {
            mailbox.push(message, separate);
        }
    }
}

/// One of them covers all changes before it.
fn once(last: &mut FromSession, message: FromSession) -> Option<FromSession> {
    let waits = match (last, &message) {
        (FromSession::NetworkChanged(last), FromSession::NetworkChanged(route)) => last == route,
        (FromSession::Review, FromSession::Review) => true,
        _ => false,
    };
    (!waits).then_some(message)
}

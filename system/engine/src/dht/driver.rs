//! The driver of the DHT's machine: one task that owns it.
//!
//! Invariant: one handle names one search that runs, and each running search is of a swarm that somebody wants.

use super::schedule::Schedule;
use super::{DhtConfig, DhtPeers, Known, MAX_KNOWN, ToDht, saved};
use crate::clock::Clock;
use crate::inbox::Sender;
use crate::mailbox::Mailbox;
use crate::ports::OurPort;
use crate::session::ToSession;
use crate::torrent::ToTorrent;
use shoal_dht::krpc::{
    Body, Message, Method, Query, TransactionId, decode, encode, encode_anonymously,
};
use shoal_dht::{Announce, Dht, Family, Handle, Id, Input, Output, Saved, Settings};
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHash;
use shoal_metainfo::metainfo::Contact;
use shoal_storage::state_file;
use shoal_swarm::torrent::Origin;
use shoal_transport::policy::Protocol;
use shoal_transport::{OriginClass, OtherDatagrams, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What every message begins with, as it is a bencoded dictionary.
const FIRST_BYTE: u8 = b'd';

/// How long to wait where a router's name stands for nothing: the network may not be there yet.
const RESOLVE_AGAIN: Duration = Duration::from_secs(60);

/// Names whose addresses only their answers tell.
const MAX_UNMET: usize = 64;

/// Addresses of routers that the user named which are remembered as such.
const MAX_NAMED: usize = 64;

/// What the driver is put together from.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) transport: Transport,
    pub(crate) config: DhtConfig,
    /// The first socket of each family is used.
    pub(crate) sockets: Vec<OtherDatagrams>,
    /// Who elects our address.
    pub(crate) session: mpsc::Sender<ToSession>,
    /// Where peers connect, if they may.
    pub(crate) port: OurPort,
    /// They may connect to the socket itself (uTP).
    pub(crate) implied_port: bool,
    /// What others must not guess.
    pub(crate) secret: [u8; 32],
    pub(crate) rng: fastrand::Rng,
}

/// The driver before the first torrent wants it.
pub(crate) struct DhtTask {
    parts: Parts,
    sockets: [Option<OtherDatagrams>; 2],
    mailbox: Mailbox<ToDht>,
    /// For those who resolve names.
    knows: mpsc::Sender<Known>,
    known: mpsc::Receiver<Known>,
}

impl DhtTask {
    /// The two ends.
    pub(crate) fn new(mut parts: Parts) -> (Self, DhtPeers) {
        let mut sockets = [None, None];
        for socket in std::mem::take(&mut parts.sockets) {
            sockets[Family::of(socket.address().ip()) as usize].get_or_insert(socket);
        }
        // Under a proxy nobody can ask us anything: the port is 0.
        let port = |socket: &Option<OtherDatagrams>| {
            let port = socket.as_ref()?.address().port();
            (port != 0).then_some(port)
        };
        let ports = [port(&sockets[0]), port(&sockets[1])];
        let mailbox = Mailbox::new();
        let (knows, known) = mpsc::channel(MAX_KNOWN);
        let peers = DhtPeers {
            mailbox: mailbox.clone(),
            known: knows.clone(),
            ports,
        };
        let task = DhtTask {
            parts,
            sockets,
            mailbox,
            knows,
            known,
        };
        (task, peers)
    }

    /// Runs until it is stopped.
    pub(crate) async fn run(mut self) {
        let Some(mail) = self.sleep().await else {
            return;
        };
        let saved = match self.parts.config.saved.clone() {
            Some(path) => load(path).await,
            None => Saved::default(),
        };
        let mut driver = Driver::new(self, &saved);
        driver.begin(saved.contacts);
        for message in mail {
            driver.hear(message);
        }
        driver.run().await;
    }

    /// Waits for the first torrent, deaf to everybody else, and gives all that was said by then; `None` where it was stopped before.
    async fn sleep(&mut self) -> Option<Vec<ToDht>> {
        let mut mail = Vec::new();
        let [v4, v6] = &mut self.sockets;
        loop {
            tokio::select! {
                () = self.mailbox.collect(&mut mail) => {}
                Some(_) = self.known.recv() => {}
                _ = receive(v4) => {}
                _ = receive(v6) => {}
            }
            if mail.iter().any(|message| matches!(message, ToDht::Stop)) {
                return None;
            }
            if mail
                .iter()
                .any(|message| matches!(message, ToDht::Join { .. }))
            {
                return Some(mail);
            }
        }
    }
}

/// A swarm that somebody wants.
struct Swarm {
    is_seed: bool,
    torrent: Sender<ToTorrent>,
    schedule: Schedule,
    search: Option<Handle>,
}

/// A contact that has not answered yet.
struct Unmet {
    contact: Contact,
    origin: OriginClass,
    is_router: bool,
    /// What its answer will repeat.
    transaction: TransactionId,
}

struct Driver {
    clock: Clock,
    transport: Transport,
    config: DhtConfig,
    session: mpsc::Sender<ToSession>,
    port: OurPort,
    implied_port: bool,
    rng: fastrand::Rng,
    sockets: [Option<OtherDatagrams>; 2],
    mailbox: Mailbox<ToDht>,
    knows: mpsc::Sender<Known>,
    known: mpsc::Receiver<Known>,
    machine: Dht,
    /// What the machine wants done, until the end of the turn.
    outputs: VecDeque<Output>,
    swarms: BTreeMap<InfoHash, Swarm>,
    searches: BTreeMap<Handle, InfoHash>,
    next_handle: u64,
    /// Routers that the user named: those may be anywhere.
    named: BTreeSet<SocketAddr>,
    /// Those known by name alone, under a proxy that looks names up and tells nobody: they are asked whether they are there.
    unmet: Vec<Unmet>,
    /// When they are asked again.
    ask_at: Option<Moment>,
    saving: Option<JoinHandle<()>>,
    has_stopped: bool,
}

impl Driver {
    fn new(task: DhtTask, saved: &Saved) -> Self {
        let DhtTask {
            parts,
            sockets,
            mailbox,
            knows,
            known,
        } = task;
        let mut rng = parts.rng;
        let settings = Settings {
            read_only: parts.config.settings.read_only || parts.transport.proxy().is_some(),
            v4: parts.config.settings.v4 && sockets[0].is_some(),
            v6: parts.config.settings.v6 && sockets[1].is_some(),
            ..parts.config.settings
        };
        let now = parts.clock.now();
        Driver {
            clock: parts.clock,
            transport: parts.transport,
            config: parts.config,
            session: parts.session,
            port: parts.port,
            implied_port: parts.implied_port,
            machine: Dht::new(now, settings, saved, parts.secret, rng.fork()),
            rng,
            outputs: VecDeque::new(),
            sockets,
            mailbox,
            knows,
            known,
            swarms: BTreeMap::new(),
            searches: BTreeMap::new(),
            next_handle: 0,
            named: BTreeSet::new(),
            unmet: Vec::new(),
            ask_at: None,
            saving: None,
            has_stopped: false,
        }
    }

    /// Asks whom it was told of.
    fn begin(&mut self, contacts: Vec<SocketAddr>) {
        self.bootstrap(contacts, false);
        for router in self.config.routers.clone() {
            if self.is_only_a_name(&router.contact) {
                self.ask_by_name(router.contact, router.origin, true);
                continue;
            }
            let (transport, knows) = (self.transport.clone(), self.knows.clone());
            tokio::spawn(async move {
                while !resolve(&transport, &router.contact, router.origin, &knows, true).await {
                    tokio::select! {
                        () = tokio::time::sleep(RESOLVE_AGAIN) => {}
                        () = knows.closed() => return,
                    }
                }
            });
        }
    }

    async fn run(mut self) {
        while !self.has_stopped {
            self.search();
            self.carry_out().await;
            self.ask_unmet().await;
            let deadline = earliest(self.machine.deadline(), self.due_at());
            let deadline = earliest(deadline, self.ask_at);
            let mut mail = Vec::new();
            let [v4, v6] = &mut self.sockets;
            tokio::select! {
                () = self.mailbox.collect(&mut mail) => {
                    mail.into_iter().for_each(|message| self.hear(message));
                }
                Some(known) = self.known.recv() => self.learn(known),
                (from, bytes) = receive(v4) => self.datagram(from, bytes),
                (from, bytes) = receive(v6) => self.datagram(from, bytes),
                () = self.clock.sleep_until(deadline) => self.tell(Input::Tick),
            }
        }
        // Only what is to be kept.
        self.carry_out().await;
        if let Some(saving) = self.saving {
            drop(saving.await);
        }
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.clock.now(), input);
        while let Some(output) = self.machine.poll() {
            self.outputs.push_back(output);
        }
    }

    fn datagram(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if bytes.first() != Some(&FIRST_BYTE) {
            return;
        }
        match self.met(&bytes) {
            Some(met) => self.learn(match met.is_router {
                true => Known::Routers(vec![from], met.origin),
                false => Known::Contacts(vec![from]),
            }),
            None => self.tell(Input::Datagram { from, bytes }),
        }
    }

    /// Whether no address comes of a contact but by its own answer.
    fn is_only_a_name(&self, contact: &Contact) -> bool {
        self.transport.proxy().is_some() && contact.host.parse::<IpAddr>().is_err()
    }

    fn ask_by_name(&mut self, contact: Contact, origin: OriginClass, is_router: bool) {
        let is_there = self.unmet.iter().any(|unmet| unmet.contact == contact);
        if is_there || self.unmet.len() >= MAX_UNMET {
            return;
        }
        let transaction = self.rng.u64(..).to_be_bytes();
        self.unmet.push(Unmet {
            contact,
            origin,
            is_router,
            transaction: TransactionId::from(transaction),
        });
        self.ask_at = Some(self.clock.now());
    }

    /// Asks those who are due. Under a proxy, over the first socket: the proxy chooses the family.
    async fn ask_unmet(&mut self) {
        let now = self.clock.now();
        if self.ask_at.is_none_or(|at| at > now) {
            return;
        }
        self.ask_at = (!self.unmet.is_empty()).then_some(now + RESOLVE_AGAIN);
        let Some(socket) = self.sockets.iter().flatten().next() else {
            return;
        };
        for unmet in &self.unmet {
            let query = Query {
                id: Id::from(InfoHash(std::array::from_fn(|_| self.rng.u8(..)))),
                read_only: true,
                method: Method::Ping,
            };
            let ping = Message {
                transaction: unmet.transaction.clone(),
                body: Body::Query(query),
            };
            let ping = match self.config.settings.anonymous {
                true => encode_anonymously(&ping),
                false => encode(&ping),
            };
            let (host, port) = (&unmet.contact.host, unmet.contact.port);
            if let Err(error) = socket.send_to_name(host, port, unmet.origin, &ping).await {
                tracing::debug!(%error, "a contact to begin with cannot be asked");
            }
        }
    }

    /// Whose answer this is, of those who were asked by name.
    fn met(&mut self, bytes: &[u8]) -> Option<Unmet> {
        if self.unmet.is_empty() {
            return None;
        }
        let message = decode(bytes).ok()?;
        let is_reply = matches!(message.body, Body::Reply(_));
        let mut unmet = self.unmet.iter();
        let at = unmet.position(|unmet| is_reply && unmet.transaction == message.transaction)?;
        Some(self.unmet.remove(at))
    }

    fn bootstrap(&mut self, addresses: Vec<SocketAddr>, are_routers: bool) {
        if !addresses.is_empty() {
            self.tell(Input::Bootstrap {
                addresses,
                are_routers,
            });
        }
    }

    fn learn(&mut self, known: Known) {
        match known {
            Known::Contacts(addresses) => self.bootstrap(addresses, false),
            Known::Routers(addresses, origin) => {
                if origin == OriginClass::User {
                    let room = MAX_NAMED.saturating_sub(self.named.len());
                    self.named.extend(addresses.iter().take(room));
                    // A network of one's own may have no other contact.
                    self.bootstrap(addresses.clone(), false);
                }
                self.bootstrap(addresses, true);
            }
        }
        let now = self.clock.now();
        let swarms = self.swarms.values_mut();
        swarms.for_each(|swarm| swarm.schedule.met_somebody(now));
    }

    fn hear(&mut self, message: ToDht) {
        match message {
            ToDht::Join {
                swarm,
                is_seed,
                torrent,
            } => {
                let schedule = Schedule::new(self.clock.now());
                let entry = Swarm {
                    is_seed,
                    torrent,
                    schedule,
                    search: None,
                };
                // Names are nobody else's: the register has seen to that.
                self.swarms.insert(swarm, entry);
            }
            ToDht::Leave(swarm) => {
                let left = self.swarms.remove(&swarm);
                if let Some(search) = left.and_then(|swarm| swarm.search) {
                    self.searches.remove(&search);
                    self.tell(Input::Cancel(search));
                }
            }
            ToDht::Want(swarm) => {
                if let Some(swarm) = self.swarms.get_mut(&swarm) {
                    swarm.schedule.wanted();
                }
            }
            ToDht::IsSeed(swarm, is_seed) => {
                if let Some(swarm) = self.swarms.get_mut(&swarm) {
                    swarm.is_seed = is_seed;
                }
            }
            ToDht::Nodes(nodes) => {
                let is_only_a_name = |node: &Contact| self.is_only_a_name(node);
                let (names, nodes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_only_a_name);
                for name in names {
                    self.ask_by_name(name, OriginClass::Metainfo, false);
                }
                let (transport, knows) = (self.transport.clone(), self.knows.clone());
                tokio::spawn(async move {
                    for node in nodes {
                        let origin = OriginClass::Metainfo;
                        resolve(&transport, &node, origin, &knows, false).await;
                    }
                });
            }
            ToDht::Stop => {
                self.has_stopped = true;
                self.tell(Input::Stop);
            }
        }
    }

    fn due_at(&self) -> Option<Moment> {
        let due = self.swarms.values();
        due.filter_map(|swarm| swarm.schedule.due_at()).min()
    }

    /// Begins the searches that are due.
    fn search(&mut self) {
        let now = self.clock.now();
        let mut due = Vec::new();
        for (info_hash, swarm) in &mut self.swarms {
            if swarm.schedule.due_at().is_none_or(|at| at > now) {
                continue;
            }
            let handle = Handle(self.next_handle);
            self.next_handle += 1;
            self.searches.insert(handle, *info_hash);
            swarm.search = Some(handle);
            swarm.schedule.begun(now);
            let announce = self.port.announced().map(|port| Announce {
                port,
                implied_port: self.implied_port,
                seed: swarm.is_seed,
            });
            let find = Input::FindPeers {
                handle,
                info_hash: *info_hash,
                announce,
                noseed: swarm.is_seed,
                scrape: false,
            };
            due.push(find);
        }
        due.into_iter().for_each(|find| self.tell(find));
    }

    async fn carry_out(&mut self) {
        while let Some(output) = self.outputs.pop_front() {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes).await,
                Output::PeersFound { handle, peers } => {
                    let swarm = self.searches.get(&handle);
                    if let Some(swarm) = swarm.and_then(|swarm| self.swarms.get_mut(swarm)) {
                        swarm.schedule.found();
                        // Where the torrent is busy or gone, they are found again.
                        let found = ToTorrent::Candidates(Origin::Dht, peers);
                        drop(swarm.torrent.try_send(found));
                    }
                }
                Output::Ended { handle, outcome } => {
                    let now = self.clock.now();
                    let swarm = self.searches.remove(&handle);
                    if let Some(swarm) = swarm.and_then(|swarm| self.swarms.get_mut(&swarm)) {
                        swarm.search = None;
                        let answered = outcome.answered;
                        swarm.schedule.ended(now, answered, &mut self.rng);
                    }
                }
                Output::Save(saved) => self.save(saved).await,
                // One of many votes: where the session is busy, others follow.
                Output::Seen(sighting) => {
                    drop(self.session.try_send(ToSession::Seen(sighting)));
                }
                // Nothing is asked that these would answer.
                Output::ItemFound { .. } | Output::TorrentFound { .. } | Output::Sampled { .. } => {
                }
            }
        }
    }

    /// As far as the policy lets it: what is refused is lost, as datagrams may be.
    async fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let origin = match self.named.contains(&to) {
            true => OriginClass::User,
            false => OriginClass::Dht,
        };
        if let Some(socket) = &self.sockets[Family::of(to.ip()) as usize]
            && let Err(error) = socket.send(to, origin, bytes).await
        {
            tracing::trace!(%error, "a datagram was not sent");
        }
    }

    async fn save(&mut self, saved: Saved) {
        // Who met nobody, as without a network, has nothing better than what is there.
        let Some(path) = self
            .config
            .saved
            .clone()
            .filter(|_| !saved.contacts.is_empty())
        else {
            return;
        };
        // An earlier one takes part of a second, not a quarter of an hour; the last one must not be overtaken.
        if let Some(earlier) = self.saving.take() {
            drop(earlier.await);
        }
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = state_file::replace(&path, &saved::encode(&saved)) {
                tracing::warn!(%error, "cannot remember the contacts of the DHT");
            }
        }));
    }
}

/// Waits for a datagram, for ever where there is no socket.
async fn receive(socket: &mut Option<OtherDatagrams>) -> (SocketAddr, Vec<u8>) {
    if let Some(open) = socket {
        if let Some(datagram) = open.recv().await {
            return datagram;
        }
        *socket = None;
    }
    std::future::pending().await
}

/// Finds the addresses that a name stands for. Whether there are any that may be used.
async fn resolve(
    transport: &Transport,
    contact: &Contact,
    origin: OriginClass,
    knows: &mpsc::Sender<Known>,
    is_router: bool,
) -> bool {
    let (host, port) = (&contact.host, contact.port);
    let found = transport.resolve(host, port, origin, Protocol::Peer).await;
    match found {
        Ok(addresses) => {
            let known = match is_router {
                true => Known::Routers(addresses, origin),
                false => Known::Contacts(addresses),
            };
            drop(knows.send(known).await);
            true
        }
        Err(error) => {
            tracing::debug!(%error, "a contact to begin with cannot be used");
            false
        }
    }
}

/// What an earlier run has saved, as far as it can be read.
async fn load(path: PathBuf) -> Saved {
    let loading =
        tokio::task::spawn_blocking(move || match state_file::read(&path, saved::MAX_BYTES) {
            Ok(None) => Saved::default(),
            Ok(Some(bytes)) => saved::decode(&bytes).unwrap_or_else(|| {
                let path = path.display();
                tracing::warn!(%path, "no file with contacts of the DHT; it will be overwritten");
                Saved::default()
            }),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot read the contacts of the DHT");
                Saved::default()
            }
        });
    loading.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::DhtRouter;
    use shoal_dht::krpc::Reply;
    use shoal_machine::Sighting;
    use shoal_transport::TransportConfig;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    /// A contact that answers whatever it is asked, and says where it sees who asks.
    async fn answer(mut contact: OtherDatagrams, seen: SocketAddr) {
        while let Some((from, bytes)) = contact.recv().await {
            let transaction = decode(&bytes).unwrap().transaction;
            let reply = Reply {
                ip: Some(seen),
                ..Reply::new(Id::from(InfoHash([1; 20])))
            };
            let body = Body::Reply(Box::new(reply));
            let answer = encode(&Message { transaction, body });
            contact
                .send(from, OriginClass::User, &answer)
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn the_session_hears_where_contacts_see_us() {
        let transport = Transport::start(TransportConfig {
            listen: vec![SocketAddr::new(THERE, 0), SocketAddr::new(HERE, 0)],
            isolated: true,
            ..TransportConfig::default()
        });
        let transport = transport.unwrap();
        let listeners = transport.listen().unwrap();
        let mut sockets = transport.datagrams(&listeners).unwrap();
        let contact = sockets.remove(0);
        let address = contact.address();
        let seen: SocketAddr = "80.1.1.1:6881".parse().unwrap();
        let answering = tokio::spawn(answer(contact, seen));
        let (session, mut heard) = mpsc::channel(8);
        let (task, dht) = DhtTask::new(Parts {
            clock: Clock::start(),
            transport: transport.clone(),
            config: DhtConfig {
                routers: vec![DhtRouter {
                    contact: Contact::parse(&address.to_string()).unwrap(),
                    origin: OriginClass::User,
                }],
                ..DhtConfig::default()
            },
            sockets,
            session,
            port: OurPort::new(Clock::start(), None, None).1,
            implied_port: false,
            secret: [1; 32],
            rng: fastrand::Rng::with_seed(1),
        });
        let running = tokio::spawn(task.run());
        let (torrent, _inbox) = crate::inbox::channel(8);
        let swarms = [InfoHash([2; 20])].into_iter();
        let _membership = dht.join(swarms, false, &[], &torrent);
        let patience = Duration::from_secs(30);
        let said = tokio::time::timeout(patience, heard.recv()).await.unwrap();
        let Some(ToSession::Seen(sighting)) = said else {
            panic!("it says something else");
        };
        let (by, at) = (THERE, seen.ip());
        assert_eq!(sighting, Sighting { by, at });
        dht.stop();
        running.await.unwrap();
        answering.abort();
    }
}

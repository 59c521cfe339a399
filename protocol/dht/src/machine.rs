//! The machine: what a driver says to it, what it wants done, and the order in which it does things.
//!
//! Invariant: everything that strangers cause is bounded: queries on their way, searches, contacts, peers, items, sources,
//! bytes sent a second. No datagram leaves to an address that only a stranger named and that is more local than the
//! stranger ([`crate::address`]).

mod answer;
mod net;
mod search;

use crate::address::is_unicast;
use crate::contact::{Contact, Family};
use crate::id::Id;
use crate::item::{Item, ItemName, MAX_SALT_BYTES, PublicKey};
use crate::items::ItemStore;
use crate::job::{Goal, Job};
use crate::krpc::{
    Body, MAX_DATAGRAM_BYTES, Message, Method, Query, TransactionId, decode, encode,
};
use crate::lookup::{self, MAX_PATHS};
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::table;
use crate::transactions::{Overdue, Purpose, Transactions};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use net::Net;
use shoal_machine::{Machine, Moment, TokenBucket, earliest};
use shoal_metainfo::InfoHash;
use std::collections::{BTreeMap, VecDeque};

/// Searches at the same time. More end at once, without having asked anybody.
pub const MAX_SEARCHES: usize = 256;

/// Mutable torrents that are followed at the same time.
pub const MAX_FOLLOWED: usize = 256;

/// Addresses to begin with that wait to be asked; more are ignored.
pub const MAX_SEEDS: usize = 512;

/// Routers that are remembered, to be asked again when all contacts are lost.
const MAX_ROUTERS: usize = 32;

/// No query of ours that is not a put is longer; the limit of bytes lets a query go when there is room for one.
const QUERY_BYTES: u64 = 200;

/// How often contacts are given to be saved.
const SAVE_EVERY: Duration = Duration::from_secs(15 * 60);

/// How often peers and items that are too old are thrown away. None is given out meanwhile.
const EXPIRE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Names a search or something followed. Chosen by the driver, one for each that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// What a person or the engine may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Take part over IPv4.
    pub v4: bool,
    /// Take part over IPv6.
    pub v6: bool,
    /// Ask and answer nothing (BEP 43): where nobody can reach us, or each byte costs.
    pub read_only: bool,
    /// Paths of a search that share no informant, 1 to 8.
    pub paths: usize,
    /// One contact of a /24 or /48 in a bucket and in a search. Only global addresses count.
    pub one_per_network: bool,
    /// Rank contacts whose id follows from their address (BEP 42) beside all others.
    pub prefer_secure: bool,
    /// What our queries may take.
    pub query_rate_bytes_per_s: u64,
    /// What our answers may take: the most that somebody can have us send to a third party.
    pub answer_rate_bytes_per_s: u64,
}

impl Default for Settings {
    /// The rates are those of libtorrent, which are for both together there.
    fn default() -> Self {
        Settings {
            v4: true,
            v6: true,
            read_only: false,
            paths: 8,
            one_per_network: true,
            prefer_secure: true,
            query_rate_bytes_per_s: 8_000,
            answer_rate_bytes_per_s: 8_000,
        }
    }
}

impl Settings {
    pub(crate) const fn table(&self) -> table::Rules {
        table::Rules {
            one_per_network: self.one_per_network,
            prefer_secure: self.prefer_secure,
        }
    }

    pub(crate) const fn lookup(&self) -> lookup::Rules {
        lookup::Rules {
            paths: self.paths,
            one_per_network: self.one_per_network,
            prefer_secure: self.prefer_secure,
        }
    }
}

/// What is worth keeping over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Our id in the IPv4 DHT.
    pub id_v4: Option<Id>,
    /// Our id in the IPv6 DHT.
    pub id_v6: Option<Id>,
    /// Contacts to begin with, for [`Input::Bootstrap`].
    pub contacts: Vec<SocketAddr>,
}

/// How a peer wants to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where it listens.
    pub port: u16,
    /// It listens where the datagrams come from, which behind a NAT nobody else knows: `port` is for contacts that do not
    /// know `implied_port`.
    pub implied_port: bool,
    /// It is complete (BEP 33).
    pub seed: bool,
}

/// What can happen to the machine.
#[derive(Clone)]
pub enum Input {
    /// A datagram came that is not one of uTP: its first byte is `d`.
    Datagram {
        /// From there.
        from: SocketAddr,
        /// With this.
        bytes: Vec<u8>,
    },
    /// A deadline passed.
    Tick,
    /// Addresses to begin with: saved contacts, peers that said they take part (the `port` message), those of local service
    /// discovery, a torrent's `nodes`, routers. Names are resolved before.
    Bootstrap {
        /// Who.
        addresses: Vec<SocketAddr>,
        /// They are not to be kept as contacts, but to be asked again when all contacts are lost.
        are_routers: bool,
    },
    /// Look for peers of a swarm, and be known as one.
    FindPeers {
        /// To be named in what is found.
        handle: Handle,
        /// The swarm.
        info_hash: InfoHash,
        /// How to be known; `None` to only look.
        announce: Option<Announce>,
        /// Rather peers that are not complete (BEP 33).
        noseed: bool,
        /// Count them (BEP 33).
        scrape: bool,
    },
    /// Look for what is stored.
    GetItem {
        /// To be named in what is found.
        handle: Handle,
        /// What.
        name: ItemName,
    },
    /// Store something. One that does not verify ends at once, stored nowhere. It is forgotten after two hours, so that
    /// its owner stores it again each hour.
    PutItem {
        /// To be named at the end.
        handle: Handle,
        /// What.
        item: Item,
        /// Only where this is the number of what it replaces.
        cas: Option<i64>,
    },
    /// Tell what a mutable torrent (BEP 46) points to, and each time that changes, until cancelled.
    Follow {
        /// To be named each time.
        handle: Handle,
        /// Whose.
        key: PublicKey,
        /// Which of the owner's. With more than [`MAX_SALT_BYTES`] it ends at once, as where [`MAX_FOLLOWED`] are followed.
        salt: Vec<u8>,
    },
    /// Ask contacts near a place which swarms they have heard of (BEP 51).
    Sample {
        /// To be named in what is found.
        handle: Handle,
        /// Where.
        target: Id,
    },
    /// End a search or stop following. Nothing more is said about it.
    Cancel(Handle),
    /// The end: what is worth keeping is given once more, nothing else.
    Stop,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Contacts that answered.
    pub answered: usize,
    /// Contacts that stored the announce or the item.
    pub stored: usize,
    /// About how many seeds and how many other peers there are, where that was asked (BEP 33).
    pub scrape: Option<(f64, f64)>,
}

/// What the machine wants done.
#[derive(Clone, PartialEq)]
pub enum Output {
    /// Send a datagram. It may be lost, or dropped where the socket is busy.
    Send {
        /// To whom; never an IPv4 address within IPv6.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Peers that were not named before in this search. Whether they may be dialled is for the address policy to say, with the DHT
    /// as origin.
    PeersFound {
        /// Of which search.
        handle: Handle,
        /// Some of them.
        peers: Vec<SocketAddr>,
    },
    /// What was looked for. A mutable item may be followed by a newer one.
    ItemFound {
        /// By which search.
        handle: Handle,
        /// What: it verifies, and its target is the one that was looked for.
        item: Item,
    },
    /// A mutable torrent points to this info hash.
    TorrentFound {
        /// Who follows it.
        handle: Handle,
        /// The torrent, by either version's info hash, cut to 20 bytes.
        info_hash: InfoHash,
        /// The number of the item that says so.
        seq: i64,
    },
    /// Swarms that a contact has heard of.
    Sampled {
        /// By which search.
        handle: Handle,
        /// The contact.
        from: Contact,
        /// Some of its swarms.
        info_hashes: Vec<InfoHash>,
        /// How many it says it has.
        total: u32,
    },
    /// A search is over.
    Ended {
        /// Which.
        handle: Handle,
        /// What came of it.
        outcome: Outcome,
    },
    /// This is our address, as many networks see it (BEP 42).
    ExternalAddress(IpAddr),
    /// To be kept over a restart.
    Save(Saved),
}

/// The kind only: datagrams, addresses and info hashes do not belong in logs.
impl core::fmt::Debug for Output {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Output::Send { .. } => "Send",
            Output::PeersFound { .. } => "PeersFound",
            Output::ItemFound { .. } => "ItemFound",
            Output::TorrentFound { .. } => "TorrentFound",
            Output::Sampled { .. } => "Sampled",
            Output::Ended { .. } => "Ended",
            Output::ExternalAddress(_) => "ExternalAddress",
            Output::Save(_) => "Save",
        })
    }
}

/// How things stand in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Our id.
    pub id: Id,
    /// Contacts that are there.
    pub contacts: usize,
    /// The nearest contacts are known: searches find what there is.
    pub has_joined: bool,
}

#[derive(Clone, Debug)]
struct Followed {
    name: ItemName,
    /// The number of what was told last.
    seq: Option<i64>,
    next_at: Moment,
}

/// A participant of the DHT.
pub struct Dht {
    settings: Settings,
    rng: fastrand::Rng,
    secrets: Secrets,
    nets: [Option<Net>; 2],
    items: ItemStore,
    sources: Sources,
    transactions: Transactions,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    /// The job that was served last.
    turn: u64,
    followed: BTreeMap<Handle, Followed>,
    /// When contacts may be asked for samples again (BEP 51).
    sampled: BTreeMap<SocketAddr, Moment>,
    seeds: VecDeque<(SocketAddr, bool)>,
    routers: Vec<SocketAddr>,
    queries: TokenBucket,
    answers: TokenBucket,
    large_answers: TokenBucket,
    save_at: Moment,
    expire_at: Moment,
    /// There were no bytes left for a query.
    is_blocked: bool,
    has_stopped: bool,
    outputs: VecDeque<Output>,
}

impl Dht {
    /// A participant that knows nobody. `saved` gives its ids; its contacts are for [`Input::Bootstrap`]. `secret` is for
    /// what others must not guess, and comes from the system's generator; `rng` is for the rest.
    #[must_use]
    pub fn new(
        now: Moment,
        settings: Settings,
        saved: &Saved,
        secret: [u8; 32],
        mut rng: fastrand::Rng,
    ) -> Self {
        let settings = Settings {
            paths: settings.paths.clamp(1, MAX_PATHS),
            ..settings
        };
        let mut net = |is_on: bool, id: Option<Id>| {
            let id = id.unwrap_or_else(|| Id::random(&mut rng));
            is_on.then(|| Net::new(id, settings.table()))
        };
        let nets = [net(settings.v4, saved.id_v4), net(settings.v6, saved.id_v6)];
        let (queries, answers) = (
            settings.query_rate_bytes_per_s,
            settings.answer_rate_bytes_per_s,
        );
        Dht {
            settings,
            rng,
            secrets: Secrets::new(secret),
            nets,
            items: ItemStore::default(),
            sources: Sources::new(now),
            transactions: Transactions::default(),
            jobs: BTreeMap::new(),
            next_job: 0,
            turn: 0,
            followed: BTreeMap::new(),
            sampled: BTreeMap::new(),
            seeds: VecDeque::new(),
            routers: Vec::new(),
            // Two seconds' worth may leave at once: a search begins with eight queries.
            queries: TokenBucket::new(now, queries, (2 * queries).max(2 * QUERY_BYTES)),
            answers: TokenBucket::new(now, answers, 2 * answers),
            large_answers: answer::large_answers(now, answers),
            save_at: now + SAVE_EVERY,
            expire_at: now + EXPIRE_EVERY,
            is_blocked: false,
            has_stopped: false,
            outputs: VecDeque::new(),
        }
    }

    /// How things stand in a family, `None` where it is off.
    #[must_use]
    pub fn status(&self, family: Family) -> Option<Status> {
        self.nets[family as usize].as_ref().map(Net::status)
    }

    /// What is worth keeping over a restart: at most 200 contacts of a family.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let [v4, v6] = &self.nets;
        let contacts = self.nets.iter().flatten().flat_map(Net::worth_saving);
        Saved {
            id_v4: v4.as_ref().map(|net| net.id),
            id_v6: v6.as_ref().map(|net| net.id),
            contacts: contacts.collect(),
        }
    }

    fn families(&self) -> [bool; 2] {
        [self.nets[0].is_some(), self.nets[1].is_some()]
    }

    fn net(&mut self, ip: IpAddr) -> Option<&mut Net> {
        self.nets[Family::of(ip) as usize].as_mut()
    }

    fn datagram(&mut self, now: Moment, from: SocketAddr, bytes: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if bytes.len() > MAX_DATAGRAM_BYTES || !is_unicast(from) || self.net(from.ip()).is_none() {
            return;
        }
        match decode(bytes) {
            Ok(Message { transaction, body }) => match body {
                Body::Query(query) => {
                    if self.sources.admits(now, from.ip()) {
                        self.answer(now, from, transaction, query, bytes.len());
                    }
                }
                Body::Reply(reply) => self.replied(now, from, &transaction, *reply),
                Body::Error { ip, .. } => self.refused(now, from, &transaction, ip),
            },
            Err(fault) => {
                if let Some((transaction, code)) = fault.answer
                    && self.sources.admits(now, from.ip())
                {
                    self.refuse(now, from, transaction, code);
                }
            }
        }
    }

    fn bootstrap(&mut self, addresses: Vec<SocketAddr>, are_routers: bool) {
        for address in addresses {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            if !is_unicast(address) || self.net(address.ip()).is_none() {
                continue;
            }
            if are_routers && !self.routers.contains(&address) && self.routers.len() < MAX_ROUTERS {
                self.routers.push(address);
            }
            self.add_seed(address, are_routers);
        }
    }

    fn add_seed(&mut self, address: SocketAddr, is_router: bool) {
        let is_new = !self.seeds.iter().any(|(known, _)| *known == address);
        if is_new && self.seeds.len() < MAX_SEEDS {
            self.seeds.push_back((address, is_router));
        }
    }

    fn follow(&mut self, now: Moment, handle: Handle, key: PublicKey, salt: Vec<u8>) {
        if self.followed.len() >= MAX_FOLLOWED || salt.len() > MAX_SALT_BYTES {
            let outcome = Outcome::default();
            self.outputs.push_back(Output::Ended { handle, outcome });
            return;
        }
        let followed = Followed {
            name: ItemName::Mutable { key, salt },
            seq: None,
            next_at: now,
        };
        self.followed.insert(handle, followed);
    }

    fn cancel(&mut self, handle: Handle) {
        self.followed.remove(&handle);
        self.jobs.retain(|_, job| job.handle != Some(handle));
    }

    fn stop(&mut self) {
        self.outputs.push_back(Output::Save(self.saved()));
        self.jobs.clear();
        self.followed.clear();
        self.seeds.clear();
        self.transactions = Transactions::default();
        self.has_stopped = true;
    }

    /// What time has brought.
    fn pass_time(&mut self, now: Moment) {
        while let Some(overdue) = self.transactions.overdue(now) {
            match overdue {
                Overdue::Slow(waiting) => self.is_slow(&waiting),
                Overdue::Lost(waiting) => self.is_lost(now, &waiting),
            }
        }
        if self.expire_at <= now {
            self.expire_at = now + EXPIRE_EVERY;
            self.items.expire(now);
            let nets = self.nets.iter_mut().flatten();
            nets.for_each(|net| net.peers.expire(now));
            self.sampled.retain(|_, again_at| *again_at > now);
        }
        if self.save_at <= now {
            self.save_at = now + SAVE_EVERY;
            if self.nets.iter().flatten().any(|net| net.has_joined) {
                self.outputs.push_back(Output::Save(self.saved()));
            }
        }
        self.look_after_followed(now);
    }

    /// Sends what there is to ask, as far as limits allow.
    fn work(&mut self, now: Moment) {
        loop {
            let joins = self.join(now);
            let changed = self.advance(now) || joins;
            let mut sent = false;
            while !self.transactions.is_full()
                && self.queries.available(now) >= QUERY_BYTES
                && self.ask_somebody(now)
            {
                sent = true;
            }
            if !changed && !sent {
                break;
            }
        }
        self.is_blocked = !self.transactions.is_full() && self.queries.available(now) < QUERY_BYTES;
    }

    /// One query: of those who begin, of a search, of the table.
    fn ask_somebody(&mut self, now: Moment) -> bool {
        if let Some((address, is_router)) = self.seeds.pop_front() {
            return self.ask_seed(now, address, is_router);
        }
        self.ask_for_a_job(now) || self.ask_for_the_table(now)
    }

    /// Sends a query. The limit of bytes is charged with what it is long, so that a long one delays those that follow.
    fn ask(
        &mut self,
        now: Moment,
        to: SocketAddr,
        expected: Option<Id>,
        method: Method,
        purpose: Purpose,
    ) {
        let read_only = self.settings.read_only;
        let mut number = self.secrets.transaction();
        while self.transactions.is_used(number) {
            number = self.secrets.transaction();
        }
        let Some(net) = self.net(to.ip()) else {
            return;
        };
        if let Some(id) = expected {
            net.table.asked(now, &Contact { id, address: to });
        }
        let message = Message {
            transaction: TransactionId::from_slice(&number.to_be_bytes()),
            body: Body::Query(Query {
                id: net.id,
                read_only,
                method,
            }),
        };
        let bytes = encode(&message);
        self.queries.take(now, bytes.len() as u64);
        self.transactions.begin(now, number, to, expected, purpose);
        self.outputs.push_back(Output::Send { to, bytes });
    }

    fn begin_for(&mut self, now: Moment, handle: Handle, goal: Goal, target: Id) {
        let running = self
            .jobs
            .values()
            .filter(|job| job.handle.is_some())
            .count();
        if running >= MAX_SEARCHES {
            let outcome = Outcome::default();
            self.outputs.push_back(Output::Ended { handle, outcome });
            return;
        }
        let families = self.families();
        self.begin(Job::new(
            Some(handle),
            goal,
            target,
            families,
            now + search::BEGINS_WITHIN,
        ));
    }

    fn begin(&mut self, job: Job) -> u64 {
        self.next_job += 1;
        self.jobs.insert(self.next_job, job);
        self.next_job
    }
}

impl Machine for Dht {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        if self.has_stopped {
            return;
        }
        match input {
            Input::Datagram { from, bytes } => self.datagram(now, from, &bytes),
            Input::Tick => {}
            Input::Bootstrap {
                addresses,
                are_routers,
            } => self.bootstrap(addresses, are_routers),
            Input::FindPeers {
                handle,
                info_hash,
                announce,
                noseed,
                scrape,
            } => {
                let goal = Goal::Peers {
                    info_hash,
                    announce,
                    noseed,
                    scrape,
                };
                self.begin_for(now, handle, goal, Id::from(info_hash));
            }
            Input::GetItem { handle, name } => {
                let target = name.target();
                self.begin_for(now, handle, Goal::Get(name), target);
            }
            Input::PutItem { handle, item, cas } => self.put(now, handle, item, cas),
            Input::Follow { handle, key, salt } => self.follow(now, handle, key, salt),
            Input::Sample { handle, target } => self.begin_for(now, handle, Goal::Sample, target),
            Input::Cancel(handle) => self.cancel(handle),
            Input::Stop => return self.stop(),
        }
        self.pass_time(now);
        self.work(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        if self.has_stopped {
            return None;
        }
        let may_ask = !self.is_blocked && !self.transactions.is_full();
        let seeds_wait = !self.seeds.is_empty();
        let nets = self.nets.iter().flatten();
        let nets = nets.map(|net| net.deadline(may_ask, seeds_wait));
        let followed = self.followed.values().map(|followed| followed.next_at);
        let begins = self.jobs.values().filter_map(Job::begins_at);
        let soonest = nets.chain(followed).chain(begins).min();
        // Whoever waits for room among the bytes asks again when there is some.
        let waits = self.queries.ready_at(QUERY_BYTES);
        let blocked = self.is_blocked.then_some(waits);
        let soonest = earliest(soonest, blocked);
        earliest(soonest, self.transactions.deadline())
            .into_iter()
            .chain([self.save_at, self.expire_at])
            .min()
    }
}

#[cfg(test)]
mod tests;

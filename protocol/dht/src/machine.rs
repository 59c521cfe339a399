//! The machine: what a driver says to it, what it wants done, and the order in which it does things.
//!
//! Invariant: everything that strangers cause is bounded: queries on their way, searches, contacts, peers, items, sources,
//! bytes sent a second. No datagram leaves to an address that only a stranger named and that is more local than the
//! stranger ([`crate::address`]).

mod answer;
mod interface;
mod net;
mod search;

pub use interface::{Announce, Handle, Input, Outcome, Output, Saved, Settings, Status};

use crate::address::is_unicast;
use crate::contact::{Contact, Family};
use crate::id::Id;
use crate::item::{ItemName, MAX_SALT_BYTES, PublicKey};
use crate::items::ItemStore;
use crate::job::{Goal, Job};
use crate::krpc::{Body, MAX_DATAGRAM_BYTES, Message, Method, Query, TransactionId, decode};
use crate::lookup::MAX_PATHS;
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::transactions::{Overdue, Purpose, Transactions};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use net::Net;
use shoal_machine::{Machine, Moment, TokenBucket, earliest};
use std::collections::{BTreeMap, VecDeque};

/// Searches at the same time. More end at once, without having asked anybody.
pub const MAX_SEARCHES: usize = 256;

/// Mutable torrents that are followed at the same time.
pub const MAX_FOLLOWED: usize = 256;

/// Addresses to begin with that wait to be asked; more are ignored.
pub const MAX_SEEDS: usize = 512;

/// Routers that are remembered, to be asked again when all contacts are lost.
const MAX_ROUTERS: usize = 32;

/// No query of a search is longer; the limit of bytes lets a query go when there is room for one. What stores may be longer:
/// those that follow wait until it is paid for.
const QUERY_BYTES: u64 = 200;

/// How often contacts are given to be saved.
const SAVE_EVERY: Duration = Duration::from_secs(15 * 60);

/// How often peers and items that are too old are thrown away. None is given out meanwhile.
const EXPIRE_EVERY: Duration = Duration::from_secs(5 * 60);

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
    /// Bytes of queries that were sent and are not paid for.
    owed_bytes: u64,
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
            owed_bytes: 0,
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
            while !self.transactions.is_full() && self.may_send(now) && self.ask_somebody(now) {
                sent = true;
            }
            if !changed && !sent {
                break;
            }
        }
        self.is_blocked = !self.transactions.is_full() && !self.may_send(now);
    }

    /// There are bytes for one more query.
    fn may_send(&mut self, now: Moment) -> bool {
        self.owed_bytes -= self.queries.take(now, self.owed_bytes);
        self.owed_bytes == 0 && self.queries.available(now) >= QUERY_BYTES
    }

    /// One query: of those who begin, of a search, of the table.
    fn ask_somebody(&mut self, now: Moment) -> bool {
        if let Some((address, is_router)) = self.seeds.pop_front() {
            return self.ask_seed(now, address, is_router);
        }
        self.ask_for_a_job(now) || self.ask_for_the_table(now)
    }

    /// Sends a query.
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
        let bytes = self.written(&message);
        let length = bytes.len() as u64;
        self.owed_bytes += length - self.queries.take(now, length);
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
        let waits = self.queries.ready_at(self.owed_bytes + QUERY_BYTES);
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

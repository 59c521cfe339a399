//! Our own questions: whom to ask next, and what an answer changes.

use super::net::{MOVE_EVERY, TABLE_PACE};
use super::{Dht, Followed, Handle, Outcome, Output};
use crate::address::may_name;
use crate::contact::{Contact, Family};
use crate::item::{Item, torrent_of};
use crate::job::{Ask, Goal, Job, Part};
use crate::krpc::{Method, Reply, Samples, Want};
use crate::lookup::Lookup;
use crate::secure_id::{is_secure, secure_id};
use crate::transactions::{Purpose, Waiting};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Moment, Sighting};

/// A search waits that long for the first contacts to be known.
pub(super) const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// Mutable torrents are looked up, and stored again, once an hour (BEP 44), give or take a tenth so that their readers do
/// not all come at once.
const FOLLOW_EVERY: Duration = Duration::from_secs(60 * 60);

/// Where nothing was found.
const FOLLOW_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Contacts whose sampling interval is remembered. Others are not asked for samples while there are so many.
const MAX_SAMPLED: usize = 4096;

impl Job {
    /// When it begins if nobody becomes known before.
    pub(super) fn begins_at(&self) -> Option<Moment> {
        let waits = self.parts.iter().any(|part| matches!(part, Part::Waiting));
        waits.then_some(self.begins_by)
    }
}

impl Dht {
    /// Both families' contacts are wanted while we know few of one of them (BEP 32).
    fn want(&self) -> Want {
        let all_joined = self.nets.iter().flatten().all(|net| net.has_joined);
        let both = self.nets.iter().all(Option::is_some) && !all_joined;
        Want { v4: both, v6: both }
    }

    pub(super) fn ask_seed(&mut self, now: Moment, address: SocketAddr, is_router: bool) -> bool {
        let want = self.want();
        let Some(net) = self.net(address.ip()) else {
            return true;
        };
        net.seeding += 1;
        let method = Method::FindNode {
            target: net.id,
            want,
        };
        self.ask(now, address, None, method, Purpose::Seed { is_router });
        true
    }

    /// Jobs take turns, a query each.
    pub(super) fn ask_for_a_job(&mut self, now: Moment) -> bool {
        let behind = self.jobs.range(self.turn + 1..).map(|(key, _)| *key);
        let before = self.jobs.range(..=self.turn).map(|(key, _)| *key);
        let order: Vec<u64> = behind.chain(before).collect();
        for key in order {
            let ask = self.jobs.get_mut(&key).and_then(Job::next);
            let Some(ask) = ask else {
                continue;
            };
            self.turn = key;
            let (contact, method, purpose) = match ask {
                Ask::Search(contact) => (
                    contact,
                    self.question(now, key, &contact),
                    Purpose::Search(key),
                ),
                Ask::Store(contact, method) => (contact, method, Purpose::Store(key)),
            };
            self.ask(now, contact.address, Some(contact.id), method, purpose);
            return true;
        }
        false
    }

    fn question(&self, now: Moment, key: u64, contact: &Contact) -> Method {
        let Some(job) = self.jobs.get(&key) else {
            return Method::Ping;
        };
        let want = match job.goal {
            Goal::Join => self.want(),
            _ => Want::default(),
        };
        let rests = match self.sampled.get(&contact.address) {
            Some(again_at) => *again_at > now,
            None => self.sampled.len() >= MAX_SAMPLED,
        };
        if matches!(job.goal, Goal::Sample) && rests {
            let target = job.target;
            return Method::FindNode { target, want };
        }
        job.question(want)
    }

    pub(super) fn ask_for_the_table(&mut self, now: Moment) -> bool {
        let mut due = None;
        for net in self.nets.iter_mut().flatten() {
            if net.table_at > now {
                continue;
            }
            due = net.table.due(now, &mut self.rng);
            if due.is_some() {
                net.table_at = now + TABLE_PACE;
                break;
            }
            let next = net.table.due_at().unwrap_or(Moment::NEVER);
            net.table_at = next.max(now + TABLE_PACE);
        }
        let Some((contact, target)) = due else {
            return false;
        };
        let want = self.want();
        let method = Method::FindNode { target, want };
        self.ask(
            now,
            contact.address,
            Some(contact.id),
            method,
            Purpose::Table,
        );
        true
    }

    /// A contact answers a query of ours; anybody else's answer is nothing.
    pub(super) fn replied(
        &mut self,
        now: Moment,
        from: SocketAddr,
        transaction: &[u8],
        reply: Reply,
    ) {
        let Some(waiting) = self.transactions.answered(transaction, from) else {
            return;
        };
        let contact = Contact {
            id: reply.id,
            address: from,
        };
        let named = self.named(from.ip(), &reply);
        self.note_contact(now, contact, &waiting);
        for contact in &named {
            if let Some(net) = self.net(contact.address.ip())
                && net.table.heard_of(*contact)
            {
                net.look_soon(now);
            }
        }
        if let Some(seen) = reply.ip {
            self.note_vote(now, from.ip(), seen.ip());
        }
        match waiting.purpose {
            Purpose::Seed { .. } | Purpose::Table => {}
            Purpose::Search(key) => self.found(now, key, contact, reply, &named),
            Purpose::Store(key) => self.end_store(key, from, true),
        }
    }

    /// The contacts of a reply that its sender may name, and that are not ourselves.
    fn named(&self, informant: IpAddr, reply: &Reply) -> Vec<Contact> {
        let named = reply.nodes.iter().chain(&reply.nodes6);
        let is_fine = |contact: &&Contact| {
            let net = self.nets[Family::of(contact.address.ip()) as usize].as_ref();
            may_name(informant, contact.address)
                && net.is_some_and(|net| {
                    net.id != contact.id && net.voter.elected() != Some(contact.address.ip())
                })
        };
        named.filter(is_fine).copied().collect()
    }

    fn note_contact(&mut self, now: Moment, contact: Contact, waiting: &Waiting) {
        let Some(net) = self.net(contact.address.ip()) else {
            return;
        };
        if let Purpose::Seed { .. } = waiting.purpose {
            net.seeding = net.seeding.saturating_sub(1);
        }
        net.join_at.get_or_insert(now);
        if let Some(expected) = waiting.expected.filter(|expected| *expected != contact.id) {
            net.table.failed(&Contact {
                id: expected,
                ..contact
            });
        }
        // A router keeps a place for everybody; it is nobody's contact.
        if waiting.purpose != (Purpose::Seed { is_router: true }) {
            net.table.answered(now, contact);
        }
        net.look_soon(now);
    }

    /// Moves us in the space where our address is another one than our id says (BEP 42).
    fn note_vote(&mut self, now: Moment, from: IpAddr, seen: IpAddr) {
        let rng = &mut self.rng;
        let Some(net) = self.nets[Family::of(from) as usize].as_mut() else {
            return;
        };
        let sighting = Sighting { by: from, at: seen };
        self.outputs.push_back(Output::Seen(sighting));
        net.voter.vote(sighting);
        let may_move = net.moved_at.is_none_or(|at| now - at >= MOVE_EVERY);
        if let Some(ip) = net.voter.elected()
            && may_move
            && !is_secure(&net.id, ip)
        {
            net.id = secure_id(ip, rng);
            net.moved_at = Some(now);
            net.table.move_to(net.id);
            (net.join_at, net.joined) = (Some(now), 0);
            // Whoever is near the old id is of no more use.
            if let Some(key) = net.joining.take() {
                self.jobs.remove(&key);
            }
        }
    }

    /// What a contact of a search says.
    fn found(&mut self, now: Moment, key: u64, from: Contact, mut reply: Reply, named: &[Contact]) {
        let family = Family::of(from.address.ip());
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        let same_family: Vec<Contact> = named
            .iter()
            .filter(|contact| Family::of(contact.address.ip()) == family)
            .copied()
            .collect();
        let Some(lookup) = job.lookup(family) else {
            return;
        };
        if !lookup.answered(from, reply.token.take(), &same_family) {
            return;
        }
        let handle = job.handle;
        if let Goal::Peers { scrape, .. } = job.goal {
            if scrape {
                job.count(reply.scrape.as_deref(), &reply.values);
            }
            let peers = job.take_peers(&reply.values);
            if let Some(handle) = handle.filter(|_| !peers.is_empty()) {
                self.outputs.push_back(Output::PeersFound { handle, peers });
            }
        }
        if let Some(samples) = reply.samples.filter(|_| matches!(job.goal, Goal::Sample)) {
            self.note_samples(now, handle, from, samples);
        } else if let Some(item) = reply.item
            && let Some(item) = job.take_item(from.address, &item)
            && matches!(job.goal, Goal::Get(_))
        {
            let is_final = matches!(item, Item::Immutable(_));
            if is_final {
                Family::ALL
                    .into_iter()
                    .for_each(|family| job.end_search(family));
            }
            if let Some(handle) = handle {
                self.outputs.push_back(Output::ItemFound { handle, item });
            }
        }
    }

    fn note_samples(
        &mut self,
        now: Moment,
        handle: Option<Handle>,
        from: Contact,
        samples: Samples,
    ) {
        let again_at = now + Duration::from_secs(samples.interval_s.into());
        if self.sampled.len() < MAX_SAMPLED || self.sampled.contains_key(&from.address) {
            self.sampled.insert(from.address, again_at);
        }
        if let Some(handle) = handle {
            self.outputs.push_back(Output::Sampled {
                handle,
                from,
                info_hashes: samples.info_hashes,
                total: samples.total,
            });
        }
    }

    /// A contact refuses: it is there, and is of no use for this.
    pub(super) fn refused(
        &mut self,
        now: Moment,
        from: SocketAddr,
        transaction: &[u8],
        seen: Option<SocketAddr>,
    ) {
        let Some(waiting) = self.transactions.answered(transaction, from) else {
            return;
        };
        if let Some(seen) = seen {
            self.note_vote(now, from.ip(), seen.ip());
        }
        self.gave_nothing(&waiting);
    }

    pub(super) fn is_slow(&mut self, waiting: &Waiting) {
        let family = Family::of(waiting.to.ip());
        if let Purpose::Search(key) = waiting.purpose
            && let Some(lookup) = self.jobs.get_mut(&key).and_then(|job| job.lookup(family))
        {
            lookup.slow(waiting.to);
        }
    }

    /// No answer came.
    pub(super) fn is_lost(&mut self, now: Moment, waiting: &Waiting) {
        if let (Some(net), Some(id)) = (self.net(waiting.to.ip()), waiting.expected) {
            let address = waiting.to;
            net.table.failed(&Contact { id, address });
            net.look_soon(now);
        }
        self.gave_nothing(waiting);
    }

    fn gave_nothing(&mut self, waiting: &Waiting) {
        let family = Family::of(waiting.to.ip());
        match waiting.purpose {
            Purpose::Seed { .. } => {
                if let Some(net) = self.net(waiting.to.ip()) {
                    net.seeding = net.seeding.saturating_sub(1);
                }
            }
            Purpose::Table => {}
            Purpose::Search(key) => {
                if let Some(lookup) = self.jobs.get_mut(&key).and_then(|job| job.lookup(family)) {
                    lookup.failed(waiting.to);
                }
            }
            Purpose::Store(key) => self.end_store(key, waiting.to, false),
        }
    }

    fn end_store(&mut self, key: u64, by: SocketAddr, stored: bool) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.end_store(Family::of(by.ip()), stored);
        }
    }

    /// Begins what can begin, ends what is over. True where something changed.
    pub(super) fn advance(&mut self, now: Moment) -> bool {
        let mut changed = false;
        let mut over = Vec::new();
        for (key, job) in &mut self.jobs {
            for family in Family::ALL {
                let net = self.nets[family as usize].as_ref();
                let Some(net) = net else { continue };
                let target = job.target;
                let is_join = matches!(job.goal, Goal::Join);
                let knows_nobody_yet = !self.seeds.is_empty()
                    || net.seeding > 0
                    || (net.joining.is_some() && !net.has_joined);
                match job.part(family) {
                    Part::Waiting => {
                        if !is_join && knows_nobody_yet && job.begins_by > now {
                            continue;
                        }
                        let rules = self.settings.lookup();
                        let most = Lookup::beginning_len(&rules);
                        let beginning = net.table.beginning(&target, most);
                        *job.part(family) = Part::Searching(Lookup::new(target, rules, &beginning));
                        changed = true;
                    }
                    Part::Searching(lookup) => {
                        if lookup.is_over() {
                            job.end_search(family);
                            changed = true;
                        }
                    }
                    Part::Storing { left, on_their_way } => {
                        if left.is_empty() && *on_their_way == 0 {
                            *job.part(family) = Part::Done;
                            changed = true;
                        }
                    }
                    Part::Done => {}
                }
            }
            if job.is_over() {
                over.push(*key);
            }
        }
        for key in over {
            self.end(now, key);
            changed = true;
        }
        changed
    }

    fn end(&mut self, now: Moment, key: u64) {
        let Some(job) = self.jobs.remove(&key) else {
            return;
        };
        for net in self.nets.iter_mut().flatten() {
            if net.joining == Some(key) {
                net.end_join(now);
            }
        }
        let Some(handle) = job.handle else {
            return;
        };
        if let Goal::Follow(_) = job.goal {
            return self.end_follow(now, handle, job.best.as_ref());
        }
        let counts = matches!(job.goal, Goal::Peers { scrape: true, .. });
        let outcome = Outcome {
            answered: job.answered,
            stored: job.stored,
            scrape: counts.then(|| job.counted()),
        };
        self.outputs.push_back(Output::Ended { handle, outcome });
    }

    /// Looks for our neighbours where it is time to; where nobody is known any more, asks the routers again. True where a
    /// search begins.
    pub(super) fn join(&mut self, now: Moment) -> bool {
        let mut begins = false;
        for family in Family::ALL {
            let Some(net) = self.nets[family as usize].as_mut() else {
                continue;
            };
            let is_due = net.join_at.is_some_and(|at| at <= now);
            if !is_due || !net.may_join(!self.seeds.is_empty()) {
                continue;
            }
            let target = net.id;
            let is_lonely = net.table.len() == 0;
            let families = Family::ALL.map(|other| other == family);
            let key = self.begin(Job::new(None, Goal::Join, target, families, now));
            if let Some(net) = self.nets[family as usize].as_mut() {
                net.joining = Some(key);
            }
            if is_lonely {
                let routers = self.routers.clone();
                for router in routers {
                    if Family::of(router.ip()) == family {
                        self.add_seed(router, true);
                    }
                }
            }
            begins = true;
        }
        begins
    }

    pub(super) fn put(&mut self, now: Moment, handle: Handle, item: Item, cas: Option<i64>) {
        if item.verify().is_err() {
            let outcome = Outcome::default();
            self.outputs.push_back(Output::Ended { handle, outcome });
            return;
        }
        let target = item.target();
        self.begin_for(now, handle, Goal::Put { item, cas }, target);
    }

    pub(super) fn look_after_followed(&mut self, now: Moment) {
        let due = self
            .followed
            .iter()
            .filter(|(_, followed)| followed.next_at <= now);
        let due: Vec<(Handle, Followed)> =
            due.map(|(at, followed)| (*at, followed.clone())).collect();
        for (handle, followed) in due {
            let (target, goal) = (followed.name.target(), Goal::Follow(followed.name));
            let families = self.families();
            if let Some(followed) = self.followed.get_mut(&handle) {
                followed.next_at = Moment::NEVER;
            }
            self.begin(Job::new(
                Some(handle),
                goal,
                target,
                families,
                now + BEGINS_WITHIN,
            ));
        }
    }

    fn end_follow(&mut self, now: Moment, handle: Handle, best: Option<&Item>) {
        let slack = 0.9 + 0.2 * self.rng.f64();
        let Some(followed) = self.followed.get_mut(&handle) else {
            return;
        };
        let pause = if best.is_some() {
            FOLLOW_EVERY
        } else {
            FOLLOW_AGAIN
        };
        followed.next_at = now + pause.mul_f64(slack);
        let seq = best.and_then(Item::seq);
        if let (Some(item), Some(number)) = (best, seq)
            && seq > followed.seq
        {
            followed.seq = seq;
            // The owner may store something else under the same key: that is no torrent.
            if let Some(info_hash) = torrent_of(item.value()) {
                let seq = number;
                self.outputs.push_back(Output::TorrentFound {
                    handle,
                    info_hash,
                    seq,
                });
            }
        }
    }
}

//! The routing table (BEP 5): contacts that have answered us, many near our own id and few far from it.
//!
//! Bucket `i` holds contacts that share exactly `i` bits with us, the last one all that share more: that is what splitting
//! the bucket that holds our own id comes to. Each has room for [`BUCKET`] contacts and for as many spare ones: those that
//! answered while there was no room, and those that were only heard of, which are asked before they may move up.
//!
//! Invariant: a contact in `live` has answered a query of ours from its address. No bucket has two contacts of one network
//! ([`Network`]), and no address is in the table twice. Nothing grows beyond [`ID_BITS`] buckets of twice [`BUCKET`].

use crate::contact::Contact;
use crate::id::{ID_BITS, Id};
use crate::secure_id::is_secure;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::{Moment, Network, earliest};

/// Contacts of a bucket: K of BEP 5.
pub(crate) const BUCKET: usize = 8;

/// A contact that has not been heard of for this long is questionable (BEP 5). It is asked a minute before that, so that
/// one that is there never becomes questionable.
const QUESTIONABLE_AFTER: Duration = Duration::from_secs(15 * 60);
const ASK_AFTER: Duration = Duration::from_secs(14 * 60);

/// How soon a contact that did not answer is asked again: BEP 5 has it be tried once more.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A contact that did not answer that often in a row is bad (BEP 5): it is given to nobody, and the next one takes its place.
const BAD_FAILURES: u8 = 2;

/// A bad contact without anybody to take its place is kept until then, so that an hour without a network does not empty the
/// table.
const LOST_FAILURES: u8 = 8;

/// What the table is kept by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// One contact of a network in a bucket.
    pub one_per_network: bool,
    /// Contacts whose id follows from their address take the place of others (BEP 42).
    pub prefer_secure: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    network: Option<Network>,
    secure: bool,
    /// When it last answered us.
    answered_at: Option<Moment>,
    /// When it last asked us.
    queried_at: Option<Moment>,
    /// When we last asked it.
    asked_at: Option<Moment>,
    /// Queries in a row that it did not answer.
    failures: u8,
}

impl Entry {
    fn new(contact: Contact) -> Self {
        let ip = contact.address.ip();
        Entry {
            contact,
            network: Network::of(ip),
            secure: is_secure(&contact.id, ip),
            answered_at: None,
            queried_at: None,
            asked_at: None,
            failures: 0,
        }
    }

    fn is_bad(&self) -> bool {
        self.failures >= BAD_FAILURES
    }

    /// What others may be told of: it has answered, not too long ago or it has asked since.
    fn is_good(&self, now: Moment) -> bool {
        let fresh = |at: Option<Moment>| at.is_some_and(|at| now - at < QUESTIONABLE_AFTER);
        let heard = fresh(self.answered_at) || fresh(self.queried_at);
        self.failures == 0 && self.answered_at.is_some() && heard
    }

    /// When it is to be asked whether it is still there.
    fn ask_at(&self) -> Moment {
        let asked = self.asked_at.unwrap_or(Moment::ZERO);
        if self.failures == 1 {
            return asked + ASK_AGAIN_AFTER;
        }
        let heard = self.answered_at.max(self.queried_at);
        asked.max(heard.unwrap_or(Moment::ZERO)) + ASK_AFTER
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    live: Vec<Entry>,
    spare: Vec<Entry>,
}

impl Bucket {
    fn has_room(&self) -> bool {
        self.live.len() < BUCKET || self.live.iter().any(Entry::is_bad)
    }

    /// Somebody else of the same network is here.
    fn has_neighbour(&self, entry: &Entry) -> bool {
        let entries = self.live.iter().chain(&self.spare);
        let same = |other: &Entry| other.network == entry.network && other.contact != entry.contact;
        entry.network.is_some() && entries.filter(|other| !other.is_bad()).any(same)
    }

    /// Puts a contact that has answered among the live ones, if there is room or one that is worth less.
    fn admit(&mut self, entry: Entry, prefer_secure: bool) -> Result<(), Entry> {
        if self.live.len() < BUCKET {
            self.live.push(entry);
            return Ok(());
        }
        if let Some(bad) = self.live.iter_mut().find(|other| other.is_bad()) {
            *bad = entry;
            return Ok(());
        }
        let yields = |other: &&mut Entry| prefer_secure && entry.secure && !other.secure;
        if let Some(other) = self.live.iter_mut().find(yields) {
            let replaced = core::mem::replace(other, entry);
            self.put_aside(replaced);
            return Ok(());
        }
        Err(entry)
    }

    /// Keeps a spare contact. Those that have answered displace those that were only heard of, then the oldest.
    fn put_aside(&mut self, entry: Entry) {
        if self.spare.len() < BUCKET {
            self.spare.push(entry);
        } else if entry.answered_at.is_some() {
            let worst = self.spare.iter_mut().min_by_key(|other| other.answered_at);
            if let Some(worst) = worst {
                *worst = entry;
            }
        }
    }

    /// Fills what room there is with spare contacts that have answered, the most recent first.
    fn promote(&mut self) {
        while self.has_room() {
            let spare = (0..self.spare.len()).filter(|&at| self.spare[at].answered_at.is_some());
            let Some(best) = spare.max_by_key(|&at| self.spare[at].answered_at) else {
                return;
            };
            let entry = self.spare.swap_remove(best);
            if self.admit(entry, false).is_err() {
                return;
            }
        }
    }

    fn remove_address(&mut self, address: SocketAddr) {
        self.live.retain(|entry| entry.contact.address != address);
        self.spare.retain(|entry| entry.contact.address != address);
    }
}

/// The contacts of one family.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    own: Id,
    rules: Rules,
    buckets: Vec<Bucket>,
}

impl Table {
    pub(crate) fn new(own: Id, rules: Rules) -> Self {
        Table {
            own,
            rules,
            buckets: vec![Bucket::default()],
        }
    }

    /// Contacts that have answered, and are not known to be gone.
    pub(crate) fn len(&self) -> usize {
        let live = self.buckets.iter().flat_map(|bucket| &bucket.live);
        live.filter(|entry| !entry.is_bad()).count()
    }

    /// Contacts worth remembering over a restart, nearest bucket last.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = Contact> {
        let live = self.buckets.iter().flat_map(|bucket| &bucket.live);
        live.filter(|entry| !entry.is_bad())
            .map(|entry| entry.contact)
    }

    /// Whether this contact is one that has answered us from there.
    pub(crate) fn is_known(&self, contact: &Contact) -> bool {
        let bucket = &self.buckets[self.bucket_of(&contact.id)];
        bucket.live.iter().any(|entry| entry.contact == *contact)
    }

    /// The same contacts for another id of ours.
    pub(crate) fn move_to(&mut self, own: Id) {
        let buckets = core::mem::take(&mut self.buckets);
        *self = Table::new(own, self.rules);
        for entry in buckets.into_iter().flat_map(|bucket| bucket.live) {
            self.enter(entry);
        }
    }

    fn bucket_of(&self, id: &Id) -> usize {
        let bits = self.own.common_bits(id) as usize;
        bits.min(self.buckets.len() - 1)
    }

    fn entry_mut(&mut self, contact: &Contact) -> Option<&mut Entry> {
        let at = self.bucket_of(&contact.id);
        let bucket = &mut self.buckets[at];
        let mut entries = bucket.live.iter_mut().chain(&mut bucket.spare);
        entries.find(|entry| entry.contact == *contact)
    }

    /// A contact answered a query of ours.
    pub(crate) fn answered(&mut self, now: Moment, contact: Contact) {
        if contact.id == self.own {
            return;
        }
        let at = self.bucket_of(&contact.id);
        let live = &mut self.buckets[at].live;
        if let Some(entry) = live.iter_mut().find(|entry| entry.contact.id == contact.id) {
            if entry.contact.address == contact.address {
                entry.answered_at = Some(now);
                entry.failures = 0;
                return;
            }
            // Nobody takes over the id of a contact that answers at its own address.
            if entry.failures == 0 {
                return;
            }
        }
        self.forget(contact.address);
        let bucket = &mut self.buckets[at];
        bucket.live.retain(|entry| entry.contact.id != contact.id);
        bucket.spare.retain(|entry| entry.contact.id != contact.id);
        let mut entry = Entry::new(contact);
        entry.answered_at = Some(now);
        self.enter(entry);
    }

    /// An address has one id: what it said before is void.
    fn forget(&mut self, address: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.remove_address(address);
        }
    }

    /// Finds a place for a contact that has answered, splitting the bucket of our own id as often as that helps.
    fn enter(&mut self, mut entry: Entry) {
        loop {
            let at = self.bucket_of(&entry.contact.id);
            let last = at + 1 == self.buckets.len();
            let bucket = &mut self.buckets[at];
            if self.rules.one_per_network && bucket.has_neighbour(&entry) {
                return;
            }
            let splits = last && self.buckets.len() < ID_BITS as usize;
            let bucket = &mut self.buckets[at];
            if splits && !bucket.has_room() {
                self.split();
                continue;
            }
            match bucket.admit(entry, self.rules.prefer_secure) {
                Ok(()) => return,
                Err(back) => entry = back,
            }
            bucket.put_aside(entry);
            return;
        }
    }

    fn split(&mut self) {
        let bits = u32::try_from(self.buckets.len() - 1).unwrap_or(ID_BITS);
        let Some(last) = self.buckets.last_mut() else {
            return;
        };
        let own = self.own;
        let is_far = |entry: &Entry| own.common_bits(&entry.contact.id) == bits;
        let (far, near) = core::mem::take(&mut last.live)
            .into_iter()
            .partition(is_far);
        let (far_spare, near_spare) = core::mem::take(&mut last.spare)
            .into_iter()
            .partition(is_far);
        *last = Bucket {
            live: far,
            spare: far_spare,
        };
        self.buckets.push(Bucket {
            live: near,
            spare: near_spare,
        });
    }

    /// Somebody named a contact: it is kept to be asked where it would be of use. True where it could move in at once.
    pub(crate) fn heard_of(&mut self, contact: Contact) -> bool {
        let at = self.bucket_of(&contact.id);
        let bucket = &mut self.buckets[at];
        if bucket.spare.len() >= BUCKET || contact.id == self.own {
            return false;
        }
        let mut known = bucket.live.iter().chain(&bucket.spare);
        let same = |entry: &Entry| {
            entry.contact.id == contact.id || entry.contact.address == contact.address
        };
        if known.any(same) {
            return false;
        }
        let entry = Entry::new(contact);
        if self.rules.one_per_network && bucket.has_neighbour(&entry) {
            return false;
        }
        bucket.spare.push(entry);
        self.may_grow(at)
    }

    /// Somebody asked us something.
    pub(crate) fn asked_us(&mut self, now: Moment, contact: Contact) {
        match self.entry_mut(&contact) {
            Some(entry) => entry.queried_at = Some(now),
            None => drop(self.heard_of(contact)),
        }
    }

    /// We ask a contact.
    pub(crate) fn asked(&mut self, now: Moment, contact: &Contact) {
        if let Some(entry) = self.entry_mut(contact) {
            entry.asked_at = Some(now);
        }
    }

    /// A contact did not answer.
    pub(crate) fn failed(&mut self, contact: &Contact) {
        let at = self.bucket_of(&contact.id);
        let bucket = &mut self.buckets[at];
        bucket.spare.retain(|entry| entry.contact != *contact);
        let mut live = bucket.live.iter();
        let Some(place) = live.position(|entry| entry.contact == *contact) else {
            return;
        };
        let entry = &mut bucket.live[place];
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= LOST_FAILURES {
            bucket.live.swap_remove(place);
        }
        bucket.promote();
    }

    /// The good contacts nearest to `target`, at most `most`, nearest first.
    pub(crate) fn closest(&self, now: Moment, target: &Id, most: usize) -> Vec<Contact> {
        self.nearest(target, most, |entry| entry.is_good(now))
    }

    /// Where a lookup begins: the nearest contacts that are not known to be gone, and where there are few, also those
    /// that were only heard of.
    pub(crate) fn beginning(&self, target: &Id, most: usize) -> Vec<Contact> {
        let known = self.nearest(target, most, |entry| {
            entry.answered_at.is_some() && !entry.is_bad()
        });
        if known.len() < most {
            return self.nearest(target, most, |entry| !entry.is_bad());
        }
        known
    }

    /// Of buckets, the target's own is nearest, then all behind it, then one before the other.
    fn nearest(&self, target: &Id, most: usize, choose: impl Fn(&Entry) -> bool) -> Vec<Contact> {
        let home = self.bucket_of(target);
        let mut found: Vec<(crate::id::Distance, Contact)> = Vec::with_capacity(2 * most);
        let take = |found: &mut Vec<_>, bucket: &Bucket| {
            let entries = bucket.live.iter().chain(&bucket.spare);
            let chosen = entries.filter(|entry| choose(entry));
            found.extend(chosen.map(|entry| (target.distance(&entry.contact.id), entry.contact)));
        };
        take(&mut found, &self.buckets[home]);
        if found.len() < most {
            let behind = &self.buckets[home + 1..];
            behind.iter().for_each(|bucket| take(&mut found, bucket));
        }
        for bucket in self.buckets[..home].iter().rev() {
            if found.len() >= most {
                break;
            }
            take(&mut found, bucket);
        }
        found.sort_unstable();
        found.truncate(most);
        found.into_iter().map(|(_, contact)| contact).collect()
    }

    /// Whom to ask next, so that the table stays full of contacts that are there; and a place in its bucket that it may be
    /// asked about, which refreshes the bucket (BEP 5).
    pub(crate) fn due(&self, now: Moment, rng: &mut fastrand::Rng) -> Option<(Contact, Id)> {
        let mut places = (0..self.buckets.len()).rev();
        let unasked = places.find_map(|at| Some((at, self.candidate(at)?)));
        let oldest = || {
            let (due_at, at, entry) = self.oldest()?;
            (due_at <= now).then_some((at, entry))
        };
        let (at, entry) = unasked.or_else(oldest)?;
        let bits = u32::try_from(at).unwrap_or(ID_BITS);
        // Of the last bucket the place may be any that is nearer to us; of the others, the bit that makes the bucket differs.
        let place = if at + 1 == self.buckets.len() {
            self.own.random_near(bits, rng)
        } else {
            self.own.flipped(bits).random_near(bits + 1, rng)
        };
        Some((entry.contact, place))
    }

    /// When [`Table::due`] has somebody, if nothing happens before.
    pub(crate) fn due_at(&self) -> Option<Moment> {
        let candidate = (0..self.buckets.len()).any(|at| self.candidate(at).is_some());
        let candidate = candidate.then_some(Moment::ZERO);
        earliest(candidate, self.oldest().map(|(at, ..)| at))
    }

    /// A contact that was heard of and could move into this bucket if it answered.
    fn candidate(&self, at: usize) -> Option<&Entry> {
        if !self.may_grow(at) {
            return None;
        }
        let bucket = &self.buckets[at];
        let unasked = |entry: &&Entry| entry.answered_at.is_none() && entry.asked_at.is_none();
        let candidates = bucket.spare.iter().filter(unasked);
        candidates.max_by_key(|entry| entry.secure)
    }

    /// A contact that answers finds a place in this bucket, or the bucket is that of our own id and would be split for it.
    fn may_grow(&self, at: usize) -> bool {
        let splits = at + 1 == self.buckets.len() && self.buckets.len() < ID_BITS as usize;
        splits || self.buckets[at].has_room()
    }

    fn oldest(&self) -> Option<(Moment, usize, &Entry)> {
        let buckets = self.buckets.iter().enumerate();
        let entries = buckets.flat_map(|(at, bucket)| bucket.live.iter().map(move |e| (at, e)));
        entries
            .map(|(at, entry)| (entry.ask_at(), at, entry))
            .min_by_key(|&(due, ..)| due)
    }
}

#[cfg(test)]
mod tests;

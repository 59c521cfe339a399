//! Other people's questions.
//!
//! A datagram's source may be forged, so that our answer goes to somebody who asked nothing. Four limits keep that from being
//! worth anything: who asks too often is not heard ([`crate::sources`]); answers altogether take no more bytes than
//! [`super::Settings::answer_rate_bytes_per_s`]; an answer to somebody who has not answered us from its address is at most
//! [`UNPROVEN_FACTOR`] times as long as its question, headers included; and what has to be longer, which is stored items of
//! more than a few hundred bytes, has a small allowance of its own for all strangers together.
//!
//! Invariant: one answer at most to a question, none to anything else.

use super::Dht;
use crate::contact::{Contact, Family};
use crate::id::Id;
use crate::item::Item;
use crate::krpc::{
    Body, ErrorCode, ItemReply, MAX_DATAGRAM_BYTES, MAX_REPLY_BYTES, Message, Method, Query, Reply,
    TransactionId, Want, encode, encode_anonymously,
};
use crate::table::BUCKET;
use core::net::{IpAddr, SocketAddr};
use shoal_machine::{Moment, TokenBucket};
use shoal_metainfo::InfoHash;

/// A find_node of 100 bytes is answered with 8 contacts in 300; with 5, there is room for 25 peers beside contacts in the
/// answer to a get_peers, and for the filters of a scrape.
const UNPROVEN_FACTOR: usize = 5;

/// Of the bytes that answers may take, the part for those to strangers that break [`UNPROVEN_FACTOR`].
const LARGE_ANSWERS: u64 = 4;

/// Bytes of `5:nodes` and the length of what follows; of `6:nodes6`, `6:values` and `7:samples` about the same.
const FIELD_BYTES: usize = 14;

/// Bytes of the two filters of a scrape and their keys.
const SCRAPE_BYTES: usize = 2 * (6 + 4 + 256);

pub(super) fn large_answers(now: Moment, answers_bytes_per_s: u64) -> TokenBucket {
    let rate = answers_bytes_per_s / LARGE_ANSWERS;
    TokenBucket::new(now, rate, (4 * rate).max(MAX_DATAGRAM_BYTES as u64))
}

/// How long an answer to a stranger may be.
fn limit_for_strangers(asked_bytes: usize, ip: IpAddr) -> usize {
    let headers = match Family::of(ip) {
        Family::V4 => 28,
        Family::V6 => 48,
    };
    ((asked_bytes + headers) * UNPROVEN_FACTOR - headers).min(MAX_REPLY_BYTES)
}

/// Who asks, and how long the answer may be.
struct Asker {
    from: SocketAddr,
    family: Family,
    limit: usize,
    is_proven: bool,
}

impl Dht {
    pub(super) fn answer(
        &mut self,
        now: Moment,
        from: SocketAddr,
        transaction: TransactionId,
        query: Query,
        asked_bytes: usize,
    ) {
        if self.settings.read_only {
            return;
        }
        let contact = Contact {
            id: query.id,
            address: from,
        };
        let Some(net) = self.net(from.ip()) else {
            return;
        };
        let is_proven = net.table.is_known(&contact);
        let own = net.id;
        if !query.read_only && query.id != own {
            net.table.asked_us(now, contact);
            net.look_soon(now);
        }
        let asker = Asker {
            from,
            family: Family::of(from.ip()),
            limit: if is_proven {
                MAX_REPLY_BYTES
            } else {
                limit_for_strangers(asked_bytes, from.ip())
            },
            is_proven,
        };
        let mut reply = Reply::new(own);
        reply.ip = Some(from);
        let result = match query.method {
            Method::Ping => Ok(()),
            Method::FindNode { target, want } => {
                self.add_contacts(now, &asker, &target, want, &transaction, &mut reply);
                Ok(())
            }
            Method::GetPeers { .. } | Method::Get { .. } => {
                self.look_up(now, &asker, &query.method, &transaction, &mut reply);
                Ok(())
            }
            Method::SampleInfohashes { target, want } => {
                self.sample(now, &asker, &transaction, &mut reply);
                self.add_contacts(now, &asker, &target, want, &transaction, &mut reply);
                Ok(())
            }
            Method::AnnouncePeer { .. } => self.take_announce(now, from, &query.method),
            Method::Put { item, cas, token } => self.take_item(now, from, item, cas, &token),
        };
        match result {
            Ok(()) => self.send_answer(now, from, transaction, Body::Reply(Box::new(reply))),
            Err(code) => self.refuse(now, from, transaction, code),
        }
    }

    pub(super) fn refuse(
        &mut self,
        now: Moment,
        from: SocketAddr,
        transaction: TransactionId,
        code: ErrorCode,
    ) {
        if !self.settings.read_only {
            let body = Body::Error {
                code: code.number(),
                ip: Some(from),
            };
            self.send_answer(now, from, transaction, body);
        }
    }

    /// As it goes over the wire.
    pub(super) fn written(&self, message: &Message) -> Vec<u8> {
        match self.settings.anonymous {
            true => encode_anonymously(message),
            false => encode(message),
        }
    }

    /// Sends an answer if there are bytes left for it; else it is as if it were lost on its way.
    fn send_answer(&mut self, now: Moment, to: SocketAddr, transaction: TransactionId, body: Body) {
        let bytes = self.written(&Message { transaction, body });
        let length = bytes.len() as u64;
        if self.answers.available(now) >= length {
            self.answers.take(now, length);
            self.outputs.push_back(super::Output::Send { to, bytes });
        }
    }

    /// What a search asks for: peers or an item, with a token to store there and the contacts that are nearer.
    fn look_up(
        &mut self,
        now: Moment,
        asker: &Asker,
        method: &Method,
        transaction: &TransactionId,
        reply: &mut Reply,
    ) {
        match method {
            Method::GetPeers {
                info_hash,
                want,
                noseed,
                scrape,
            } => {
                let target = Id::from(*info_hash);
                reply.token = Some(self.secrets.token(now, asker.from.ip(), &target));
                if *scrape && room(asker, transaction, reply) >= SCRAPE_BYTES {
                    let net = self.nets[asker.family as usize].as_ref();
                    let scrape = net.and_then(|net| net.peers.scrape(now, *info_hash));
                    reply.scrape = scrape.map(Box::new);
                }
                self.add_peers(now, asker, *info_hash, *noseed, transaction, reply);
                self.add_contacts(now, asker, &target, *want, transaction, reply);
            }
            Method::Get { target, seq, want } => {
                reply.token = Some(self.secrets.token(now, asker.from.ip(), target));
                self.add_item(now, asker, target, *seq, transaction, reply);
                self.add_contacts(now, asker, target, *want, transaction, reply);
            }
            _ => {}
        }
    }

    /// Contacts near `target`, those of the asker's family first, as many as there is room for.
    fn add_contacts(
        &self,
        now: Moment,
        asker: &Asker,
        target: &Id,
        want: Want,
        transaction: &TransactionId,
        reply: &mut Reply,
    ) {
        let other = match asker.family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        for family in [asker.family, other] {
            let Some(net) = self.nets[family as usize].as_ref() else {
                continue;
            };
            if !want.includes(family, asker.family) {
                continue;
            }
            let most = room(asker, transaction, reply) / family.contact_bytes();
            let contacts = net.table.closest(now, target, most.min(BUCKET));
            match family {
                Family::V4 => reply.nodes = contacts,
                Family::V6 => reply.nodes6 = contacts,
            }
        }
    }

    /// Peers for half of the room: the other half is for contacts, without which a search does not go on.
    fn add_peers(
        &mut self,
        now: Moment,
        asker: &Asker,
        swarm: InfoHash,
        noseed: bool,
        transaction: &TransactionId,
        reply: &mut Reply,
    ) {
        let Some(net) = self.nets[asker.family as usize].as_ref() else {
            return;
        };
        // Each has its length and a colon before it.
        let bytes = asker.family.compact_bytes() + 3;
        let most = room(asker, transaction, reply) / 2 / bytes;
        reply.values = net
            .peers
            .sample_peers(now, swarm, most, noseed, &mut self.rng);
    }

    fn add_item(
        &mut self,
        now: Moment,
        asker: &Asker,
        target: &Id,
        newer_than: Option<i64>,
        transaction: &TransactionId,
        reply: &mut Reply,
    ) {
        let Some(item) = self.items.get(now, target) else {
            return;
        };
        let known_already = item.seq().is_some_and(|seq| newer_than >= Some(seq));
        let mut told = ItemReply {
            seq: item.seq(),
            ..ItemReply::default()
        };
        if !known_already {
            told.value = Some(item.value().to_vec());
            if let Item::Mutable(item) = item {
                told.key = Some(item.key);
                told.signature = Some(item.signature);
            }
        }
        reply.item = Some(Box::new(told));
        let bytes = length(transaction, reply);
        if bytes <= asker.limit {
            return;
        }
        let is_allowed = asker.is_proven || {
            let bytes = bytes as u64;
            self.large_answers.available(now) >= bytes && self.large_answers.take(now, bytes) > 0
        };
        if !is_allowed {
            reply.item = None;
        }
    }

    fn sample(
        &mut self,
        now: Moment,
        asker: &Asker,
        transaction: &TransactionId,
        reply: &mut Reply,
    ) {
        // Half of the room is for contacts, which the asker goes on with.
        let most = room(asker, transaction, reply) / 2 / 20;
        if let Some(net) = self.nets[asker.family as usize].as_mut() {
            reply.samples = Some(net.peers.samples(now, most, &mut self.rng));
        }
    }

    fn take_announce(
        &mut self,
        now: Moment,
        from: SocketAddr,
        method: &Method,
    ) -> Result<(), ErrorCode> {
        let Method::AnnouncePeer {
            info_hash,
            port,
            implied_port,
            seed,
            token,
        } = method
        else {
            return Err(ErrorCode::Protocol);
        };
        let target = Id::from(*info_hash);
        if !self.secrets.accepts(now, from.ip(), &target, token) {
            return Err(ErrorCode::Protocol);
        }
        let port = if *implied_port { from.port() } else { *port };
        let address = SocketAddr::new(from.ip(), port);
        let net = self.net(from.ip()).ok_or(ErrorCode::Server)?;
        let own = net.id;
        let is_kept = net.peers.announce(now, &own, *info_hash, address, *seed);
        is_kept.then_some(()).ok_or(ErrorCode::Server)
    }

    /// The token is looked at first: verifying a signature takes longer than everything else here.
    fn take_item(
        &mut self,
        now: Moment,
        from: SocketAddr,
        item: Item,
        cas: Option<i64>,
        token: &[u8],
    ) -> Result<(), ErrorCode> {
        if !self.secrets.accepts(now, from.ip(), &item.target(), token) {
            return Err(ErrorCode::Protocol);
        }
        let own = self.net(from.ip()).ok_or(ErrorCode::Server)?.id;
        self.items
            .put(now, item, cas, |target| own.distance(target))
    }
}

/// What a reply is long as it stands.
fn length(transaction: &TransactionId, reply: &Reply) -> usize {
    let message = Message {
        transaction: transaction.clone(),
        body: Body::Reply(Box::new(reply.clone())),
    };
    encode(&message).len()
}

/// Bytes that are left for one more field.
fn room(asker: &Asker, transaction: &TransactionId, reply: &Reply) -> usize {
    let taken = length(transaction, reply) + FIELD_BYTES;
    asker.limit.saturating_sub(taken)
}

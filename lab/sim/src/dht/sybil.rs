//! Contacts that lie: one attacker with many addresses.
//!
//! Invariant: an honest contact is never named, and nothing that is announced is kept.

use super::Lies;
use core::net::{Ipv4Addr, SocketAddr};
use shoal_dht::krpc::{Body, Message, Method, Query, Reply, Token, TransactionId, decode, encode};
use shoal_dht::{Contact, Id, secure_id};

/// Where they are known to everybody.
const PORT: u16 = 6881;

/// Where they answer with ids that they made up for what is looked for.
const MADE_UP_PORT: u16 = 6882;

/// The first of their networks: 120.0.0.0/24, where nobody honest is.
const FIRST_NETWORK: u32 = 120 << 16;

/// Contacts of a reply.
const NAMED: usize = 8;

pub(super) struct Sybils {
    lies: Lies,
    networks: u32,
    ids: Vec<Id>,
    /// How many have come; the others are not there yet.
    here: u32,
    /// By id, with the number of who has it.
    sorted: Vec<(Id, u32)>,
}

impl Sybils {
    pub(super) fn new(count: u32, networks: u32, lies: Lies, dice: &mut fastrand::Rng) -> Self {
        let mut sybils = Sybils {
            lies,
            networks: networks.clamp(1, count.max(1)),
            ids: Vec::new(),
            here: 0,
            sorted: Vec::new(),
        };
        for sybil in 0..count {
            let ip = sybils.address(sybil, PORT).ip();
            sybils.ids.push(secure_id(ip, dice));
        }
        sybils
    }

    /// The next one comes.
    pub(super) fn arrive(&mut self) -> Option<u32> {
        let (sybil, id) = (self.here, *self.ids.get(self.here as usize)?);
        let at = self.sorted.partition_point(|(other, _)| *other < id);
        self.sorted.insert(at, (id, sybil));
        self.here += 1;
        Some(sybil)
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    fn address(&self, sybil: u32, port: u16) -> SocketAddr {
        let (network, host) = (sybil % self.networks, sybil / self.networks);
        let bits = (FIRST_NETWORK + network) << 8 | (host + 1);
        (Ipv4Addr::from_bits(bits), port).into()
    }

    fn at(&self, address: SocketAddr) -> Option<u32> {
        let SocketAddr::V4(v4) = address else {
            return None;
        };
        let bits = v4.ip().to_bits();
        let network = (bits >> 8).checked_sub(FIRST_NETWORK)?;
        let host = (bits & 0xff).checked_sub(1)?;
        let sybil = host * self.networks + network;
        (network < self.networks && sybil < self.here).then_some(sybil)
    }

    pub(super) fn pick(&self, dice: &mut fastrand::Rng) -> Option<SocketAddr> {
        (self.here > 0).then(|| self.address(dice.u32(..self.here), PORT))
    }

    /// A query that makes a liar known.
    pub(super) fn ping(&self, sybil: u32) -> (SocketAddr, Vec<u8>) {
        let query = Query {
            id: self.ids[sybil as usize],
            read_only: false,
            method: Method::Ping,
        };
        let message = Message {
            transaction: TransactionId::from_slice(b"lie"),
            body: Body::Query(query),
        };
        (self.address(sybil, PORT), encode(&message))
    }

    /// What the liar at `to` answers.
    pub(super) fn answer(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        dice: &mut fastrand::Rng,
    ) -> Option<Vec<u8>> {
        let sybil = self.at(to)?;
        let Message { transaction, body } = decode(bytes).ok()?;
        let Body::Query(query) = body else {
            return None;
        };
        let own = self.ids[sybil as usize];
        let mut reply = Reply::new(own);
        reply.ip = Some(from);
        match query.method {
            Method::FindNode { target, .. } => reply.nodes = self.nearest(&target),
            Method::GetPeers { info_hash, .. } => {
                let target = Id::from(info_hash);
                reply.token = Some(Token::from_slice(b"liar"));
                reply.nodes = match self.lies {
                    Lies::Crowd => self.nearest(&target),
                    Lies::MadeUpIds => self.made_up(&target, dice),
                };
                if to.port() == MADE_UP_PORT {
                    reply.id = next_to(&target, sybil);
                }
            }
            // An announce over the made-up port is answered as if it were stored, by any id: nobody looks at that.
            _ => {}
        }
        let body = Body::Reply(Box::new(reply));
        Some(encode(&Message { transaction, body }))
    }

    /// The liars nearest to the target: they share the longest prefix, so that they stand around its place.
    fn nearest(&self, target: &Id) -> Vec<Contact> {
        let at = self.sorted.partition_point(|(id, _)| id < target);
        let around = at.saturating_sub(2 * NAMED)..(at + 2 * NAMED).min(self.sorted.len());
        let mut nearest = self.sorted[around].to_vec();
        nearest.sort_by_key(|(id, _)| target.distance(id));
        nearest.truncate(NAMED);
        let contact = |(id, sybil)| Contact {
            id,
            address: self.address(sybil, PORT),
        };
        nearest.into_iter().map(contact).collect()
    }

    /// Any liars, each at an id that is nearer to the target than any honest contact.
    fn made_up(&self, target: &Id, dice: &mut fastrand::Rng) -> Vec<Contact> {
        let any = core::iter::repeat_with(|| dice.u32(..self.here));
        let contact = |sybil| Contact {
            id: next_to(target, sybil),
            address: self.address(sybil, MADE_UP_PORT),
        };
        any.take(NAMED).map(contact).collect()
    }
}

/// The id that a liar claims next to a target: all bits are the same but the last four bytes.
fn next_to(target: &Id, sybil: u32) -> Id {
    let mut id = *target;
    for (byte, number) in id.0[16..].iter_mut().zip((sybil + 1).to_be_bytes()) {
        *byte ^= number;
    }
    id
}

//! The DHT's messages, and a machine among strangers who send anything.
//!
//! Invariant: as for the whole crate.

use crate::operations::{Operations, drain, is_due};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use shoal_dht::item::{Item, ItemName, PublicKey, immutable_target};
use shoal_dht::krpc::{
    Body, ItemReply, MAX_CONTACTS, MAX_DATAGRAM_BYTES, MAX_SAMPLES, MAX_VALUES, Message, Method,
    Query, Reply, Samples, Token, TransactionId, Want, decode, encode,
};
use shoal_dht::{
    Announce, Contact, Dht, Family, Handle, Id, Input, Output, Saved, Settings, secure_id,
};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::InfoHash;
use shoal_metainfo::bencode::{Limits, decode_canonical};
use std::collections::BTreeSet;

/// What is read is bounded, and reading what was written of it gives the same.
pub fn krpc(input: &[u8]) {
    let Ok(message) = decode(input) else {
        return;
    };
    if let Body::Reply(reply) = &message.body {
        assert!(reply.nodes.len() <= MAX_CONTACTS && reply.nodes6.len() <= MAX_CONTACTS);
        assert!(reply.values.len() <= MAX_VALUES);
        let samples = reply.samples.as_ref();
        assert!(samples.is_none_or(|samples| samples.info_hashes.len() <= MAX_SAMPLES));
    }
    let bytes = encode(&message);
    assert!(decode_canonical(&bytes, Limits::REMOTE).is_ok());
    if bytes.len() <= MAX_DATAGRAM_BYTES {
        assert_eq!(decode(&bytes), Ok(message));
    }
}

/// The most that one input may have a machine say: each query on its way may end, and another one begin.
const MOST_OUTPUTS: usize = 1_200;

/// Bytes a second of queries, and as many of answers.
const RATE_BYTES_PER_S: u64 = 8_000;

/// The promises of a machine, followed from outside.
struct Run {
    dht: Dht,
    now: Moment,
    began_at: Moment,
    /// Queries that were seen, the latest last.
    asked: Vec<(SocketAddr, TransactionId)>,
    tokens: Vec<Token>,
    /// Who has sent us anything: that it is there is for itself to say, and for nobody else.
    senders: BTreeSet<SocketAddr>,
    running: BTreeSet<u64>,
    followed: BTreeSet<u64>,
    next_handle: u64,
    sent_bytes: u64,
    has_stopped: bool,
}

/// Bounded outputs that can be read, nothing sent to our own networks, rates kept, no deadline that has passed after a tick,
/// an end for each search, silence after the end.
pub fn dht(input: &[u8]) {
    let mut operations = Operations::new(input);
    let settings = Settings {
        read_only: operations.one_in(8),
        anonymous: false,
        paths: operations.below(10),
        one_per_network: !operations.one_in(4),
        prefer_secure: !operations.one_in(4),
        v6: operations.flag(),
        query_rate_bytes_per_s: RATE_BYTES_PER_S,
        answer_rate_bytes_per_s: RATE_BYTES_PER_S,
        v4: true,
    };
    let began_at = Moment::from_secs(1_000);
    let rng = fastrand::Rng::with_seed(operations.byte().into());
    let mut run = Run {
        dht: Dht::new(began_at, settings, &Saved::default(), [7; 32], rng),
        now: began_at,
        began_at,
        asked: Vec::new(),
        tokens: Vec::new(),
        senders: BTreeSet::new(),
        running: BTreeSet::new(),
        followed: BTreeSet::new(),
        next_handle: 0,
        sent_bytes: 0,
        has_stopped: false,
    };
    while let Some(kind) = operations.next_kind() {
        run.operate(kind, &mut operations);
    }
    run.end();
}

/// Few places, so that operations meet; the first ones are near each other.
fn place(operations: &mut Operations<'_>) -> Id {
    let number = operations.byte();
    let mut id = Id([number & 3; 20]);
    id.0[0] = if number & 4 == 0 { 0x80 } else { number };
    id
}

/// Global addresses, some of one network; seldom an address that nobody may have us send to.
fn address(operations: &mut Operations<'_>) -> SocketAddr {
    let number = operations.byte();
    match number {
        0..=199 => (Ipv4Addr::new(11, number / 4, 1, 1 + number % 4), 6881).into(),
        200..=239 => (
            Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1),
            6881,
        )
            .into(),
        240..=243 => (Ipv4Addr::LOCALHOST, 22).into(),
        244..=247 => (Ipv4Addr::new(192, 168, 1, 1), 80).into(),
        248..=250 => (Ipv4Addr::BROADCAST, 1).into(),
        _ => (Ipv4Addr::new(11, 0, 0, 1), 0).into(),
    }
}

fn is_global(address: SocketAddr) -> bool {
    let is_v4 = |ip: Ipv4Addr| ip.octets()[0] == 11;
    let is_ours = match address {
        SocketAddr::V4(v4) => is_v4(*v4.ip()),
        SocketAddr::V6(v6) => v6.ip().segments()[0] == 0x2001,
    };
    is_ours && address.port() != 0
}

fn contacts(operations: &mut Operations<'_>, family: Family) -> Vec<Contact> {
    let any = (0..operations.below(9)).map(|_| {
        let address = address(operations);
        let id = if operations.flag() {
            let mut rng = fastrand::Rng::with_seed(operations.byte().into());
            secure_id(address.ip(), &mut rng)
        } else {
            place(operations)
        };
        Contact { id, address }
    });
    any.filter(|contact| Family::of(contact.address.ip()) == family)
        .collect()
}

fn item(operations: &mut Operations<'_>) -> Item {
    Item::Immutable(format!("i{}e", operations.byte() % 4).into_bytes())
}

impl Run {
    fn operate(&mut self, kind: u8, operations: &mut Operations<'_>) {
        match kind % 12 {
            0 => {
                let bytes = operations.bytes().to_vec();
                let from = address(operations);
                self.handle(Input::Datagram { from, bytes });
            }
            1 | 2 => self.query(operations),
            3..=5 => self.reply(operations),
            6 => {
                let addresses = (0..operations.below(9)).map(|_| address(operations));
                let addresses = addresses.filter(|address| is_global(*address)).collect();
                let are_routers = operations.flag();
                self.handle(Input::Bootstrap {
                    addresses,
                    are_routers,
                });
            }
            7 | 8 => self.command(operations),
            9 => {
                let handle = u64::from(operations.byte());
                self.running.remove(&handle);
                self.followed.remove(&handle);
                self.handle(Input::Cancel(Handle(handle)));
            }
            10 if operations.one_in(64) => self.stop(),
            _ => self.pass(operations.step()),
        }
    }

    fn command(&mut self, operations: &mut Operations<'_>) {
        self.next_handle += 1;
        let handle = Handle(self.next_handle);
        let input = match operations.below(5) {
            0 => Input::FindPeers {
                handle,
                info_hash: InfoHash(place(operations).0),
                announce: operations.flag().then_some(Announce {
                    port: 6881,
                    implied_port: operations.flag(),
                    seed: operations.flag(),
                }),
                noseed: operations.flag(),
                scrape: operations.flag(),
            },
            1 => Input::GetItem {
                handle,
                name: ItemName::Immutable(immutable_target(item(operations).value())),
            },
            2 => Input::PutItem {
                handle,
                item: item(operations),
                cas: operations.flag().then_some(1),
            },
            3 => {
                self.followed.insert(handle.0);
                Input::Follow {
                    handle,
                    key: PublicKey([operations.byte(); 32]),
                    salt: operations.bytes().to_vec(),
                }
            }
            _ => Input::Sample {
                handle,
                target: place(operations),
            },
        };
        if !self.has_stopped {
            self.running.insert(handle.0);
        }
        self.handle(input);
    }

    fn query(&mut self, operations: &mut Operations<'_>) {
        let token = operations.below(self.tokens.len().clamp(1, 256));
        let token = self.tokens.get(token).cloned().unwrap_or_default();
        let (target, info_hash) = (place(operations), InfoHash(place(operations).0));
        let want = Want {
            v4: operations.flag(),
            v6: operations.flag(),
        };
        let method = match operations.below(7) {
            0 => Method::Ping,
            1 => Method::FindNode { target, want },
            2 => Method::GetPeers {
                info_hash,
                want,
                noseed: operations.flag(),
                scrape: operations.flag(),
            },
            3 => Method::AnnouncePeer {
                info_hash,
                port: 6881,
                implied_port: operations.flag(),
                seed: operations.flag(),
                token,
            },
            4 => Method::Get {
                target: immutable_target(item(operations).value()),
                seq: None,
                want,
            },
            5 => Method::Put {
                item: item(operations),
                cas: None,
                token,
            },
            _ => Method::SampleInfohashes { target, want },
        };
        let query = Query {
            id: place(operations),
            read_only: operations.one_in(8),
            method,
        };
        let message = Message {
            transaction: TransactionId::from_slice(operations.bytes().get(..4).unwrap_or(b"t")),
            body: Body::Query(query),
        };
        let from = address(operations);
        let bytes = encode(&message);
        self.handle(Input::Datagram { from, bytes });
    }

    /// Answers one of the latest queries, in one of many ways.
    fn reply(&mut self, operations: &mut Operations<'_>) {
        let back = operations.below(self.asked.len().clamp(1, 32));
        let Some(at) = self.asked.len().checked_sub(back + 1) else {
            return;
        };
        let (mut from, transaction) = self.asked[at].clone();
        if operations.one_in(16) {
            from = address(operations);
        }
        let mut rng = fastrand::Rng::with_seed(operations.byte().into());
        let mut reply = Reply::new(secure_id(from.ip(), &mut rng));
        if operations.flag() {
            reply.id = place(operations);
        }
        reply.ip = operations.flag().then(|| address(operations));
        reply.nodes = contacts(operations, Family::V4);
        reply.nodes6 = contacts(operations, Family::V6);
        reply.token = operations.flag().then(|| Token::from_slice(b"token"));
        reply.values = (0..operations.below(4))
            .map(|_| address(operations))
            .collect();
        if operations.one_in(4) {
            reply.item = Some(Box::new(ItemReply {
                value: Some(item(operations).value().to_vec()),
                seq: operations.flag().then_some(1),
                ..ItemReply::default()
            }));
        }
        if operations.one_in(4) {
            reply.samples = Some(Samples {
                info_hashes: vec![InfoHash(place(operations).0)],
                total: operations.number(),
                interval_s: operations.number().min(21_600),
            });
        }
        let body = if operations.one_in(8) {
            let ip = reply.ip;
            Body::Error { code: 203, ip }
        } else {
            Body::Reply(Box::new(reply))
        };
        let bytes = encode(&Message { transaction, body });
        self.handle(Input::Datagram { from, bytes });
    }

    /// Time passes, with a tick at each deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.dht.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Tick);
            assert!(!is_due(&self.dht, self.now), "it wants a tick for ever");
        }
        self.now = end;
    }

    fn stop(&mut self) {
        self.handle(Input::Stop);
        self.has_stopped = true;
    }

    /// Without any answer, all searches end; what is followed goes on.
    fn end(&mut self) {
        if !self.has_stopped {
            self.pass(Duration::from_secs(600));
            // What cannot be served for lack of bytes takes longer.
            for _ in 0..20 {
                self.pass(Duration::from_secs(600));
            }
            let left: Vec<_> = self.running.difference(&self.followed).collect();
            assert!(left.is_empty(), "searches without an end: {left:?}");
        }
        self.stop();
        self.handle(Input::Tick);
        assert_eq!(self.dht.deadline(), None);
    }

    fn handle(&mut self, input: Input) {
        let had_stopped = self.has_stopped;
        if let Input::Datagram { from, .. } = &input {
            self.senders.insert(*from);
        }
        self.dht.handle(self.now, input);
        for output in drain(&mut self.dht, MOST_OUTPUTS) {
            assert!(!had_stopped, "it goes on after its end");
            self.check(output);
        }
        let seconds = (self.now - self.began_at).as_secs() + 1;
        // Two seconds' worth may be saved up of each; the last query may be longer than what is left.
        let most = 2 * RATE_BYTES_PER_S * (seconds + 2) + MAX_DATAGRAM_BYTES as u64;
        assert!(self.sent_bytes <= most, "too many bytes");
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                self.sent_bytes += bytes.len() as u64;
                assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
                let message = decode(&bytes).expect("what is sent can be read");
                match message.body {
                    Body::Query(_) => {
                        let is_fine = is_global(to) || self.senders.contains(&to);
                        assert!(is_fine, "a query to our own network");
                        self.asked.push((to, message.transaction));
                    }
                    Body::Reply(reply) => self.tokens.extend(reply.token),
                    Body::Error { .. } => {}
                }
            }
            Output::PeersFound { handle, .. }
            | Output::ItemFound { handle, .. }
            | Output::Sampled { handle, .. } => assert!(self.running.contains(&handle.0)),
            Output::TorrentFound { handle, .. } => assert!(self.followed.contains(&handle.0)),
            Output::Ended { handle, .. } => {
                assert!(self.running.remove(&handle.0), "it ends twice");
            }
            Output::Seen(_) => {}
            Output::Save(saved) => assert!(saved.contacts.len() <= 400),
        }
    }
}

//! Small networks of machines, and strangers who send what they like.

use super::*;
use crate::item::{Item, MutableItem, PublicKey, immutable_target, torrent_value};
use crate::krpc::{ErrorCode, MAX_REPLY_BYTES, Reply, Token, Want, encode};
use crate::secure_id::is_secure;
use core::net::{Ipv4Addr, Ipv6Addr};
use ed25519_dalek::SigningKey;
use shoal_machine::{ExternalAddresses, Sighting};
use shoal_metainfo::InfoHash;

const SWARM: InfoHash = InfoHash([0x5a; 20]);
const MINE: Handle = Handle(1);

fn v4(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0b00_0001 + (number << 8)), 6881).into()
}

fn v6(number: u16) -> SocketAddr {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1);
    (ip, 6881).into()
}

fn dht(number: u8, settings: Settings) -> Dht {
    let rng = fastrand::Rng::with_seed(number.into());
    Dht::new(Moment::ZERO, settings, &Saved::default(), [number; 32], rng)
}

fn only_v4() -> Settings {
    Settings {
        v6: false,
        ..Settings::default()
    }
}

/// Machines whose datagrams take 50 ms; a machine has one address of each family.
struct Village {
    now: Moment,
    machines: Vec<Dht>,
    mail: VecDeque<(Moment, SocketAddr, SocketAddr, Vec<u8>)>,
    said: Vec<Vec<Output>>,
    seen: Vec<Vec<Sighting>>,
    sent_bytes: Vec<u64>,
}

impl Village {
    fn of(machines: Vec<Dht>) -> Self {
        let count = machines.len();
        let mut village = Village {
            now: Moment::ZERO,
            machines,
            mail: VecDeque::new(),
            said: vec![Vec::new(); count],
            seen: vec![Vec::new(); count],
            sent_bytes: vec![0; count],
        };
        for at in 0..count {
            let addresses = vec![v4(0), v6(0)];
            let input = Input::Bootstrap {
                addresses,
                are_routers: false,
            };
            if at > 0 {
                village.tell(at, input);
            }
        }
        village.run(Duration::from_secs(60));
        village
    }

    fn new(count: u8, settings: Settings) -> Self {
        Self::of((0..count).map(|number| dht(number, settings)).collect())
    }

    fn tell(&mut self, at: usize, input: Input) {
        self.machines[at].handle(self.now, input);
        while let Some(output) = self.machines[at].poll() {
            if let Output::Send { to, bytes } = output {
                self.sent_bytes[at] += bytes.len() as u64;
                let from = match to {
                    SocketAddr::V4(_) => v4(u32::try_from(at).unwrap()),
                    SocketAddr::V6(_) => v6(u16::try_from(at).unwrap()),
                };
                let arrives = self.now + Duration::from_millis(50);
                self.mail.push_back((arrives, from, to, bytes));
            } else if let Output::Seen(sighting) = output {
                self.seen[at].push(sighting);
            } else {
                self.said[at].push(output);
            }
        }
    }

    fn whose(&self, address: SocketAddr) -> Option<usize> {
        let count = u16::try_from(self.machines.len()).unwrap();
        (0..count)
            .find(|&at| v4(at.into()) == address || v6(at) == address)
            .map(usize::from)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mail = self.mail.front().map(|(at, ..)| *at);
            let deadlines = self.machines.iter().map(|machine| machine.deadline());
            let tick = deadlines
                .enumerate()
                .filter_map(|(at, due)| Some((due?, at)))
                .min();
            let next = earliest(mail, tick.map(|(at, _)| at));
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if mail == Some(next) {
                let Some((_, from, to, bytes)) = self.mail.pop_front() else {
                    continue;
                };
                if let Some(at) = self.whose(to) {
                    self.tell(at, Input::Datagram { from, bytes });
                }
            } else if let Some((_, at)) = tick {
                self.tell(at, Input::Tick);
            }
        }
        self.now = end;
    }

    /// Has a machine do something, and gives what it says meanwhile.
    fn ask(&mut self, at: usize, input: Input) -> Vec<Output> {
        self.said[at].clear();
        self.tell(at, input);
        self.run(Duration::from_secs(30));
        core::mem::take(&mut self.said[at])
    }
}

fn find(announce: Option<Announce>) -> Input {
    Input::FindPeers {
        handle: MINE,
        info_hash: SWARM,
        announce,
        noseed: false,
        scrape: true,
    }
}

fn announce(seed: bool) -> Option<Announce> {
    Some(Announce {
        port: 7000,
        implied_port: false,
        seed,
    })
}

fn outcome(said: &[Output]) -> Outcome {
    let ended = said.iter().find_map(|output| match output {
        Output::Ended { outcome, .. } => Some(*outcome),
        _ => None,
    });
    ended.expect("it ends")
}

fn peers(said: &[Output]) -> Vec<SocketAddr> {
    let found = said.iter().filter_map(|output| match output {
        Output::PeersFound { peers, .. } => Some(peers.clone()),
        _ => None,
    });
    let mut peers: Vec<SocketAddr> = found.flatten().collect();
    peers.sort();
    peers
}

fn items(said: &[Output]) -> Vec<Item> {
    let found = said.iter().filter_map(|output| match output {
        Output::ItemFound { item, .. } => Some(item.clone()),
        _ => None,
    });
    found.collect()
}

#[test]
fn who_announced_is_found_and_counted_over_both_families() {
    let mut village = Village::new(30, Settings::default());
    for at in 1..=3 {
        let ended = outcome(&village.ask(at, find(announce(at == 1))));
        assert_eq!(ended.stored, 16, "eight contacts of each family");
    }
    let said = village.ask(20, find(None));
    let mut expected: Vec<SocketAddr> = (1..=3).map(v4).chain((1..=3).map(v6)).collect();
    expected.iter_mut().for_each(|peer| peer.set_port(7000));
    expected.sort();
    assert_eq!(peers(&said), expected);
    let (seeds, others) = outcome(&said).scrape.unwrap();
    assert!((seeds - 2.0).abs() < 0.1 && (others - 4.0).abs() < 0.1);
}

#[test]
fn everybody_joins_and_knows_others() {
    let village = Village::new(30, Settings::default());
    for machine in &village.machines {
        for family in Family::ALL {
            let status = machine.status(family).unwrap();
            assert!(status.has_joined && status.contacts >= 8, "{status:?}");
        }
    }
}

#[test]
fn an_item_is_stored_and_found() {
    let mut village = Village::new(20, only_v4());
    let item = Item::Immutable(b"5:hello".to_vec());
    let put = Input::PutItem {
        handle: MINE,
        item: item.clone(),
        cas: None,
    };
    assert_eq!(outcome(&village.ask(1, put)).stored, 8);
    let name = ItemName::Immutable(immutable_target(b"5:hello"));
    let said = village.ask(9, Input::GetItem { handle: MINE, name });
    assert_eq!(items(&said), [item]);
    let name = ItemName::Immutable(immutable_target(b"5:hullo"));
    let said = village.ask(9, Input::GetItem { handle: MINE, name });
    assert!(items(&said).is_empty());
}

fn signed(seq: i64, hash: InfoHash) -> Item {
    let key = SigningKey::from_bytes(&[3; 32]);
    Item::Mutable(MutableItem::sign(&key, b"salt", seq, torrent_value(hash)).unwrap())
}

fn owner() -> PublicKey {
    PublicKey(SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes())
}

#[test]
fn an_item_is_replaced_by_a_newer_one_of_its_owner_only() {
    let mut village = Village::new(20, only_v4());
    let mut put = |at, item, cas| {
        let handle = MINE;
        outcome(&village.ask(at, Input::PutItem { handle, item, cas })).stored
    };
    assert_eq!(put(1, signed(5, SWARM), None), 8);
    // The first writer does not store with itself, but may be one of the eight that the second one stores with.
    assert!(put(2, signed(4, SWARM), None) <= 1, "older");
    assert!(
        put(2, signed(6, SWARM), Some(3)) <= 1,
        "not what it replaces"
    );
    assert!(put(2, signed(7, SWARM), Some(5)) >= 7);
    let Item::Mutable(mut forged) = signed(8, SWARM) else {
        return;
    };
    forged.signature[0] ^= 1;
    assert_eq!(put(3, Item::Mutable(forged), None), 0);
    let name = ItemName::Mutable {
        key: owner(),
        salt: b"salt".to_vec(),
    };
    let said = village.ask(9, Input::GetItem { handle: MINE, name });
    assert_eq!(items(&said).last(), Some(&signed(7, SWARM)));
}

#[test]
fn a_mutable_torrent_is_followed_and_kept_alive_by_its_readers() {
    let mut village = Village::new(20, only_v4());
    let put = |item| Input::PutItem {
        handle: MINE,
        item,
        cas: None,
    };
    let follow = Input::Follow {
        handle: Handle(7),
        key: owner(),
        salt: b"salt".to_vec(),
    };
    let found = |info_hash, seq| Output::TorrentFound {
        handle: Handle(7),
        info_hash,
        seq,
    };
    village.ask(1, put(signed(1, SWARM)));
    assert!(village.ask(9, follow) == [found(SWARM, 1)]);
    village.ask(1, put(signed(2, InfoHash([2; 20]))));
    village.said[9].clear();
    village.run(Duration::from_secs(70 * 60));
    let news: Vec<&Output> = village.said[9]
        .iter()
        .filter(|said| !matches!(said, Output::Save(_)))
        .collect();
    assert!(news == [&found(InfoHash([2; 20]), 2)]);
    // The owner is gone; items live for two hours, and five later there still is one.
    village.run(Duration::from_secs(5 * 60 * 60));
    let name = ItemName::Mutable {
        key: owner(),
        salt: b"salt".to_vec(),
    };
    let said = village.ask(12, Input::GetItem { handle: MINE, name });
    assert_eq!(items(&said), [signed(2, InfoHash([2; 20]))]);
}

#[test]
fn swarms_are_sampled_once_in_an_interval() {
    let mut village = Village::new(20, only_v4());
    village.ask(1, find(announce(false)));
    let sample = || Input::Sample {
        handle: MINE,
        target: Id::from(SWARM),
    };
    let sampled = |said: &[Output]| {
        let hashes = said.iter().filter_map(|output| match output {
            Output::Sampled { info_hashes, .. } => Some(info_hashes.clone()),
            _ => None,
        });
        hashes.collect::<Vec<_>>()
    };
    let first = sampled(&village.ask(2, sample()));
    let with_it = first.iter().filter(|hashes| hashes.contains(&SWARM));
    // One of the eight that the announce was stored with may be who samples.
    assert!(with_it.count() >= 7);
    assert!(sampled(&village.ask(2, sample())).is_empty());
    village.run(Duration::from_secs(300));
    assert!(sampled(&village.ask(2, sample())).len() >= 7);
}

#[test]
fn a_read_only_machine_finds_and_is_not_found() {
    let mut machines: Vec<Dht> = (0..20).map(|number| dht(number, only_v4())).collect();
    let read_only = Settings {
        read_only: true,
        ..only_v4()
    };
    machines[5] = dht(5, read_only);
    let mut village = Village::of(machines);
    village.ask(1, find(announce(false)));
    assert_eq!(peers(&village.ask(5, find(None))).len(), 1);
    let others = village.machines.iter().flat_map(Dht::saved_contacts);
    assert!(!others.into_iter().any(|contact| contact == v4(5)));
}

impl Dht {
    fn saved_contacts(&self) -> Vec<SocketAddr> {
        self.saved().contacts
    }
}

#[test]
fn an_id_follows_the_address_that_others_see() {
    let village = Village::new(30, Settings::default());
    for (at, machine) in village.machines.iter().enumerate() {
        let ip = v4(u32::try_from(at).unwrap()).ip();
        let status = machine.status(Family::V4).unwrap();
        assert!(is_secure(&status.id, ip), "{at}");
    }
    let mut ours = ExternalAddresses::default();
    for &sighting in &village.seen[3] {
        ours.vote(sighting);
    }
    assert!(ours.elected().eq([v4(3).ip(), v6(3).ip()]));
}

#[test]
fn a_restart_begins_with_what_was_saved() {
    let mut village = Village::new(20, only_v4());
    let said = village.ask(7, Input::Stop);
    let [Output::Save(saved)] = &said[..] else {
        panic!("saved once, and nothing else");
    };
    assert!(village.machines[7].deadline().is_none());
    assert!(village.ask(7, find(None)).is_empty(), "it has stopped");
    let rng = fastrand::Rng::with_seed(99);
    village.machines[7] = Dht::new(village.now, only_v4(), saved, [99; 32], rng);
    let addresses = saved
        .contacts
        .iter()
        .filter(|address| **address != v4(0))
        .copied();
    let input = Input::Bootstrap {
        addresses: addresses.collect(),
        are_routers: false,
    };
    village.ask(7, input);
    let status = village.machines[7].status(Family::V4).unwrap();
    assert!(status.has_joined);
    assert_eq!(Some(status.id), saved.id_v4);
}

#[test]
fn a_router_is_no_contact_and_is_asked_again_when_all_are_lost() {
    let mut machine = dht(1, only_v4());
    let input = Input::Bootstrap {
        addresses: vec![v4(0)],
        are_routers: true,
    };
    let mut router = Stranger::at(v4(0));
    machine.handle(Moment::ZERO, input);
    router.answer_all(Moment::ZERO, &mut machine);
    let status = machine.status(Family::V4).unwrap();
    assert_eq!((status.contacts, status.has_joined), (0, false));
    let mut asked_again = 0;
    for s in 1..120 {
        let now = Moment::from_secs(s);
        machine.handle(now, Input::Tick);
        asked_again += router.answer_all(now, &mut machine);
    }
    assert!((2..10).contains(&asked_again), "{asked_again}");
}

#[test]
fn a_search_without_anybody_ends() {
    let mut machine = dht(1, only_v4());
    machine.handle(Moment::ZERO, find(None));
    assert_eq!(
        machine.poll(),
        Some(Output::Ended {
            handle: MINE,
            outcome: Outcome {
                scrape: Some((0.0, 0.0)),
                ..Outcome::default()
            },
        })
    );
    let input = Input::Bootstrap {
        addresses: vec![v4(9)],
        are_routers: true,
    };
    machine.handle(Moment::ZERO, input);
    machine.handle(Moment::ZERO, find(None));
    let said: Vec<Output> = core::iter::from_fn(|| machine.poll()).collect();
    assert!(
        matches!(said[..], [Output::Send { .. }]),
        "it waits for who was asked"
    );
    machine.handle(Moment::from_secs(2), Input::Tick);
    machine.handle(Moment::from_secs(8), Input::Tick);
    let ended =
        core::iter::from_fn(|| machine.poll()).any(|said| matches!(said, Output::Ended { .. }));
    assert!(ended);
}

/// Somebody who is no machine of ours.
struct Stranger {
    address: SocketAddr,
    id: Id,
    names: Vec<Contact>,
}

impl Stranger {
    fn at(address: SocketAddr) -> Self {
        Stranger {
            address,
            id: Id([0x77; 20]),
            names: Vec::new(),
        }
    }

    fn send(&self, now: Moment, machine: &mut Dht, message: &Message) -> Vec<Output> {
        let input = Input::Datagram {
            from: self.address,
            bytes: encode(message),
        };
        machine.handle(now, input);
        core::iter::from_fn(|| machine.poll()).collect()
    }

    /// Sends a query, and gives the answer.
    fn query(
        &self,
        now: Moment,
        machine: &mut Dht,
        method: Method,
    ) -> Option<(Body, usize, usize)> {
        let query = Message {
            transaction: TransactionId::from_slice(b"aa"),
            body: Body::Query(Query {
                id: self.id,
                read_only: true,
                method,
            }),
        };
        let asked = encode(&query).len();
        let said = self.send(now, machine, &query);
        let answer = said.into_iter().find_map(|output| match output {
            Output::Send { to, bytes } if to == self.address => Some(bytes),
            _ => None,
        })?;
        let message = decode(&answer).expect("a message");
        assert_eq!(message.transaction.as_slice(), b"aa");
        Some((message.body, asked, answer.len()))
    }

    #[track_caller]
    fn reply(&self, now: Moment, machine: &mut Dht, method: Method) -> Reply {
        match self.query(now, machine, method) {
            Some((Body::Reply(reply), ..)) => *reply,
            other => panic!("a reply, not {other:?}"),
        }
    }

    /// Answers whatever was asked of it; gives how much that was. Datagrams to others are lost.
    fn answer_all(&mut self, now: Moment, machine: &mut Dht) -> usize {
        let mut said: VecDeque<Output> = core::iter::from_fn(|| machine.poll()).collect();
        let mut count = 0;
        while let Some(output) = said.pop_front() {
            let Output::Send { to, bytes } = output else {
                continue;
            };
            let Ok(Message {
                transaction,
                body: Body::Query(_),
            }) = decode(&bytes)
            else {
                continue;
            };
            if to != self.address {
                continue;
            }
            count += 1;
            let mut reply = Reply::new(self.id);
            reply.nodes = self.names.clone();
            let body = Body::Reply(Box::new(reply));
            said.extend(self.send(now, machine, &Message { transaction, body }));
        }
        count
    }
}

fn get_peers() -> Method {
    Method::GetPeers {
        info_hash: SWARM,
        want: Want::default(),
        noseed: false,
        scrape: true,
    }
}

fn announce_with(token: Token) -> Method {
    Method::AnnouncePeer {
        info_hash: SWARM,
        port: 1,
        implied_port: true,
        seed: false,
        token,
    }
}

#[test]
fn an_announce_needs_a_token_of_its_own_address() {
    let mut machine = dht(1, only_v4());
    let (a, b) = (Stranger::at(v4(1)), Stranger::at(v4(2)));
    let token = a
        .reply(Moment::ZERO, &mut machine, get_peers())
        .token
        .unwrap();
    let refused = b.query(Moment::ZERO, &mut machine, announce_with(token.clone()));
    let code = ErrorCode::Protocol.number();
    assert!(matches!(refused, Some((Body::Error { code: told, .. }, ..)) if told == code));
    let late = a.query(
        Moment::from_secs(600),
        &mut machine,
        announce_with(token.clone()),
    );
    assert!(matches!(late, Some((Body::Error { .. }, ..))));
    a.reply(Moment::ZERO, &mut machine, announce_with(token));
    let values = b.reply(Moment::ZERO, &mut machine, get_peers()).values;
    assert_eq!(values, [v4(1)], "at the port that the query came from");
}

#[test]
fn what_is_no_query_of_ours_is_answered_with_an_error() {
    let mut machine = dht(1, only_v4());
    for (bytes, code) in [
        (
            &b"d1:ad2:id20:abcdefghij0123456789e1:q4:pong1:t2:aa1:y1:qe"[..],
            204,
        ),
        (b"d1:ade1:q4:ping1:t2:aa1:y1:qe", 203),
    ] {
        let input = Input::Datagram {
            from: v4(1),
            bytes: bytes.to_vec(),
        };
        machine.handle(Moment::ZERO, input);
        let Some(Output::Send { bytes, .. }) = machine.poll() else {
            panic!("an answer");
        };
        let answer = decode(&bytes).unwrap().body;
        assert!(matches!(answer, Body::Error { code: told, .. } if told == code));
    }
}

#[test]
fn an_answer_to_a_forged_source_is_not_worth_the_question() {
    let mut machine = dht(1, only_v4());
    let mut friend = Stranger::at(v4(0));
    friend.names = (100..116)
        .map(|at| Contact {
            id: Id([at; 20]),
            address: v4(at.into()),
        })
        .collect();
    let input = Input::Bootstrap {
        addresses: vec![v4(0)],
        are_routers: false,
    };
    machine.handle(Moment::ZERO, input);
    friend.answer_all(Moment::ZERO, &mut machine);
    // A swarm of many peers, and an item as long as they may be.
    let mut now = Moment::ZERO;
    for at in 200..400 {
        now = now + Duration::from_millis(500);
        let peer = Stranger::at(v4(at));
        let token = peer.reply(now, &mut machine, get_peers()).token;
        peer.query(now, &mut machine, announce_with(token.unwrap()));
    }
    let value = [b"990:".to_vec(), vec![b'x'; 990]].concat();
    let target = immutable_target(&value);
    let get = || Method::Get {
        target,
        seq: None,
        want: Want::default(),
    };
    let writer = Stranger::at(v4(500));
    let token = writer.reply(now, &mut machine, get()).token.unwrap();
    let put = Method::Put {
        item: Item::Immutable(value),
        cas: None,
        token,
    };
    writer.reply(now, &mut machine, put);
    let mut large = 0;
    for at in 0..200 {
        now = now + Duration::from_millis(500);
        let victim = Stranger::at(v4(1000 + at));
        let method = match at % 3 {
            0 => get_peers(),
            1 => get(),
            _ => Method::FindNode {
                target: Id([1; 20]),
                want: Want { v4: true, v6: true },
            },
        };
        let (_, asked, told) = victim.query(now, &mut machine, method).expect("an answer");
        assert!(told <= MAX_DATAGRAM_BYTES);
        if told + 28 > 5 * (asked + 28) {
            large += told;
        } else {
            assert!(told <= MAX_REPLY_BYTES);
        }
    }
    // 100 seconds of a quarter of 8,000 bytes a second, and what may be saved up.
    assert!(large > 0 && large <= 100 * 2_000 + 8_000, "{large}");
    let (_, _, told) = friend
        .query(now, &mut machine, get_peers())
        .expect("an answer");
    assert!(told > 28 * 5, "who has answered us gets all that fits");
}

#[test]
fn who_floods_is_not_answered_and_others_are() {
    let mut machine = dht(1, only_v4());
    let flood = Stranger::at(v4(1));
    let answered = (0..1000).filter(|_| {
        flood
            .query(Moment::ZERO, &mut machine, Method::Ping)
            .is_some()
    });
    assert_eq!(answered.count(), 50);
    assert!(
        Stranger::at(v4(2))
            .query(Moment::ZERO, &mut machine, Method::Ping)
            .is_some()
    );
}

#[test]
fn a_liar_cannot_have_us_send_to_our_own_networks() {
    let mut machine = dht(1, Settings::default());
    let mut liar = Stranger::at(v4(0));
    let local = [
        "127.0.0.1:22",
        "192.168.0.1:53",
        "10.0.0.1:80",
        "169.254.1.1:1",
        "11.0.9.1:0",
    ];
    liar.names = (1..)
        .zip(local)
        .map(|(at, address)| Contact {
            id: Id([at; 20]),
            address: address.parse().unwrap(),
        })
        .collect();
    let input = Input::Bootstrap {
        addresses: vec![v4(0)],
        are_routers: false,
    };
    machine.handle(Moment::ZERO, input);
    machine.handle(Moment::ZERO, find(None));
    let mut asked = 0;
    for s in 0..3000 {
        let now = Moment::from_secs(s);
        machine.handle(now, Input::Tick);
        let (mut said, mut sent): (Vec<Output>, Vec<Output>) = (Vec::new(), Vec::new());
        while let Some(output) = machine.poll() {
            sent.push(output.clone());
            said.push(output);
        }
        for output in sent {
            let Output::Send { to, bytes } = output else {
                continue;
            };
            assert_eq!(to, v4(0));
            if let Ok(Message {
                transaction,
                body: Body::Query(_),
            }) = decode(&bytes)
            {
                asked += 1;
                let mut reply = Reply::new(liar.id);
                reply.nodes = liar.names.clone();
                let body = Body::Reply(Box::new(reply));
                let input = Input::Datagram {
                    from: v4(0),
                    bytes: encode(&Message { transaction, body }),
                };
                machine.handle(now, input);
            }
        }
    }
    assert!(asked > 0);
}

#[test]
fn queries_keep_their_rate_however_much_there_is_to_ask() {
    let settings = Settings {
        query_rate_bytes_per_s: 2_000,
        ..only_v4()
    };
    let mut village = Village::new(20, settings);
    village.run(Duration::from_secs(60));
    let before = village.sent_bytes[1];
    for at in 0..200 {
        let input = Input::FindPeers {
            handle: Handle(at),
            info_hash: InfoHash([u8::try_from(at).unwrap(); 20]),
            announce: announce(false),
            noseed: false,
            scrape: false,
        };
        village.tell(1, input);
    }
    village.run(Duration::from_secs(30));
    let sent = village.sent_bytes[1] - before;
    assert!((50_000..65_000).contains(&sent), "{sent}");
    village.run(Duration::from_secs(600));
    let ended = village.said[1]
        .iter()
        .filter(|said| matches!(said, Output::Ended { outcome, .. } if outcome.stored == 8));
    assert_eq!(ended.count(), 200, "all are served in the end");
}

#[test]
fn what_is_cancelled_says_nothing_more() {
    let mut village = Village::new(10, only_v4());
    village.said[1].clear();
    village.tell(1, find(announce(false)));
    village.tell(1, Input::Cancel(MINE));
    village.run(Duration::from_secs(30));
    assert!(village.said[1].is_empty());
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut village = Village::new(12, Settings::default());
        village.ask(1, find(announce(true)));
        village.ask(2, find(None));
        (village.sent_bytes, village.now)
    };
    assert_eq!(run(), run());
}

//! Local service discovery (BEP 14): announces to everybody on the local network, and what comes of those of others.
//!
//! Invariant: a swarm is announced no more than once in [`INTERVAL`] while we are in it, and what a stranger's datagram leads to is bounded by its own
//! length, and by [`MAX_HEARD_PER_S`].

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use std::collections::{BTreeMap, VecDeque};

/// Where announces go over IPv4. The group is that of the BEP, administratively scoped to the organisation.
pub const GROUP_V4: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), 6771);

/// Where announces go over IPv6: site-local.
pub const GROUP_V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)),
    6771,
);

/// The time between two announces of a swarm (BEP 14).
pub const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Swarms that are added shortly after each other share a datagram.
const GATHERING: Duration = Duration::from_millis(200);

/// The least time between two datagrams, so that a thousand torrents are no burst.
const SPACING: Duration = Duration::from_millis(100);

/// So long may a datagram be, to pass everywhere unfragmented (BEP 14).
pub const MAX_DATAGRAM_BYTES: usize = 1_400;

/// A datagram of [`MAX_DATAGRAM_BYTES`] has room for no more.
const MAX_HASHES: usize = 20;

/// Datagrams that are looked at in a second. A busy network of hundreds of clients has fewer.
pub const MAX_HEARD_PER_S: u32 = 50;

/// An announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnnounce {
    /// Where its sender accepts peers.
    pub port: u16,
    /// The swarms it is in: info hashes, those of v2 truncated.
    pub swarms: Vec<[u8; 20]>,
    /// What its sender knows its own announces by.
    pub cookie: Option<String>,
}

impl LocalAnnounce {
    /// The datagram for `group`.
    #[must_use]
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n",
            self.port
        );
        for swarm in &self.swarms {
            text.push_str("Infohash: ");
            for byte in swarm {
                // Writing to a string does not fail.
                let _infallible = write!(text, "{byte:02x}");
            }
            text.push_str("\r\n");
        }
        if let Some(cookie) = &self.cookie {
            text.push_str("cookie: ");
            text.push_str(cookie);
            text.push_str("\r\n");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    /// Reads a datagram; `None` where it is none of the BEP's, or says nothing of use.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(datagram.get(..datagram.len().min(MAX_DATAGRAM_BYTES))?);
        let mut lines = text.ok()?.split("\r\n");
        if !lines.next()?.starts_with("BT-SEARCH * HTTP/1.") {
            return None;
        }
        let (mut port, mut swarms, mut cookie) = (None, Vec::new(), None);
        for (name, value) in lines.map_while(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim() {
                name if name.eq_ignore_ascii_case("port") => {
                    port = value.parse().ok().filter(|&port| port != 0);
                }
                name if name.eq_ignore_ascii_case("infohash") => {
                    let swarm = swarm_of(value).filter(|swarm| !swarms.contains(swarm));
                    swarms.extend(swarm.filter(|_| swarms.len() < MAX_HASHES));
                }
                name if name.eq_ignore_ascii_case("cookie") => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        (!swarms.is_empty()).then_some(LocalAnnounce {
            port: port?,
            swarms,
            cookie,
        })
    }
}

fn swarm_of(hex: &str) -> Option<[u8; 20]> {
    let digits: &[u8; 40] = hex.as_bytes().try_into().ok()?;
    let mut swarm = [0; 20];
    for (byte, pair) in swarm.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(swarm)
}

/// What [`LocalDiscovery`] hears.
#[derive(Clone, Debug)]
pub enum Input {
    /// We are in this swarm, and may say so.
    Joined([u8; 20]),
    /// Not any more.
    Left([u8; 20]),
    /// A datagram came.
    Heard {
        /// From where. The port is not the one that peers connect to; the scope of a link-local address is needed.
        from: SocketAddr,
        /// What it says.
        datagram: Vec<u8>,
    },
    /// The deadline has come.
    Tick,
}

/// What [`LocalDiscovery`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be sent to the groups.
    Announce(LocalAnnounce),
    /// A peer in one of our swarms.
    Found {
        /// The swarm.
        swarm: [u8; 20],
        /// The peer.
        address: SocketAddr,
    },
}

/// When which swarm is announced, and what announces of others tell. One for each port that peers may connect to.
#[derive(Debug)]
pub struct LocalDiscovery {
    port: u16,
    cookie: String,
    /// When each swarm is announced next.
    swarms: BTreeMap<[u8; 20], Moment>,
    /// When the next datagram may leave.
    free_at: Moment,
    /// The second that is counted, and how many datagrams were looked at in it.
    second: (Moment, u32),
    outputs: VecDeque<Output>,
}

impl LocalDiscovery {
    /// In no swarm. Peers may connect to `port`; the generator decides how we know our own announces.
    #[must_use]
    pub fn new(port: u16, rng: &mut fastrand::Rng) -> Self {
        LocalDiscovery {
            port,
            cookie: format!("{:08x}", rng.u32(..)),
            swarms: BTreeMap::new(),
            free_at: Moment::ZERO,
            second: (Moment::ZERO, 0),
            outputs: VecDeque::new(),
        }
    }

    /// Whether there is nothing to announce, and nobody to listen for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.swarms.is_empty()
    }

    fn announce(&mut self, now: Moment) {
        if now < self.free_at {
            return;
        }
        let mut due: Vec<([u8; 20], Moment)> = self
            .swarms
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(swarm, at)| (*swarm, *at))
            .collect();
        // Who waits longest goes first, so that none is forgotten where there are many.
        due.sort_by_key(|(_, at)| *at);
        due.truncate(MAX_HASHES);
        if due.is_empty() {
            return;
        }
        let swarms: Vec<[u8; 20]> = due.into_iter().map(|(swarm, _)| swarm).collect();
        for swarm in &swarms {
            self.swarms.insert(*swarm, now + INTERVAL);
        }
        self.free_at = now + SPACING;
        self.outputs.push_back(Output::Announce(LocalAnnounce {
            port: self.port,
            swarms,
            cookie: Some(self.cookie.clone()),
        }));
    }

    fn hear(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) {
        if now.since(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        if self.second.1 >= MAX_HEARD_PER_S {
            return;
        }
        self.second.1 += 1;
        let Some(announce) = LocalAnnounce::decode(datagram) else {
            return;
        };
        if announce.cookie.as_ref() == Some(&self.cookie) {
            return;
        }
        let mut address = from;
        address.set_port(announce.port);
        let ours = announce
            .swarms
            .into_iter()
            .filter(|swarm| self.swarms.contains_key(swarm));
        self.outputs
            .extend(ours.map(|swarm| Output::Found { swarm, address }));
    }
}

impl Machine for LocalDiscovery {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Joined(swarm) => {
                self.swarms.entry(swarm).or_insert(now + GATHERING);
            }
            Input::Left(swarm) => {
                self.swarms.remove(&swarm);
            }
            Input::Heard { from, datagram } => self.hear(now, from, &datagram),
            Input::Tick => self.announce(now),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        let first = self.swarms.values().min()?;
        Some((*first).max(self.free_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn swarm(number: u8) -> [u8; 20] {
        [number; 20]
    }

    fn discovery() -> LocalDiscovery {
        LocalDiscovery::new(6881, &mut fastrand::Rng::with_seed(1))
    }

    /// Runs until `until`, and gives what was announced, and when.
    fn run(discovery: &mut LocalDiscovery, until: Moment) -> Vec<(Moment, Vec<[u8; 20]>)> {
        let mut announced = Vec::new();
        while let Some(at) = discovery.deadline().filter(|at| *at <= until) {
            discovery.handle(at, Input::Tick);
            while let Some(output) = discovery.poll() {
                let Output::Announce(announce) = output else {
                    panic!("nothing was heard");
                };
                announced.push((at, announce.swarms));
            }
        }
        announced
    }

    #[test]
    fn an_announce_is_as_the_bep_has_it() {
        let announce = LocalAnnounce {
            port: 6881,
            swarms: vec![swarm(0xab)],
            cookie: Some("c00c1e".to_owned()),
        };
        let datagram = announce.encode(GROUP_V4);
        let expected = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
            Infohash: abababababababababababababababababababab\r\ncookie: c00c1e\r\n\r\n\r\n";
        assert_eq!(String::from_utf8(datagram.clone()).unwrap(), expected);
        assert_eq!(LocalAnnounce::decode(&datagram), Some(announce.clone()));
        assert!(
            announce
                .encode(GROUP_V6)
                .starts_with(b"BT-SEARCH * HTTP/1.1\r\nHost: [ff15::efc0:988f]:6771\r\n")
        );
    }

    #[test]
    fn what_others_write_a_little_differently_is_understood() {
        let text = b"BT-SEARCH * HTTP/1.1\r\nhost:239.192.152.143:6771\r\nPORT:  51413 \r\n\
            InfoHash: ABABABABABABABABABABABABABABABABABABABAB\r\nInfohash: nonsense\r\nX: y\r\n\r\n";
        let announce = LocalAnnounce::decode(text).unwrap();
        assert_eq!(
            (announce.port, announce.swarms),
            (51_413, vec![swarm(0xab)])
        );
        assert_eq!(announce.cookie, None);
    }

    #[test]
    fn what_is_of_no_use_is_nothing() {
        let hash = "Infohash: abababababababababababababababababababab\r\n";
        for text in [
            String::new(),
            "BT-SEARCH * HTTP/1.1\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nPort: 1\r\n{hash}"),
            format!("BT-SEARCH * HTTP/1.1\r\n{hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\n{hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\n{hash}\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: abab\r\n\r\n".to_owned(),
        ] {
            assert_eq!(LocalAnnounce::decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LocalAnnounce::decode(&[0xff; 100]), None);
    }

    #[test]
    fn swarms_are_announced_together_at_once_and_then_each_five_minutes() {
        let mut discovery = discovery();
        discovery.handle(Moment::from_secs(10), Input::Joined(swarm(1)));
        discovery.handle(Moment::from_secs(10), Input::Joined(swarm(2)));
        let announced = run(&mut discovery, Moment::from_secs(10 + 11 * 60));
        let both = vec![swarm(1), swarm(2)];
        let first = Moment::from_secs(10) + GATHERING;
        let expected = [first, first + INTERVAL, first + 2 * INTERVAL].map(|at| (at, both.clone()));
        assert_eq!(announced, expected);
    }

    #[test]
    fn who_leaves_and_joins_again_at_once_is_not_forgotten_and_who_left_is_not_announced() {
        let mut discovery = discovery();
        discovery.handle(Moment::ZERO, Input::Joined(swarm(1)));
        discovery.handle(Moment::ZERO, Input::Joined(swarm(2)));
        discovery.handle(Moment::ZERO, Input::Left(swarm(1)));
        let announced = run(&mut discovery, Moment::from_secs(1));
        assert_eq!(announced, [(Moment::ZERO + GATHERING, vec![swarm(2)])]);
        discovery.handle(Moment::from_secs(1), Input::Left(swarm(2)));
        assert!(discovery.is_idle());
        assert_eq!(discovery.deadline(), None);
    }

    #[test]
    fn peers_of_our_swarms_are_found_and_we_are_not_one_of_them() {
        let mut discovery = discovery();
        discovery.handle(Moment::ZERO, Input::Joined(swarm(1)));
        discovery.handle(Moment::from_secs(1), Input::Tick);
        let Some(Output::Announce(ours)) = discovery.poll() else {
            panic!("nothing was announced");
        };
        let from: SocketAddr = "192.168.1.7:6771".parse().unwrap();
        let mut hear = |announce: &LocalAnnounce| {
            let datagram = announce.encode(GROUP_V4);
            discovery.handle(Moment::from_secs(2), Input::Heard { from, datagram });
            core::iter::from_fn(|| discovery.poll()).collect::<Vec<_>>()
        };
        assert_eq!(hear(&ours), []);
        let theirs = LocalAnnounce {
            port: 7_000,
            swarms: vec![swarm(3), swarm(1)],
            cookie: None,
        };
        let address = SocketAddr::new(from.ip(), 7_000);
        let found = Output::Found {
            swarm: swarm(1),
            address,
        };
        assert_eq!(hear(&theirs), [found]);
    }

    #[test]
    fn a_flood_is_looked_at_no_longer_than_its_second() {
        let mut discovery = discovery();
        discovery.handle(Moment::ZERO, Input::Joined(swarm(1)));
        let announce = LocalAnnounce {
            port: 7_000,
            swarms: vec![swarm(1)],
            cookie: None,
        };
        let mut found = 0;
        for at in 0..10_000u64 {
            // Two seconds.
            let now = Moment::from_secs(5) + Duration::from_micros(at * 200);
            let from = "192.168.1.7:6771".parse().unwrap();
            let datagram = announce.encode(GROUP_V4);
            discovery.handle(now, Input::Heard { from, datagram });
            found += u32::from(discovery.poll().is_some());
        }
        assert_eq!(found, 2 * MAX_HEARD_PER_S);
    }

    proptest! {
        #[test]
        fn every_swarm_is_announced_in_every_interval_and_no_datagram_is_too_long(
            count in 1u8..=255,
            joined_ms in 0u64..60_000,
        ) {
            let mut discovery = discovery();
            let start = Moment::ZERO + Duration::from_millis(joined_ms);
            for number in 0..count {
                discovery.handle(start, Input::Joined(swarm(number)));
            }
            let announced = run(&mut discovery, start + INTERVAL);
            let mut times = BTreeMap::new();
            for (_, swarms) in &announced {
                let announce = LocalAnnounce { port: 65_535, swarms: swarms.clone(), cookie: Some("01234567".into()) };
                prop_assert!(announce.encode(GROUP_V6).len() <= MAX_DATAGRAM_BYTES);
                for swarm in swarms {
                    *times.entry(*swarm).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(times.len(), usize::from(count));
            prop_assert!(times.values().all(|&times| times == 1));
            prop_assert!(announced.windows(2).all(|pair| pair[1].0.since(pair[0].0) >= SPACING));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(datagram in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            if let Some(announce) = LocalAnnounce::decode(&datagram) {
                prop_assert!(announce.swarms.len() <= MAX_HASHES);
            }
        }
    }
}

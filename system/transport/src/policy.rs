//! One pure table that decides who may make us connect where.
//!
//! Invariant: every dial, datagram and request of this crate has passed [`Policy::check`] with the address it goes to.
//! What others name never reaches this machine itself, and never its local networks by HTTP, unless the user opened
//! the range.

use std::fmt;
use std::net::IpAddr;

use crate::address_class::TargetClass;
use crate::ip_net::IpNet;

/// Who named the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginClass {
    /// The person who runs this program: a command, a setting.
    User,
    /// A torrent file or magnet link.
    Metainfo,
    /// A tracker's reply.
    Tracker,
    /// Another peer (BEP 11), or a hole-punch request (BEP 55).
    PeerExchange,
    /// The DHT (BEP 5).
    Dht,
    /// Local service discovery (BEP 14): a datagram that came from this network.
    Local,
    /// A peer that connected to us and is to be dialled back. Its address may be that of a proxy before us, so it
    /// earns no more trust than other strangers' words.
    Incoming,
    /// Stored from an earlier run, when others had named it.
    Resume,
    /// An HTTP redirect.
    Redirect,
    /// A feed's entry.
    Feed,
    /// The router that this machine's routes lead over, when it speaks of itself and of its far side.
    Router,
}

impl OriginClass {
    /// Every class.
    pub const ALL: [OriginClass; 11] = [
        OriginClass::User,
        OriginClass::Metainfo,
        OriginClass::Tracker,
        OriginClass::PeerExchange,
        OriginClass::Dht,
        OriginClass::Local,
        OriginClass::Incoming,
        OriginClass::Resume,
        OriginClass::Redirect,
        OriginClass::Feed,
        OriginClass::Router,
    ];
}

/// What will be spoken to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The peer wire protocol.
    Peer,
    /// An announce or scrape over HTTP or HTTPS.
    TrackerHttp,
    /// An announce or scrape over UDP (BEP 15).
    TrackerUdp,
    /// Any other HTTP or HTTPS request: a web seed, a torrent's URL.
    Http,
    /// PCP, NAT-PMP and UPnP.
    PortMapping,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 5] = [
        Protocol::Peer,
        Protocol::TrackerHttp,
        Protocol::TrackerUdp,
        Protocol::Http,
        Protocol::PortMapping,
    ];
}

/// One cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allow,
    /// Only if one of this machine's networks contains the target.
    IfShared,
    /// Only if the user opened the range.
    IfOpened,
    /// Not even then: nobody can be there.
    Never,
}

/// The table. A tracker or web seed that others name stays outside local networks whatever it speaks, since a request
/// carries bytes of their choice; a peer on a shared network is what peer-to-peer on a LAN is for.
fn rule(origin: OriginClass, target: TargetClass, protocol: Protocol) -> Rule {
    use OriginClass::{Local, Redirect, Router, User};
    use TargetClass::{
        Documentation, Global, LinkLocal, Loopback, Multicast, Private, Reserved, Unspecified,
    };
    match (target, origin, protocol) {
        (Unspecified | Multicast | Documentation | Reserved, _, _) => Rule::Never,
        (Global, _, _) | (_, User, _) => Rule::Allow,
        (Private | LinkLocal, Local, Protocol::Peer) => Rule::Allow,
        // What a router says its far side is: a private address there is another router's, and nobody beyond that one can use it.
        (Private, Redirect | Router, Protocol::Peer) => Rule::IfOpened,
        (Private, Router, Protocol::PortMapping) => Rule::IfShared,
        (Private, _, Protocol::Peer) => Rule::IfShared,
        (Private | LinkLocal | Loopback, _, _) => Rule::IfOpened,
    }
}

/// The table with what the user said about it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Ranges that every origin may reach (`--allow-net`).
    pub allow_net: Vec<IpNet>,
    /// Speak to nothing but the peers that the user named, the trackers that the user or the torrent named, and what lies in
    /// `allow_net`.
    pub isolated: bool,
}

impl Policy {
    /// Whether isolation, if there is any, still lets `origin` name what `protocol` speaks to.
    #[must_use]
    pub fn names(&self, origin: OriginClass, protocol: Protocol) -> bool {
        let tracker = matches!(protocol, Protocol::TrackerHttp | Protocol::TrackerUdp);
        match origin {
            OriginClass::User => true,
            OriginClass::Metainfo => tracker || !self.isolated,
            _ => !self.isolated,
        }
    }

    /// Whether `origin` may make us speak `protocol` to `target`. `shared` lists the networks of this machine's
    /// interfaces; it only matters for [`TargetClass::Private`].
    pub fn check(
        &self,
        target: IpAddr,
        origin: OriginClass,
        protocol: Protocol,
        shared: &[IpNet],
    ) -> Result<(), Refusal> {
        let class = TargetClass::of(target);
        let opened = self.allow_net.iter().any(|net| net.contains(target));
        let refused = match rule(origin, class, protocol) {
            Rule::Never => Some(RefusalReason::Unusable),
            _ if opened => None,
            _ if !self.names(origin, protocol) => Some(RefusalReason::Isolated),
            Rule::Allow => None,
            Rule::IfShared if shared.iter().any(|net| net.contains(target)) => None,
            Rule::IfShared => Some(RefusalReason::NotShared),
            Rule::IfOpened => Some(RefusalReason::Local),
        };
        refused.map_or(Ok(()), |reason| {
            Err(Refusal {
                target: target.to_canonical(),
                class,
                origin,
                protocol,
                reason,
            })
        })
    }
}

/// The last labels of names that lead nowhere but into some local network, or to the machine that looks them up: reserved by RFC 6761,
/// RFC 6762, RFC 8375 and ICANN's resolution of 2024 on `internal`, or used so by routers (RFC 6762 appendix G).
const LOCAL_DOMAINS: [&str; 10] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
];

/// Whether a name looks as if it named something on the Internet: several labels, the last of which is none of a local network and no
/// number, as in another spelling of an address.
fn looks_global(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let Some((_, last)) = host.rsplit_once('.') else {
        return false;
    };
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    !last.is_empty() && !is_number && !LOCAL_DOMAINS.contains(&last)
}

impl Policy {
    /// Whether `origin` may make us have a proxy look `host` up, and speak `protocol` to whatever it finds.
    ///
    /// Nobody here sees the address, so that no range that the user opened counts, and what looks like a name in the proxy's own network
    /// is the user's alone to name. Where a name that looks global leads, the proxy knows, and what it connects to is its to refuse.
    pub fn check_name(
        &self,
        host: &str,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<(), NameRefusal> {
        let reason = if !self.names(origin, protocol) {
            RefusalReason::Isolated
        } else if origin == OriginClass::User || looks_global(host) {
            return Ok(());
        } else {
            RefusalReason::Local
        };
        Err(NameRefusal {
            host: host.to_owned(),
            origin,
            protocol,
            reason,
        })
    }
}

/// A name that no proxy is asked to look up: what and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRefusal {
    /// The name.
    pub host: String,
    /// Who named it.
    pub origin: OriginClass,
    /// What would have been spoken.
    pub protocol: Protocol,
    /// Which rule refused it.
    pub reason: RefusalReason,
}

impl std::error::Error for NameRefusal {}

impl fmt::Display for NameRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            origin,
            protocol,
            reason,
        } = self;
        write!(
            f,
            "{host}, which {origin} named, is refused as {protocol}: "
        )?;
        f.write_str(match reason {
            RefusalReason::Isolated => "isolated mode connects only to what you named",
            RefusalReason::Unusable | RefusalReason::Listed => "it was not looked up",
            RefusalReason::Local | RefusalReason::NotShared => {
                "it looks local, and where it leads only the proxy would see; only you may name it"
            }
        })
    }
}

/// A target that the policy does not let us reach: what, why, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The address.
    pub target: IpAddr,
    /// What kind of place it is.
    pub class: TargetClass,
    /// Who named it.
    pub origin: OriginClass,
    /// What would have been spoken.
    pub protocol: Protocol,
    /// Which rule refused it.
    pub reason: RefusalReason,
}

/// Which rule refused a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Nobody can be at such an address.
    Unusable,
    /// Others named an address of this machine or of a local network.
    Local,
    /// The private address is not on a network of this machine.
    NotShared,
    /// Isolated mode dials only what the user named.
    Isolated,
    /// A list of addresses that holds for trackers has it.
    Listed,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            class,
            origin,
            protocol,
            reason,
        } = self;
        write!(
            f,
            "{target} ({class}), which {origin} named, is refused as {protocol}: "
        )?;
        let open = IpNet::host(*target);
        match reason {
            RefusalReason::Unusable => f.write_str("no host can have that address"),
            RefusalReason::Local => write!(
                f,
                "only you may name local addresses; open it with --allow-net {open}"
            ),
            RefusalReason::NotShared => write!(
                f,
                "it is on no network of this machine; open it with --allow-net {open}"
            ),
            RefusalReason::Isolated => write!(
                f,
                "isolated mode connects only to what you named; name it or open it with --allow-net {open}"
            ),
            RefusalReason::Listed => {
                f.write_str("an address list forbids it, and holds for trackers too")
            }
        }
    }
}

impl fmt::Display for OriginClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "you",
            Self::Metainfo => "the torrent",
            Self::Tracker => "a tracker",
            Self::PeerExchange => "another peer",
            Self::Dht => "the DHT",
            Self::Local => "local service discovery",
            Self::Incoming => "an incoming peer",
            Self::Resume => "an earlier run",
            Self::Redirect => "a redirect",
            Self::Feed => "a feed",
            Self::Router => "the router",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "a peer",
            Self::TrackerHttp => "an HTTP tracker",
            Self::TrackerUdp => "a UDP tracker",
            Self::Http => "a web address",
            Self::PortMapping => "port mapping",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// `A` always, `S` on a shared network, `O` only if opened, for Global, Private, LinkLocal and Loopback. The four
    /// classes in which nobody can be are not listed: nothing reaches them.
    const PEER: [(OriginClass, &str); 11] = [
        (OriginClass::User, "AAAA"),
        (OriginClass::Metainfo, "ASOO"),
        (OriginClass::Tracker, "ASOO"),
        (OriginClass::PeerExchange, "ASOO"),
        (OriginClass::Dht, "ASOO"),
        (OriginClass::Local, "AAAO"),
        (OriginClass::Incoming, "ASOO"),
        (OriginClass::Resume, "ASOO"),
        (OriginClass::Redirect, "AOOO"),
        (OriginClass::Feed, "ASOO"),
        (OriginClass::Router, "AOOO"),
    ];
    /// The same for each of the other protocols.
    const REQUEST: [(OriginClass, &str); 11] = [
        (OriginClass::User, "AAAA"),
        (OriginClass::Metainfo, "AOOO"),
        (OriginClass::Tracker, "AOOO"),
        (OriginClass::PeerExchange, "AOOO"),
        (OriginClass::Dht, "AOOO"),
        (OriginClass::Local, "AOOO"),
        (OriginClass::Incoming, "AOOO"),
        (OriginClass::Resume, "AOOO"),
        (OriginClass::Redirect, "AOOO"),
        (OriginClass::Feed, "AOOO"),
        (OriginClass::Router, "AOOO"),
    ];
    const TARGETS: [(TargetClass, &str, &str); 8] = [
        (TargetClass::Global, "8.8.8.8", "2600::1"),
        (TargetClass::Private, "10.1.2.3", "fd00::1"),
        (TargetClass::LinkLocal, "169.254.169.254", "fe80::1"),
        (TargetClass::Loopback, "127.0.0.1", "::1"),
        (TargetClass::Unspecified, "0.0.0.0", "::"),
        (TargetClass::Multicast, "239.192.152.143", "ff15::efc0:988f"),
        (TargetClass::Documentation, "192.0.2.1", "2001:db8::1"),
        (TargetClass::Reserved, "240.0.0.1", "100::1"),
    ];

    fn everything() -> Vec<IpNet> {
        vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]
    }

    fn cell(origin: OriginClass, class: usize, protocol: Protocol) -> char {
        if (origin, protocol) == (OriginClass::Router, Protocol::PortMapping) {
            return "ASOO".chars().nth(class).unwrap_or('N');
        }
        let table = if protocol == Protocol::Peer {
            PEER
        } else {
            REQUEST
        };
        let (_, row) = table.into_iter().find(|(row, _)| *row == origin).unwrap();
        row.chars().nth(class).unwrap_or('N')
    }

    /// What one cell means, spelled out: (nothing said, on a shared network, opened, isolated, isolated and opened).
    fn expected(cell: char, origin: OriginClass, protocol: Protocol) -> [bool; 5] {
        let named = origin == OriginClass::User
            || (origin == OriginClass::Metainfo
                && [Protocol::TrackerHttp, Protocol::TrackerUdp].contains(&protocol));
        match cell {
            'A' => [true, true, true, named, true],
            'S' => [false, true, true, false, true],
            'O' => [false, false, true, false, true],
            'N' => [false; 5],
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_cell_of_the_table_is_as_listed() {
        let policy = |opened: bool, isolated| Policy {
            allow_net: if opened { everything() } else { Vec::new() },
            isolated,
        };
        for (index, (class, v4, v6)) in TARGETS.into_iter().enumerate() {
            assert_eq!(TargetClass::ALL[index], class);
            for target in [v4, v6].map(|text| text.parse::<IpAddr>().unwrap()) {
                assert_eq!(TargetClass::of(target), class, "{target}");
                for origin in OriginClass::ALL {
                    for protocol in Protocol::ALL {
                        let may = |policy: Policy, shared: &[IpNet]| {
                            policy.check(target, origin, protocol, shared).is_ok()
                        };
                        let found = [
                            may(policy(false, false), &[]),
                            may(policy(false, false), &everything()),
                            may(policy(true, false), &[]),
                            may(policy(false, true), &everything()),
                            may(policy(true, true), &[]),
                        ];
                        let cell = cell(origin, index, protocol);
                        assert_eq!(
                            found,
                            expected(cell, origin, protocol),
                            "{origin:?} {target} {protocol:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_proxy_is_asked_by_strangers_for_names_that_look_global_alone() {
        let ask =
            |host: &str, origin| Policy::default().check_name(host, origin, Protocol::TrackerHttp);
        for host in [
            "tracker.example",
            "a.b.example.",
            "XN--TRACKER.EXAMPLE",
            "abc.onion",
        ] {
            for origin in OriginClass::ALL {
                assert!(ask(host, origin).is_ok(), "{host} {origin}");
            }
        }
        for host in [
            "router",
            "localhost",
            "a.localhost",
            "nas.local",
            "nas.LOCAL.",
            "x.home.arpa",
            "db.internal",
            "127.1",
            "0x7f.0.0.0x1",
            "2130706433",
            "10.0.0.1.",
            "a..",
            "fritz.lan",
        ] {
            assert!(ask(host, OriginClass::User).is_ok(), "{host}");
            for origin in OriginClass::ALL
                .into_iter()
                .filter(|origin| *origin != OriginClass::User)
            {
                assert_eq!(
                    ask(host, origin).unwrap_err().reason,
                    RefusalReason::Local,
                    "{host} {origin}"
                );
            }
        }
        let isolated = Policy {
            allow_net: everything(),
            isolated: true,
        };
        let refused = isolated.check_name("tracker.example", OriginClass::Redirect, Protocol::Http);
        assert_eq!(refused.unwrap_err().reason, RefusalReason::Isolated);
    }

    #[test]
    fn a_refusal_says_what_why_and_what_opens_it() {
        let refusal = Policy::default()
            .check(
                "::ffff:127.0.0.1".parse().unwrap(),
                OriginClass::Redirect,
                Protocol::Http,
                &[],
            )
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "127.0.0.1 (loopback), which a redirect named, is refused as a web address: \
             only you may name local addresses; open it with --allow-net 127.0.0.1/32"
        );
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
            (0..TARGETS.len(), any::<bool>()).prop_map(|(index, six)| {
                let (_, v4, v6) = TARGETS[index];
                if six { v6 } else { v4 }.parse().unwrap()
            }),
        ]
    }

    fn any_origin() -> impl Strategy<Value = OriginClass> {
        prop::sample::select(OriginClass::ALL.as_slice())
    }

    fn any_protocol() -> impl Strategy<Value = Protocol> {
        prop::sample::select(Protocol::ALL.as_slice())
    }

    proptest! {
        #[test]
        fn no_stranger_reaches_this_machine_in_any_spelling(
            low in 0_u32..1 << 24, origin in any_origin(), protocol in any_protocol(), spelling in 0..4_u8,
        ) {
            prop_assume!(origin != OriginClass::User);
            let v4 = Ipv4Addr::from_bits(127 << 24 | low);
            let wide = u128::from(v4.to_bits());
            let target: IpAddr = match spelling {
                0 => v4.into(),
                1 => v4.to_ipv6_mapped().into(),
                2 => Ipv6Addr::from_bits(0x0064_ff9b << 96 | wide).into(),
                _ => Ipv6Addr::from_bits(0x2002 << 112 | wide << 80).into(),
            };
            let policy = Policy::default();
            prop_assert!(policy.check(target, origin, protocol, &everything()).is_err());
        }

        #[test]
        fn opening_a_range_never_closes_anything(
            target in any_address(), origin in any_origin(), protocol in any_protocol(), isolated: bool,
        ) {
            let closed = Policy { allow_net: Vec::new(), isolated };
            let open = Policy { allow_net: vec![IpNet::host(target)], isolated };
            if closed.check(target, origin, protocol, &[]).is_ok() {
                prop_assert!(open.check(target, origin, protocol, &[]).is_ok());
            }
        }

        #[test]
        fn nobody_reaches_more_than_the_user_and_isolation_never_opens(
            target in any_address(), origin in any_origin(), protocol in any_protocol(),
        ) {
            let policy = Policy::default();
            if policy.check(target, origin, protocol, &everything()).is_ok() {
                prop_assert!(policy.check(target, OriginClass::User, protocol, &[]).is_ok());
            } else {
                let isolated = Policy { isolated: true, ..Policy::default() };
                prop_assert!(isolated.check(target, origin, protocol, &everything()).is_err());
            }
        }
    }
}

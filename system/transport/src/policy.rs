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
}

impl OriginClass {
    /// Every class.
    pub const ALL: [OriginClass; 10] = [
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
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 4] = [
        Protocol::Peer,
        Protocol::TrackerHttp,
        Protocol::TrackerUdp,
        Protocol::Http,
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
    use OriginClass::{Local, Redirect, User};
    use TargetClass::{
        Documentation, Global, LinkLocal, Loopback, Multicast, Private, Reserved, Unspecified,
    };
    match (target, origin, protocol) {
        (Unspecified | Multicast | Documentation | Reserved, _, _) => Rule::Never,
        (Global, _, _) | (_, User, _) => Rule::Allow,
        (Private | LinkLocal, Local, Protocol::Peer) => Rule::Allow,
        (Private, Redirect, Protocol::Peer) => Rule::IfOpened,
        (Private, _, Protocol::Peer) => Rule::IfShared,
        (Private | LinkLocal | Loopback, _, _) => Rule::IfOpened,
    }
}

/// The table with what the user said about it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Ranges that every origin may reach (`--allow-net`).
    pub allow_net: Vec<IpNet>,
    /// Dial nothing but what the user named: by [`OriginClass::User`] or by `allow_net`.
    pub isolated: bool,
}

impl Policy {
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
            _ if self.isolated && origin != OriginClass::User => Some(RefusalReason::Isolated),
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
        })
    }
}

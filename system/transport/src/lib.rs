//! The only crate that opens sockets: routes, rate limits and the address policy.
//!
//! A transport is one route: a [`Binding`], and perhaps a [`Proxy`].
//!
//! Invariant: no packet leaves that the policy table ([`policy`]) did not allow, and no socket is opened outside the
//! configured [`Binding`]: where a bind is impossible the operation fails, it never falls back to another route.
//! Under a [`Proxy`], nobody else is sent anything, nothing listens, and names are looked up by the proxy or not at all.
//! Without one, names are looked up by the servers that a person names, over the binding; where none is named, the one thing that does not
//! follow it is the system's own name resolution, which [`Resolve`] replaces.

pub mod http;
pub mod ip_net;
pub mod limiter;
pub mod name_server;
pub mod policy;
pub mod proxy;

mod address_class;
mod binding;
mod control;
mod departure;
mod dialer;
mod interfaces;
mod listener;
mod multicast;
mod peer_stream;
mod port_mapping;
mod redirect;
mod relay;
mod resolver;
mod route;
mod sockets;
mod transport;
mod tunnel;
mod udp;
mod utp;
mod way;

pub use address_class::TargetClass;
pub use binding::Binding;
pub use control::{ControlListener, ControlStream, connect_control};
pub use departure::{Departure, MAX_DSCP};
pub use dialer::PeerDialer;
pub use http::{HttpClient, HttpError, HttpLimits, HttpReply, HttpStream, RangeRequest};
pub use interfaces::interfaces;
pub use ip_net::{IpNet, ParseIpNetError};
pub use limiter::{Direction, LimitGroup, Limiter, MAX_LIMIT_GROUPS, RateLimits, TorrentLimiter};
pub use listener::Listener;
pub use multicast::Multicast;
pub use peer_stream::{DetachedStream, PeerStream};
pub use policy::{NameRefusal, OriginClass, Policy, Protocol, Refusal, RefusalReason};
pub use port_mapping::{Mapped, MappingError, MappingProtocol, PortMapper, WantedPort};
pub use proxy::{Endpoint, ParseProxyError, Proxy, ProxyError, ProxyProtocol};
pub use resolver::{AddressFamily, Lookup, Resolve, ResolveError, SystemResolver};
pub use transport::{AddressFilter, DialError, Transport, TransportConfig, TransportError};
pub use tunnel::{ProxyFailure, ThroughProxy};
pub use udp::UdpChannel;
pub use utp::{OtherDatagrams, Utp, UtpEndpoint};

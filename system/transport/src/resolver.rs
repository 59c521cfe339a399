//! From a host's name to addresses.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::binding::Binding;
use crate::policy::{NameRefusal, Refusal};
use crate::proxy::ProxyProtocol;

/// Look-ups in progress at once. The system's resolver blocks a thread for each, for as long as a dead server lets it.
const MAX_LOOKUPS: usize = 16;
/// Addresses of one name that are considered: real services have a handful, a hostile zone could have thousands.
pub(crate) const MAX_ADDRESSES_PER_NAME: usize = 16;
/// A DNS name has at most 253 characters (RFC 1035 section 3.1).
const MAX_NAME_CHARS: usize = 253;

/// A look-up in progress.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Resolves names. What it answers is filtered by the policy, whoever implements it.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, a name and not an address, in order of preference.
    fn lookup(&self, host: &str) -> Lookup;
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// Whether `address` is of this family; an IPv4-mapped one is IPv4.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        address.to_canonical().is_ipv4() == (self == Self::V4)
    }
}

/// Why a host has no address for us.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Not a name.
    #[error("`{0}` is not a host name")]
    InvalidName(String),
    /// Every address is one that the policy refuses; this is the first.
    #[error("{}{refusal}", unless_address(host))]
    Refused {
        /// The name or address.
        host: String,
        /// Why.
        refusal: Refusal,
    },
    /// Isolated mode: not even the question may leave.
    #[error("{host}: isolated mode looks up only names that you gave; name it or give its address")]
    Isolated {
        /// The name.
        host: String,
    },
    /// It has addresses, none of which the binding or the wanted family reaches.
    #[error("{host} has no address that can be reached from {binding}")]
    WrongFamily {
        /// The name or address.
        host: String,
        /// The route in force.
        binding: Binding,
    },
    /// The policy does not let a proxy be asked for it.
    #[error(transparent)]
    NameRefused(#[from] NameRefusal),
    /// Only the proxy may look it up, and that cannot tell the address, or cannot look up at all.
    #[error(
        "{host} is not looked up: names are the proxy's to look up, and through a {protocol} proxy no address comes of it; name an address"
    )]
    BehindProxy {
        /// The name.
        host: String,
        /// The proxy's.
        protocol: ProxyProtocol,
    },
    /// The route has ended, or there is none yet: not even the question leaves.
    #[error("{host} is not looked up: {why}")]
    Shut {
        /// The name.
        host: String,
        /// Why there is no route.
        why: Arc<str>,
    },
    /// The resolver failed.
    #[error("cannot look up {host}: {source}; check the name and this machine's DNS settings")]
    Lookup {
        /// The name.
        host: String,
        /// What it said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer for {host} within {} s; check this machine's DNS settings", after.as_secs())]
    TimedOut {
        /// The name.
        host: String,
        /// How long was waited.
        after: Duration,
    },
}

/// What a sentence about an address begins with: the name that it was found by, if that is a name.
fn unless_address(host: &str) -> String {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>() {
        Ok(_) => String::new(),
        Err(_) => format!("{host}: "),
    }
}

/// The system's resolver: `/etc/hosts`, DNS, and whatever else the machine is configured for.
#[derive(Debug)]
pub struct SystemResolver {
    permits: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }
}

impl Resolve for SystemResolver {
    /// On a thread of its own rather than the runtime's: a runtime that shuts down waits for its blocking threads, and
    /// quitting must not wait for a dead DNS server. The permit ends with the thread, not with who asked.
    fn lookup(&self, host: &str) -> Lookup {
        let permits = Arc::clone(&self.permits);
        let host = host.to_owned();
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let (answer, answered) = oneshot::channel();
            std::thread::Builder::new()
                .name("shoal-resolve".to_owned())
                .spawn(move || {
                    let found = (host.as_str(), 0)
                        .to_socket_addrs()
                        .map(|all| all.map(|address| address.ip()).collect());
                    drop(permit);
                    // Who asked may have given up.
                    let _ = answer.send(found);
                })?;
            answered.await.map_err(io::Error::other)?
        })
    }
}

/// Checks what no resolver should be asked.
pub(crate) fn check_name(host: &str) -> Result<(), ResolveError> {
    let ok = !host.is_empty()
        && host.len() <= MAX_NAME_CHARS
        && host.bytes().all(|byte| byte.is_ascii_graphic());
    if ok {
        Ok(())
    } else {
        let shown: String = host.escape_debug().take(MAX_NAME_CHARS).collect();
        Err(ResolveError::InvalidName(shown))
    }
}

/// The address that `host` is, if it is one, an IPv6 address in brackets or not.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let inside = host.strip_prefix('[');
    let inside = inside.and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(host).parse().ok()
}

/// `localhost` and what is below it are this machine, whatever a DNS server says (RFC 6761 section 6.3).
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The addresses of [`is_localhost`] names.
pub(crate) const LOCALHOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

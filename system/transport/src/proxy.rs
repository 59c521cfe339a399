//! Proxies: what a person says of one, and what is said to it.
//!
//! The machines are pure: [`Handshake`] takes and gives bytes, [`datagram`] wraps and unwraps datagrams; [`crate::tunnel`] and
//! [`crate::relay`] move them over sockets.
//!
//! Invariant: a name or password appears in no `Debug`, no sentence and no error; whatever a proxy answers, memory is bounded and not a
//! byte behind the answer is taken.

pub mod datagram;
mod handshake;
mod request;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use url::{Host, Url};

pub use handshake::Handshake;

/// What a proxy is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// SOCKS4: TCP to addresses of IPv4.
    Socks4,
    /// SOCKS4a: TCP to addresses of IPv4, and to names.
    Socks4a,
    /// SOCKS5 (RFC 1928): TCP and UDP to addresses and names.
    Socks5,
    /// HTTP CONNECT (RFC 9110 section 9.3.6): TCP to addresses and names.
    Http,
}

impl ProxyProtocol {
    /// Every one.
    pub const ALL: [ProxyProtocol; 4] = [
        ProxyProtocol::Socks4,
        ProxyProtocol::Socks4a,
        ProxyProtocol::Socks5,
        ProxyProtocol::Http,
    ];

    /// As in a URL.
    const fn scheme(self) -> &'static str {
        match self {
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Http => "http",
        }
    }

    /// Whether it looks names up at its end.
    #[must_use]
    pub const fn takes_names(self) -> bool {
        !matches!(self, Self::Socks4)
    }

    /// Whether it passes datagrams on.
    #[must_use]
    pub const fn takes_datagrams(self) -> bool {
        matches!(self, Self::Socks5)
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socks4 => "SOCKS4",
            Self::Socks4a => "SOCKS4a",
            Self::Socks5 => "SOCKS5",
            Self::Http => "HTTP",
        })
    }
}

/// The most bytes of a name, and of a password (RFC 1929 section 2).
const MAX_LOGIN_BYTES: usize = 255;
/// Where SOCKS proxies listen (IANA), and HTTP ones of which a URL says nothing else.
const SOCKS_PORT: u16 = 1080;
const HTTP_PORT: u16 = 80;

#[derive(Clone, PartialEq, Eq, Default)]
struct Login {
    name: String,
    password: String,
}

/// A proxy, as a person names it: `socks4://`, `socks4a://`, `socks5://` or `http://`, a name where it wants one, an address and a port.
///
/// It is named by address, since nobody but the proxy itself is asked anything while it is in force, and so nobody could be asked for
/// its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    protocol: ProxyProtocol,
    address: SocketAddr,
    login: Option<Login>,
}

/// Why a text names no proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseProxyError {
    /// No URL of a proxy.
    #[error("a proxy is written as socks5://ADDRESS:PORT; socks4, socks4a and http are known, too")]
    NoUrl,
    /// A name where an address is wanted.
    #[error("name the proxy by its address: nobody else may be asked where it is")]
    Name,
    /// There is a password in it.
    #[error(
        "a password does not belong into the URL, which lists of processes show: give it in a file"
    )]
    Password,
    /// The name or password does not fit the protocol.
    #[error("{0}")]
    Login(&'static str),
}

impl Proxy {
    /// How it is asked.
    #[must_use]
    pub const fn protocol(&self) -> ProxyProtocol {
        self.protocol
    }

    /// Where it is: the one address that is dialled while it is in force.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same proxy, told this password.
    ///
    /// # Errors
    /// Where the protocol knows none, or not such a one.
    pub fn with_password(mut self, password: &str) -> Result<Self, ParseProxyError> {
        let login = self.login.get_or_insert_default();
        password.clone_into(&mut login.password);
        self.check_login()?;
        Ok(self)
    }

    fn check_login(&self) -> Result<(), ParseProxyError> {
        let Some(login) = &self.login else {
            return Ok(());
        };
        let (name, password) = (&login.name, &login.password);
        let socks4 = matches!(
            self.protocol,
            ProxyProtocol::Socks4 | ProxyProtocol::Socks4a
        );
        let wrong = if name.len() > MAX_LOGIN_BYTES || password.len() > MAX_LOGIN_BYTES {
            "a proxy's name and password have at most 255 bytes each"
        } else if name.is_empty() {
            "a password without a name is none: write socks5://NAME@ADDRESS:PORT"
        } else if socks4 && !password.is_empty() {
            "SOCKS4 knows a name, and no password"
        } else if name.contains('\0')
            || (self.protocol == ProxyProtocol::Http && name.contains(':'))
        {
            "the proxy's name has a character that its protocol cannot say"
        } else {
            return Ok(());
        };
        Err(ParseProxyError::Login(wrong))
    }

    /// The name and the password.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        let login = self.login.as_ref()?;
        Some((&login.name, &login.password))
    }

    /// As the HTTP library wants it: a scheme that says that nothing is looked up here.
    pub(crate) fn for_library(&self) -> String {
        let scheme = match self.protocol {
            ProxyProtocol::Socks5 => "socks5h",
            ProxyProtocol::Socks4 => "socks4a",
            other => other.scheme(),
        };
        format!("{scheme}://{}", self.address)
    }
}

impl FromStr for Proxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let url = Url::parse(text).map_err(|_| ParseProxyError::NoUrl)?;
        let protocol = ProxyProtocol::ALL
            .into_iter()
            .find(|protocol| protocol.scheme() == url.scheme())
            .ok_or(ParseProxyError::NoUrl)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if !is_bare || url.fragment().is_some() {
            return Err(ParseProxyError::NoUrl);
        }
        if url.password().is_some() {
            return Err(ParseProxyError::Password);
        }
        let host = url.host().ok_or(ParseProxyError::NoUrl)?;
        let ip = match host {
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
            Host::Domain(name) => name.parse().map_err(|_| ParseProxyError::Name)?,
        };
        let default_port = match protocol {
            ProxyProtocol::Http => HTTP_PORT,
            _ => SOCKS_PORT,
        };
        let port = url.port().unwrap_or(default_port);
        if ip.is_unspecified() || ip.is_multicast() || port == 0 {
            return Err(ParseProxyError::NoUrl);
        }
        let name = decoded(url.username()).ok_or(ParseProxyError::NoUrl)?;
        let proxy = Proxy {
            protocol,
            address: SocketAddr::new(ip.to_canonical(), port),
            login: (!name.is_empty()).then(|| Login {
                name,
                password: String::new(),
            }),
        };
        proxy.check_login()?;
        Ok(proxy)
    }
}

/// Text of a URL without its percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = behind;
            continue;
        }
        let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

/// Without the name, which is nobody else's business.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.scheme(), self.address)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() {
            ", with a login"
        } else {
            ""
        };
        write!(f, "Proxy({self}{login})")
    }
}

/// Where a connection or a datagram goes: to an address, or to a name that a proxy looks up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A host's name, and the port there.
    Name(String, u16),
}

impl Endpoint {
    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Why a proxy does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Its protocol has no words for it.
    #[error("{0} proxies cannot be asked for {1}")]
    Unsupported(ProxyProtocol, &'static str),
    /// It wants to know who asks.
    #[error("it wants a name and a password")]
    LoginWanted,
    /// It does not believe who asks.
    #[error("it does not accept the name and password")]
    LoginRefused,
    /// It says no, and why.
    #[error("{0}")]
    Refused(Denial),
    /// What it says is not of the protocol.
    #[error("what answers there is no {0} proxy")]
    NotAProxy(ProxyProtocol),
    /// It closed the connection before it had answered.
    #[error("it closed the connection")]
    Closed,
}

/// Why a proxy says no, as its protocol puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Its rules forbid it.
    #[error("its rules do not allow that")]
    Forbidden,
    /// It has no way there.
    #[error("it cannot reach the network or host")]
    Unreachable,
    /// It reached the host, which said no.
    #[error("the host refuses the connection")]
    HostRefuses,
    /// The host did not answer it in time.
    #[error("the host does not answer it")]
    NoAnswer,
    /// It does not know the command, or addresses of this kind.
    #[error("it does not support that")]
    Unsupported,
    /// A status of HTTP.
    #[error("it answers with status {0}")]
    Status(u16),
    /// It does not say why.
    #[error("it failed, and does not say why")]
    Unexplained,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Proxy, ParseProxyError> {
        text.parse()
    }

    #[test]
    fn a_proxy_is_a_protocol_and_an_address() {
        for (text, shown) in [
            ("socks5://192.0.2.7:1080", "socks5://192.0.2.7:1080"),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080"),
            ("socks4a://127.0.0.1:9", "socks4a://127.0.0.1:9"),
            ("http://10.0.0.1:3128/", "http://10.0.0.1:3128"),
            ("http://10.0.0.1", "http://10.0.0.1:80"),
            ("SOCKS5://me@192.0.2.7:1080", "socks5://192.0.2.7:1080"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "192.0.2.7:1080",
            "https://192.0.2.7:1",
            "socks5://",
            "socks5://0.0.0.0:1",
            "socks5://192.0.2.7:0",
            "socks5://192.0.2.7:1/path",
            "socks5://192.0.2.7:1?x",
            "http://192.0.2.7:1#x",
            "socks5://224.0.0.1:1",
        ] {
            assert_eq!(parse(text), Err(ParseProxyError::NoUrl), "{text}");
        }
        assert_eq!(
            parse("socks5://proxy.example:1"),
            Err(ParseProxyError::Name)
        );
        assert_eq!(parse("http://localhost:1"), Err(ParseProxyError::Name));
        assert_eq!(
            parse("socks5://me:word@192.0.2.7:1"),
            Err(ParseProxyError::Password)
        );
    }

    #[test]
    fn a_login_fits_its_protocol_and_is_shown_nowhere() {
        let proxy = parse("socks5://s%65cret@192.0.2.7:1").unwrap();
        let proxy = proxy.with_password("also secret").unwrap();
        assert_eq!(proxy.login(), Some(("secret", "also secret")));
        for shown in [
            format!("{proxy}"),
            format!("{proxy:?}"),
            format!("{proxy:#?}"),
        ] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        let refused = |text: &str, password: &str| {
            let proxy = parse(text).unwrap();
            matches!(
                proxy.with_password(password),
                Err(ParseProxyError::Login(_))
            )
        };
        assert!(refused("socks4://me@192.0.2.7:1", "word"));
        assert!(refused("socks5://192.0.2.7:1", "word"));
        assert!(refused("socks5://me@192.0.2.7:1", &"x".repeat(256)));
        assert!(matches!(
            parse("http://a%3Ab@192.0.2.7:1"),
            Err(ParseProxyError::Login(_))
        ));
        assert!(matches!(
            parse("socks4://a%00@192.0.2.7:1"),
            Err(ParseProxyError::Login(_))
        ));
        assert_eq!(
            parse("socks5://%f@192.0.2.7:1"),
            Err(ParseProxyError::NoUrl)
        );
    }
}

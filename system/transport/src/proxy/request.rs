//! What a proxy is told, as bytes.
//!
//! Invariant: a name is written only if it is letters, digits, hyphens, dots and underscores, so that none can say more than a name.

use std::net::{IpAddr, SocketAddr};

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Endpoint, Proxy, ProxyError, ProxyProtocol};

pub(super) const VERSION_5: u8 = 5;
const VERSION_4: u8 = 4;
/// The version of the login's own protocol (RFC 1929).
pub(super) const LOGIN_VERSION: u8 = 1;
pub(super) const NO_LOGIN: u8 = 0;
pub(super) const WITH_LOGIN: u8 = 2;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
pub(super) const IS_V4: u8 = 1;
pub(super) const IS_NAME: u8 = 3;
pub(super) const IS_V6: u8 = 4;
/// A DNS name has at most 253 characters (RFC 1035 section 3.1).
pub(super) const MAX_NAME_BYTES: usize = 253;

/// How SOCKS5 begins: the ways in which we can say who we are.
pub(super) fn methods(proxy: &Proxy) -> Vec<u8> {
    match proxy.login() {
        Some(_) => vec![VERSION_5, 2, NO_LOGIN, WITH_LOGIN],
        None => vec![VERSION_5, 1, NO_LOGIN],
    }
}

/// Who we are (RFC 1929).
pub(super) fn login(proxy: &Proxy) -> Option<Vec<u8>> {
    let (name, password) = proxy.login()?;
    let mut bytes = vec![LOGIN_VERSION];
    for text in [name, password] {
        bytes.push(u8::try_from(text.len()).ok()?);
        bytes.extend_from_slice(text.as_bytes());
    }
    Some(bytes)
}

/// The wish for a connection.
pub(super) fn connect(proxy: &Proxy, target: &Endpoint) -> Result<Vec<u8>, ProxyError> {
    match proxy.protocol() {
        ProxyProtocol::Socks5 => socks5(CONNECT, target),
        ProxyProtocol::Socks4 | ProxyProtocol::Socks4a => socks4(proxy, target),
        ProxyProtocol::Http => http(proxy, target),
    }
}

/// The wish that datagrams are passed on (RFC 1928 section 6). From where they will come is not said: behind a router we do not know.
pub(super) fn associate(proxy: &Proxy) -> Result<Vec<u8>, ProxyError> {
    let protocol = proxy.protocol();
    if !protocol.takes_datagrams() {
        return Err(ProxyError::Unsupported(protocol, "datagrams (UDP)"));
    }
    let anywhere = match proxy.address() {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    socks5(ASSOCIATE, &anywhere.into())
}

fn socks5(command: u8, target: &Endpoint) -> Result<Vec<u8>, ProxyError> {
    let mut bytes = vec![VERSION_5, command, 0];
    write_endpoint(&mut bytes, target)?;
    Ok(bytes)
}

/// An address or name as SOCKS5 writes it (RFC 1928 section 5), and the port.
pub(super) fn write_endpoint(bytes: &mut Vec<u8>, target: &Endpoint) -> Result<(), ProxyError> {
    match target {
        Endpoint::Address(address) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                bytes.push(IS_V4);
                bytes.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(IS_V6);
                bytes.extend_from_slice(&ip.octets());
            }
        },
        Endpoint::Name(name, _) => {
            let (name, length) = checked_name(ProxyProtocol::Socks5, name)?;
            bytes.extend_from_slice(&[IS_NAME, length]);
            bytes.extend_from_slice(name);
        }
    }
    bytes.extend_from_slice(&target.port().to_be_bytes());
    Ok(())
}

/// A name goes behind the request, where 4a looks for it if the address is 0.0.0.x.
fn socks4(proxy: &Proxy, target: &Endpoint) -> Result<Vec<u8>, ProxyError> {
    let protocol = proxy.protocol();
    let (address, name) = match target {
        Endpoint::Address(address) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => (ip.octets(), None),
            IpAddr::V6(_) => return Err(ProxyError::Unsupported(protocol, "IPv6")),
        },
        Endpoint::Name(..) if !protocol.takes_names() => {
            return Err(ProxyError::Unsupported(protocol, "names"));
        }
        Endpoint::Name(name, _) => ([0, 0, 0, 1], Some(checked_name(protocol, name)?.0)),
    };
    let mut bytes = vec![VERSION_4, CONNECT];
    bytes.extend_from_slice(&target.port().to_be_bytes());
    bytes.extend_from_slice(&address);
    let (user, _) = proxy.login().unwrap_or_default();
    bytes.extend_from_slice(user.as_bytes());
    bytes.push(0);
    if let Some(name) = name {
        bytes.extend_from_slice(name);
        bytes.push(0);
    }
    Ok(bytes)
}

/// RFC 9112 section 3.2.3, and RFC 7617 for the login.
fn http(proxy: &Proxy, target: &Endpoint) -> Result<Vec<u8>, ProxyError> {
    if let Endpoint::Name(name, _) = target {
        checked_name(ProxyProtocol::Http, name)?;
    }
    let mut text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((name, password)) = proxy.login() {
        let login = BASE64_STANDARD.encode(format!("{name}:{password}"));
        text.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

fn checked_name(protocol: ProxyProtocol, name: &str) -> Result<(&[u8], u8), ProxyError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain);
    let length = u8::try_from(name.len()).ok().filter(|_| fits);
    let length = length.ok_or(ProxyError::Unsupported(protocol, "such a name"))?;
    Ok((name.as_bytes(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Endpoint {
        Endpoint::Name(text.to_owned(), 80)
    }

    fn address(text: &str) -> Endpoint {
        Endpoint::Address(text.parse().unwrap())
    }

    #[test]
    fn socks5_asks_by_address_and_by_name() {
        let proxy = proxy("socks5://192.0.2.7:1");
        let asked = |target| connect(&proxy, &target).unwrap();
        assert_eq!(
            asked(address("192.0.2.9:258")),
            b"\x05\x01\x00\x01\xc0\x00\x02\x09\x01\x02"
        );
        assert_eq!(
            asked(address("[::ffff:192.0.2.9]:258")),
            asked(address("192.0.2.9:258"))
        );
        let v6 = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
        assert_eq!(asked(address("[2001:db8::1]:80")), v6);
        assert_eq!(
            asked(name("a.example")),
            b"\x05\x01\x00\x03\x09a.example\x00\x50"
        );
        assert_eq!(associate(&proxy).unwrap(), b"\x05\x03\x00\x01\0\0\0\0\0\0");
        assert_eq!(methods(&proxy), [5, 1, 0]);
    }

    #[test]
    fn a_login_is_offered_where_there_is_one() {
        let proxy = proxy("socks5://me@192.0.2.7:1")
            .with_password("word")
            .unwrap();
        assert_eq!(methods(&proxy), [5, 2, 0, 2]);
        assert_eq!(login(&proxy).unwrap(), b"\x01\x02me\x04word");
    }

    #[test]
    fn socks4_knows_ipv4_alone_and_4a_names_too() {
        let (four, four_a) = (
            proxy("socks4://me@192.0.2.7:1"),
            proxy("socks4a://192.0.2.7:1"),
        );
        let v4 = address("192.0.2.9:80");
        assert_eq!(
            connect(&four, &v4).unwrap(),
            b"\x04\x01\x00\x50\xc0\x00\x02\x09me\0"
        );
        let named = connect(&four_a, &name("a.example")).unwrap();
        assert_eq!(named, b"\x04\x01\x00\x50\0\0\0\x01\0a.example\0");
        for (proxy, target) in [
            (&four, address("[2001:db8::1]:80")),
            (&four_a, address("[2001:db8::1]:80")),
            (&four, name("a.example")),
        ] {
            let error = connect(proxy, &target).unwrap_err();
            assert!(matches!(error, ProxyError::Unsupported(..)), "{error}");
        }
        let http = proxy("http://192.0.2.7:1");
        for proxy in [four, four_a, http] {
            assert!(associate(&proxy).is_err());
        }
    }

    #[test]
    fn http_asks_with_the_login_of_rfc_7617() {
        let proxy = proxy("http://Aladdin@192.0.2.7:1")
            .with_password("open sesame")
            .unwrap();
        let asked = connect(&proxy, &name("a.example")).unwrap();
        let expected = "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\
            Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert_eq!(String::from_utf8(asked).unwrap(), expected);
        let plain = connect(
            &self::proxy("http://192.0.2.7:1"),
            &address("[2001:db8::1]:80"),
        )
        .unwrap();
        assert!(
            plain.starts_with(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\n"),
            "{plain:?}"
        );
        assert!(!plain.windows(5).any(|word| word == b"Basic"));
    }

    #[test]
    fn no_name_says_more_than_a_name() {
        let too_long = "a".repeat(254);
        for text in [
            "",
            "a b",
            "a\r\nX: y",
            "a\0b",
            "a:1",
            "a/b",
            "ä",
            "[::1]",
            &too_long,
        ] {
            for scheme in ["socks4a", "socks5", "http"] {
                let proxy = proxy(&format!("{scheme}://192.0.2.7:1"));
                assert!(connect(&proxy, &name(text)).is_err(), "{text:?}");
            }
        }
    }
}

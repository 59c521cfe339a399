//! What is said with a proxy before a connection over it begins, as a machine.
//!
//! Drain [`Handshake::to_send`], then give [`Handshake::receive`] what came, until [`Handshake::is_done`].
//!
//! Invariant: bytes are taken up to the end of the proxy's answer and no further, in whatever pieces they come; at most
//! [`MAX_ANSWER_BYTES`] are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::request::{self, IS_NAME, IS_V4, IS_V6, LOGIN_VERSION, NO_LOGIN, VERSION_5, WITH_LOGIN};
use super::{Denial, Endpoint, Proxy, ProxyError, ProxyProtocol};

/// The head of an HTTP answer, interim ones included; proxies write some hundred bytes.
pub(crate) const MAX_ANSWER_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// SOCKS5 says how it wants to know who we are.
    Method,
    /// It says whether it believes us.
    Login,
    Socks5,
    Socks4,
    Http,
    Done,
}

/// See the module.
pub struct Handshake {
    proxy: Proxy,
    stage: Stage,
    /// What is said next.
    unsent: Vec<u8>,
    /// The wish, where it is not said first.
    wish: Vec<u8>,
    /// The answer of this stage, as far as it has come.
    heard: Vec<u8>,
    /// All that has come of HTTP.
    total: usize,
    bound: Option<Endpoint>,
}

/// Without the login that is to be said.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("proxy", &self.proxy)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// For a connection to `target`.
    ///
    /// # Errors
    /// Where the proxy's protocol cannot ask for that.
    pub fn connect(proxy: &Proxy, target: &Endpoint) -> Result<Self, ProxyError> {
        Ok(Self::new(proxy, request::connect(proxy, target)?))
    }

    /// For datagrams.
    ///
    /// # Errors
    /// Where the proxy's protocol cannot ask for that.
    pub fn associate(proxy: &Proxy) -> Result<Self, ProxyError> {
        Ok(Self::new(proxy, request::associate(proxy)?))
    }

    fn new(proxy: &Proxy, wish: Vec<u8>) -> Self {
        let (stage, unsent, wish) = match proxy.protocol() {
            ProxyProtocol::Socks5 => (Stage::Method, request::methods(proxy), wish),
            ProxyProtocol::Socks4 | ProxyProtocol::Socks4a => (Stage::Socks4, wish, Vec::new()),
            ProxyProtocol::Http => (Stage::Http, wish, Vec::new()),
        };
        Handshake {
            proxy: proxy.clone(),
            stage,
            unsent,
            wish,
            heard: Vec::new(),
            total: 0,
            bound: None,
        }
    }

    /// What the proxy is to be told now; nothing where it is its turn.
    pub fn to_send(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// Whether the proxy has done what it was asked.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The address that the proxy says it uses: where it takes datagrams, if it was asked for that. A proxy may say a name.
    #[must_use]
    pub fn bound(&self) -> Option<&Endpoint> {
        self.bound.as_ref()
    }

    /// Takes as many of these bytes as belong to the proxy's answer, and gives their number.
    ///
    /// # Errors
    /// Where the proxy refuses, or is none. Nothing is to be said to it after that.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, ProxyError> {
        let mut taken = 0;
        while self.stage != Stage::Done && self.unsent.is_empty() && taken < bytes.len() {
            if self.stage == Stage::Http {
                self.heard.push(bytes[taken]);
                taken += 1;
                self.hear_http()?;
                continue;
            }
            let count = self.missing().min(bytes.len() - taken);
            self.heard.extend_from_slice(&bytes[taken..taken + count]);
            taken += count;
            if self.missing() == 0 {
                self.hear_socks()?;
            }
        }
        Ok(taken)
    }

    /// How many bytes the answer of this stage goes on, as far as can be told; 0 where it is whole.
    fn missing(&self) -> usize {
        let whole = match self.stage {
            Stage::Method | Stage::Login => 2,
            Stage::Socks4 => 8,
            // Version, reply, reserved, kind, then what the kind says, then the port.
            Stage::Socks5 => match (self.heard.get(3), self.heard.get(4)) {
                (Some(&IS_V4), _) => 4 + 4 + 2,
                (Some(&IS_V6), _) => 4 + 16 + 2,
                (Some(&IS_NAME), Some(length)) => 5 + usize::from(*length) + 2,
                (Some(&IS_NAME), None) => 5,
                (Some(_), _) | (None, _) => 4,
            },
            Stage::Http | Stage::Done => 0,
        };
        whole.saturating_sub(self.heard.len())
    }

    fn hear_socks(&mut self) -> Result<(), ProxyError> {
        let heard = std::mem::take(&mut self.heard);
        let no_proxy = ProxyError::NotAProxy(self.proxy.protocol());
        match (self.stage, &heard[..]) {
            (Stage::Method, [VERSION_5, NO_LOGIN]) => self.say_wish(),
            (Stage::Method, [VERSION_5, WITH_LOGIN]) => {
                self.unsent = request::login(&self.proxy).ok_or(ProxyError::LoginWanted)?;
                self.stage = Stage::Login;
            }
            (Stage::Method, [VERSION_5, 0xff]) => {
                return Err(match self.proxy.login() {
                    Some(_) => ProxyError::LoginRefused,
                    None => ProxyError::LoginWanted,
                });
            }
            (Stage::Login, [LOGIN_VERSION, 0]) => self.say_wish(),
            (Stage::Login, [LOGIN_VERSION, _]) => return Err(ProxyError::LoginRefused),
            (Stage::Socks5, [VERSION_5, 0, _, kind, rest @ ..]) => {
                self.bound = Some(bound(*kind, rest).ok_or(no_proxy)?);
                self.stage = Stage::Done;
            }
            (Stage::Socks5, [VERSION_5, reply, ..]) => {
                return Err(ProxyError::Refused(socks5_denial(*reply)));
            }
            (Stage::Socks4, [0, 90, ..]) => self.stage = Stage::Done,
            (Stage::Socks4, [0, 91, ..]) => {
                return Err(ProxyError::Refused(Denial::Unexplained));
            }
            (Stage::Socks4, [0, 92 | 93, ..]) => return Err(ProxyError::LoginRefused),
            _ => return Err(no_proxy),
        }
        Ok(())
    }

    fn say_wish(&mut self) {
        self.unsent = std::mem::take(&mut self.wish);
        self.stage = Stage::Socks5;
    }

    /// Looks for the end of the head (RFC 9112 section 2.2: a line may end without a carriage return).
    fn hear_http(&mut self) -> Result<(), ProxyError> {
        self.total += 1;
        let is_whole = self.heard.ends_with(b"\n\r\n") || self.heard.ends_with(b"\n\n");
        if !is_whole {
            let too_long = self.total >= MAX_ANSWER_BYTES;
            let strange =
                !b"HTTP/1.".starts_with(&self.heard) && !self.heard.starts_with(b"HTTP/1.");
            return match too_long || strange {
                true => Err(ProxyError::NotAProxy(ProxyProtocol::Http)),
                false => Ok(()),
            };
        }
        let status = status(&self.heard).ok_or(ProxyError::NotAProxy(ProxyProtocol::Http))?;
        self.heard.clear();
        match status {
            // Another head follows (RFC 9110 section 15.2); nobody asked to switch protocols.
            100 | 102..=199 => Ok(()),
            // No content follows, whatever the head says (RFC 9110 section 9.3.6).
            200..=299 => {
                self.stage = Stage::Done;
                Ok(())
            }
            407 => Err(match self.proxy.login() {
                Some(_) => ProxyError::LoginRefused,
                None => ProxyError::LoginWanted,
            }),
            403 => Err(ProxyError::Refused(Denial::Forbidden)),
            504 => Err(ProxyError::Refused(Denial::NoAnswer)),
            other => Err(ProxyError::Refused(Denial::Status(other))),
        }
    }
}

/// The address of a SOCKS5 answer.
fn bound(kind: u8, rest: &[u8]) -> Option<Endpoint> {
    let (host, port) = rest.split_last_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let ip: IpAddr = match kind {
        IS_V4 => Ipv4Addr::from(<[u8; 4]>::try_from(host).ok()?).into(),
        IS_V6 => Ipv6Addr::from(<[u8; 16]>::try_from(host).ok()?).into(),
        IS_NAME => {
            let name = String::from_utf8_lossy(host.get(1..)?);
            return Some(Endpoint::Name(name.into_owned(), port));
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port).into())
}

/// RFC 1928 section 6.
const fn socks5_denial(reply: u8) -> Denial {
    match reply {
        2 => Denial::Forbidden,
        3 | 4 => Denial::Unreachable,
        5 => Denial::HostRefuses,
        6 => Denial::NoAnswer,
        7 | 8 => Denial::Unsupported,
        _ => Denial::Unexplained,
    }
}

/// The status of a head (RFC 9112 section 4).
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let ([minor, b' ', digits @ ..], rest) = rest.split_first_chunk::<5>()? else {
        return None;
    };
    let ends = matches!(rest.first(), None | Some(b' ' | b'\r'));
    let digits = std::str::from_utf8(digits).ok()?;
    let sound = minor.is_ascii_digit() && ends && digits.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.parse().ok()?;
    (sound && (100..600).contains(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Endpoint {
        Endpoint::Name("a.example".to_owned(), 80)
    }

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    /// All that is said to a proxy that gives these answers, one each time it is its turn, and whether that ended well. Each answer
    /// comes byte by byte, with the first bytes of the connection behind the last one.
    fn talk(
        mut handshake: Handshake,
        answers: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Result<bool, ProxyError>) {
        let mut said = vec![handshake.to_send()];
        for (at, answer) in answers.iter().enumerate() {
            let mut bytes = answer.to_vec();
            if at + 1 == answers.len() {
                bytes.extend_from_slice(b"behind");
            }
            let mut taken = 0;
            while taken < bytes.len() {
                match handshake.receive(&bytes[taken..=taken]) {
                    Ok(0) => break,
                    Ok(count) => taken += count,
                    Err(error) => return (said, Err(error)),
                }
            }
            assert!(taken <= answer.len(), "it took what is behind the answer");
            let next = handshake.to_send();
            if !next.is_empty() {
                said.push(next);
            }
        }
        let done = handshake.is_done();
        (said, Ok(done))
    }

    #[test]
    fn socks5_without_a_login() {
        let handshake = Handshake::connect(&proxy("socks5://192.0.2.7:1"), &target()).unwrap();
        let answer = b"\x05\0\0\x01\xc0\0\x02\x01\x04\x38";
        let (said, done) = talk(handshake, &[b"\x05\0", answer]);
        assert_eq!(
            said,
            [&b"\x05\x01\0"[..], b"\x05\x01\0\x03\x09a.example\0\x50"]
        );
        assert_eq!(done, Ok(true));
    }

    #[test]
    fn socks5_with_a_login_says_where_it_takes_datagrams() {
        let proxy = proxy("socks5://me@192.0.2.7:1")
            .with_password("word")
            .unwrap();
        let mut handshake = Handshake::associate(&proxy).unwrap();
        let answers: [&[u8]; 3] = [
            b"\x05\x02",
            b"\x01\0",
            b"\x05\0\0\x01\0\0\0\0\x04\x38behind",
        ];
        for answer in answers {
            assert!(!handshake.to_send().is_empty());
            handshake.receive(answer).unwrap();
        }
        let relay: SocketAddr = "0.0.0.0:1080".parse().unwrap();
        assert_eq!(handshake.bound(), Some(&relay.into()));
        assert!(!format!("{handshake:?}").contains("word"));
    }

    #[test]
    fn every_refusal_of_socks_has_its_sentence() {
        let ask = |proxy: &str, answers: &[&[u8]]| {
            let handshake = Handshake::connect(&self::proxy(proxy), &target()).unwrap();
            talk(handshake, answers).1
        };
        let five = "socks5://192.0.2.7:1";
        assert_eq!(ask(five, &[b"\x05\xff"]), Err(ProxyError::LoginWanted));
        assert_eq!(ask(five, &[b"\x05\x02"]), Err(ProxyError::LoginWanted));
        assert_eq!(
            ask(five, &[b"\x04\0"]),
            Err(ProxyError::NotAProxy(ProxyProtocol::Socks5))
        );
        assert_eq!(
            ask(five, &[b"\x05\x01"]),
            Err(ProxyError::NotAProxy(ProxyProtocol::Socks5))
        );
        let with_login = "socks5://me@192.0.2.7:1";
        assert_eq!(
            ask(with_login, &[b"\x05\x02", b"\x01\x01"]),
            Err(ProxyError::LoginRefused)
        );
        for (reply, denial) in [
            (1, Denial::Unexplained),
            (2, Denial::Forbidden),
            (4, Denial::Unreachable),
            (5, Denial::HostRefuses),
            (6, Denial::NoAnswer),
            (7, Denial::Unsupported),
            (99, Denial::Unexplained),
        ] {
            let answer = [5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
            let refused = ask(five, &[b"\x05\0", &answer]);
            assert_eq!(refused, Err(ProxyError::Refused(denial)), "{reply}");
        }
        let four = "socks4a://192.0.2.7:1";
        assert_eq!(ask(four, &[b"\0\x5a\0\0\0\0\0\0"]), Ok(true));
        assert_eq!(
            ask(four, &[b"\0\x5b\0\0\0\0\0\0"]),
            Err(ProxyError::Refused(Denial::Unexplained))
        );
        assert_eq!(
            ask(four, &[b"\0\x5d\0\0\0\0\0\0"]),
            Err(ProxyError::LoginRefused)
        );
        assert_eq!(
            ask(four, &[b"\x04\x5a\0\0\0\0\0\0"]),
            Err(ProxyError::NotAProxy(ProxyProtocol::Socks4a))
        );
    }

    #[test]
    fn a_tunnel_over_http_begins_behind_the_head() {
        let ask = |answer: &[u8]| {
            let handshake = Handshake::connect(&proxy("http://192.0.2.7:1"), &target()).unwrap();
            talk(handshake, &[answer]).1
        };
        for answer in [
            &b"HTTP/1.1 200 Connection established\r\n\r\n"[..],
            b"HTTP/1.0 200\r\n\r\n",
            b"HTTP/1.1 204 ok\nVia: x\n\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ok\r\nContent-Length: 9\r\n\r\n",
        ] {
            assert_eq!(ask(answer), Ok(true));
        }
        let refused = |denial| Err(ProxyError::Refused(denial));
        assert_eq!(
            ask(b"HTTP/1.1 407 Who\r\n\r\n"),
            Err(ProxyError::LoginWanted)
        );
        assert_eq!(ask(b"HTTP/1.1 403 No\r\n\r\n"), refused(Denial::Forbidden));
        assert_eq!(
            ask(b"HTTP/1.1 502 Bad\r\n\r\n"),
            refused(Denial::Status(502))
        );
        assert_eq!(
            ask(b"HTTP/1.1 301 There\r\n\r\n"),
            refused(Denial::Status(301))
        );
        let no_proxy = Err(ProxyError::NotAProxy(ProxyProtocol::Http));
        for answer in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/1.1 101 x\r\n\r\n",
        ] {
            let found = ask(answer);
            let as_status = refused(Denial::Status(101));
            assert!(found == no_proxy || found == as_status, "{found:?}");
        }
        let endless = [b"HTTP/1.1 200 x\r\n".to_vec(), vec![b'x'; MAX_ANSWER_BYTES]].concat();
        assert_eq!(ask(&endless), no_proxy);
    }
}

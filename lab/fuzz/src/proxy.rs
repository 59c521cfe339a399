//! Proxies that answer anything, in any pieces, datagrams that say they come through one, and name servers.
//!
//! Invariant: as for the whole crate.

use shoal_transport::AddressFamily;
use shoal_transport::name_server::{self, Answer};
use shoal_transport::proxy::{Endpoint, Handshake, Proxy, ProxyError, datagram};

/// Without a login and with one, by each protocol.
const PROXIES: [&str; 7] = [
    "socks4://192.0.2.7:1080",
    "socks4a://me@192.0.2.7:1080",
    "socks5://192.0.2.7:1080",
    "socks5://me@192.0.2.7:1080",
    "socks5://me@[2001:db8::7]:1080",
    "http://192.0.2.7:3128",
    "http://me@192.0.2.7:3128",
];

/// What came of a talk: all that was said, how many bytes were taken, and whether the proxy has done it.
type End = (Vec<u8>, usize, Result<bool, ProxyError>);

/// Gives the proxy's bytes in pieces of so many.
fn talk(mut handshake: Handshake, answer: &[u8], piece: usize) -> End {
    let mut said = handshake.to_send();
    let mut taken = 0;
    while taken < answer.len() && !handshake.is_done() {
        let there = &answer[taken..answer.len().min(taken + piece)];
        match handshake.receive(there) {
            Ok(count) => {
                assert!((1..=there.len()).contains(&count), "it waits for ever");
                taken += count;
            }
            Err(error) => return (said, taken, Err(error)),
        }
        said.extend(handshake.to_send());
    }
    (said, taken, Ok(handshake.is_done()))
}

/// A handshake says and takes the same, however the answer is cut, and datagrams are unwrapped as they were wrapped.
pub fn proxy(input: &[u8]) {
    let [which, kind, piece, answer @ ..] = input else {
        return;
    };
    let text = PROXIES[usize::from(*which) % PROXIES.len()];
    let proxy: Proxy = text.parse().expect("each of the list is one");
    let target = match kind % 4 {
        0 => Endpoint::Address(([192, 0, 2, 9], 80).into()),
        1 => Endpoint::Address(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 80).into()),
        2 => Endpoint::Name("a.example".to_owned(), 80),
        _ => Endpoint::Name(String::from_utf8_lossy(answer).into_owned(), 80),
    };
    let begin = || match kind & 4 {
        0 => Handshake::connect(&proxy, &target),
        _ => Handshake::associate(&proxy),
    };
    if let (Ok(first), Ok(second)) = (begin(), begin()) {
        let whole = talk(first, answer, answer.len().max(1));
        let cut = talk(second, answer, usize::from(*piece) + 1);
        assert_eq!(whole.0, cut.0, "it says something else");
        assert_eq!(whole.2, cut.2, "it comes to something else");
        if whole.2 == Ok(true) {
            assert_eq!(whole.1, cut.1, "it takes what is behind");
        }
    }
    if let Some((from, payload)) = datagram::unwrap(answer) {
        let mut wrapped = datagram::head(&from.into()).expect("an address can be said");
        wrapped.extend_from_slice(payload);
        assert_eq!(datagram::unwrap(&wrapped), Some((from, payload)));
    }
}

/// What answers a question has the question in it, and no more addresses than it has room for.
pub fn name_server(input: &[u8]) {
    let [family, rest @ ..] = input else {
        return;
    };
    let family = match family % 2 {
        0 => AddressFamily::V4,
        _ => AddressFamily::V6,
    };
    let question = name_server::question([7, 8], "a.example", family);
    let question = question.expect("it can be asked for");
    if let Some(Answer::Addresses(addresses)) = name_server::answer(&question, rest, family) {
        assert!(
            rest.len() >= question.len() + addresses.len() * 12,
            "it has too many"
        );
        assert!(
            addresses
                .iter()
                .all(|address| family.holds(*address) || address.is_ipv6())
        );
    }
    if let Ok(name) = std::str::from_utf8(rest)
        && let Some(question) = name_server::question([0, 0], name, family)
    {
        assert!(
            question.len() <= rest.len() + 18,
            "it asks for more than was named"
        );
    }
}

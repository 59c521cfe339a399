//! Asking name servers that a person named, over the route itself (RFC 1035).
//!
//! The messages are ours, since so little of them is needed that nothing has to be decompressed or followed: a question, and the addresses
//! in its answer. Libraries read every kind of record; `simple-dns` makes room for as many as a message claims, and `hickory-resolver` wants
//! sockets of its own.
//!
//! Invariant: what is asked leaves by sockets under the binding; an answer counts only from the server that was asked, to the very question,
//! under a number that nobody else knows; no claimed length or count is believed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::binding::Binding;
use crate::resolver::{AddressFamily, MAX_ADDRESSES_PER_NAME};
use crate::sockets;

/// How long a server has to answer before it, or the next one, is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often each is asked.
const ROUNDS: usize = 2;
/// What a server may send without being told otherwise (RFC 1035 section 4.2.1), and what some send all the same.
const MAX_DATAGRAM_BYTES: usize = 4096;
/// Over TCP, whose answers are longer than a datagram; those of addresses are hardly ever.
const MAX_STREAM_BYTES: usize = 16 * 1024;
const HEAD_BYTES: usize = 12;
const MAX_LABEL_BYTES: usize = 63;
const CLASS_INTERNET: [u8; 2] = [0, 1];
/// The bits of the head's third byte: an answer, cut short.
const IS_ANSWER: u8 = 0x80;
const IS_CUT: u8 = 0x02;
const WANTS_RECURSION: u8 = 0x01;
const NO_SUCH_NAME: u8 = 3;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the wanted family, at most as many as are considered. There may be none.
    Addresses(Vec<IpAddr>),
    /// It is to be asked over TCP.
    Cut,
    /// It failed, by its code.
    Failed(u8),
}

/// Type numbers (RFC 1035 section 3.2.2, RFC 3596 section 2.1).
const fn record_type(family: AddressFamily) -> [u8; 2] {
    match family {
        AddressFamily::V4 => [0, 1],
        AddressFamily::V6 => [0, 28],
    }
}

/// A question under a number; `None` where the name cannot be asked for.
#[must_use]
pub fn question(number: [u8; 2], host: &str, family: AddressFamily) -> Option<Vec<u8>> {
    let mut bytes = number.to_vec();
    bytes.extend_from_slice(&[WANTS_RECURSION, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.strip_suffix('.').unwrap_or(host).split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > MAX_LABEL_BYTES {
            return None;
        }
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&record_type(family));
    bytes.extend_from_slice(&CLASS_INTERNET);
    Some(bytes)
}

/// What a message says to this question; `None` where it is no answer to it.
#[must_use]
pub fn answer(question: &[u8], message: &[u8], family: AddressFamily) -> Option<Answer> {
    let (head, rest) = message.split_at_checked(HEAD_BYTES)?;
    let asked = question.get(HEAD_BYTES..)?;
    if head[..2] != question[..2] || head[2] & IS_ANSWER == 0 || head[4..6] != [0, 1] {
        return None;
    }
    // Servers give the question back as it was.
    let (echo, mut rest) = rest.split_at_checked(asked.len())?;
    if !echo.eq_ignore_ascii_case(asked) {
        return None;
    }
    if head[2] & IS_CUT != 0 {
        return Some(Answer::Cut);
    }
    match head[3] & 0x0f {
        0 => {}
        code => return Some(Answer::Failed(code)),
    }
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([head[6], head[7]]) {
        let Some((kind, data, behind)) = record(rest) else {
            break;
        };
        rest = behind;
        let address = match (
            family,
            <[u8; 4]>::try_from(data),
            <[u8; 16]>::try_from(data),
        ) {
            (AddressFamily::V4, Ok(octets), _) => Some(IpAddr::from(octets)),
            (AddressFamily::V6, _, Ok(octets)) => Some(IpAddr::from(octets)),
            _ => None,
        };
        let wanted = kind == record_type(family) && addresses.len() < MAX_ADDRESSES_PER_NAME;
        addresses.extend(address.filter(|_| wanted));
    }
    Some(Answer::Addresses(addresses))
}

/// The type and class-checked data of the first record, and what is behind it. Whose it is does not matter: a server that resolves gives the
/// aliases on the way, and the addresses at their end.
fn record(bytes: &[u8]) -> Option<([u8; 2], &[u8], &[u8])> {
    let rest = behind_name(bytes)?;
    let ([t0, t1, c0, c1, _, _, _, _, l0, l1], rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let (data, behind) = rest.split_at_checked(length)?;
    let kind = match [*c0, *c1] {
        CLASS_INTERNET => [*t0, *t1],
        _ => [0, 0],
    };
    Some((kind, data, behind))
}

/// What follows a name: labels up to an empty one, or up to a pointer.
fn behind_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match *length {
            0 => return Some(rest),
            0xc0.. => return rest.get(1..),
            _ => bytes = rest.get(usize::from(*length)..)?,
        }
    }
}

/// The addresses of a name, as these servers say.
pub(crate) async fn look_up(
    servers: &[SocketAddr],
    host: &str,
    binding: &Binding,
) -> io::Result<Vec<IpAddr>> {
    let (v6, v4) = tokio::join!(
        ask_all(servers, host, AddressFamily::V6, binding),
        ask_all(servers, host, AddressFamily::V4, binding),
    );
    match (v6, v4) {
        (Err(_), Err(error)) => Err(error),
        (v6, v4) => Ok([v4.unwrap_or_default(), v6.unwrap_or_default()].concat()),
    }
}

/// Asks one after the other until one answers, one way or the other.
async fn ask_all(
    servers: &[SocketAddr],
    host: &str,
    family: AddressFamily,
    binding: &Binding,
) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ROUNDS {
        for server in servers {
            let asked = timeout(ANSWER_WITHIN, ask(*server, host, family, binding)).await;
            match asked {
                Ok(Ok(Answer::Addresses(addresses))) => return Ok(addresses),
                Ok(Ok(Answer::Failed(NO_SUCH_NAME))) => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "there is no such name",
                    ));
                }
                Ok(Ok(Answer::Failed(code))) => {
                    let said = format!("{server} fails, with code {code}");
                    last = io::Error::other(said);
                }
                Ok(Ok(Answer::Cut)) => last = io::ErrorKind::InvalidData.into(),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
    }
    Err(last)
}

async fn ask(
    server: SocketAddr,
    host: &str,
    family: AddressFamily,
    binding: &Binding,
) -> io::Result<Answer> {
    let mut number = [0; 2];
    getrandom::fill(&mut number).map_err(io::Error::other)?;
    let question = question(number, host, family).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = sockets::udp_to(server, binding)?;
    socket.send(&question).await?;
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match answer(&question, &buffer[..length], family) {
            Some(Answer::Cut) => return ask_at_length(server, &question, family, binding).await,
            Some(answer) => return Ok(answer),
            // Somebody guesses, or an answer comes late.
            None => {}
        }
    }
}

/// Over TCP, where messages have their length before them (RFC 1035 section 4.2.2).
async fn ask_at_length(
    server: SocketAddr,
    question: &[u8],
    family: AddressFamily,
    binding: &Binding,
) -> io::Result<Answer> {
    let mut stream = sockets::tcp_to(server, binding)?.connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let said = [&length.to_be_bytes()[..], question].concat();
    stream.write_all(&said).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_STREAM_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    answer(question, &message, family).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use tokio::net::{TcpListener, UdpSocket};

    const V4: AddressFamily = AddressFamily::V4;

    /// An answer to `question`: an alias, an address of the other family, then these.
    fn reply(question: &[u8], flags: [u8; 2], addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        (bytes[2], bytes[3]) = (flags[0] | IS_ANSWER, flags[1]);
        bytes[7] = u8::try_from(addresses.len() + 2).unwrap();
        bytes.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01b\xc0\x0c");
        bytes.extend_from_slice(b"\x01b\xc0\x0c\0\x1c\0\x01\0\0\0\x09\0\x10");
        bytes.extend_from_slice(&[1; 16]);
        for address in addresses {
            bytes.extend_from_slice(b"\x01b\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04");
            bytes.extend_from_slice(address);
        }
        bytes
    }

    #[test]
    fn the_addresses_of_an_answer_are_found_behind_aliases() {
        let asked = question([7, 8], "a.example.", V4).unwrap();
        assert_eq!(
            asked,
            b"\x07\x08\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01"
        );
        let said = reply(&asked, [0, 0], &[[192, 0, 2, 1], [192, 0, 2, 2]]);
        let expected = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert_eq!(
            answer(&asked, &said, V4),
            Some(Answer::Addresses(expected.to_vec()))
        );
        assert_eq!(
            answer(&asked, &reply(&asked, [IS_CUT, 0], &[]), V4),
            Some(Answer::Cut)
        );
        assert_eq!(
            answer(&asked, &reply(&asked, [0, 3], &[]), V4),
            Some(Answer::Failed(3))
        );
    }

    #[test]
    fn what_answers_something_else_is_no_answer() {
        let asked = question([7, 8], "a.example", V4).unwrap();
        let said = reply(&asked, [0, 0], &[[192, 0, 2, 1]]);
        for at in [0, 1, 4, 5, 13, 23, 25] {
            let mut other = said.clone();
            other[at] ^= 1;
            assert_eq!(answer(&asked, &other, V4), None, "{at}");
        }
        assert_eq!(answer(&asked, &asked, V4), None);
        for length in 0..asked.len() {
            assert_eq!(answer(&asked, &said[..length], V4), None);
        }
        for name in ["", ".", "a..b", &"x".repeat(64)] {
            assert_eq!(question([0, 0], name, V4), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_takes_more_than_it_has(mut message: Vec<u8>, cut in 0..200_usize, counts: u16) {
            let asked = question([7, 8], "a.example", V4).unwrap();
            let mut said = reply(&asked, [0, 0], &[[192, 0, 2, 1]]);
            said[6..8].copy_from_slice(&counts.to_be_bytes());
            said.truncate(cut);
            said.append(&mut message);
            if let Some(Answer::Addresses(addresses)) = answer(&asked, &said, V4) {
                prop_assert!(addresses.len() <= MAX_ADDRESSES_PER_NAME);
            }
        }
    }

    /// Answers questions for IPv4 addresses: at first by somebody else's number, then cut short, and over TCP in full. Others have none.
    async fn serve(udp: UdpSocket, tcp: TcpListener) {
        let over_tcp = async {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut asked = vec![0; usize::from(length)];
                stream.read_exact(&mut asked).await.unwrap();
                let said = reply(&asked, [0, 0], &[[192, 0, 2, 1]]);
                stream
                    .write_u16(u16::try_from(said.len()).unwrap())
                    .await
                    .unwrap();
                stream.write_all(&said).await.unwrap();
            }
        };
        let over_udp = async {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                let asked = &buffer[..length];
                let is_v4 = asked.ends_with(b"\0\x01\0\x01");
                let mut guessed = reply(asked, [0, 0], &[[198, 51, 100, 1]]);
                guessed[0] ^= 1;
                udp.send_to(&guessed, from).await.unwrap();
                let flags = if is_v4 { [IS_CUT, 0] } else { [0, 2] };
                udp.send_to(&reply(asked, flags, &[]), from).await.unwrap();
            }
        };
        tokio::join!(over_tcp, over_udp);
    }

    #[tokio::test]
    async fn a_server_is_asked_over_udp_and_where_that_is_too_short_over_tcp() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let serving = tokio::spawn(serve(udp, tcp));
        let found = look_up(&[address], "a.example", &Binding::Any)
            .await
            .unwrap();
        assert_eq!(found, [IpAddr::from([192, 0, 2, 1])]);
        let elsewhere = Binding::Address(IpAddr::from([192, 0, 2, 7]));
        assert!(look_up(&[address], "a.example", &elsewhere).await.is_err());
        serving.abort();
    }
}

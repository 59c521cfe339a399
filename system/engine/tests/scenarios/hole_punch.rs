//! Engines that bring remotes together, and that are brought together with somebody (BEP 55).

use crate::exchange::sociable;
use crate::remote::Remote;
use crate::rig::{PATIENCE, Sample, Seed, seed, soon};
use shoal_engine::{EngineConfig, PeerTransports};
use shoal_wire::{
    Contact, ContactFlags, ExtendedHandshake, Extension, HolePunch, HolePunchError, HolePunchKind,
    Message, PeerExchange, RemoteExtensions, encode,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The first byte of a SYN of uTP (BEP 29): its type, and version 1.
const SYN: u8 = 0x41;

/// A seed, and what it serves.
async fn seeding() -> (Sample, Seed) {
    let sample = Sample::pieces(2);
    let seed = seed(&sample, sociable(), &[]).await;
    (sample, seed)
}

fn offer(port: u16) -> ExtendedHandshake {
    ExtendedHandshake {
        extensions: Extension::offer(),
        port: Some(port),
        ..ExtendedHandshake::default()
    }
}

pub(crate) async fn say(remote: &mut Remote, messages: &[Message]) {
    // An engine wants extensions under its own ids, which are those that are offered here.
    let mut theirs = RemoteExtensions::default();
    theirs.update(&offer(1));
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &theirs, &mut bytes);
    }
    remote.send(&bytes).await.unwrap();
}

/// A remote that says that it listens at `port`.
pub(crate) async fn joined(sample: &Sample, seed: &Seed, port: u16) -> Remote {
    let mut remote = Remote::connect(seed.peers()[0], HERE, sample)
        .await
        .unwrap();
    let begin = [Message::HaveNone, Message::ExtendedHandshake(offer(port))];
    say(&mut remote, &begin).await;
    remote
}

pub(crate) fn punch(kind: HolePunchKind, address: SocketAddr) -> Message {
    Message::HolePunch(Some(HolePunch { kind, address }))
}

async fn hears(remote: &mut Remote) -> HolePunch {
    let is_one = |message: &Message| matches!(message, Message::HolePunch(_));
    match remote.hear_until(is_one).await {
        Message::HolePunch(Some(message)) => message,
        other => panic!("no message of BEP 55: {other:?}"),
    }
}

#[tokio::test]
async fn two_remotes_are_brought_together_and_nobody_with_whom_no_connection_stands() {
    let (sample, seed) = seeding().await;
    let [first_at, second_at] = [7_001, 7_002].map(|port| SocketAddr::new(HERE, port));
    let mut second = joined(&sample, &seed, second_at.port()).await;
    let mut first = joined(&sample, &seed, first_at.port()).await;
    let named = first.hear_until(|message| matches!(message, Message::PeerExchange(_)));
    let Message::PeerExchange(PeerExchange { added, .. }) = named.await else {
        panic!("another message was waited for");
    };
    let contact = Contact {
        address: second_at,
        flags: ContactFlags::PUNCHES,
    };
    assert_eq!(added, [contact]);
    let stranger = SocketAddr::new(HERE, 7_003);
    for wanted in [stranger, second_at] {
        say(&mut first, &[punch(HolePunchKind::Rendezvous, wanted)]).await;
    }
    let kind = HolePunchKind::Failed(HolePunchError::NOT_CONNECTED);
    let refused = HolePunch {
        kind,
        address: stranger,
    };
    assert_eq!(hears(&mut first).await, refused);
    let connect = |address| HolePunch {
        kind: HolePunchKind::Connect,
        address,
    };
    assert_eq!(hears(&mut first).await, connect(second_at));
    assert_eq!(hears(&mut second).await, connect(first_at));
    seed.engine.stop(PATIENCE).await;
}

/// Waits for a SYN of uTP, which has to come from the port at which the engine listens: routers let in answers to that one.
pub(crate) async fn is_dialled(socket: &UdpSocket, by: SocketAddr) {
    let mut datagram = [0; 2_048];
    let (length, from) = soon(socket.recv_from(&mut datagram)).await.unwrap();
    assert_eq!((datagram[..length][0], from), (SYN, by));
}

#[tokio::test]
async fn who_does_not_answer_is_asked_for_and_whoever_is_told_to_is_dialled() {
    let (sample, seed) = seeding().await;
    let mut introducer = joined(&sample, &seed, 7_001).await;
    // Nobody accepts over TCP at these, nor answers over uTP.
    let [named, other] = [
        UdpSocket::bind((HERE, 0)).await.unwrap(),
        UdpSocket::bind((HERE, 0)).await.unwrap(),
    ];
    let address = named.local_addr().unwrap();
    let flags = ContactFlags::default();
    let exchange = PeerExchange {
        added: vec![Contact { address, flags }],
        dropped: Vec::new(),
    };
    say(&mut introducer, &[Message::PeerExchange(exchange)]).await;
    let kind = HolePunchKind::Rendezvous;
    assert_eq!(hears(&mut introducer).await, HolePunch { kind, address });
    is_dialled(&named, seed.peers()[0]).await;
    let unasked = other.local_addr().unwrap();
    say(&mut introducer, &[punch(HolePunchKind::Connect, unasked)]).await;
    is_dialled(&other, seed.peers()[0]).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn engines_that_keep_to_themselves_or_have_no_utp_do_not_offer_it() {
    let sample = Sample::pieces(2);
    let tcp = EngineConfig {
        peers_over: PeerTransports::Tcp,
        ..sociable()
    };
    for config in [crate::rig::config(HERE), tcp] {
        let seed = seed(&sample, config, &[]).await;
        let mut remote = joined(&sample, &seed, 7_001).await;
        let is_one = |message: &Message| matches!(message, Message::ExtendedHandshake(_));
        let Message::ExtendedHandshake(handshake) = remote.hear_until(is_one).await else {
            panic!("another message was waited for");
        };
        let mut names = handshake.extensions.iter().map(|(name, _)| name);
        assert!(!names.any(|name| name == "ut_holepunch"));
        seed.engine.stop(PATIENCE).await;
    }
}

//! Exchanges over UDP, against the layouts of BEP 15 and 41 and against a tiny tracker.

use super::*;
use crate::{Event, MAX_PEERS};
use proptest::prelude::*;

const HASH: InfoHash = InfoHash([0x11; 20]);

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn at(s: u64) -> Moment {
    Moment::from_secs(s)
}

fn announce_request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: HASH,
        peer_id: [0x22; 20],
        port: 0x1ae1,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: Some(Event::Started),
        num_want: 200,
        key: 0xdead_beef,
        ipv4: None,
        ipv6: None,
        tracker_id: None,
    }
}

fn exchange_with(request: UdpRequest, tracker: &str, cached: Option<ConnectionId>) -> UdpExchange {
    let rng = fastrand::Rng::with_seed(7);
    let limit = Duration::from_secs(1_000_000);
    UdpExchange::new(
        request,
        &url(tracker),
        AddressFamily::V4,
        cached,
        limit,
        rng,
    )
    .unwrap()
}

fn announce_exchange() -> UdpExchange {
    exchange_with(
        UdpRequest::Announce(announce_request()),
        "udp://t.example:1",
        None,
    )
}

/// The one output that is there.
fn output(exchange: &mut UdpExchange) -> Output {
    let output = exchange.poll().unwrap();
    assert_eq!(exchange.poll(), None);
    output
}

fn sent(exchange: &mut UdpExchange) -> Vec<u8> {
    match output(exchange) {
        Output::Send(datagram) => datagram,
        Output::Done(result) => panic!("{result:?}"),
    }
}

fn done(exchange: &mut UdpExchange) -> Result<UdpReply, Error> {
    match output(exchange) {
        Output::Done(result) => result,
        Output::Send(datagram) => panic!("{datagram:?}"),
    }
}

fn action(request: &[u8]) -> u32 {
    u32::from_be_bytes(request[8..12].try_into().unwrap())
}

/// An answer to `request`: action, its transaction id, body.
fn answer(action: u32, request: &[u8], body: &[u8]) -> Input {
    Input::Datagram([&action.to_be_bytes()[..], &request[12..16], body].concat())
}

/// Starts, and answers the connect request with connection id 0x0101..01 at one second.
fn connected(exchange: &mut UdpExchange) -> Vec<u8> {
    exchange.handle(at(0), Input::Start);
    let connect = sent(exchange);
    exchange.handle(at(1), answer(0, &connect, &[1; 8]));
    sent(exchange)
}

#[test]
fn a_connect_request_is_as_bep_15_lays_it_out() {
    let mut exchange = announce_exchange();
    exchange.handle(at(0), Input::Start);
    let connect = sent(&mut exchange);
    assert_eq!(connect.len(), 16);
    assert_eq!(
        connect[..12],
        [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0]
    );
}

#[test]
fn an_announce_is_as_bep_15_lays_it_out() {
    let announce = connected(&mut announce_exchange());
    assert_eq!(announce[..12], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1]);
    let mut expected = Vec::new();
    expected.extend([0x11; 20]);
    expected.extend([0x22; 20]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1]); // downloaded
    expected.extend([0, 0, 0, 0, 0, 0, 0, 2]); // left
    expected.extend([0, 0, 0, 0, 0, 0, 0, 3]); // uploaded
    expected.extend([0, 0, 0, 2]); // started
    expected.extend([0, 0, 0, 0]); // the sender's address
    expected.extend([0xde, 0xad, 0xbe, 0xef]);
    expected.extend([0, 0, 0, 200]);
    expected.extend([0x1a, 0xe1]);
    assert_eq!(announce[16..], expected);
    assert_eq!(announce.len(), 98);
}

#[test]
fn events_have_the_numbers_of_bep_15_and_a_partial_seed_has_none() {
    let events = [
        (None, 0),
        (Some(Event::Completed), 1),
        (Some(Event::Started), 2),
        (Some(Event::Stopped), 3),
        (Some(Event::Paused), 0),
    ];
    for (event, number) in events {
        let request = AnnounceRequest {
            event,
            ..announce_request()
        };
        let mut exchange = exchange_with(UdpRequest::Announce(request), "udp://t.example:1", None);
        assert_eq!(connected(&mut exchange)[80..84], [0, 0, 0, number]);
    }
}

#[test]
fn path_and_query_of_the_url_follow_an_announce_as_bep_41_shows() {
    let options = |tracker: &str| {
        let request = UdpRequest::Announce(announce_request());
        connected(&mut exchange_with(request, tracker, None))[98..].to_vec()
    };
    assert_eq!(
        options("udp://t.example:80/dir?a=b&c=d"),
        b"\x02\x0c/dir?a=b&c=d"
    );
    assert_eq!(options("udp://t.example:80"), b"");
    assert_eq!(options("udp://t.example:80/"), b"");
    let long = options(&format!("udp://t.example:80/{}", "x".repeat(299)));
    assert_eq!(long.len(), 2 + 255 + 2 + 45);
    assert_eq!(
        (&long[..3], &long[257..260]),
        (&b"\x02\xff/"[..], &b"\x02\x2dx"[..])
    );
    let endless = url(&format!(
        "udp://t.example:80/{}",
        "x".repeat(MAX_URL_DATA_BYTES)
    ));
    assert!(matches!(url_data(&endless), Err(Error::UnusableUrl(_))));
}

#[test]
fn the_answer_to_an_announce_is_read() {
    let mut exchange = announce_exchange();
    let announce = connected(&mut exchange);
    let body = b"\0\0\x07\x08\0\0\0\x02\0\0\0\x03\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\0\xc0\0";
    exchange.handle(at(2), answer(1, &announce, body));
    let expected = AnnounceReply {
        interval: Duration::from_secs(1800),
        leeches: Some(2),
        seeds: Some(3),
        peers: vec!["192.0.2.1:6881".parse().unwrap()],
        ..AnnounceReply::default()
    };
    assert_eq!(done(&mut exchange), Ok(UdpReply::Announce(expected)));
    assert_eq!(exchange.deadline(), None);
    exchange.handle(at(3), answer(1, &announce, body));
    exchange.handle(at(4000), Input::Tick);
    assert_eq!(exchange.poll(), None);
}

#[test]
fn over_ipv6_peers_have_18_bytes() {
    let request = AnnounceRequest {
        ipv4: Some([192, 0, 2, 1].into()),
        ..announce_request()
    };
    let rng = fastrand::Rng::with_seed(7);
    let mut exchange = UdpExchange::new(
        UdpRequest::Announce(request),
        &url("udp://[2001:db8::9]:1"),
        AddressFamily::V6,
        None,
        DEFAULT_TIME_LIMIT,
        rng,
    )
    .unwrap();
    let announce = connected(&mut exchange);
    assert_eq!(announce[84..88], [0; 4]);
    let body = [
        &[0; 12][..],
        &[
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1,
        ],
    ]
    .concat();
    exchange.handle(at(2), answer(1, &announce, &body));
    match done(&mut exchange) {
        Ok(UdpReply::Announce(reply)) => {
            assert_eq!(reply.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scrape_names_its_swarms_and_gets_their_figures_in_order() {
    let other = InfoHash([0x33; 20]);
    let mut exchange = exchange_with(
        UdpRequest::Scrape(vec![HASH, other]),
        "udp://t.example:1/announce",
        None,
    );
    let scrape = connected(&mut exchange);
    assert_eq!(action(&scrape), 2);
    assert_eq!(scrape[16..], [[0x11; 20], [0x33; 20]].concat());
    let figures = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    exchange.handle(at(2), answer(2, &scrape, &figures));
    let counts = crate::ScrapeCounts {
        seeds: Some(1),
        downloads: Some(2),
        leeches: Some(3),
        downloaders: None,
    };
    // It answers for one swarm only.
    let expected = ScrapeReply {
        swarms: vec![(HASH, counts)],
        min_interval: None,
    };
    assert_eq!(done(&mut exchange), Ok(UdpReply::Scrape(expected)));
}

#[test]
fn an_error_ends_the_exchange_with_its_text() {
    let mut exchange = announce_exchange();
    let announce = connected(&mut exchange);
    exchange.handle(at(2), answer(3, &announce, b"not \x1bregistered"));
    let reason = "not registered".to_owned();
    assert_eq!(
        done(&mut exchange),
        Err(Error::Failure {
            reason,
            retry_in: None
        })
    );
}

#[test]
fn what_does_not_answer_our_last_datagram_is_ignored() {
    let mut exchange = announce_exchange();
    exchange.handle(at(0), Input::Start);
    let connect = sent(&mut exchange);
    let mut forged = connect.clone();
    forged[15] ^= 1;
    for input in [
        answer(0, &forged, &[9; 8]),
        answer(3, &forged, b"no"),
        answer(1, &connect, &[0; 12]),
        answer(0, &connect, &[9; 7]),
        Input::Datagram(vec![]),
        Input::Datagram(vec![0; 7]),
    ] {
        exchange.handle(at(1), input);
        assert_eq!(exchange.poll(), None);
    }
    exchange.handle(at(2), answer(0, &connect, &[1; 8]));
    let announce = sent(&mut exchange);
    // The answer to the connect request comes twice.
    exchange.handle(at(3), answer(0, &connect, &[2; 8]));
    exchange.handle(at(3), answer(2, &announce, &[0; 12]));
    assert_eq!(exchange.poll(), None);
    exchange.handle(at(4), answer(1, &announce, &[0; 12]));
    assert!(done(&mut exchange).is_ok());
}

/// Ticks until `end`; when each datagram was sent, and its action.
fn transmissions(exchange: &mut UdpExchange, end: u64) -> Vec<(u64, u32)> {
    let mut sends = Vec::new();
    while let Some(deadline) = exchange.deadline().filter(|&deadline| deadline <= at(end)) {
        exchange.handle(deadline, Input::Tick);
        if let Some(Output::Send(datagram)) = exchange.poll() {
            sends.push((deadline.as_nanos() / 1_000_000_000, action(&datagram)));
        }
    }
    sends
}

#[test]
fn a_lost_connect_request_is_repeated_as_bep_15_shows() {
    let mut exchange = announce_exchange();
    exchange.handle(at(0), Input::Start);
    sent(&mut exchange);
    assert_eq!(
        transmissions(&mut exchange, 300),
        [(15, 0), (45, 0), (105, 0), (225, 0)]
    );
}

#[test]
fn a_lost_announce_is_repeated_until_its_connection_id_expires() {
    let mut exchange = announce_exchange();
    exchange.handle(at(0), Input::Start);
    let connect = sent(&mut exchange);
    exchange.handle(at(2), answer(0, &connect, &[1; 8]));
    sent(&mut exchange);
    assert_eq!(
        transmissions(&mut exchange, 300),
        [(17, 1), (47, 1), (107, 0), (227, 0)]
    );
}

#[test]
fn a_silent_tracker_is_given_up_at_the_time_limit() {
    let mut exchange = UdpExchange::new(
        UdpRequest::Announce(announce_request()),
        &url("udp://t.example:1"),
        AddressFamily::V4,
        None,
        DEFAULT_TIME_LIMIT,
        fastrand::Rng::with_seed(7),
    )
    .unwrap();
    exchange.handle(at(10), Input::Start);
    sent(&mut exchange);
    exchange.handle(at(25), Input::Tick);
    sent(&mut exchange);
    assert_eq!(exchange.deadline(), Some(at(55)));
    exchange.handle(at(55), Input::Tick);
    assert_eq!(done(&mut exchange), Err(Error::TimedOut));
    assert_eq!(exchange.deadline(), None);
}

#[test]
fn an_exchange_with_little_time_still_tries_twice() {
    let tracker = url("udp://t.example:1");
    let (limit, rng) = (Duration::from_secs(9), fastrand::Rng::with_seed(7));
    let request = UdpRequest::Scrape(vec![HASH]);
    let mut exchange =
        UdpExchange::new(request, &tracker, AddressFamily::V4, None, limit, rng).unwrap();
    exchange.handle(at(0), Input::Start);
    let connect = sent(&mut exchange);
    assert_eq!(exchange.deadline(), Some(at(3)));
    exchange.handle(at(3), Input::Tick);
    assert_eq!(sent(&mut exchange), connect);
    exchange.handle(at(9), Input::Tick);
    assert_eq!(done(&mut exchange), Err(Error::TimedOut));
}

#[test]
fn a_connection_id_serves_the_next_exchange_for_a_minute() {
    let mut first = announce_exchange();
    connected(&mut first);
    let cached = first.connection();
    let again = || {
        exchange_with(
            UdpRequest::Announce(announce_request()),
            "udp://t.example:1",
            cached,
        )
    };
    let mut soon = again();
    soon.handle(at(60), Input::Start);
    assert_eq!(action(&sent(&mut soon)), 1);
    let mut late = again();
    late.handle(at(61), Input::Start);
    assert_eq!(action(&sent(&mut late)), 0);
    assert!(late.connection().is_none());
}

#[test]
fn a_refused_connection_id_of_an_earlier_exchange_is_replaced_once() {
    let mut first = announce_exchange();
    connected(&mut first);
    let request = UdpRequest::Announce(announce_request());
    let mut exchange = exchange_with(request, "udp://t.example:1", first.connection());
    exchange.handle(at(2), Input::Start);
    let announce = sent(&mut exchange);
    exchange.handle(at(3), answer(3, &announce, b"Connection ID mismatch."));
    let connect = sent(&mut exchange);
    assert_eq!(action(&connect), 0);
    exchange.handle(at(4), answer(0, &connect, &[2; 8]));
    let announce = sent(&mut exchange);
    exchange.handle(at(5), answer(3, &announce, b"not registered"));
    assert!(matches!(done(&mut exchange), Err(Error::Failure { .. })));
}

#[test]
fn silence_about_a_connection_id_of_an_earlier_exchange_leads_to_a_new_one() {
    let mut first = announce_exchange();
    connected(&mut first);
    let request = UdpRequest::Scrape(vec![HASH]);
    let mut exchange = exchange_with(request, "udp://t.example:1", first.connection());
    exchange.handle(at(2), Input::Start);
    let scrape = sent(&mut exchange);
    assert_eq!(action(&scrape), 2);
    exchange.handle(at(17), Input::Tick);
    let connect = sent(&mut exchange);
    assert_eq!(action(&connect), 0);
    exchange.handle(at(18), answer(2, &scrape, &[0; 12]));
    assert_eq!(exchange.poll(), None, "what is no longer waited for");
    exchange.handle(at(18), answer(0, &connect, &[2; 8]));
    let scrape = sent(&mut exchange);
    assert_eq!((action(&scrape), &scrape[..8]), (2, &[2; 8][..]));
    // Its own connection id is good: the request is repeated.
    exchange.handle(at(33), Input::Tick);
    assert_eq!(sent(&mut exchange), scrape);
}

#[test]
fn the_endpoint_is_a_name_or_an_address_and_has_a_port() {
    let name = endpoint(&url("udp://Tr\u{e4}cker.example:6969/announce")).unwrap();
    assert_eq!(
        name,
        (Host::Domain("xn--trcker-cua.example".to_owned()), 6969)
    );
    let v4 = endpoint(&url("udp://127.0.0.1:1")).unwrap();
    assert_eq!(v4, (Host::Ipv4([127, 0, 0, 1].into()), 1));
    let v6 = endpoint(&url("udp://[::1]:1")).unwrap();
    assert_eq!(v6, (Host::Ipv6(core::net::Ipv6Addr::LOCALHOST), 1));
    for unusable in [
        "udp://t.example",
        "udp://t.example:0",
        "udp:x",
        "http://t.example:1",
    ] {
        assert!(endpoint(&url(unusable)).is_err(), "{unusable}");
    }
}

/// A tracker in a few lines, which drops what it is told to and knows the peers it was told of.
struct TinyTracker {
    secret: u64,
    peers: Vec<u8>,
}

impl TinyTracker {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let transaction = &request[12..16];
        let body = match (action(request), request[..8] == self.secret.to_be_bytes()) {
            (0, _) => return [&[0; 4], transaction, &self.secret.to_be_bytes()].concat(),
            (1, true) => {
                let known = self.peers.clone();
                self.peers.extend([127, 0, 0, 1]);
                self.peers.extend(&request[96..98]);
                [&60u32.to_be_bytes()[..], &[0; 8], &known].concat()
            }
            (_, true) => [[0; 12]].concat(),
            (_, false) => return [&3u32.to_be_bytes(), transaction, b"who are you?"].concat(),
        };
        [&request[8..12], transaction, &body].concat()
    }
}

proptest! {
    #[test]
    fn peers_find_each_other_through_a_tracker_whatever_gets_lost(
        lost in prop::collection::vec(any::<bool>(), 0..12),
        ports in prop::collection::vec(1..u16::MAX, 1..5),
    ) {
        let mut tracker = TinyTracker { secret: 0x1234_5678_9abc_def0, peers: Vec::new() };
        let mut lost = lost.into_iter();
        for (i, &port) in ports.iter().enumerate() {
            let request = UdpRequest::Announce(AnnounceRequest { port, ..announce_request() });
            let mut exchange = exchange_with(request, "udp://t.example:1/announce", None);
            exchange.handle(at(0), Input::Start);
            let reply = loop {
                match exchange.poll() {
                    Some(Output::Done(result)) => break result.unwrap(),
                    Some(Output::Send(datagram)) if !lost.next().unwrap_or(false) => {
                        let answer = tracker.answer(&datagram);
                        if !lost.next().unwrap_or(false) {
                            let now = exchange.deadline().unwrap();
                            exchange.handle(now, Input::Datagram(answer));
                        }
                    }
                    Some(Output::Send(_)) => {}
                    None => {
                        let now = exchange.deadline().unwrap();
                        exchange.handle(now, Input::Tick);
                    }
                }
            };
            let UdpReply::Announce(reply) = reply else { panic!("not an announce") };
            let mut found: Vec<u16> = reply.peers.iter().map(core::net::SocketAddr::port).collect();
            // An announce whose answer was lost is made twice, so that the tracker may name us as well.
            found.dedup();
            found.retain(|&found| found != port);
            let mut before: Vec<u16> = ports[..i].to_vec();
            before.dedup();
            before.retain(|&before| before != port);
            prop_assert_eq!(found, before);
        }
    }

    #[test]
    fn no_datagram_panics_or_yields_too_many_peers(
        body in prop::collection::vec(any::<u8>(), 0..40_000),
        code in 0u32..5,
        v6 in any::<bool>(),
        scrape in any::<bool>(),
    ) {
        let request = if scrape {
            UdpRequest::Scrape(vec![HASH; MAX_SCRAPE_HASHES])
        } else {
            UdpRequest::Announce(announce_request())
        };
        let family = if v6 { AddressFamily::V6 } else { AddressFamily::V4 };
        let rng = fastrand::Rng::with_seed(1);
        let limit = DEFAULT_TIME_LIMIT;
        let mut exchange =
            UdpExchange::new(request, &url("udp://t.example:1"), family, None, limit, rng).unwrap();
        let asked = connected(&mut exchange);
        exchange.handle(at(2), Input::Datagram(body.clone()));
        exchange.handle(at(2), answer(code, &asked, &body));
        if let Some(Output::Done(Ok(UdpReply::Announce(reply)))) = exchange.poll() {
            prop_assert!(reply.peers.len() <= MAX_PEERS);
            prop_assert!(reply.peers.iter().all(|peer| peer.port() != 0));
        }
    }
}

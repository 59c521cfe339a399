//! Requests and replies over HTTP, against the layouts of the BEPs and against random bytes.

use super::*;
use crate::announce::MAX_TRACKER_ID_BYTES;
use crate::{AnnounceReply, MAX_PEERS, RetryIn};
use core::net::SocketAddr;
use core::time::Duration;
use proptest::prelude::*;
use shoal_metainfo::bencode::Bencode;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\x00\x01 azAZ09-._~%&+=?/\xff"),
        peer_id: *b"-SH0001-abcdefghijkl",
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(Event::Started),
        num_want: 200,
        key: 0xbeef,
        ipv4: None,
        ipv6: None,
        tracker_id: None,
    }
}

fn ok(body: &[u8]) -> AnnounceReply {
    announce_reply(200, body).unwrap()
}

#[test]
fn an_announce_escapes_all_that_is_not_unreserved_and_says_what_clients_say() {
    let url = announce_url(&url("http://tracker.example/announce"), &request()).unwrap();
    assert_eq!(
        url.as_str(),
        "http://tracker.example/announce?info_hash=%00%01%20azAZ09-._~%25%26%2b%3d%3f%2f%ff\
         &peer_id=-SH0001-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&key=0000BEEF\
         &event=started&numwant=200&compact=1&no_peer_id=1"
    );
}

#[test]
fn an_announce_keeps_the_query_of_the_tracker_and_drops_its_fragment() {
    let tracker = url("https://tracker.example/a.php?passkey=a%2fb&x#part");
    let announce = announce_url(&tracker, &request()).unwrap();
    let query = announce.query().unwrap();
    assert!(
        query.starts_with("passkey=a%2fb&x&info_hash=%00%01%20az"),
        "{query}"
    );
    assert_eq!(announce.fragment(), None);
    assert_eq!(announce.path(), "/a.php");
}

#[test]
fn optional_arguments_are_sent_where_there_is_something_to_say() {
    let request = AnnounceRequest {
        event: None,
        tracker_id: Some(b"id 1".to_vec()),
        ipv4: Some([192, 0, 2, 1].into()),
        ipv6: Some("2001:db8::1".parse().unwrap()),
        ..request()
    };
    let announce = announce_url(&url("http://t.example/announce"), &request).unwrap();
    let query = announce.query().unwrap();
    let end = "&compact=1&no_peer_id=1&trackerid=id%201&ip=192.0.2.1&ipv4=192.0.2.1&ipv6=2001%3adb8%3a%3a1";
    assert!(query.ends_with(end), "{query}");
    assert!(!query.contains("event="));
}

#[test]
fn a_tracker_url_that_brings_arguments_of_an_announce_is_not_used() {
    for query in ["info_hash=x", "a=b&PEER_ID=x", "ke%79=1"] {
        let tracker = url(&format!("http://t.example/announce?{query}"));
        let refused = announce_url(&tracker, &request());
        assert!(matches!(refused, Err(Error::UnusableUrl(_))), "{query}");
    }
    let other_scheme = announce_url(&url("udp://t.example:1/announce"), &request());
    assert!(matches!(other_scheme, Err(Error::UnusableUrl(_))));
}

#[test]
fn a_scrape_stands_where_the_announce_stands() {
    let swarms = [InfoHash([0x61; 20]), InfoHash([0xff; 20])];
    let scrape = |text: &str| scrape_url(&url(text), &swarms).map(String::from);
    let arguments = format!(
        "info_hash={}&info_hash={}",
        "a".repeat(20),
        "%ff".repeat(20)
    );
    // The examples of the convention.
    for (announce, expected) in [
        ("http://e.example/announce", "http://e.example/scrape?"),
        ("http://e.example/x/announce", "http://e.example/x/scrape?"),
        (
            "http://e.example/announce.php",
            "http://e.example/scrape.php?",
        ),
        (
            "http://e.example/announce?x2%0644",
            "http://e.example/scrape?x2%0644&",
        ),
    ] {
        assert_eq!(scrape(announce).unwrap(), format!("{expected}{arguments}"));
    }
    for announce in [
        "http://e.example/a",
        "http://e.example/announce/x",
        "http://e.example/xannounce",
    ] {
        assert_eq!(scrape(announce), Err(Error::NoScrape), "{announce}");
    }
    assert!(scrape_url(&url("http://e.example/announce"), &[]).is_err());
    let too_many = vec![InfoHash([0; 20]); MAX_SCRAPE_HASHES + 1];
    assert!(scrape_url(&url("http://e.example/announce"), &too_many).is_err());
}

#[test]
fn a_reply_with_compact_peers_of_both_families_is_read() {
    let body = b"d8:completei5e10:downloadedi70e11:external ip4:\xc0\x00\x02\x0910:incompletei7e\
        8:intervali1800e12:min intervali300e5:peers12:\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x00\x00\
        6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe110:tracker id3:abc\
        15:warning message6:slow\x07\x07e";
    let reply = ok(body);
    assert_eq!(
        reply,
        AnnounceReply {
            interval: Duration::from_secs(1800),
            min_interval: Some(Duration::from_secs(300)),
            tracker_id: Some(b"abc".to_vec()),
            seeds: Some(5),
            leeches: Some(7),
            downloads: Some(70),
            // The peer with port 0 is left out.
            peers: vec![
                "192.0.2.1:6881".parse().unwrap(),
                "[2001:db8::1]:6881".parse().unwrap()
            ],
            external_ip: Some("192.0.2.9".parse().unwrap()),
            warning: Some("slow".to_owned()),
        }
    );
}

#[test]
fn peers_written_out_are_read_where_they_are_addresses() {
    let body = b"d5:peersl\
        d2:ip9:192.0.2.14:porti6881ee\
        d2:ip11:2001:db8::14:porti6881ee\
        d2:ip12:evil.example4:porti6881ee\
        d2:ip9:192.0.2.14:porti0ee\
        d2:ip9:192.0.2.14:porti65536ee\
        d2:ip9:192.0.2.1e\
        i3e\
        d2:ip16:::ffff:192.0.2.34:porti1eeee";
    let expected: Vec<SocketAddr> = ["192.0.2.1:6881", "[2001:db8::1]:6881", "192.0.2.3:1"]
        .map(|address| address.parse().unwrap())
        .to_vec();
    assert_eq!(ok(body).peers, expected);
    assert_eq!(ok(body).interval, crate::announce::DEFAULT_INTERVAL);
}

#[test]
fn a_failure_says_why_and_when_to_come_back() {
    let failure = |body: &[u8]| match announce_reply(200, body) {
        Err(Error::Failure { reason, retry_in }) => (reason, retry_in),
        other => panic!("{other:?}"),
    };
    let minutes = Some(RetryIn::Minutes(5));
    assert_eq!(failure(b"d14:failure reason4:busye"), ("busy".into(), None));
    assert_eq!(
        failure(b"d14:failure reason4:busy8:retry in1:5e"),
        ("busy".into(), minutes)
    );
    assert_eq!(
        failure(b"d14:failure reason4:busy8:retry ini5ee"),
        ("busy".into(), minutes)
    );
    assert_eq!(
        failure(b"d14:failure reason4:busy8:retry ini-5ee"),
        ("busy".into(), None)
    );
    let never = failure(b"d14:failure reason2:no8:retry in5:nevere");
    assert_eq!(never, ("no".into(), Some(RetryIn::Never)));
}

#[test]
fn a_reason_says_more_than_a_status_and_a_status_more_than_a_page() {
    let reason = announce_reply(403, b"d14:failure reason2:noe");
    assert!(matches!(reason, Err(Error::Failure { .. })));
    assert_eq!(announce_reply(502, b"<html>"), Err(Error::HttpStatus(502)));
    assert_eq!(announce_reply(404, b"de"), Err(Error::HttpStatus(404)));
    assert!(matches!(
        announce_reply(200, b"<html>"),
        Err(Error::NotBencode(_))
    ));
    assert!(matches!(
        announce_reply(200, b"le"),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        announce_reply(200, b"d5:peersi1ee"),
        Err(Error::Malformed(_))
    ));
}

#[test]
fn a_reply_is_bounded_in_bytes_peers_and_tracker_id() {
    let long = vec![b'd'; MAX_REPLY_BYTES + 1];
    let limit = MAX_REPLY_BYTES;
    assert_eq!(announce_reply(200, &long), Err(Error::TooLong { limit }));
    let peers = vec![1; 6 * (MAX_PEERS - 1)];
    let peers6 = vec![1; 18 * 10];
    let body = Bencode::dict([
        ("peers", Bencode::Bytes(peers)),
        ("peers6", Bencode::Bytes(peers6)),
        (
            "tracker id",
            Bencode::Bytes(vec![0; MAX_TRACKER_ID_BYTES + 1]),
        ),
    ]);
    let reply = ok(&body.encode());
    assert_eq!(reply.peers.len(), MAX_PEERS);
    assert!(reply.peers[MAX_PEERS - 1].is_ipv6());
    assert_eq!(reply.tracker_id, None);
}

#[test]
fn a_scrape_reply_is_read_in_the_order_asked() {
    let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei11e10:downloadedi13772e10:incompletei19ee\
        20:bbbbbbbbbbbbbbbbbbbbd8:completei21e10:downloadedi206e11:downloadersi4e10:incompletei20eeee";
    let [a, b, absent] = [*b"a", *b"b", *b"c"].map(|[byte]| InfoHash([byte; 20]));
    let reply = scrape_reply(200, body, &[b, absent, a]).unwrap();
    let counts = |seeds, leeches, downloads, downloaders| crate::ScrapeCounts {
        seeds: Some(seeds),
        leeches: Some(leeches),
        downloads: Some(downloads),
        downloaders,
    };
    assert_eq!(
        reply.swarms,
        [
            (b, counts(21, 20, 206, Some(4))),
            (a, counts(11, 19, 13772, None))
        ]
    );
    assert!(matches!(
        scrape_reply(200, b"de", &[a]),
        Err(Error::Malformed(_))
    ));
    let failure = scrape_reply(200, b"d14:failure reason2:noe", &[a]);
    assert!(matches!(failure, Err(Error::Failure { .. })));
}

#[test]
fn a_scrape_reply_with_info_hashes_in_utf_8_is_read() {
    let body =
        b"d5:filesd21:aaaaaaaaaaaaaaaaaaa\xc3\xbfd8:completei1e10:downloadedi2e10:incompletei3eee\
        5:flagsd20:min_request_intervali120eee";
    let mut swarm = InfoHash([b'a'; 20]);
    swarm.0[19] = 0xff;
    let reply = scrape_reply(200, body, &[swarm]).unwrap();
    let counts = crate::ScrapeCounts {
        seeds: Some(1),
        leeches: Some(3),
        downloads: Some(2),
        downloaders: None,
    };
    assert_eq!(reply.swarms, [(swarm, counts)]);
    assert_eq!(reply.min_interval, Some(Duration::from_secs(120)));
}

/// Replies that are nearly right: known keys, values of any type.
fn any_reply() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "peers",
        "peers6",
        "interval",
        "min interval",
        "external ip",
        "failure reason",
        "retry in",
        "tracker id",
        "complete",
        "files",
        "warning message",
    ]);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Bencode::Int),
        prop::collection::vec(any::<u8>(), 0..9000).prop_map(Bencode::Bytes),
    ];
    let peer = prop::collection::vec(
        (prop::sample::select(vec!["ip", "port", "x"]), leaf.clone()),
        0..3,
    )
    .prop_map(Bencode::dict);
    let value = prop_oneof![
        leaf,
        prop::collection::vec(peer, 0..20).prop_map(Bencode::List)
    ];
    prop::collection::vec((key, value), 0..8).prop_map(|entries| Bencode::dict(entries).encode())
}

proptest! {
    #[test]
    fn no_body_panics_or_yields_too_many_peers(
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), any_reply()],
        status in prop_oneof![Just(200u16), any::<u16>()],
    ) {
        if let Ok(reply) = announce_reply(status, &body) {
            prop_assert!(reply.peers.len() <= MAX_PEERS);
            prop_assert!(reply.peers.iter().all(|peer| peer.port() != 0));
        }
        let _ = scrape_reply(status, &body, &[InfoHash([1; 20])]);
    }

    #[test]
    fn binary_arguments_survive_the_way_to_the_tracker(hash in any::<[u8; 20]>(), id in any::<[u8; 20]>()) {
        let request = AnnounceRequest { info_hash: InfoHash(hash), peer_id: id, ..request() };
        let announce = announce_url(&url("http://t.example/announce"), &request).unwrap();
        let decoded = |name: &str| {
            let query = announce.query().unwrap();
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
            let mut bytes = Vec::new();
            let mut rest = value.as_bytes();
            while let [first, tail @ ..] = rest {
                if *first == b'%' {
                    let hex = core::str::from_utf8(&tail[..2]).unwrap();
                    bytes.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &tail[2..];
                } else {
                    bytes.push(*first);
                    rest = tail;
                }
            }
            bytes
        };
        prop_assert_eq!(decoded("info_hash="), hash);
        prop_assert_eq!(decoded("peer_id="), id);
    }
}

//! Links in circulation, links that people make up, and the way back.

use super::*;
use crate::metainfo::{Scheme, UrlProblem};
use proptest::prelude::*;

const V1: &str = "urn:btih:0123456789abcdef0123456789abcdef01234567";
const V2: &str = "urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";

fn parse(query: &str) -> Result<Magnet, MagnetError> {
    Magnet::parse(&format!("magnet:?{query}"))
}

#[test]
fn a_hybrid_link_with_everything_is_read() {
    let magnet = parse(&format!(
        "xt={V1}&xt={V2}&dn=A+%C3%A9t%C3%A9%2B&xl=10826029&tr=http%3A%2F%2Ft.example%2Fannounce&tr.1=udp://t.example:6969\
         &ws=https%3A%2F%2Fw.example%2Fd%2F&xs=https%3A%2F%2Fw.example%2Fd.torrent&xs=urn:btpk:1234&x.pe=192.0.2.1:6881&x.pe=%5B2001%3Adb8::1%5D:6882&x.pe=host.example:1&so=0,2,4-8"
    ))
    .unwrap();
    assert_eq!(
        magnet.info_hashes.v1().map(|hash| hash.to_string()),
        Some(V1["urn:btih:".len()..].to_owned())
    );
    assert!(magnet.info_hashes.v2().is_some());
    assert_eq!(magnet.name.as_deref(), Some("A été+"));
    assert_eq!(magnet.length, Some(10_826_029));
    let schemes: Vec<_> = magnet.trackers.iter().map(|url| url.scheme).collect();
    assert_eq!(schemes, [Scheme::Http, Scheme::Udp]);
    assert_eq!(magnet.web_seeds, ["https://w.example/d/"]);
    assert_eq!(magnet.sources, ["https://w.example/d.torrent"]);
    let peers: Vec<_> = magnet.peers.iter().map(Contact::to_string).collect();
    assert_eq!(
        peers,
        ["192.0.2.1:6881", "[2001:db8::1]:6882", "host.example:1"]
    );
    assert_eq!(magnet.selected, Some(vec![0..=0, 2..=2, 4..=8]));
    assert_eq!(magnet.warnings, []);
    assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
}

#[test]
fn a_torrent_has_a_link_that_leads_to_it() {
    let torrent = b"d8:announce16:http://t.example4:infod6:lengthi5e4:name3:a b12:piece lengthi16384e6:pieces20:\
        aaaaaaaaaaaaaaaaaaaaee";
    let metainfo = Metainfo::parse(torrent, crate::metainfo::Limits::LOCAL).unwrap();
    let hash = metainfo.info_hashes().primary();
    assert_eq!(
        Magnet::from(&metainfo).to_string(),
        format!("magnet:?xt=urn:btih:{hash}&dn=a%20b&xl=5&tr=http%3A%2F%2Ft.example")
    );
}

#[test]
fn base32_and_hexadecimal_name_the_same_torrent() {
    // Python's base64.b32encode(bytes.fromhex(..)) of the same 20 bytes.
    let base32 = parse("xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH").unwrap();
    assert_eq!(base32, parse(&format!("XT={}", V1.to_uppercase())).unwrap());
    assert_eq!(
        parse("xt=urn%3Abtih%3Aaerukz4jvpg66ajdivtytk6n54asgrlh").unwrap(),
        base32
    );
}

#[test]
fn what_names_no_torrent_is_refused() {
    use MagnetError::*;
    let bad = |topic: &str| BadInfoHash(topic.to_owned());
    let other = V1.replace('0', "f");
    let table = [
        ("dn=name".to_owned(), NoInfoHash),
        ("xt=urn:sha1:abc".to_owned(), NoInfoHash),
        (String::new(), NoInfoHash),
        ("xt=urn:btih:".to_owned(), bad("urn:btih:")),
        ("xt=urn:btih:0123".to_owned(), bad("urn:btih:0123")),
        (
            format!("xt={}", V1.replace('a', "g")),
            bad(&V1.replace('a', "g")),
        ),
        (
            "xt=urn:btih:11111111111111111111111111111111".to_owned(),
            bad("urn:btih:11111111111111111111111111111111"),
        ),
        (
            format!("xt={}", V2.replace("1220", "1114")),
            bad(&V2.replace("1220", "1114")),
        ),
        (format!("xt={V2}0"), bad(&format!("{V2}0"))),
        (format!("xt={V1}&xt={other}"), Conflict),
    ];
    for (query, error) in table {
        assert_eq!(parse(&query), Err(error), "{query}");
    }
    assert_eq!(Magnet::parse("http://a.example"), Err(NotMagnet));
    assert_eq!(Magnet::parse("magnet:"), Err(NotMagnet));
    let long = format!("xt={V1}&dn={}", "a".repeat(MAX_MAGNET_BYTES));
    assert_eq!(parse(&long), Err(TooLong));
    assert!(parse(&format!("xt={V1}&xt={V1}")).is_ok());
}

#[test]
fn what_cannot_be_used_is_left_out() {
    let magnet = parse(&format!(
        "xt={V1}&tr=ftp://t.example/&tr=nonsense&tr=&tr=wss://t.example&ws=udp://w.example:1&x.pe=nothing&x.pe=h:0&x.pe=::1:5\
         &x.pe=h:99999&so=3-1&xl=-4&xl=5&unknown=1&=&novalue&dn=100%&tr=http://t.example/&tr=http://t.example/"
    ))
    .unwrap();
    let urls: Vec<_> = magnet.trackers.iter().map(|url| url.url.as_str()).collect();
    assert_eq!(urls, ["wss://t.example", "http://t.example/"]);
    assert!(!magnet.trackers[0].scheme.is_supported());
    assert_eq!((magnet.web_seeds.len(), magnet.peers.len()), (0, 0));
    assert_eq!(magnet.selected, None);
    assert_eq!(magnet.length, Some(5));
    assert_eq!(magnet.name.as_deref(), Some("100%"));
    let ignored = |url: &str, reason| {
        let url = url.to_owned();
        Warning::IgnoredUrl { url, reason }
    };
    assert_eq!(
        magnet.warnings,
        [
            ignored("ftp://t.example/", UrlProblem::Scheme),
            ignored("nonsense", UrlProblem::Invalid),
            ignored("udp://w.example:1", UrlProblem::Scheme),
            Warning::IgnoredField("so"),
        ]
    );
}

#[test]
fn lists_are_bounded() {
    let trackers: String = (0..1200)
        .map(|n| format!("&tr=http://t{n}.example"))
        .collect();
    let peers: String = (1..200).map(|n| format!("&x.pe=h:{n}")).collect();
    let selected: Vec<String> = (0..1500).map(|n| n.to_string()).collect();
    let query = format!("xt={V1}{trackers}{peers}&so={}", selected.join(","));
    let magnet = parse(&query).unwrap();
    assert_eq!(magnet.trackers.len(), MAX_TRACKERS);
    assert_eq!(magnet.peers.len(), MAX_CONTACTS);
    assert_eq!(
        magnet.selected.map(|ranges| ranges.len()),
        Some(MAX_SELECTED_RANGES)
    );
    assert_eq!(magnet.warnings.len(), 3);
}

proptest! {
    #[test]
    fn a_printed_link_reads_as_it_was(
        v1 in proptest::option::of(any::<[u8; 20]>()),
        v2 in any::<[u8; 32]>(),
        name in proptest::option::of("\\PC{0,20}"),
        length in proptest::option::of(any::<u64>()),
        path in "[a-z%&=+#]{0,12}",
        ranges in proptest::collection::vec((0u32..100, 0u32..100), 1..5),
    ) {
        let hashes = InfoHashes::new(v1.map(InfoHashV1), Some(InfoHashV2(v2))).unwrap();
        let magnet = Magnet {
            name,
            length,
            trackers: vec![TrackerUrl::parse(&format!("http://t.example/{path}")).unwrap()],
            web_seeds: vec![format!("https://w.example/{path}")],
            sources: vec![format!("http://w.example/{path}")],
            selected: Some(ranges.into_iter().map(|(from, more)| from..=from + more).collect()),
            ..Magnet::new(hashes)
        };
        prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn no_link_panics(query in "((xt|tr|tr\\.1|dn|so|x\\.pe|xl|ws|xs)=[%a-f0-9:\\[\\].,é-]{0,50}&?){0,6}|\\PC{0,80}") {
        let _ = parse(&query);
        let _ = parse(&format!("xt={V1}&{query}"));
        let _ = Magnet::parse(&query);
    }
}

//! Writes the seeds of the corpora: `cargo run -p shoal-fuzz --example seeds`.
//!
//! Invariant: small files with a name that says what is in them. Running it again changes nothing.

use shoal_metainfo::PieceIndex;
use shoal_metainfo::create::{Kind, Options, PieceHash, Plan, SourceFile};
use shoal_wire::handshake::{HANDSHAKE_LENGTH, PeerId, Reserved};
use shoal_wire::{
    Contact, ContactFlags, ExtendedHandshake, Extension, Feature, Handshake, HashRequest, Hashes,
    HolePunch, HolePunchError, HolePunchKind, Message, Metadata, PeerExchange, RemoteExtensions,
    Request, encode, extended_handshake as extension_handshake,
};
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    address_lists()?;
    bencode()?;
    sessions()?;
    handshakes()?;
    extended_handshakes()?;
    magnets()?;
    metalinks()?;
    torrents()?;
    names()?;
    messages()?;
    tracker_replies()?;
    tracker_datagrams()?;
    encrypted_handshakes()?;
    krpc()?;
    utp_packets()?;
    operations()
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

/// The first byte says how the list is cut.
fn address_lists() -> io::Result<()> {
    let record = |name: &[u8], last: u8| [name, &[1, 2, 3, 4], &[1, 2, 3, last]].concat();
    let binary = |version: u8, parts: &[&[u8]]| {
        [b"\x05\xff\xff\xff\xffP2B", &[version][..], &parts.concat()].concat()
    };
    let (one, two) = (record(b"a\0", 9), record(b"b\0", 200));
    let numbered = record(b"\0\0\0\0", 9);
    let seeds = [
        (
            "p2p",
            b"\x07# a list\nSome company: a branch:1.2.4.0-1.2.4.255\nv6:2001:db8::1-2001:db8::9\n"
                .to_vec(),
        ),
        (
            "dat",
            b"\x40001.002.004.000 - 001.002.004.255 , 000 , A-B\r\n1.2.4.9 - 1.2.4.9 , 200 , c\r\n"
                .to_vec(),
        ),
        (
            "cidr",
            b"\x011.2.4.0/24\n1.2.4.128/25 ; SBL1\n2001:db8::/32\n::ffff:1.2.3.4\n::/0\nx".to_vec(),
        ),
        ("p2b-2", binary(2, &[&one, &two])),
        ("p2b-3", binary(3, &[b"\0\0\0\x01a\0\0\0\0\x01", &numbered])),
        ("p2b-unknown", binary(4, &[&one])),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("address_list", name, bytes))
}

fn bencode() -> io::Result<()> {
    let seeds: [(&str, &[u8]); 12] = [
        ("integer", b"i-42e"),
        ("integer-least", b"i-9223372036854775808e"),
        ("integer-leading-zero", b"i03e"),
        ("string", b"5:hello"),
        ("string-too-long", b"99999999999999999999:a"),
        ("list", b"li1e2:abl0:ee"),
        ("dictionary", b"d3:inti-42e4:listl1:a0:e4:text4:teste"),
        ("dictionary-unsorted", b"d1:bi1e1:ai2eejunk"),
        ("dictionary-duplicate", b"d1:bi1e1:ali0ee1:bi2ee"),
        ("deep", &[[b'l'; 100], [b'e'; 100]].concat()),
        ("too-deep", &[b'l'; 300]),
        (
            "torrent",
            b"d8:announce18:http://a/announce4:infod6:lengthi5e4:name1:f12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        ),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("bencode", name, bytes))
}

/// The sessions that real clients wrote, each torrent's files in one.
fn sessions() -> io::Result<()> {
    const V1: &str = "b57d6d4ea108f4ec6cca0fd3d11c0acd7c4adb6e";
    const V2: &str = "f03ab27456e15d5ec8394e79476a79546ab38ed6";
    let magnet = "a".repeat(40);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../system/import/tests/fixtures");
    let write = |name: &str, client: u8, files: &[String]| {
        let files = files.iter().map(|file| std::fs::read(fixtures.join(file)));
        let files = files.collect::<io::Result<Vec<_>>>()?;
        let bytes = files.join(shoal_fuzz::import::SEPARATOR);
        seed("import", name, &[&[client], bytes.as_slice()].concat())
    };
    let pair = |folder: &str, id: &str| {
        ["fastresume", "torrent"].map(|kind| format!("{folder}/{id}.{kind}"))
    };
    write("qbittorrent-v1", b'q', &pair("qbittorrent/BT_backup", V1))?;
    write("qbittorrent-v2", b'q', &pair("qbittorrent/BT_backup", V2))?;
    write(
        "qbittorrent-magnet",
        b'q',
        &pair("qbittorrent/BT_backup", &magnet)[..1],
    )?;
    for (name, id) in [("transmission-v1", V1), ("transmission-magnet", &magnet)] {
        let torrent = format!("transmission/torrents/{id}.torrent");
        write(
            name,
            b't',
            &[torrent, format!("transmission/resume/{id}.resume")],
        )?;
    }
    for (name, id) in [("rtorrent-v1", V1), ("rtorrent-magnet", &magnet)] {
        let base = format!("rtorrent/{}.torrent", id.to_uppercase());
        write(
            name,
            b'r',
            &["", ".rtorrent", ".libtorrent_resume"].map(|end| format!("{base}{end}")),
        )?;
    }
    let torrent = format!("deluge/state/{V1}.torrent");
    for end in ["", ".protocol4"] {
        let state = format!("deluge/state/torrents.state{end}");
        let resume = format!("qbittorrent/BT_backup/{V1}.fastresume");
        write(
            &format!("deluge{end}"),
            b'd',
            &[state, torrent.clone(), resume],
        )?;
    }
    write(
        "deluge-fastresume",
        b'f',
        &["deluge/state/torrents.fastresume".to_owned()],
    )?;
    write("deluge-labels", b'f', &["deluge/label.conf".to_owned()])
}

fn handshakes() -> io::Result<()> {
    let features = [
        Feature::Dht,
        Feature::Fast,
        Feature::Extended,
        Feature::V2Upgrade,
    ];
    let whole = Handshake {
        reserved: features
            .into_iter()
            .fold(Reserved::default(), Reserved::with),
        info_hash: shoal_metainfo::InfoHash([0xaa; 20]),
        peer_id: PeerId(*b"-SH0100-abcdefghijkl"),
    };
    let whole = whole.encode();
    seed("handshake", "whole", &whole)?;
    seed("handshake", "no-peer-id", &whole[..HANDSHAKE_LENGTH - 20])?;
    seed("handshake", "protocol-only", &whole[..20])?;
    seed(
        "handshake",
        "keep-alive-follows",
        &[&whole[..], &[0; 4]].concat(),
    )?;
    seed("handshake", "http", b"GET /announce HTTP/1.1\r\n\r\n")
}

fn rich_handshake() -> ExtendedHandshake {
    ExtendedHandshake {
        extensions: vec![
            ("lt_donthave".into(), 7),
            ("ut_metadata".into(), 1),
            ("ut_pex".into(), 2),
        ],
        client: Some("Shoal 0.1.0".into()),
        port: Some(6881),
        reqq: Some(500),
        upload_only: true,
        your_ip: Some([127, 0, 0, 1].into()),
        metadata_size: Some(31235),
    }
}

fn extended_handshakes() -> io::Result<()> {
    let target = "extended_handshake";
    let v6 = ExtendedHandshake {
        your_ip: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
        ..ExtendedHandshake::default()
    };
    seed(
        target,
        "rich",
        &extension_handshake::encode(&rich_handshake()),
    )?;
    seed(target, "ipv6", &extension_handshake::encode(&v6))?;
    seed(target, "empty", b"de")?;
    seed(
        target,
        "bep-10",
        b"d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e",
    )?;
    seed(
        target,
        "wrong-types",
        b"d1:mli1ee1:pd1:ai1ee4:reqq3:2501:vi7e6:yourip3:abce",
    )?;
    seed(
        target,
        "unsorted-and-trailing",
        b"d1:v3:abc4:reqqi250e1:pi1eejunk",
    )?;
    seed(
        target,
        "deceptive-client",
        "d1:v19:a\u{202e}b\u{200b}c\u{1b}[31m\u{7f}\r\ne".as_bytes(),
    )
}

fn magnets() -> io::Result<()> {
    const V1: &str = "xt=urn:btih:0123456789abcdef0123456789abcdef01234567";
    const V2: &str =
        "xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";
    let seeds = [
        ("v1", V1.to_owned()),
        ("v2", V2.to_owned()),
        (
            "base32",
            "xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH".to_owned(),
        ),
        (
            "rich",
            format!(
                "{V1}&{V2}&dn=a+b%C3%A9&xl=5&tr=http%3A%2F%2Ft.example%2Fannounce&tr.1=udp://t.example:6969\
                 &ws=https%3A%2F%2Fw.example%2Fd%2F&x.pe=192.0.2.1:6881&x.pe=%5B2001%3Adb8::1%5D:6882&so=0,2,4-8"
            ),
        ),
        (
            "odd",
            format!("{V1}&tr=ftp://t/&tr=&x.pe=h:0&so=3-1&xl=-4&=&novalue&dn=100%"),
        ),
        ("conflict", format!("{V1}&xt=urn:btih:{}", "f".repeat(40))),
    ];
    let link = |query| format!("magnet:?{query}");
    seeds
        .into_iter()
        .try_for_each(|(name, query)| seed("magnet", name, link(query).as_bytes()))
}

fn metalinks() -> io::Result<()> {
    const HASH: &str = "80bc95fd391772fa61c91ed68567f0980bb45fd9";
    let of = |files: &str| {
        format!(
            "<?xml version=\"1.0\"?><metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{files}</metalink>"
        )
    };
    let rich = format!(
        "<file name=\"d/a.iso\"><size>300000</size><hash type=\"sha-1\">{HASH}</hash>\
         <hash type=\"sha-256\">{}</hash><pieces length=\"262144\" type=\"sha-1\"><hash>{HASH}</hash>\
         <hash>{HASH}</hash></pieces><url location=\"de\" priority=\"1\">http://a.example/?x&amp;y</url>\
         <url><![CDATA[https://b.example/]]></url><metaurl mediatype=\"torrent\">http://c.example/t</metaurl></file>\
         <file name=\"b\"/>",
        "0a".repeat(32)
    );
    seed("metalink", "rich", of(&rich).as_bytes())?;
    seed(
        "metalink",
        "bare",
        of("<file name=\"a\"><size>1</size></file>").as_bytes(),
    )?;
    let bomb = "<!DOCTYPE metalink [<!ENTITY a \"aaaa\">]><metalink>&a;</metalink>";
    seed("metalink", "entities", bomb.as_bytes())
}

/// Torrents of every kind, with hashes of nothing in particular: readers cannot tell.
fn torrents() -> io::Result<()> {
    let file = |path: &str, length| SourceFile {
        path: path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect(),
        length,
        ..SourceFile::default()
    };
    let many = vec![
        file("a.txt", 5),
        file("b/c.bin", 40_000),
        file("b/empty", 0),
        file("d", 16_384),
    ];
    for (label, kind) in [("v1", Kind::V1), ("v2", Kind::V2), ("hybrid", Kind::Hybrid)] {
        for (shape, files) in [("single", vec![file("", 20_000)]), ("many", many.clone())] {
            let options = Options {
                kind,
                piece_length: Some(16_384),
                trackers: vec![vec!["http://t.example/announce".into()]],
                web_seeds: vec!["http://w.example/".into()],
                private: true,
                ..Options::default()
            };
            let plan = Plan::new("name".into(), files, options).map_err(io::Error::other)?;
            let hash = PieceHash {
                sha1: plan.needs().sha1.then_some([1; 20]),
                root: plan.needs().blocks.then_some([2; 32]),
            };
            let hashes = vec![hash; plan.layout().piece_count() as usize];
            let torrent = plan.finish(&hashes).map_err(io::Error::other)?;
            seed("metainfo", &format!("{label}-{shape}"), &torrent)?;
        }
    }
    let hostile: &[u8] = b"d4:infod5:filesld6:lengthi5e4:pathl2:..1:aeee4:name1:f12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    seed("metainfo", "climbing", hostile)
}

fn names() -> io::Result<()> {
    let seeds: [(&str, &[u8]); 8] = [
        ("plain", b"a.txt\nb.txt\ndir\0c.txt"),
        ("duplicates", b"a.txt\nA.TXT\na.txt\na (1).txt\na.txt"),
        ("file-and-directory", b"a\na\0b\nA\0B"),
        ("climbing", b"dir\0..\0a\n../a\n..\\a"),
        ("devices", b"CON\nlpt1.txt\nNUL .tar.gz\nCOM\xc2\xb9"),
        (
            "invisible",
            "a\u{202e}txt.exe\na\u{200b}\n\u{feff}\n\u{2028}".as_bytes(),
        ),
        ("not-utf-8", b"\xff\xfe\na\x80b\n\xc3\n\x1b[2J"),
        (
            "long",
            &[
                &[b'x'; 300][..],
                b".tar.gz\n",
                &[b'x'; 300],
                b".tar.gz\n. . .\n",
            ]
            .concat(),
        ),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("names", name, bytes))
}

/// A stream for a torrent of 20 pieces that is cut into chunks of 8 bytes.
fn stream(name: &str, messages: &[Message]) -> io::Result<()> {
    let mut remote = RemoteExtensions::default();
    remote.update(&ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    });
    let mut bytes = vec![20, 7];
    for message in messages {
        encode(message, &remote, &mut bytes);
        if let Message::Piece(header) = message {
            bytes.resize(bytes.len() + header.length as usize, 0xee);
        }
    }
    seed("wire", name, &bytes)
}

fn messages() -> io::Result<()> {
    let piece = PieceIndex(3);
    let request = Request {
        piece,
        begin: 16384,
        length: 40,
    };
    let hashes = HashRequest {
        pieces_root: [0xab; 32],
        base_layer: 1,
        index: 4,
        length: 2,
        proof_layers: 3,
    };
    stream(
        "bep-3",
        &[
            Message::Bitfield(vec![0xff, 0xff, 0xf0]),
            Message::Interested,
            Message::Unchoke,
            Message::Have(piece),
            Message::Request(request),
            Message::Piece(request),
            Message::Cancel(request),
            Message::KeepAlive,
            Message::NotInterested,
            Message::Choke,
            Message::Port(6881),
        ],
    )?;
    stream(
        "bep-6",
        &[
            Message::HaveAll,
            Message::AllowedFast(piece),
            Message::Suggest(piece),
            Message::Reject(request),
            Message::HaveNone,
        ],
    )?;
    let contact = |address: &str| Contact {
        address: address.parse().unwrap_or(([10, 0, 0, 1], 6881).into()),
        flags: ContactFlags::SEED.with(ContactFlags::REACHABLE),
    };
    stream(
        "bep-11",
        &[Message::PeerExchange(PeerExchange {
            added: vec![contact("10.0.0.1:6881"), contact("[2001:db8::1]:6882")],
            dropped: vec![contact("10.0.0.2:6881").address],
        })],
    )?;
    let punch = |kind, address: &str| {
        let address = contact(address).address;
        Message::HolePunch(Some(HolePunch { kind, address }))
    };
    let failed = HolePunchKind::Failed(HolePunchError::NO_SUPPORT);
    stream(
        "bep-55",
        &[
            punch(HolePunchKind::Rendezvous, "10.0.0.1:6881"),
            punch(HolePunchKind::Connect, "[2001:db8::1]:6882"),
            punch(failed, "10.0.0.2:6881"),
        ],
    )?;
    stream(
        "bep-10",
        &[
            Message::ExtendedHandshake(rich_handshake()),
            Message::DontHave(piece),
            Message::Extended {
                id: 2,
                payload: b"d5:added0:e".to_vec(),
            },
        ],
    )?;
    stream(
        "bep-9",
        &[
            Message::Metadata(Metadata::Request { piece: 0 }),
            Message::Metadata(Metadata::Data {
                piece: 0,
                total_bytes: 3,
                bytes: b"abc".as_slice().into(),
            }),
            Message::Metadata(Metadata::Reject { piece: 1 }),
        ],
    )?;
    stream(
        "bep-52",
        &[
            Message::HashRequest(hashes),
            Message::Hashes(Hashes {
                request: hashes,
                hashes: vec![[0xcd; 32]; 5],
            }),
            Message::HashReject(hashes),
        ],
    )?;
    let skipped = [20, 7, 0, 0, 0, 9, 99, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 2];
    seed("wire", "undefined", &skipped)?;
    seed(
        "wire",
        "no-piece-count",
        &[0, 3, 0, 0, 0, 3, 5, 0xff, 0x80, 0, 0, 0, 1, 1],
    )?;
    seed("wire", "too-long", &[20, 0, 0, 0x10, 0, 1, 99])
}

/// A byte for the kind of reply and its status, then the body.
fn tracker_replies() -> io::Result<()> {
    let seeds: [(&str, &[u8]); 8] = [
        (
            "compact",
            b"\0d8:completei5e10:incompletei7e8:intervali1800e12:min intervali60e5:peers12:\x7f\0\0\x01\x1a\xe1\x0a\0\0\x02\0\0e",
        ),
        (
            "compact-ipv6",
            b"\0d8:intervali1800e5:peers0:6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e",
        ),
        (
            "dictionaries",
            b"\0d8:intervali900e5:peersld2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip4:host4:porti1eeee",
        ),
        (
            "everything",
            b"\0d8:completei1e10:downloadedi9e11:external ip4:\x0a\0\0\x0110:incompletei2e8:intervali60e5:peers0:10:tracker id3:abc15:warning message9:a\x1b[31mb\r\ne",
        ),
        ("failure", b"\0d14:failure reason12:unregistered8:retry in5:nevere"),
        ("failure-with-status", b"\x02d14:failure reason4:busy8:retry ini5ee"),
        ("html", b"\x02<html><body>404</body></html>"),
        (
            "scrape",
            b"\x01d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e10:incompletei10ee20:zzzzzzzzzzzzzzzzzzzzdeee",
        ),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("tracker_http", name, bytes))
}

/// Operations: what is asked, over which family, the seed of the exchange, then what happens.
fn tracker_datagrams() -> io::Result<()> {
    /// An answer to our transaction: its action, not forged, its body.
    fn answer(action: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        [&[4, action, 0, length], body].concat()
    }
    let connected = answer(0, b"connection-id"[..8].as_ref());
    let figures = [0u8, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2];
    let peer = [127, 0, 0, 1, 0x1a, 0xe1];
    let announced = answer(1, &[&figures[..], &peer[..]].concat());
    let announce_v4 = [0, 0, 50, 0, 9];
    let again = [&announce_v4[..], &announced].concat();
    let seeds = [
        (
            "announce",
            [&announce_v4[..], &connected, &announced, &again].concat(),
        ),
        (
            "scrape",
            [&[1, 2, 0, 9][..], &connected, &answer(2, &figures)].concat(),
        ),
        (
            "error",
            [&announce_v4[..], &connected, &answer(3, b"go away\x1b[2J")].concat(),
        ),
        (
            "forged-and-short",
            [
                &announce_v4[..],
                &[4, 0, 1, 8],
                b"12345678",
                &answer(0, b"1234"),
            ]
            .concat(),
        ),
        ("silence", [&announce_v4[..], &[0, 5, 0, 5, 0, 5]].concat()),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("tracker_udp", name, bytes))
}

/// Operations: for each side its methods and the lengths of its padding, with what the first one begins; then what happens on the
/// line.
fn encrypted_handshakes() -> io::Result<()> {
    let begin = |offered, allowed| [&[offered, 9, 7, 3][..], b"abc", &[allowed, 20, 241]].concat();
    // Kind, to whom, and where or how much: 2 delivers.
    let (key, answer) = ([2, 1, 105], [2, 0, 247]);
    let seeds = [
        ("rc4", [begin(1, 0), vec![]].concat()),
        ("plaintext", [begin(0, 2), vec![]].concat()),
        ("nothing-in-common", [begin(1, 2), vec![]].concat()),
        (
            "in-parts",
            [begin(0, 1), key.to_vec(), answer.to_vec()].concat(),
        ),
        // The method, the length of padding, the length of the payload.
        ("offer-turned", turned(begin(1, 0), &key, 51, 3)),
        ("pad-length-turned", turned(begin(1, 0), &key, 52, 0x80)),
        ("payload-length-turned", turned(begin(1, 0), &key, 61, 0x80)),
        ("verification-turned", turned(begin(1, 0), &key, 40, 1)),
        ("name-turned", turned(begin(1, 0), &key, 20, 1)),
        (
            "noise-between",
            [begin(1, 0), vec![1, 1, 200], vec![7; 200], vec![96]].concat(),
        ),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("mse", name, bytes))
}

/// The keys are exchanged, and a byte of what the first side says then is turned.
fn turned(begin: Vec<u8>, key: &[u8], at: u8, bits: u8) -> Vec<u8> {
    let everything = [2, 0, 247];
    let turn = [0, 1, at, bits];
    [begin, key.to_vec(), everything.to_vec(), turn.to_vec()].concat()
}

/// The examples of BEP 5 and BEP 44, and what breaks readers that trust lengths.
fn krpc() -> io::Result<()> {
    let nodes6 = [
        &b"d1:rd2:id20:abcdefghij01234567896:nodes638:mnopqrstuvwxyz123456"[..],
        &[
            0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1,
        ],
        b"e1:t2:aa1:y1:re",
    ];
    let seeds: [(&str, &[u8]); 12] = [
        ("ping", b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:y1:qe"),
        (
            "find-node",
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe",
        ),
        (
            "get-peers",
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234566:noseedi1e6:scrapei1ee1:q9:get_peers1:t2:aa1:y1:qe",
        ),
        (
            "announce-peer",
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e4:seedi1e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
        ),
        (
            "get",
            b"d1:ad2:id20:abcdefghij01234567893:seqi4e6:target20:mnopqrstuvwxyz123456e1:q3:get1:t2:aa1:y1:qe",
        ),
        (
            "put",
            b"d1:ad3:casi3e2:id20:abcdefghij01234567891:k32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa4:salt6:foobar3:seqi4e3:sig64:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa5:token1:x1:v12:Hello World!e1:q3:put1:t2:aa1:y1:qe",
        ),
        (
            "samples",
            b"d1:rd2:id20:abcdefghij01234567898:intervali300e3:numi1e7:samples20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
        ),
        (
            "values",
            b"d2:ip6:axje.u1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        ),
        (
            "item",
            b"d1:rd2:id20:abcdefghij01234567893:seqi1e5:token8:aoeusnth1:v12:Hello World!e1:t2:aa1:y1:re",
        ),
        ("nodes6", &nodes6.concat()),
        ("error", b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"),
        ("unknown", b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe"),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("dht_krpc", name, bytes))
}

/// Packets of one connection: the id, then a timestamp, what the other direction took, the window, and both numbers.
fn utp_packets() -> io::Result<()> {
    let rest = b"\x12\x34\0\x0f\x42\x40\0\0\x27\x10\0\x10\0\0\0\x07\0\x03";
    let packet = |first: &[u8], behind: &[u8]| [first, rest, behind].concat();
    let seeds: [(&str, Vec<u8>); 9] = [
        ("syn", packet(b"\x41\0", b"")),
        ("data", packet(b"\x01\0", b"payload")),
        ("fin", packet(b"\x11\0", b"")),
        ("reset", packet(b"\x31\0", b"")),
        (
            "selective",
            packet(b"\x21\x01", b"\0\x08\x05\0\0\x80\0\0\0\x01"),
        ),
        (
            "two-extensions",
            packet(b"\x01\x03", b"\x01\x04\0\0\0\x07\0\x04\xff\0\0\0payload"),
        ),
        ("extension-too-long", packet(b"\x21\x01", b"\0\xff\0\0")),
        (
            "extensions-without-end",
            packet(b"\x21\x02", &b"\x02\0".repeat(40)),
        ),
        (
            "other-protocol",
            b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping".to_vec(),
        ),
    ];
    seeds
        .iter()
        .try_for_each(|(name, bytes)| seed("utp_packet", name, bytes))
}

/// Sequences of operations mean nothing to a reader: these are noise, of which there is enough for every operation to occur.
fn operations() -> io::Result<()> {
    for target in [
        "metadata",
        "mse",
        "dht",
        "peer_session",
        "session",
        "torrent",
        "tracker_schedule",
        "utp_connections",
    ] {
        for (number, length) in [(0u64, 100usize), (1, 500), (2, 1_000), (3, 1_500)] {
            let mut random = fastrand::Rng::with_seed(number);
            let bytes: Vec<u8> = core::iter::repeat_with(|| random.u8(..))
                .take(length)
                .collect();
            seed(target, &format!("noise-{length}"), &bytes)?;
        }
    }
    // A layout, what was negotiated, how it begins; then a flood (15, 5) of one hash request that no tree can answer.
    let flood = [
        1, 1, 1, 1, 1, 0, 0, 0, 1, 15, 5, 0, 27, 0, 0, 0, 200, 200, 63,
    ];
    seed("peer_session", "hash-requests-without-end", &flood)
}

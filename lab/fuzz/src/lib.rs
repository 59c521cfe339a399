//! Fuzz targets: everything that reads what a stranger wrote, and every state machine under any sequence of operations, as
//! functions that panic where a promise is broken.
//!
//! One list serves two runs. On the stable compiler, the tests replay each target's corpus and mutations of it, always
//! the same ones. On nightly, `libfuzzer/` explores each target guided by coverage; what it finds that is worth keeping
//! becomes a file of the corpus.
//!
//! Invariant: a target is a pure function of its input, so that a file of bytes is a whole bug report.

pub mod address_list;
pub mod dht;
pub mod import;
pub mod metadata;
pub mod metainfo;
pub mod mse;
pub mod mutate;
pub mod operations;
pub mod peer_session;
pub mod session;
pub mod torrent;
pub mod tracker;
pub mod utp;
pub mod wire;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its folder in `corpus/` and of its file in `libfuzzer/fuzz_targets/`.
    pub name: &'static str,
    /// Panics where the code under test breaks a promise.
    pub run: fn(&[u8]),
    /// Pieces of its language, for a mutator that does not watch coverage and would not find them.
    pub words: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "address_list",
        run: address_list::address_list,
        words: &[
            b"\n",
            b"# ",
            b"a name:",
            b"1.2.3.0-1.2.3.255",
            b" , 000 , a name",
            b" , 128 , a name",
            b"001.002.003.004 - 255.255.255.255",
            b"1.2.3.4/24",
            b"2001:db8::/32",
            b"::ffff:1.2.3.4",
            b"::-::ff",
            b"\xff\xff\xff\xffP2B\x02",
            b"\xff\xff\xff\xffP2B\x03\0\0\0\x01a\0\0\0\0\x01",
        ],
    },
    Target {
        name: "bencode",
        run: metainfo::bencode,
        words: BENCODE_WORDS,
    },
    Target {
        name: "dht",
        run: dht::dht,
        words: OPERATION_WORDS,
    },
    Target {
        name: "dht_krpc",
        run: dht::krpc,
        words: KRPC_WORDS,
    },
    Target {
        name: "extended_handshake",
        run: wire::extended_handshake,
        words: BENCODE_WORDS,
    },
    Target {
        name: "handshake",
        run: wire::handshake,
        words: &[
            b"\x13BitTorrent protocol",
            b"-SH0100-",
            b"\0\0\0\0\0\x10\0\x15",
        ],
    },
    Target {
        name: "import",
        run: import::import,
        words: IMPORT_WORDS,
    },
    Target {
        name: "local_announce",
        run: tracker::local,
        words: &[
            b"BT-SEARCH * HTTP/1.1\r\n",
            b"Port: 6881\r\n",
            b"Infohash: 6161616161616161616161616161616161616161\r\n",
            b"cookie: ",
        ],
    },
    Target {
        name: "magnet",
        run: metainfo::magnet,
        words: &[
            b"magnet:?",
            b"&xt=urn:btih:",
            b"&xt=urn:btmh:1220",
            b"&dn=",
            b"&tr=http://t.example/",
            b"&ws=",
            b"&x.pe=[::1]:1",
            b"&so=0-4,",
            b"&xl=",
            b"%",
            b"%E2%80%AE",
        ],
    },
    Target {
        name: "metadata",
        run: metadata::search,
        words: OPERATION_WORDS,
    },
    Target {
        name: "metainfo",
        run: metainfo::metainfo,
        words: BENCODE_WORDS,
    },
    Target {
        name: "mse",
        run: mse::mse,
        words: OPERATION_WORDS,
    },
    Target {
        name: "metalink",
        run: metainfo::metalink,
        words: &[
            b"<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">",
            b"</metalink>",
            b"<file name=\"a/b\">",
            b"</file>",
            b"<size>5</size>",
            b"<hash type=\"sha-256\">",
            b"<pieces length=\"262144\" type=\"sha-1\">",
            b"<url priority=\"1\" location=\"de\">http://a.example/",
            b"<metaurl mediatype=\"torrent\">",
            b"<![CDATA[",
            b"]]>",
            b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
            b"&amp;",
            b"&#x41;",
            b"&b;",
            b"<?xml version=\"1.0\"?>",
        ],
    },
    Target {
        name: "names",
        run: metainfo::names,
        words: &[
            b"..",
            b"/",
            b"\\",
            b".",
            b" ",
            b"\0",
            b"\n",
            b"CON",
            b"lpt1.txt",
            b"\xe2\x80\xae",
            b"\xff",
            b"a (1).txt",
        ],
    },
    Target {
        name: "peer_session",
        run: peer_session::peer_session,
        words: OPERATION_WORDS,
    },
    Target {
        name: "session",
        run: session::session,
        words: OPERATION_WORDS,
    },
    Target {
        name: "torrent",
        run: torrent::torrent,
        words: OPERATION_WORDS,
    },
    Target {
        name: "tracker_http",
        run: tracker::http,
        words: TRACKER_WORDS,
    },
    Target {
        name: "tracker_schedule",
        run: tracker::schedule,
        words: OPERATION_WORDS,
    },
    Target {
        name: "tracker_udp",
        run: tracker::udp,
        words: &[
            b"\0\0\0\x01",
            b"\0\0\0\0\0\0\x07\x08",
            b"\x0a\0\0\x01\x1a\xe1",
        ],
    },
    Target {
        name: "utp_connections",
        run: utp::connections,
        words: OPERATION_WORDS,
    },
    Target {
        name: "utp_packet",
        run: utp::packet,
        words: &[
            b"\x01\x01",
            b"\x11\0",
            b"\x21\x01",
            b"\x31\0",
            b"\x41\x02",
            b"\0\x04\xff\xff\xff\xff",
            b"\x01\x00",
            b"\x03\xff",
        ],
    },
    Target {
        name: "wire",
        run: wire::messages,
        words: &[
            b"\0\0\0\0",
            b"\0\0\0\x01",
            b"\0\0\0\x05",
            b"\0\0\0\x0d",
            b"\0\0\0\x31",
            b"\0\0\x01\x0a\x07",
            b"\0\0\0\x06\x14\x03",
            b"\0\0\0\x13\x14\x02d5:added6:\x0a\0\0\x01\x1a\xe1e",
            b"\0\0\0\x10\x14\0d1:mde1:pi80ee",
            b"\0\0\0\x1b\x14\x01d8:msg_typei0e5:piecei0ee",
            b"\0\0\0\x2e\x14\x01d8:msg_typei1e5:piecei0e10:total_sizei3eeabc",
        ],
    },
];

/// Operations are single bytes, and each of them means something. A run of noise is as good as any.
const OPERATION_WORDS: &[&[u8]] = &[
    b"\x04\x82\x14\x55\xff\x06\x20\x10\x88\x3c\x91\x05",
    b"\x09\x01\x0b\x0e\x47\x7a\xe3\x19\xc0\xd2\x02\xb6",
    b"\x0c\x07\x0c\x07\x0c\x07\x0c\x07",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff",
];

/// What DHT contacts say in bencode.
const KRPC_WORDS: &[&[u8]] = &[
    b"d",
    b"l",
    b"e",
    b"i1e",
    b"i-1e",
    b"i9223372036854775807e",
    b"1:ad2:id20:abcdefghij0123456789",
    b"1:rd2:id20:abcdefghij0123456789",
    b"1:t2:aa",
    b"1:y1:q",
    b"1:y1:r",
    b"1:q3:put",
    b"1:q3:get",
    b"1:q9:get_peers",
    b"1:q9:find_node",
    b"1:q13:announce_peer",
    b"1:q17:sample_infohashes",
    b"6:target20:mnopqrstuvwxyz123456",
    b"9:info_hash20:mnopqrstuvwxyz123456",
    b"5:nodes26:mnopqrstuvwxyz123456\x0b\0\0\x01\x1a\xe1",
    b"6:nodes638:mnopqrstuvwxyz123456\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1",
    b"6:valuesl6:\x0b\0\0\x01\x1a\xe1e",
    b"5:token4:abcd",
    b"1:k32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"3:sig64:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"3:seqi1e",
    b"3:casi1e",
    b"4:salt6:foobar",
    b"1:v12:Hello World!",
    b"4:wantl2:n42:n6e",
    b"7:samples0:",
    b"2:ip6:\x0b\0\0\x01\x1a\xe1",
];

/// What trackers say in bencode.
/// The fields of several clients, and opcodes of pickles.
const IMPORT_WORDS: &[&[u8]] = &[
    import::SEPARATOR,
    b"6:pieces",
    b"6:blocks3:all",
    b"6:mtimesl",
    b"8:bitfieldi",
    b"17:uncertain_pieces4:\0\0\0\x01",
    b"12:mapped_filesl",
    b"13:file_priorityl",
    b"5:treesld6:hashes32:",
    b"i0e",
    b"i-4e",
    b"l",
    b"d",
    b"e",
    b"..",
    b"\\",
    b"X\x08\0\0\0torrents",
    b"h\x04",
    b"q\x04",
    b"(",
    b"u",
    b"b",
    b")\x81",
    b".",
];

const TRACKER_WORDS: &[&[u8]] = &[
    b"d",
    b"e",
    b"i1e",
    b"i-1e",
    b"i9223372036854775807e",
    b"8:interval",
    b"12:min interval",
    b"8:complete",
    b"10:incomplete",
    b"10:downloaded",
    b"5:peers",
    b"6:peers6",
    b"2:ip",
    b"4:port",
    b"11:external ip",
    b"10:tracker id",
    b"14:failure reason",
    b"8:retry in",
    b"5:never",
    b"15:warning message",
    b"5:files",
    b"20:aaaaaaaaaaaaaaaaaaaa",
    b"12:\x7f\0\0\x01\x1a\xe1\x7f\0\0\x02\0\0",
];

/// Fragments of bencode and the keys that our readers know.
const BENCODE_WORDS: &[&[u8]] = &[
    b"d",
    b"l",
    b"e",
    b"i",
    b":",
    b"0:",
    b"de",
    b"le",
    b"i0e",
    b"i-1e",
    b"i9223372036854775807e",
    b"1:m",
    b"1:v",
    b"1:p",
    b"4:reqq",
    b"6:yourip",
    b"11:upload_only",
    b"13:metadata_size",
    b"4:info",
    b"4:name",
    b"5:files",
    b"6:length",
    b"6:pieces",
    b"12:piece length",
    b"4:path",
    b"9:file tree",
    b"11:pieces root",
    b"12:piece layers",
    b"12:meta version",
    b"4:attr",
    b"8:announce",
    b"13:announce-list",
    b"8:url-list",
    b"7:private",
];

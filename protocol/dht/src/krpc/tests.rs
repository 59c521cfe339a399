//! The examples of the BEPs, round trips of every message, and what is refused how.

use super::*;
use crate::item::MutableItem;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use shoal_metainfo::bencode::{Limits, decode_canonical};

fn id(text: &[u8; 20]) -> Id {
    Id(*text)
}

fn query(method: Method) -> Message {
    Message {
        transaction: SmallVec::from_slice(b"aa"),
        body: Body::Query(Query {
            id: id(b"abcdefghij0123456789"),
            read_only: false,
            method,
        }),
    }
}

#[test]
fn the_examples_of_bep_5_are_read() {
    let examples: [(&[u8], Method); 4] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Method::Ping),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Method::FindNode {
                target: id(b"mnopqrstuvwxyz123456"),
                want: Want::default(),
            },
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Method::GetPeers {
                info_hash: InfoHash(*b"mnopqrstuvwxyz123456"),
                want: Want::default(),
                noseed: false,
                scrape: false,
            },
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Method::AnnouncePeer {
                info_hash: InfoHash(*b"mnopqrstuvwxyz123456"),
                port: 6881,
                implied_port: true,
                seed: false,
                token: SmallVec::from_slice(b"aoeusnth"),
            },
        ),
    ];
    for (bytes, method) in examples {
        let message = query(method);
        assert_eq!(decode(bytes), Ok(message.clone()));
        assert_eq!(decode(&encode(&message)), Ok(message));
    }
    let values = decode(b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re");
    let Ok(Message {
        body: Body::Reply(reply),
        ..
    }) = values
    else {
        panic!("a reply");
    };
    assert_eq!(reply.token.as_deref(), Some(&b"aoeusnth"[..]));
    assert_eq!(reply.values[0], "97.120.106.101:11893".parse().unwrap());
    let error = decode(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee").unwrap();
    assert_eq!(
        error.body,
        Body::Error {
            code: 201,
            ip: None
        }
    );
}

#[test]
fn every_bad_query_is_answered_with_its_error_and_nothing_else_is() {
    let put = |rest: &str| {
        format!("d1:ad2:id20:abcdefghij0123456789{rest}e1:q3:put1:t2:aa1:y1:qe").into_bytes()
    };
    let key = "a".repeat(32);
    let signature = "b".repeat(64);
    let signed = |salt: usize, seq: i64| {
        let salt = "s".repeat(salt);
        put(&format!(
            "1:k32:{key}4:salt{}:{salt}3:seqi{seq}e3:sig64:{signature}5:token1:x1:vi1e",
            salt.len()
        ))
    };
    let long = format!("5:token1:x1:v1000:{}", "v".repeat(1000));
    let refused: [(&[u8], ErrorCode); 9] = [
        (b"d1:q4:ping1:t2:aa1:y1:qe", ErrorCode::Protocol),
        (b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe", ErrorCode::Protocol),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", ErrorCode::Protocol),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:pong1:t2:aa1:y1:qe", ErrorCode::MethodUnknown),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
            ErrorCode::Protocol,
        ),
        (&put("5:token1:x1:vd1:bi1e1:ai1ee"), ErrorCode::Protocol),
        (&put(&long), ErrorCode::ValueTooLong),
        (&signed(65, 1), ErrorCode::SaltTooLong),
        (&signed(64, -1), ErrorCode::Protocol),
    ];
    for (bytes, code) in refused {
        let fault = decode(bytes).unwrap_err();
        assert_eq!(
            fault.answer,
            Some((SmallVec::from_slice(b"aa"), code)),
            "{fault}"
        );
    }
    assert!(decode(&signed(64, 1)).is_ok());
    let unanswered: [&[u8]; 6] = [
        b"",
        b"i1e",
        b"de",
        b"d1:y1:qe",
        b"d1:rde1:t2:aa1:y1:re",
        &[b'l'; 1501],
    ];
    for bytes in unanswered {
        assert_eq!(decode(bytes).unwrap_err().answer, None);
    }
}

#[test]
fn a_reply_with_more_than_anybody_needs_is_cut() {
    let nodes = vec![b'x'; 26 * 40];
    let mut bytes = b"d1:rd2:id20:abcdefghij01234567895:nodes1040:".to_vec();
    bytes.extend_from_slice(&nodes);
    bytes.extend_from_slice(b"e1:t2:aa1:y1:re");
    let Body::Reply(reply) = decode(&bytes).unwrap().body else {
        panic!("a reply");
    };
    assert_eq!(reply.nodes.len(), MAX_CONTACTS);
}

fn any_address(v6: bool) -> impl Strategy<Value = SocketAddr> {
    (1_u32..0xdfff_ffff, 1_u16..).prop_map(move |(bits, port)| {
        let ip = if v6 {
            let high = u128::from(bits) | 0x2001 << 112;
            IpAddr::V6(Ipv6Addr::from_bits(high))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(bits | 0x0100_0000))
        };
        SocketAddr::new(ip, port)
    })
}

fn any_id() -> impl Strategy<Value = Id> {
    any::<[u8; 20]>().prop_map(Id)
}

fn any_contacts(v6: bool) -> impl Strategy<Value = Vec<Contact>> {
    let contact = (any_id(), any_address(v6)).prop_map(|(id, address)| Contact { id, address });
    prop::collection::vec(contact, 0..=8)
}

fn any_bytes(most: usize) -> impl Strategy<Value = SmallVec<[u8; 8]>> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(SmallVec::from_vec)
}

fn any_want() -> impl Strategy<Value = Want> {
    any::<(bool, bool)>().prop_map(|(v4, v6)| Want { v4, v6 })
}

fn any_item() -> impl Strategy<Value = Item> {
    let value = prop::collection::vec(any::<u8>(), 0..300)
        .prop_map(|bytes| [format!("{}:", bytes.len()).into_bytes(), bytes].concat());
    let salt = prop::collection::vec(any::<u8>(), 0..=64);
    (value, salt, any::<[u8; 32]>(), 0..i64::MAX, any::<bool>()).prop_map(
        |(value, salt, key, seq, mutable)| match mutable {
            false => Item::Immutable(value),
            true => Item::Mutable(MutableItem {
                key: PublicKey(key),
                salt,
                seq,
                value,
                signature: [7; 64],
            }),
        },
    )
}

fn any_method() -> impl Strategy<Value = Method> {
    let hash = || any::<[u8; 20]>().prop_map(InfoHash);
    prop_oneof![
        Just(Method::Ping),
        (any_id(), any_want()).prop_map(|(target, want)| Method::FindNode { target, want }),
        (hash(), any_want(), any::<(bool, bool)>()).prop_map(
            |(info_hash, want, (noseed, scrape))| Method::GetPeers {
                info_hash,
                want,
                noseed,
                scrape
            }
        ),
        (hash(), 1_u16.., any::<(bool, bool)>(), any_bytes(65)).prop_map(
            |(info_hash, port, (implied_port, seed), token)| Method::AnnouncePeer {
                info_hash,
                port,
                implied_port,
                seed,
                token
            }
        ),
        (any_id(), any::<Option<i64>>(), any_want()).prop_map(|(target, seq, want)| Method::Get {
            target,
            seq,
            want
        }),
        (any_item(), any::<Option<i64>>(), any_bytes(65))
            .prop_map(|(item, cas, token)| Method::Put { item, cas, token }),
        (any_id(), any_want()).prop_map(|(target, want)| Method::SampleInfohashes { target, want }),
    ]
}

fn any_item_reply() -> impl Strategy<Value = Option<Box<ItemReply>>> {
    prop::option::of((any_item(), 0..i64::MAX)).prop_map(|item| {
        item.map(|(item, seq)| {
            Box::new(match item {
                Item::Immutable(value) => ItemReply {
                    value: Some(value),
                    ..ItemReply::default()
                },
                Item::Mutable(item) => ItemReply {
                    value: (seq % 2 == 0).then_some(item.value),
                    key: Some(item.key),
                    seq: Some(item.seq),
                    signature: Some(item.signature),
                },
            })
        })
    })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let samples = prop::collection::vec(any::<[u8; 20]>().prop_map(InfoHash), 0..8);
    let samples = (samples, any::<u32>(), 0..=MAX_SAMPLE_INTERVAL_S).prop_map(
        |(info_hashes, total, interval_s)| Samples {
            info_hashes,
            total,
            interval_s,
        },
    );
    (
        (any_id(), prop::option::of(any_address(false))),
        (any_contacts(false), any_contacts(true)),
        prop::option::of(any_bytes(65)),
        prop::collection::vec(any_address(true), 0..5),
        prop::option::of(Just(Box::new(Scrape::default()))),
        (any_item_reply(), prop::option::of(samples)),
    )
        .prop_map(
            |((id, ip), (nodes, nodes6), token, values, scrape, (item, samples))| Reply {
                id,
                ip,
                nodes,
                nodes6,
                token,
                values,
                scrape,
                item,
                samples,
            },
        )
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any_id(), any::<bool>(), any_method()).prop_map(|(id, read_only, method)| {
            Body::Query(Query {
                id,
                read_only,
                method,
            })
        }),
        any_reply().prop_map(|reply| Body::Reply(Box::new(reply))),
        (any::<i64>(), prop::option::of(any_address(true)))
            .prop_map(|(code, ip)| Body::Error { code, ip }),
    ]
}

proptest! {
    #[test]
    fn every_message_is_canonical_and_is_read_back(transaction in any_bytes(33), body in any_body()) {
        let message = Message { transaction, body };
        let bytes = encode(&message);
        prop_assert!(decode_canonical(&bytes, Limits::REMOTE).is_ok());
        prop_assume!(bytes.len() <= MAX_DATAGRAM_BYTES);
        let nameless = encode_anonymously(&message);
        prop_assert!(decode_canonical(&nameless, Limits::REMOTE).is_ok());
        prop_assert_eq!(nameless.len() + "1:v4:SH__".len(), bytes.len());
        prop_assert_eq!(decode(&nameless), Ok(message.clone()));
        prop_assert_eq!(decode(&bytes), Ok(message));
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}

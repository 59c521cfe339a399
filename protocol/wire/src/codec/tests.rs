//! Vectors written by hand, round trips, and every limit at and beyond it.

use super::*;
use crate::extension::{Extension, LOCAL_DONT_HAVE, LOCAL_METADATA, RemoteExtensions};
use crate::message::{ExtendedHandshake, HashRequest, Hashes, Message, Request};
use crate::metadata::{MAX_METADATA_PAYLOAD, Metadata};
use proptest::prelude::*;
use shoal_metainfo::PieceIndex;

/// A remote that chose our own ids, so that what is sent to it is what we would receive.
fn mirror() -> RemoteExtensions {
    let mut remote = RemoteExtensions::default();
    remote.update(&ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    });
    remote
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, &mirror(), &mut out);
    out
}

fn decoder() -> Decoder {
    Decoder::new(Limits::default())
}

/// The first four bytes of a message of `length` bytes, and what follows.
fn frame(length: u32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes(), rest].concat()
}

/// What becomes of a message as soon as its prefix and `start` are there.
fn judge(limits: Limits, length: u32, start: &[u8]) -> Result<Decoded, DecodeError> {
    Decoder::new(limits).decode(&frame(length, start))
}

fn accepted(limits: Limits, length: u32, start: &[u8]) -> bool {
    judge(limits, length, start).is_ok()
}

const REQUEST: Request = Request {
    piece: PieceIndex(0x0102_0304),
    begin: 0x4000,
    length: 0x2000,
};

fn fair_hash_request() -> HashRequest {
    HashRequest {
        pieces_root: [0xab; 32],
        base_layer: 1,
        index: 4,
        length: 2,
        proof_layers: 3,
    }
}

#[test]
fn messages_written_by_hand_are_read_and_written_back() {
    let numbers = [1, 2, 3, 4, 0, 0, 0x40, 0, 0, 0, 0x20, 0];
    let hash_numbers = [0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3];
    let three = |id: u8| [&[0, 0, 0, 13, id][..], &numbers].concat();
    let hash =
        |id: u8, length: u8| [&[0, 0, 0, length, id][..], &[0xab; 32], &hash_numbers].concat();
    let list = [[0xcd; 32]; 5];
    let vectors: Vec<(Message, Vec<u8>)> = vec![
        (Message::KeepAlive, vec![0, 0, 0, 0]),
        (Message::Choke, vec![0, 0, 0, 1, 0]),
        (Message::Unchoke, vec![0, 0, 0, 1, 1]),
        (Message::Interested, vec![0, 0, 0, 1, 2]),
        (Message::NotInterested, vec![0, 0, 0, 1, 3]),
        (
            Message::Have(PieceIndex(258)),
            vec![0, 0, 0, 5, 4, 0, 0, 1, 2],
        ),
        (
            Message::Bitfield(vec![0xff, 0x80]),
            vec![0, 0, 0, 3, 5, 0xff, 0x80],
        ),
        (Message::Request(REQUEST), three(6)),
        (
            Message::Piece(REQUEST),
            vec![0, 0, 0x20, 9, 7, 1, 2, 3, 4, 0, 0, 0x40, 0],
        ),
        (Message::Cancel(REQUEST), three(8)),
        (Message::Port(6881), vec![0, 0, 0, 3, 9, 0x1a, 0xe1]),
        (
            Message::Suggest(PieceIndex(7)),
            vec![0, 0, 0, 5, 0x0d, 0, 0, 0, 7],
        ),
        (Message::HaveAll, vec![0, 0, 0, 1, 0x0e]),
        (Message::HaveNone, vec![0, 0, 0, 1, 0x0f]),
        (Message::Reject(REQUEST), three(0x10)),
        (
            Message::AllowedFast(PieceIndex(7)),
            vec![0, 0, 0, 5, 0x11, 0, 0, 0, 7],
        ),
        (
            Message::ExtendedHandshake(ExtendedHandshake {
                port: Some(80),
                ..ExtendedHandshake::default()
            }),
            [&[0, 0, 0, 16, 20, 0][..], b"d1:mde1:pi80ee"].concat(),
        ),
        (
            Message::DontHave(PieceIndex(9)),
            vec![0, 0, 0, 6, 20, LOCAL_DONT_HAVE, 0, 0, 0, 9],
        ),
        (
            Message::Metadata(Metadata::Data {
                piece: 0,
                total_bytes: 3,
                bytes: b"abc".as_slice().into(),
            }),
            [
                &[0, 0, 0, 46, 20, LOCAL_METADATA][..],
                b"d8:msg_typei1e5:piecei0e10:total_sizei3eeabc",
            ]
            .concat(),
        ),
        (
            Message::Extended {
                id: 200,
                payload: b"abc".to_vec(),
            },
            [&[0, 0, 0, 5, 20, 200][..], b"abc"].concat(),
        ),
        (Message::HashRequest(fair_hash_request()), hash(21, 49)),
        (
            Message::Hashes(Hashes {
                request: fair_hash_request(),
                hashes: list.to_vec(),
            }),
            [&hash(22, 49 + 5 * 32)[..], list.as_flattened()].concat(),
        ),
        (Message::HashReject(fair_hash_request()), hash(23, 49)),
        (Message::Unknown(99), vec![0, 0, 0, 1, 99]),
    ];
    for (message, bytes) in vectors {
        assert_eq!(bytes_of(&message), bytes, "{message:?}");
        let consumed = bytes.len();
        let decoded = decoder().decode(&bytes);
        assert_eq!(decoded, Ok(Decoded::Message { consumed, message }));
    }
}

#[test]
fn a_lost_piece_is_told_under_the_remotes_id_or_not_at_all() {
    let mut out = Vec::new();
    let message = Message::DontHave(PieceIndex(9));
    encode(&message, &RemoteExtensions::default(), &mut out);
    assert_eq!(out, []);
    let mut remote = RemoteExtensions::default();
    remote.update(&ExtendedHandshake {
        extensions: vec![("lt_donthave".into(), 77)],
        ..ExtendedHandshake::default()
    });
    encode(&message, &remote, &mut out);
    assert_eq!(out, [0, 0, 0, 6, 20, 77, 0, 0, 0, 9]);
}

#[test]
fn a_block_is_left_to_the_driver() {
    let mut bytes = bytes_of(&Message::Piece(Request {
        length: 5,
        ..REQUEST
    }));
    bytes.extend(b"abcde");
    bytes.extend(bytes_of(&Message::Choke));
    let mut decoder = decoder();
    let Ok(Decoded::Message {
        consumed,
        message: Message::Piece(header),
    }) = decoder.decode(&bytes)
    else {
        panic!("no block");
    };
    assert_eq!((consumed, header.length), (PIECE_HEADER_LENGTH, 5));
    let next = decoder.decode(&bytes[consumed + 5..]);
    assert_eq!(
        next,
        Ok(Decoded::Message {
            consumed: 5,
            message: Message::Choke
        })
    );
}

#[test]
fn what_nobody_defined_is_skipped_as_it_comes() {
    let mut decoder = decoder();
    let unknown = Message::Unknown(42);
    let start = frame(7, &[42]);
    assert_eq!(
        decoder.decode(&start),
        Ok(Decoded::Message {
            consumed: 5,
            message: unknown
        })
    );
    assert_eq!(decoder.decode(&[]), Ok(Decoded::Incomplete { need: 1 }));
    assert_eq!(
        decoder.decode(&[1, 2]),
        Ok(Decoded::Skipped { consumed: 2 })
    );
    let rest = [&[3, 4, 5, 6][..], &[0, 0, 0, 0]].concat();
    assert_eq!(decoder.decode(&rest), Ok(Decoded::Skipped { consumed: 4 }));
    let alive = Message::KeepAlive;
    assert_eq!(
        decoder.decode(&rest[4..]),
        Ok(Decoded::Message {
            consumed: 4,
            message: alive
        })
    );
}

#[test]
fn a_wrong_fixed_length_fails_before_the_payload_is_there() {
    let fixed = [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 4),
        (6, 12),
        (8, 12),
        (9, 2),
        (13, 4),
        (14, 0),
        (15, 0),
        (16, 12),
        (17, 4),
        (21, 48),
        (23, 48),
    ];
    for (id, payload) in fixed {
        let length = payload + 1;
        assert!(accepted(Limits::default(), length, &[id]), "{id}");
        let wrong = [length + 1, length.saturating_sub(1).max(1)];
        for wrong in wrong.into_iter().filter(|&wrong| wrong != length) {
            let error = judge(Limits::default(), wrong, &[id]);
            let (length, least, most) = (wrong - 1, payload, payload);
            assert_eq!(
                error,
                Err(DecodeError::PayloadLength {
                    id,
                    length,
                    least,
                    most
                })
            );
        }
    }
}

#[test]
fn no_message_is_longer_than_the_longest() {
    assert!(accepted(Limits::default(), MAX_MESSAGE_LENGTH, &[]));
    assert!(accepted(Limits::default(), MAX_MESSAGE_LENGTH, &[99]));
    for length in [MAX_MESSAGE_LENGTH + 1, u32::MAX] {
        let error = judge(Limits::default(), length, &[]);
        assert_eq!(error, Err(DecodeError::MessageLength(length)));
    }
}

#[test]
fn a_bitfield_is_as_long_as_the_torrent_says() {
    let of = |pieces| Limits {
        piece_count: Some(pieces),
    };
    for (pieces, length, right) in [
        (9, 2, false),
        (9, 3, true),
        (9, 4, false),
        (8, 2, true),
        (8, 3, false),
        (0, 1, true),
        (0, 2, false),
    ] {
        assert_eq!(
            accepted(of(pieces), length, &[5]),
            right,
            "{pieces} {length}"
        );
    }
    let longest = 1 + MAX_PIECES / 8;
    assert!(accepted(Limits::default(), longest, &[5]));
    assert!(!accepted(Limits::default(), longest + 1, &[5]));
    let mut decoder = decoder();
    decoder.set_limits(of(9));
    assert!(decoder.decode(&frame(2, &[5, 0xff])).is_err());
}

#[test]
fn a_blocks_payload_is_bounded() {
    for (length, right) in [
        (8, false),
        (9, true),
        (9 + MAX_BLOCK_PAYLOAD, true),
        (10 + MAX_BLOCK_PAYLOAD, false),
    ] {
        assert_eq!(accepted(Limits::default(), length, &[7]), right, "{length}");
    }
}

#[test]
fn extension_messages_are_bounded_by_their_kind() {
    for (id, payload, right) in [
        (0, MAX_EXTENDED_HANDSHAKE, true),
        (0, MAX_EXTENDED_HANDSHAKE + 1, false),
        (200, 0, true),
        (200, MAX_EXTENDED_PAYLOAD, true),
        (200, MAX_EXTENDED_PAYLOAD + 1, false),
        (LOCAL_METADATA, MAX_METADATA_PAYLOAD, true),
        (LOCAL_METADATA, MAX_METADATA_PAYLOAD + 1, false),
        (LOCAL_DONT_HAVE, 3, false),
        (LOCAL_DONT_HAVE, 4, true),
        (LOCAL_DONT_HAVE, 5, false),
    ] {
        assert_eq!(
            accepted(Limits::default(), payload + 2, &[20, id]),
            right,
            "{id} {payload}"
        );
    }
    assert!(!accepted(Limits::default(), 1, &[20]), "no extension id");
    assert!(!accepted(
        Limits::default(),
        MAX_EXTENDED_PAYLOAD + 3,
        &[20]
    ));
}

#[test]
fn hashes_are_bounded_and_as_many_as_were_asked_for() {
    let longest = 49 + 32 * (MAX_REQUEST_LENGTH + MAX_HEIGHT);
    for (length, right) in [
        (48, false),
        (49, true),
        (longest, true),
        (longest + 1, false),
    ] {
        assert_eq!(
            accepted(Limits::default(), length, &[22]),
            right,
            "{length}"
        );
    }
    let answer = |count| {
        let request = fair_hash_request();
        bytes_of(&Message::Hashes(Hashes {
            request,
            hashes: vec![[1; 32]; count],
        }))
    };
    assert!(decoder().decode(&answer(5)).is_ok());
    assert!(matches!(
        decoder().decode(&answer(4)),
        Err(DecodeError::Hashes(_))
    ));
    let mut crooked = answer(5);
    crooked[3] += 1;
    crooked.push(0);
    assert!(matches!(
        decoder().decode(&crooked),
        Err(DecodeError::PayloadLength { .. })
    ));
}

#[test]
fn the_longest_frame_holds_every_message() {
    let pieces = |count| Limits {
        piece_count: Some(count),
    };
    assert_eq!(pieces(1).longest_frame(), 4 + 2 + 64 * 1024);
    assert_eq!(Limits::default().longest_frame(), 4 + 1 + 256 * 1024);
    let need = judge(pieces(1), 2 + MAX_EXTENDED_PAYLOAD, &[20, 200]);
    assert_eq!(
        need,
        Ok(Decoded::Incomplete {
            need: pieces(1).longest_frame()
        })
    );
}

fn any_request() -> impl Strategy<Value = Request> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Request {
        piece: PieceIndex(piece),
        begin,
        length,
    })
}

fn any_hash_request() -> impl Strategy<Value = HashRequest> {
    (any::<[u8; 32]>(), any::<[u32; 4]>()).prop_map(|(pieces_root, numbers)| HashRequest {
        pieces_root,
        base_layer: numbers[0],
        index: numbers[1],
        length: numbers[2],
        proof_layers: numbers[3],
    })
}

fn any_hashes() -> impl Strategy<Value = Hashes> {
    let fair = (any::<[u8; 32]>(), 0u32..20, 0u32..1000, 1u32..=9, 0u32..=30);
    fair.prop_map(|(pieces_root, base_layer, at, log, proof_layers)| {
        let request = HashRequest {
            pieces_root,
            base_layer,
            index: at << log,
            length: 1 << log,
            proof_layers,
        };
        let hashes = vec![pieces_root; request.hash_count() as usize];
        Hashes { request, hashes }
    })
}

fn any_extended_handshake() -> impl Strategy<Value = ExtendedHandshake> {
    let names = proptest::collection::btree_map("[a-z_]{1,32}", any::<u8>(), 0..8);
    let client = proptest::option::of("[!-~]{1,64}");
    let numbers = (
        proptest::option::of(1u16..),
        proptest::option::of(1u32..),
        proptest::option::of(1u32..=crate::extended_handshake::MAX_METADATA_SIZE),
    );
    let address = proptest::option::of(any::<core::net::IpAddr>());
    (names, client, numbers, any::<bool>(), address).prop_map(
        |(names, client, (port, reqq, metadata_size), upload_only, address)| ExtendedHandshake {
            extensions: names.into_iter().collect(),
            client,
            port,
            reqq,
            upload_only,
            your_ip: address.map(|address| address.to_canonical()),
            metadata_size,
        },
    )
}

/// The id of an extended message that is none of ours, and no handshake.
fn foreign_id() -> impl Strategy<Value = u8> {
    let ours = |id: u8| {
        Extension::ALL
            .iter()
            .any(|extension| extension.local_id() == id)
    };
    (1u8..).prop_filter("an id of ours", move |&id| !ours(id))
}

/// Every message, as one that the decoder would accept.
fn any_message() -> impl Strategy<Value = Message> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..300);
    let piece = || any::<u32>().prop_map(PieceIndex);
    let block =
        (any_request(), 0u32..2000).prop_map(|(request, length)| Request { length, ..request });
    prop_oneof![
        proptest::sample::select(vec![
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::HaveAll,
            Message::HaveNone,
        ]),
        piece().prop_map(Message::Have),
        payload().prop_map(Message::Bitfield),
        any_request().prop_map(Message::Request),
        block.prop_map(Message::Piece),
        any_request().prop_map(Message::Cancel),
        any::<u16>().prop_map(Message::Port),
        piece().prop_map(Message::Suggest),
        any_request().prop_map(Message::Reject),
        piece().prop_map(Message::AllowedFast),
        any_extended_handshake().prop_map(Message::ExtendedHandshake),
        piece().prop_map(Message::DontHave),
        any::<u32>().prop_map(|piece| Message::Metadata(Metadata::Request { piece })),
        any::<u32>().prop_map(|piece| Message::Metadata(Metadata::Reject { piece })),
        (foreign_id(), payload()).prop_map(|(id, payload)| Message::Extended { id, payload }),
        any_hash_request().prop_map(Message::HashRequest),
        any_hashes().prop_map(Message::Hashes),
        any_hash_request().prop_map(Message::HashReject),
        (24u8..).prop_map(Message::Unknown),
    ]
}

/// A message on the wire, with the payload of a block or of an undefined message.
fn with_payload(message: &Message, payload_length: usize) -> Vec<u8> {
    let mut bytes = bytes_of(message);
    match message {
        Message::Piece(header) => bytes.resize(bytes.len() + header.length as usize, 0xee),
        Message::Unknown(_) => {
            bytes.resize(bytes.len() + payload_length, 0xdd);
            let length = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }
        _ => {}
    }
    bytes
}

/// The messages in `stream` when it arrives in chunks of `chunk_lengths`, over and over.
fn drive(stream: &[u8], chunk_lengths: &[usize]) -> Result<Vec<Message>, DecodeError> {
    let mut decoder = decoder();
    let (mut messages, mut buffer, mut payload) = (Vec::new(), Vec::new(), 0);
    let (mut arrived, mut chunks) = (0, chunk_lengths.iter().cycle());
    while arrived < stream.len() {
        let chunk = chunks.next().unwrap();
        let end = (arrived + chunk).min(stream.len());
        buffer.extend_from_slice(&stream[arrived..end]);
        arrived = end;
        loop {
            let taken = payload.min(buffer.len());
            buffer.drain(..taken);
            payload -= taken;
            if payload > 0 {
                break;
            }
            match decoder.decode(&buffer)? {
                Decoded::Message { consumed, message } => {
                    buffer.drain(..consumed);
                    if let Message::Piece(header) = &message {
                        payload = header.length as usize;
                    }
                    messages.push(message);
                }
                Decoded::Skipped { consumed } => {
                    assert!(consumed > 0);
                    buffer.drain(..consumed);
                }
                Decoded::Incomplete { need } => {
                    assert!(need > buffer.len() && need <= Limits::default().longest_frame());
                    break;
                }
            }
        }
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn every_message_is_read_back_as_written(message in any_message()) {
        let bytes = bytes_of(&message);
        let consumed = bytes.len();
        prop_assert_eq!(decoder().decode(&bytes), Ok(Decoded::Message { consumed, message }));
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter(
        sent in proptest::collection::vec((any_message(), 0usize..500), 0..12),
        chunk_lengths in proptest::collection::vec(1usize..400, 1..20),
    ) {
        let stream: Vec<u8> = sent.iter().flat_map(|(message, payload)| with_payload(message, *payload)).collect();
        let messages: Vec<Message> = sent.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(drive(&stream, &[stream.len().max(1)]), Ok(messages.clone()));
        prop_assert_eq!(drive(&stream, &[1]), Ok(messages.clone()));
        prop_assert_eq!(drive(&stream, &chunk_lengths), Ok(messages));
    }

    #[test]
    fn nothing_incomplete_is_a_message(message in any_message(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&message);
        let cut = cut.index(bytes.len());
        let Ok(Decoded::Incomplete { need }) = decoder().decode(&bytes[..cut]) else {
            return Err(TestCaseError::fail("not incomplete"));
        };
        prop_assert!(need > cut && need <= bytes.len());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        frames in proptest::collection::vec((0u32..80, 0u8..26, proptest::collection::vec(any::<u8>(), 0..80)), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        chunk in 1usize..64,
    ) {
        let framed = frames.iter().flat_map(|(length, id, rest)| frame(*length, &[&[*id], &rest[..]].concat()));
        let stream: Vec<u8> = framed.chain(noise.iter().copied()).collect();
        prop_assert_eq!(drive(&stream, &[chunk]), drive(&stream, &[stream.len().max(1)]));
        let _ = drive(&noise, &[chunk]);
    }
}

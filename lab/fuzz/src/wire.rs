//! What a peer sends: the handshake, messages, the extension handshake.
//!
//! Invariant: as for the whole crate.

use shoal_wire::handshake::{HANDSHAKE_LENGTH, Progress};
use shoal_wire::{
    DecodeError, Decoded, Decoder, ExtendedHandshake, Extension, Handshake, Limits, Message,
    RemoteExtensions, encode, extended_handshake as extension_handshake,
};

/// A handshake is judged the same however much of it has arrived, and is written as it was read.
pub fn handshake(input: &[u8]) {
    let whole = Handshake::decode(input);
    for length in 0..=input.len().min(HANDSHAKE_LENGTH) {
        match Handshake::decode(&input[..length]) {
            Err(error) => assert_eq!(Err(error), whole, "an error stays the same error"),
            Ok(Progress::Begun) => assert!(length < 48),
            Ok(Progress::Opened { info_hash, .. }) => assert_eq!(info_hash.0, input[28..48]),
            Ok(Progress::Complete(handshake)) => {
                assert_eq!(handshake.encode(), input[..HANDSHAKE_LENGTH]);
            }
        }
    }
}

/// What an extension handshake says is bounded, and saying it again says the same.
pub fn extended_handshake(input: &[u8]) {
    let Ok(handshake) = extension_handshake::decode(input) else {
        return;
    };
    check_bounds(&handshake);
    let again = extension_handshake::encode(&handshake);
    assert_eq!(extension_handshake::decode(&again), Ok(ordered(handshake)));
}

fn check_bounds(handshake: &ExtendedHandshake) {
    assert!(handshake.extensions.len() <= extension_handshake::MAX_EXTENSIONS);
    for (name, _) in &handshake.extensions {
        assert!(name.len() <= extension_handshake::MAX_EXTENSION_NAME);
    }
    if let Some(client) = &handshake.client {
        assert!(!client.is_empty() && client.len() <= extension_handshake::MAX_CLIENT_NAME);
        assert!(!client.contains(char::is_control));
    }
    assert!(
        handshake
            .metadata_size
            .is_none_or(|size| size <= extension_handshake::MAX_METADATA_SIZE)
    );
    assert!(handshake.port != Some(0) && handshake.reqq != Some(0));
}

/// The extensions in the order in which they are written.
fn ordered(mut handshake: ExtendedHandshake) -> ExtendedHandshake {
    handshake.extensions.sort();
    handshake
}

/// A stream of messages is the same however it is cut, no decoder asks for more than it may, and every message is read
/// back as it was written. The first byte chooses how many pieces the torrent has, the second how the stream is cut.
pub fn messages(input: &[u8]) {
    let Some((&[pieces, cut], stream)) = input.split_first_chunk() else {
        return;
    };
    let limits = Limits {
        piece_count: (pieces > 0).then(|| u32::from(pieces)),
    };
    let (whole, fault) = drive(limits, stream, stream.len().max(1));
    for chunk in [1, 1 + usize::from(cut)] {
        assert_eq!(drive(limits, stream, chunk), (whole.clone(), fault.clone()));
    }
    // A message of hole punching that means nothing is never sent.
    let sent = |message: &Message| *message != Message::HolePunch(None);
    for message in whole.into_iter().filter(sent) {
        check_round_trip(limits, message);
    }
}

/// The messages of a stream that arrives in chunks, and the fault that ends it, if one does.
fn drive(limits: Limits, stream: &[u8], chunk: usize) -> (Vec<Message>, Option<DecodeError>) {
    let mut decoder = Decoder::new(limits);
    let mut messages = Vec::new();
    let (mut at, mut arrived, mut payload) = (0, 0, 0);
    while arrived < stream.len() {
        arrived = (arrived + chunk).min(stream.len());
        loop {
            let taken = payload.min(arrived - at);
            at += taken;
            payload -= taken;
            if payload > 0 {
                break;
            }
            match decoder.decode(&stream[at..arrived]) {
                Err(fault) => return (messages, Some(fault)),
                Ok(Decoded::Incomplete { need }) => {
                    assert!(need > arrived - at && need <= limits.longest_frame());
                    break;
                }
                Ok(Decoded::Skipped { consumed }) => {
                    assert!(consumed > 0 && consumed <= arrived - at);
                    at += consumed;
                }
                Ok(Decoded::Message { consumed, message }) => {
                    assert!(consumed > 0 && consumed <= arrived - at);
                    at += consumed;
                    if let Message::Piece(header) = message {
                        payload = header.length as usize;
                    }
                    messages.push(message);
                }
            }
        }
    }
    (messages, None)
}

fn check_round_trip(limits: Limits, message: Message) {
    let message = match message {
        Message::ExtendedHandshake(handshake) => Message::ExtendedHandshake(ordered(handshake)),
        other => other,
    };
    let mut remote = RemoteExtensions::default();
    remote.update(&ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    });
    let mut bytes = Vec::new();
    encode(&message, &remote, &mut bytes);
    let consumed = bytes.len();
    let again = Decoder::new(limits).decode(&bytes);
    assert_eq!(again, Ok(Decoded::Message { consumed, message }));
}

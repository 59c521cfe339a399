//! The messages of `ut_metadata` (BEP 9): a bencoded dictionary and, of a data message, the bytes of a piece behind it.
//!
//! Invariant: the bytes of a decoded data message are exactly as many as its piece has in metadata of its total size; whether the
//! size and the bytes are true is for whoever has the info hash.

use crate::extended_handshake::MAX_METADATA_SIZE;
use bytes::Bytes;
use shoal_metainfo::bencode::{self, Bencode, Value};

/// Bytes of every piece of metadata but the last (BEP 9).
pub const METADATA_PIECE_LENGTH: u32 = 16 * 1024;

/// The longest dictionary before the bytes: three keys take 60 bytes; the rest is for keys that we do not know.
pub const MAX_METADATA_HEADER: u32 = 1024;

/// The longest payload of a `ut_metadata` message.
pub const MAX_METADATA_PAYLOAD: u32 = MAX_METADATA_HEADER + METADATA_PIECE_LENGTH;

/// Two levels would be enough; tokens for the keys that fit.
const LIMITS: bencode::Limits = bencode::Limits {
    bytes: MAX_METADATA_PAYLOAD as usize,
    tokens: 256,
    depth: 8,
};

/// A message of `ut_metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// 0: send me this piece.
    Request {
        /// Counted from 0; not judged yet.
        piece: u32,
    },
    /// 1: here it is.
    Data {
        /// Counted from 0.
        piece: u32,
        /// Bytes of the whole metadata, as the sender says.
        total_bytes: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// 2: I do not have it, or do not send it.
    Reject {
        /// The piece asked for.
        piece: u32,
    },
    /// A type that nobody defined, to be ignored (BEP 9). Never sent.
    Unknown,
}

/// Why a `ut_metadata` message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not bencode, or beyond the limits.
    #[error(transparent)]
    Bencode(#[from] bencode::DecodeError),
    /// A key that every message has, or a data message, is missing or out of range.
    #[error("its `{0}` is missing or out of range")]
    Field(&'static str),
    /// The bytes are not as many as the piece has.
    #[error("piece {piece} of {total_bytes} bytes of metadata comes with {found} bytes")]
    Length {
        /// The piece.
        piece: u32,
        /// The size that the sender claims.
        total_bytes: u32,
        /// The bytes that came.
        found: usize,
    },
}

/// How many pieces metadata of `total_bytes` has.
#[must_use]
pub const fn metadata_piece_count(total_bytes: u32) -> u32 {
    total_bytes.div_ceil(METADATA_PIECE_LENGTH)
}

/// How many bytes `piece` of metadata of `total_bytes` has; `None` where there is no such piece.
#[must_use]
pub fn metadata_piece_length(piece: u32, total_bytes: u32) -> Option<u32> {
    let begin = piece.checked_mul(METADATA_PIECE_LENGTH)?;
    let left = total_bytes.checked_sub(begin).filter(|&left| left > 0)?;
    Some(left.min(METADATA_PIECE_LENGTH))
}

/// Reads the payload that follows our id of `ut_metadata`.
pub(crate) fn decode(payload: &[u8]) -> Result<Metadata, MetadataError> {
    let document = bencode::decode(payload, LIMITS)?;
    let root = document.root();
    let number = |key| field(root, key).ok_or(MetadataError::Field(key));
    let kind = root.get("msg_type").and_then(|kind| kind.as_int());
    Ok(match kind.ok_or(MetadataError::Field("msg_type"))? {
        0 => Metadata::Request {
            piece: number("piece")?,
        },
        1 => data(number("piece")?, number("total_size")?, document.rest())?,
        2 => Metadata::Reject {
            piece: number("piece")?,
        },
        _ => Metadata::Unknown,
    })
}

fn field(root: Value<'_>, key: &str) -> Option<u32> {
    u32::try_from(root.get(key)?.as_int()?).ok()
}

fn data(piece: u32, total_bytes: u32, bytes: &[u8]) -> Result<Metadata, MetadataError> {
    if total_bytes == 0 || total_bytes > MAX_METADATA_SIZE {
        return Err(MetadataError::Field("total_size"));
    }
    let expected = metadata_piece_length(piece, total_bytes).map(|length| length as usize);
    if expected != Some(bytes.len()) {
        let found = bytes.len();
        return Err(MetadataError::Length {
            piece,
            total_bytes,
            found,
        });
    }
    Ok(Metadata::Data {
        piece,
        total_bytes,
        bytes: Bytes::copy_from_slice(bytes),
    })
}

/// The dictionary of a message; the bytes of a data message go behind it.
pub(crate) fn header(message: &Metadata) -> Vec<u8> {
    let number = |number: u32| Bencode::Int(number.into());
    let entries = match *message {
        Metadata::Request { piece } => vec![("msg_type", number(0)), ("piece", number(piece))],
        Metadata::Data {
            piece, total_bytes, ..
        } => vec![
            ("msg_type", number(1)),
            ("piece", number(piece)),
            ("total_size", number(total_bytes)),
        ],
        Metadata::Reject { piece } => vec![("msg_type", number(2)), ("piece", number(piece))],
        Metadata::Unknown => vec![("msg_type", number(u32::from(u8::MAX)))],
    };
    Bencode::dict(entries).encode()
}

/// The bytes behind the dictionary.
pub(crate) fn body(message: &Metadata) -> &[u8] {
    match message {
        Metadata::Data { bytes, .. } => bytes,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_bep_9() {
        let request = b"d8:msg_typei0e5:piecei0ee";
        assert_eq!(decode(request), Ok(Metadata::Request { piece: 0 }));
        assert_eq!(header(&Metadata::Request { piece: 0 }), request);
        let reject = b"d8:msg_typei2e5:piecei0ee";
        assert_eq!(decode(reject), Ok(Metadata::Reject { piece: 0 }));
        assert_eq!(header(&Metadata::Reject { piece: 0 }), reject);
        // The BEP's total size: piece 0 is a whole piece.
        let mut data = b"d8:msg_typei1e5:piecei0e10:total_sizei34256ee".to_vec();
        data.extend_from_slice(&[b'x'; 16_384]);
        let message = Metadata::Data {
            piece: 0,
            total_bytes: 34_256,
            bytes: vec![b'x'; 16_384].into(),
        };
        assert_eq!(decode(&data).as_ref(), Ok(&message));
        assert_eq!([&header(&message), body(&message)].concat(), data);
    }

    #[test]
    fn a_type_that_nobody_defined_is_ignored() {
        assert_eq!(decode(b"d8:msg_typei3e3:fooi1ee"), Ok(Metadata::Unknown));
        assert_eq!(decode(b"d8:msg_typei-1ee"), Ok(Metadata::Unknown));
    }

    #[test]
    fn data_has_exactly_the_bytes_of_its_piece() {
        for (piece, total, length, right) in [
            (0, 5, 5, true),
            (0, 5, 4, false),
            (0, 5, 6, false),
            (1, 5, 5, false),
            (1, 16_385, 1, true),
            (1, 16_384, 0, false),
            (1, 16_385, 0, false),
            (0, 16_385, 16_384, true),
            (0, MAX_METADATA_SIZE, 16_384, true),
            (0, MAX_METADATA_SIZE + 1, 16_384, false),
            (u32::MAX, 5, 5, false),
        ] {
            let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{total}ee");
            let payload = [head.as_bytes(), &vec![7; length]].concat();
            assert_eq!(decode(&payload).is_ok(), right, "{piece} {total} {length}");
        }
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_refused() {
        for wrong in [
            "",
            "i1e",
            "le",
            "de",
            "d5:piecei0ee",
            "d8:msg_typei0ee",
            "d8:msg_typei0e5:piecei-1ee",
            "d8:msg_typei0e5:piecei4294967296ee",
            "d8:msg_typei0e5:piece1:0e",
            "d8:msg_type1:0e",
            "d8:msg_typei1e5:piecei0eex",
            "d8:msg_typei1e5:piecei0e10:total_sizei0ee",
            "d8:msg_typei1e5:piecei0e10:total_sizei-1eex",
        ] {
            assert!(decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_piece_has_the_length_that_makes_up_the_whole(total in 1..=MAX_METADATA_SIZE) {
            let count = metadata_piece_count(total);
            let lengths = (0..count).map(|piece| metadata_piece_length(piece, total).unwrap());
            prop_assert_eq!(lengths.map(u64::from).sum::<u64>(), u64::from(total));
            prop_assert_eq!(metadata_piece_length(count, total), None);
        }
    }
}

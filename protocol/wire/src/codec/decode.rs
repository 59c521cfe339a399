//! Bytes to messages.
//!
//! Invariant: the decoder holds no bytes. It remembers only how many of an undefined message are still to be skipped.

use super::{
    HASH_REQUEST_LENGTH, Limits, MAX_BLOCK_PAYLOAD, MAX_EXTENDED_HANDSHAKE, MAX_EXTENDED_PAYLOAD,
    MAX_HASHES_PAYLOAD, MAX_MESSAGE_LENGTH, MIN_HASHES_PAYLOAD, PIECE_HEADER_LENGTH, PREFIX_LENGTH,
    id,
};
use crate::extended_handshake::{self, ExtendedHandshakeError};
use crate::extension::{LOCAL_DONT_HAVE, LOCAL_HOLE_PUNCH, LOCAL_METADATA, LOCAL_PEER_EXCHANGE};
use crate::hashes::HashesError;
use crate::hole_punch::{self, MAX_HOLE_PUNCH_PAYLOAD};
use crate::message::{HashRequest, Hashes, Message, Request};
use crate::metadata::{self, MAX_METADATA_PAYLOAD, MetadataError};
use crate::pex::{self, PexError};
use shoal_metainfo::PieceIndex;

/// Why the remote's bytes are no messages. The connection ends: where the next message begins is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any message.
    #[error("a message of {0} bytes; none has over {MAX_MESSAGE_LENGTH}")]
    MessageLength(u32),
    /// Not a length that this kind of message can have here.
    #[error("a message with id {id} and {length} bytes of payload; it has {least} to {most}")]
    PayloadLength {
        /// The message id.
        id: u8,
        /// The bytes after it that the prefix claims.
        length: u32,
        /// The fewest it can have.
        least: u32,
        /// The most it can have.
        most: u32,
    },
    /// An extension message of the wrong length.
    #[error(
        "an extension message with id {id} and {length} bytes of payload; it has {least} to {most}"
    )]
    ExtendedLength {
        /// The extension message id.
        id: u8,
        /// The bytes after it that the prefix claims.
        length: u32,
        /// The fewest it can have.
        least: u32,
        /// The most it can have.
        most: u32,
    },
    /// The extension handshake is no dictionary.
    #[error("the extension handshake is unreadable: {0}")]
    ExtendedHandshake(#[from] ExtendedHandshakeError),
    /// A message about metadata that cannot be read.
    #[error("a ut_metadata message is unreadable: {0}")]
    Metadata(#[from] MetadataError),
    /// The peers of an exchange are no dictionary.
    #[error("a message of peer exchange is unreadable: {0}")]
    PeerExchange(#[from] PexError),
    /// Hashes that cannot answer anything we ask.
    #[error("a hashes message that answers no fair request: {0}")]
    Hashes(#[from] HashesError),
}

/// What a decoder found at the start of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A message, in the first `consumed` bytes. Of a piece message these are the header only: `length` bytes of payload
    /// follow, which the driver takes before it decodes on.
    Message {
        /// How many bytes to drop from the buffer.
        consumed: usize,
        /// What they say.
        message: Message,
    },
    /// Bytes of the message that [`Message::Unknown`] announced: drop them.
    Skipped {
        /// How many, at least 1.
        consumed: usize,
    },
    /// Nothing until the buffer has at least `need` bytes, which is more than it has and at most
    /// [`Limits::longest_frame`].
    Incomplete {
        /// How many bytes the buffer must have.
        need: usize,
    },
}

/// Finds the messages in what a remote sends after its handshake.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    /// Bytes still to come of a message that nobody defined.
    skip: usize,
}

impl Decoder {
    /// A decoder that stands at the beginning of a message.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Decoder { limits, skip: 0 }
    }

    /// The limits of all messages from here on, for when a torrent's pieces become known.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Reads one message from the start of `buffer`, which begins where the bytes consumed so far (and payload taken by
    /// the driver) end.
    pub fn decode(&mut self, buffer: &[u8]) -> Result<Decoded, DecodeError> {
        if self.skip > 0 {
            return Ok(self.skip(buffer));
        }
        let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX_LENGTH>() else {
            return Ok(Decoded::Incomplete {
                need: PREFIX_LENGTH,
            });
        };
        let length = u32::from_be_bytes(*prefix);
        if length == 0 {
            return Ok(Decoded::Message {
                consumed: PREFIX_LENGTH,
                message: Message::KeepAlive,
            });
        }
        if length > MAX_MESSAGE_LENGTH {
            return Err(DecodeError::MessageLength(length));
        }
        let Some((&id, rest)) = rest.split_first() else {
            return Ok(Decoded::Incomplete {
                need: PREFIX_LENGTH + 1,
            });
        };
        let length = length - 1;
        let frame = Frame { id, length, rest };
        match id {
            id::PIECE => frame.piece(),
            id::EXTENDED => frame.extended(),
            id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST => {
                Ok(frame.complete(frame.plain(self.limits)?))
            }
            id::HASH_REQUEST..=id::HASH_REJECT => Ok(frame.complete(frame.hashes()?)),
            _ => {
                self.skip = length as usize;
                Ok(Decoded::Message {
                    consumed: PREFIX_LENGTH + 1,
                    message: Message::Unknown(id),
                })
            }
        }
    }

    fn skip(&mut self, buffer: &[u8]) -> Decoded {
        let consumed = self.skip.min(buffer.len());
        if consumed == 0 {
            return Decoded::Incomplete { need: 1 };
        }
        self.skip -= consumed;
        Decoded::Skipped { consumed }
    }
}

/// A message of which at least the id is there.
#[derive(Clone, Copy)]
struct Frame<'a> {
    id: u8,
    /// Bytes of payload that the prefix claims.
    length: u32,
    /// What is in the buffer after the id, which may be less than the payload or more.
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message, or how much there must be for one.
    fn complete(self, message: Option<Message>) -> Decoded {
        let end = PREFIX_LENGTH + 1 + self.length as usize;
        match message {
            Some(message) => Decoded::Message {
                consumed: end,
                message,
            },
            None => Decoded::Incomplete { need: end },
        }
    }

    /// The payload of a message that always has `N` bytes of it; `None` while they are not there.
    fn exactly<const N: usize>(self) -> Result<Option<&'a [u8; N]>, DecodeError> {
        if self.length as usize == N {
            Ok(self.rest.first_chunk())
        } else {
            let n = u32::try_from(N).unwrap_or(u32::MAX);
            Err(self.wrong_length(n, n))
        }
    }

    /// The payload of a message of bounded length; `None` while it is not all there.
    fn within(self, least: u32, most: u32) -> Result<Option<&'a [u8]>, DecodeError> {
        if (least..=most).contains(&self.length) {
            Ok(self.rest.get(..self.length as usize))
        } else {
            Err(self.wrong_length(least, most))
        }
    }

    #[cold]
    const fn wrong_length(self, least: u32, most: u32) -> DecodeError {
        DecodeError::PayloadLength {
            id: self.id,
            length: self.length,
            least,
            most,
        }
    }

    /// BEP 3, 5 and 6, but for blocks.
    fn plain(self, limits: Limits) -> Result<Option<Message>, DecodeError> {
        Ok(match self.id {
            id::CHOKE => self.exactly::<0>()?.map(|_| Message::Choke),
            id::UNCHOKE => self.exactly::<0>()?.map(|_| Message::Unchoke),
            id::INTERESTED => self.exactly::<0>()?.map(|_| Message::Interested),
            id::NOT_INTERESTED => self.exactly::<0>()?.map(|_| Message::NotInterested),
            id::HAVE => self.exactly()?.map(|bytes| Message::Have(piece(bytes))),
            id::BITFIELD => {
                let most = limits.max_bitfield();
                let least = if limits.piece_count.is_some() {
                    most
                } else {
                    0
                };
                self.within(least, most)?
                    .map(|bytes| Message::Bitfield(bytes.to_vec()))
            }
            id::REQUEST => self
                .exactly()?
                .map(|bytes| Message::Request(request(bytes))),
            id::CANCEL => self.exactly()?.map(|bytes| Message::Cancel(request(bytes))),
            id::PORT => self
                .exactly()?
                .map(|bytes| Message::Port(u16::from_be_bytes(*bytes))),
            id::SUGGEST => self.exactly()?.map(|bytes| Message::Suggest(piece(bytes))),
            id::HAVE_ALL => self.exactly::<0>()?.map(|_| Message::HaveAll),
            id::HAVE_NONE => self.exactly::<0>()?.map(|_| Message::HaveNone),
            id::REJECT => self.exactly()?.map(|bytes| Message::Reject(request(bytes))),
            _ => self
                .exactly()?
                .map(|bytes| Message::AllowedFast(piece(bytes))),
        })
    }

    /// The header of a block.
    fn piece(self) -> Result<Decoded, DecodeError> {
        const NUMBERS: u32 = 8;
        let (least, most) = (NUMBERS, NUMBERS + MAX_BLOCK_PAYLOAD);
        if !(least..=most).contains(&self.length) {
            return Err(self.wrong_length(least, most));
        }
        Ok(match self.rest.first_chunk::<{ NUMBERS as usize }>() {
            Some(bytes) => Decoded::Message {
                consumed: PIECE_HEADER_LENGTH,
                message: Message::Piece(Request {
                    piece: PieceIndex(word(bytes, 0)),
                    begin: word(bytes, 1),
                    length: self.length - NUMBERS,
                }),
            },
            None => Decoded::Incomplete {
                need: PIECE_HEADER_LENGTH,
            },
        })
    }

    /// BEP 10: the extension handshake, and messages under ids that we chose.
    fn extended(self) -> Result<Decoded, DecodeError> {
        let most = 1 + MAX_EXTENDED_PAYLOAD.max(MAX_EXTENDED_HANDSHAKE);
        if !(1..=most).contains(&self.length) {
            return Err(self.wrong_length(1, most));
        }
        let Some((&extended_id, rest)) = self.rest.split_first() else {
            return Ok(Decoded::Incomplete {
                need: PREFIX_LENGTH + 2,
            });
        };
        let length = self.length - 1;
        let (least, most) = match extended_id {
            id::EXTENDED_HANDSHAKE => (0, MAX_EXTENDED_HANDSHAKE),
            LOCAL_METADATA => (0, MAX_METADATA_PAYLOAD),
            LOCAL_DONT_HAVE => (4, 4),
            LOCAL_HOLE_PUNCH => (0, MAX_HOLE_PUNCH_PAYLOAD),
            _ => (0, MAX_EXTENDED_PAYLOAD),
        };
        if !(least..=most).contains(&length) {
            return Err(DecodeError::ExtendedLength {
                id: extended_id,
                length,
                least,
                most,
            });
        }
        let Some(payload) = rest.get(..length as usize) else {
            return Ok(self.complete(None));
        };
        let message = match extended_id {
            id::EXTENDED_HANDSHAKE => {
                Message::ExtendedHandshake(extended_handshake::decode(payload)?)
            }
            LOCAL_METADATA => Message::Metadata(metadata::decode(payload)?),
            LOCAL_PEER_EXCHANGE => Message::PeerExchange(pex::decode(payload)?),
            LOCAL_HOLE_PUNCH => Message::HolePunch(hole_punch::decode(payload)),
            LOCAL_DONT_HAVE => Message::DontHave(PieceIndex(word(payload, 0))),
            id => Message::Extended {
                id,
                payload: payload.to_vec(),
            },
        };
        Ok(self.complete(Some(message)))
    }

    /// BEP 52.
    fn hashes(self) -> Result<Option<Message>, DecodeError> {
        match self.id {
            id::HASH_REQUEST => Ok(self
                .exactly()?
                .map(|bytes| Message::HashRequest(hash_request(bytes)))),
            id::HASH_REJECT => Ok(self
                .exactly()?
                .map(|bytes| Message::HashReject(hash_request(bytes)))),
            _ => self.hash_list(),
        }
    }

    fn hash_list(self) -> Result<Option<Message>, DecodeError> {
        let (least, most) = (MIN_HASHES_PAYLOAD, MAX_HASHES_PAYLOAD);
        let Some(payload) = self.within(least, most)? else {
            return Ok(None);
        };
        let Some((header, list)) = payload.split_first_chunk::<HASH_REQUEST_LENGTH>() else {
            return Err(self.wrong_length(least, most));
        };
        let (list, []) = list.as_chunks::<32>() else {
            return Err(self.wrong_length(least, most));
        };
        let hashes = Hashes {
            request: hash_request(header),
            hashes: list.to_vec(),
        };
        hashes.validate()?;
        Ok(Some(Message::Hashes(hashes)))
    }
}

/// The `at`-th number of a payload whose length has been judged.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes.as_chunks().0[at])
}

fn piece(bytes: &[u8; 4]) -> PieceIndex {
    PieceIndex(word(bytes, 0))
}

fn request(bytes: &[u8; 12]) -> Request {
    Request {
        piece: PieceIndex(word(bytes, 0)),
        begin: word(bytes, 1),
        length: word(bytes, 2),
    }
}

fn hash_request(bytes: &[u8; HASH_REQUEST_LENGTH]) -> HashRequest {
    let mut pieces_root = [0; 32];
    pieces_root.copy_from_slice(&bytes[..32]);
    HashRequest {
        pieces_root,
        base_layer: word(bytes, 8),
        index: word(bytes, 9),
        length: word(bytes, 10),
        proof_layers: word(bytes, 11),
    }
}

//! Packets as they are on the wire (BEP 29): a header of 20 bytes, a chain of extensions, payload.
//!
//! Invariant: reading never looks beyond the datagram, whatever lengths it claims, and takes at most [`MAX_EXTENSIONS`] steps.

use crate::sequence::Sequence;
use core::ops::Range;
use smallvec::SmallVec;

/// The header without extensions.
pub const HEADER_LENGTH: usize = 20;

/// Links of the chain of extensions that are followed. The field knows three kinds, each at most once in a packet.
pub const MAX_EXTENSIONS: usize = 8;

/// The only version of the protocol.
const VERSION: u8 = 1;

/// No extension follows.
const EXTENSION_NONE: u8 = 0;
/// The mask of packets that came out of order.
const EXTENSION_SELECTIVE_ACK: u8 = 1;
/// Padding of path MTU probes. No implementation of the field knows this number; all of them skip what they do not know.
const EXTENSION_PADDING: u8 = 0x50;

/// The type and the length that stand before each extension.
const EXTENSION_HEADER: usize = 2;

/// The most that one extension of padding fills.
pub(crate) const MAX_PADDING: usize = EXTENSION_HEADER + 255;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Payload.
    Data,
    /// The end of the stream.
    Fin,
    /// An acknowledgement; takes no sequence number.
    State,
    /// The connection is not known, or is given up.
    Reset,
    /// Opens a connection.
    Syn,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Fin => 1,
            Kind::State => 2,
            Kind::Reset => 3,
            Kind::Syn => 4,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Kind::Data,
            1 => Kind::Fin,
            2 => Kind::State,
            3 => Kind::Reset,
            4 => Kind::Syn,
            _ => return None,
        })
    }
}

/// Why a datagram is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not start as a packet does: it may belong to another protocol on the same socket.
    #[error("the datagram is not uTP: version or type is unknown, or it is shorter than a header")]
    NotUtp,
    /// The chain of extensions leaves the datagram, or has no end.
    #[error("the chain of extensions is longer than the datagram or than {MAX_EXTENSIONS} links")]
    Extensions,
}

/// The fields that every packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// Which connection it belongs to, from the receiver's view.
    pub connection_id: u16,
    /// The sender's clock, in microseconds.
    pub timestamp_us: u32,
    /// How long the last packet of the other direction took, with the difference of the clocks in it. 0 is unknown.
    pub difference_us: u32,
    /// How many bytes the sender is ready to receive.
    pub window_bytes: u32,
    /// Its number; of a [`Kind::State`], the number that the next packet will have.
    pub sequence: Sequence,
    /// The last packet up to which all have come.
    pub acknowledged: Sequence,
}

/// Packets beyond the first missing one that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectiveAck<'a> {
    mask: &'a [u8],
}

impl SelectiveAck<'_> {
    /// How far beyond [`Header::acknowledged`] each of the packets is: 2 or more, rising.
    pub fn distances(&self) -> impl Iterator<Item = usize> + '_ {
        self.mask.iter().enumerate().flat_map(|(at, byte)| {
            (0..8)
                .filter(move |bit| byte >> bit & 1 == 1)
                .map(move |bit| at * 8 + bit + 2)
        })
    }
}

/// A packet that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed fields.
    pub header: Header,
    /// What came out of order, if the sender says so.
    pub selective: Option<SelectiveAck<'a>>,
    /// Part of the stream.
    pub payload: &'a [u8],
}

/// Whether a datagram on a socket shared with the DHT is to be read as uTP: bencode starts with `d`, which is no version of uTP.
#[must_use]
pub fn is_utp(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LENGTH
        && datagram[0] & 0x0f == VERSION
        && Kind::of(datagram[0] >> 4).is_some()
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Extensions that are not known (BEP 29's own obsolete ones, close reasons) are skipped.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let (fixed, mut rest) = datagram
            .split_first_chunk::<HEADER_LENGTH>()
            .ok_or(DecodeError::NotUtp)?;
        let kind = Kind::of(fixed[0] >> 4).filter(|_| fixed[0] & 0x0f == VERSION);
        let u16_at = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
        let header = Header {
            kind: kind.ok_or(DecodeError::NotUtp)?,
            connection_id: u16_at(2),
            timestamp_us: u32_at(4),
            difference_us: u32_at(8),
            window_bytes: u32_at(12),
            sequence: Sequence(u16_at(16)),
            acknowledged: Sequence(u16_at(18)),
        };
        let mut selective = None;
        let mut extension = fixed[1];
        let mut links = 0;
        while extension != EXTENSION_NONE {
            let (&[following, length], after) = rest
                .split_first_chunk::<EXTENSION_HEADER>()
                .filter(|_| links < MAX_EXTENSIONS)
                .ok_or(DecodeError::Extensions)?;
            let (body, after) = after
                .split_at_checked(usize::from(length))
                .ok_or(DecodeError::Extensions)?;
            if extension == EXTENSION_SELECTIVE_ACK {
                selective = Some(SelectiveAck { mask: body });
            }
            (extension, rest) = (following, after);
            links += 1;
        }
        Ok(Packet {
            header,
            selective,
            payload: rest,
        })
    }
}

/// A packet that is to be sent. The machine holds no payload: it names the range of the stream, and who sends it writes those
/// bytes behind the header, into the buffer that the system gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The fixed fields.
    pub header: Header,
    /// The mask of packets that came out of order, a multiple of 4 bytes; empty for none.
    pub(crate) selective: SmallVec<[u8; 16]>,
    /// Bytes of padding, with the extension's own header: 0, or 2 and more.
    pub(crate) padding: usize,
    /// The payload: bytes of the stream by their offsets from its start.
    pub payload: Range<u64>,
}

impl Datagram {
    pub(crate) fn bare(header: Header) -> Self {
        Datagram {
            header,
            selective: SmallVec::new(),
            padding: 0,
            payload: 0..0,
        }
    }

    /// The length of header and extensions.
    #[must_use]
    pub fn head_length(&self) -> usize {
        let selective = match self.selective.len() {
            0 => 0,
            length => EXTENSION_HEADER + length,
        };
        HEADER_LENGTH + selective + self.padding
    }

    /// The length of the payload.
    #[must_use]
    pub fn payload_length(&self) -> usize {
        usize::try_from(self.payload.end - self.payload.start).unwrap_or(0)
    }

    /// The length of the whole datagram.
    #[must_use]
    pub fn length(&self) -> usize {
        self.head_length() + self.payload_length()
    }

    /// Writes header and extensions, and returns the part of `buffer` behind them that is to be filled with the payload.
    ///
    /// # Panics
    /// Where `buffer` is shorter than [`Datagram::length`].
    pub fn write_head<'a>(&self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        let (head, rest) = buffer.split_at_mut(self.head_length());
        let Header {
            kind,
            connection_id,
            timestamp_us,
            difference_us,
            window_bytes,
            sequence,
            acknowledged,
        } = self.header;
        let padding = match self.padding {
            0 => EXTENSION_NONE,
            _ => EXTENSION_PADDING,
        };
        let first = match self.selective.len() {
            0 => padding,
            _ => EXTENSION_SELECTIVE_ACK,
        };
        head[0] = kind.code() << 4 | VERSION;
        head[1] = first;
        head[2..4].copy_from_slice(&connection_id.to_be_bytes());
        head[4..8].copy_from_slice(&timestamp_us.to_be_bytes());
        head[8..12].copy_from_slice(&difference_us.to_be_bytes());
        head[12..16].copy_from_slice(&window_bytes.to_be_bytes());
        head[16..18].copy_from_slice(&sequence.0.to_be_bytes());
        head[18..20].copy_from_slice(&acknowledged.0.to_be_bytes());
        let mut at = HEADER_LENGTH;
        if !self.selective.is_empty() {
            head[at] = padding;
            head[at + 1] = u8::try_from(self.selective.len()).unwrap_or(u8::MAX);
            at += EXTENSION_HEADER;
            head[at..at + self.selective.len()].copy_from_slice(&self.selective);
            at += self.selective.len();
        }
        if self.padding > 0 {
            head[at] = EXTENSION_NONE;
            head[at + 1] = u8::try_from(self.padding - EXTENSION_HEADER).unwrap_or(u8::MAX);
            head[at + EXTENSION_HEADER..].fill(0);
        }
        &mut rest[..self.payload_length()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header {
        kind: Kind::Data,
        connection_id: 0x1234,
        timestamp_us: 0x5566_7788,
        difference_us: 0x99aa_bbcc,
        window_bytes: 0x0010_0000,
        sequence: Sequence(0xff01),
        acknowledged: Sequence(0x0203),
    };

    fn bytes(datagram: &Datagram) -> Vec<u8> {
        let mut buffer = vec![0xee; datagram.length()];
        datagram.write_head(&mut buffer).fill(b'p');
        buffer
    }

    #[test]
    fn the_fields_stand_where_bep_29_says() {
        let datagram = Datagram {
            payload: 5..8,
            ..Datagram::bare(HEADER)
        };
        assert_eq!(
            bytes(&datagram),
            b"\x01\0\x12\x34\x55\x66\x77\x88\x99\xaa\xbb\xcc\0\x10\0\0\xff\x01\x02\x03ppp"
        );
    }

    #[test]
    fn a_mask_says_which_packets_came_and_a_close_reason_is_skipped() {
        // The type of the first extension is in the header, that of the next before each extension.
        let mut datagram = bytes(&Datagram::bare(HEADER));
        datagram[1] = 3;
        datagram.extend(b"\x01\x04\0\0\0\x07");
        datagram.extend(b"\0\x04\x05\0\0\x80payload");
        let packet = Packet::decode(&datagram).unwrap();
        assert_eq!(packet.payload, b"payload");
        let distances: Vec<_> = packet.selective.unwrap().distances().collect();
        assert_eq!(distances, [2, 4, 33]);
    }

    #[test]
    fn a_chain_that_leaves_the_datagram_or_never_ends_is_refused() {
        let mut datagram = bytes(&Datagram::bare(HEADER));
        datagram[1] = 1;
        assert_eq!(Packet::decode(&datagram), Err(DecodeError::Extensions));
        datagram.extend(b"\0\x09\0\0");
        assert_eq!(Packet::decode(&datagram), Err(DecodeError::Extensions));
        datagram.truncate(HEADER_LENGTH);
        datagram.extend([1, 0].repeat(600));
        assert_eq!(Packet::decode(&datagram), Err(DecodeError::Extensions));
    }

    #[test]
    fn other_protocols_of_the_socket_are_told_apart() {
        for other in [
            &b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae"[..],
            b"",
            b"\x01\0",
            &[0x51; 30],
            &[0x02; 30],
        ] {
            assert!(!is_utp(other));
            assert_eq!(Packet::decode(other), Err(DecodeError::NotUtp));
        }
        assert!(is_utp(&bytes(&Datagram::bare(HEADER))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in 0u8..5, id: u16, ack: u16, words in 0usize..8, padding in prop::option::of(2usize..=MAX_PADDING), payload in 0u64..1400,
        ) {
            let header = Header { kind: Kind::of(kind).unwrap(), connection_id: id, acknowledged: Sequence(ack), ..HEADER };
            let datagram = Datagram {
                header,
                selective: (0..words * 4).map(|at| u8::try_from(at * 37 % 256).unwrap()).collect(),
                padding: padding.unwrap_or(0),
                payload: 10..10 + payload,
            };
            let bytes = bytes(&datagram);
            let packet = Packet::decode(&bytes).unwrap();
            prop_assert_eq!(packet.header, header);
            prop_assert_eq!(packet.payload, vec![b'p'; usize::try_from(payload).unwrap()]);
            prop_assert_eq!(packet.selective.map_or(&[][..], |ack| ack.mask), &datagram.selective[..]);
        }

        #[test]
        fn noise_is_read_or_refused(mut noise in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(first) = noise.first_mut() {
                *first = *first & 0x70 | 1;
            }
            let _ = Packet::decode(&noise);
        }
    }
}

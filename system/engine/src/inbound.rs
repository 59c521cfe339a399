//! From the socket to messages and blocks, with payload going straight into the slots that storage leased.
//!
//! Invariant: payload is copied at most once, and only as much of it as came in one read with the message before it; memory
//! is one small buffer, one slot, and for the time of a long message that message.

use shoal_metainfo::Block;
use shoal_storage::BlockBuffer;
use shoal_transport::PeerStream;
use shoal_wire::mse::Rc4;
use shoal_wire::{DecodeError, Decoded, Decoder, Limits, Message};
use std::io::{self, IoSliceMut};

/// The buffer for messages. Large enough for hundreds of haves and requests in one read; small, because what it catches of the
/// next block's payload is copied.
const HEAD_BYTES: usize = 2 * 1024;

/// What is understood of the bytes that have come.
#[derive(Debug)]
pub(crate) enum Found {
    /// A message. After a `Message::Piece` call [`Inbound::store`] or [`Inbound::discard`] before going on.
    Message(Message),
    /// A whole block.
    Block(Block, BlockBuffer),
    /// Nothing before [`Inbound::supply`] brings a buffer.
    NeedsBuffer,
    /// Nothing before more bytes are read.
    NeedsBytes,
}

#[derive(Debug)]
enum Receiving {
    Messages,
    Unplaced {
        block: Block,
        length: usize,
    },
    Block {
        block: Block,
        buffer: BlockBuffer,
        filled: usize,
    },
    Discard {
        left: usize,
    },
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Decrypts what comes, where it is encrypted: in the buffers that it is read into, while a core has it in its cache.
    cipher: Option<Box<Rc4>>,
    decoder: Decoder,
    /// `head[start..end]` was read and is not understood yet.
    head: Vec<u8>,
    start: usize,
    end: usize,
    receiving: Receiving,
}

impl Inbound {
    /// `leftover` came in the same read as the handshake, and is decrypted; `cipher` decrypts what comes behind it.
    pub(crate) fn new(limits: Limits, leftover: &[u8], cipher: Option<Box<Rc4>>) -> Self {
        let mut head = vec![0; HEAD_BYTES.max(leftover.len())];
        head[..leftover.len()].copy_from_slice(leftover);
        Inbound {
            cipher,
            decoder: Decoder::new(limits),
            head,
            start: 0,
            end: leftover.len(),
            receiving: Receiving::Messages,
        }
    }

    /// The limits of all messages from here on.
    pub(crate) const fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    /// Puts the payload that follows into a slot for `block`, now or when [`Inbound::supply`] brings it.
    pub(crate) fn store(&mut self, block: Block, length: usize, buffer: Option<BlockBuffer>) {
        self.receiving = Receiving::Unplaced { block, length };
        if let Some(buffer) = buffer {
            self.supply(buffer);
        }
    }

    /// Drops the payload that follows.
    pub(crate) fn discard(&mut self, length: usize) {
        self.receiving = Receiving::Discard { left: length };
    }

    /// Brings the buffer that [`Found::NeedsBuffer`] asked for.
    pub(crate) fn supply(&mut self, mut buffer: BlockBuffer) {
        if let Receiving::Unplaced { block, length } = self.receiving {
            buffer.set_len(length);
            self.receiving = Receiving::Block {
                block,
                buffer,
                filled: 0,
            };
        }
    }

    /// Whether a buffer is what is missing.
    pub(crate) const fn needs_buffer(&self) -> bool {
        matches!(self.receiving, Receiving::Unplaced { .. })
    }

    /// Understands as much as one thing more.
    pub(crate) fn next(&mut self) -> Result<Found, DecodeError> {
        loop {
            let have = &self.head[self.start..self.end];
            match &mut self.receiving {
                Receiving::Unplaced { .. } => return Ok(Found::NeedsBuffer),
                Receiving::Block { buffer, filled, .. } => {
                    let count = have.len().min(buffer.len() - *filled);
                    buffer[*filled..*filled + count].copy_from_slice(&have[..count]);
                    *filled += count;
                    self.start += count;
                    return Ok(self.take_block());
                }
                Receiving::Discard { left } => {
                    let count = have.len().min(*left);
                    *left -= count;
                    self.start += count;
                    if *left > 0 {
                        return Ok(Found::NeedsBytes);
                    }
                    self.receiving = Receiving::Messages;
                }
                Receiving::Messages => match self.decoder.decode(have)? {
                    Decoded::Message { consumed, message } => {
                        self.start += consumed;
                        return Ok(Found::Message(message));
                    }
                    Decoded::Skipped { consumed } => self.start += consumed,
                    Decoded::Incomplete { need } => {
                        self.make_room(need);
                        return Ok(Found::NeedsBytes);
                    }
                },
            }
        }
    }

    /// One read: first into the slot, then into the buffer for messages. 0 is the end: there always is room, because whatever
    /// was read is understood before the next read, and [`Inbound::next`] makes room for what it needs.
    pub(crate) fn read(&mut self, stream: &PeerStream) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let head = &mut self.head[self.end..];
        let Receiving::Block { buffer, filled, .. } = &mut self.receiving else {
            let count = stream.try_read(head)?;
            decrypt(&mut self.cipher, &mut head[..count]);
            self.end += count;
            return Ok(count);
        };
        let slot = &mut buffer[*filled..];
        let count =
            stream.try_read_vectored(&mut [IoSliceMut::new(slot), IoSliceMut::new(head)])?;
        let placed = count.min(slot.len());
        decrypt(&mut self.cipher, &mut slot[..placed]);
        decrypt(&mut self.cipher, &mut head[..count - placed]);
        *filled += placed;
        self.end += count - placed;
        Ok(count)
    }

    fn take_block(&mut self) -> Found {
        match std::mem::replace(&mut self.receiving, Receiving::Messages) {
            Receiving::Block {
                block,
                buffer,
                filled,
            } if filled == buffer.len() => Found::Block(block, buffer),
            receiving => {
                self.receiving = receiving;
                Found::NeedsBytes
            }
        }
    }

    /// Moves what is not understood to the front and sees that a message of `need` bytes fits. The decoder bounds `need`.
    fn make_room(&mut self, need: usize) {
        if self.start > 0 {
            self.head.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let size = need.max(HEAD_BYTES);
        if self.head.len() != size && self.end <= size {
            self.head.resize(size, 0);
            self.head.shrink_to_fit();
        }
    }
}

/// What was read, in the order in which it was.
fn decrypt(cipher: &mut Option<Box<Rc4>>, bytes: &mut [u8]) {
    if let Some(cipher) = cipher {
        cipher.apply(bytes);
    }
}

//! From messages and uploads to the socket: blocks that leave together are gathered behind their headers in one buffer of the event
//! loop, and leave with one system call.
//!
//! Gathering copies each byte once more than `sendfile` would, and is cheaper for both ends together: a call a batch instead of two a
//! block, packets of 64 KiB, and payload that is in a core's cache when the kernel takes it (docs/performance.md has the figures).
//!
//! Messages overtake uploads that have not begun, so that what we ask for does not wait for what a rate limit holds back.
//!
//! Where the connection is encrypted, that is done in place, where the batch was gathered. The key stream cannot go back, so that what
//! the socket does not take of an encrypted batch is kept, and leaves before anything else; such a batch is smaller for it.
//!
//! Invariant: what has begun to leave leaves whole, so the remote never loses its place; messages keep their order, and so do
//! uploads; an upload that has not begun can be taken back. A connection in the clear holds no payload, as what the socket did not
//! take is read again; one that is encrypted holds less than a batch.

use crate::allowance::Allowance;
use shoal_metainfo::BLOCK_LENGTH;
use shoal_storage::{Reads, Source};
use shoal_transport::PeerStream;
use shoal_wire::codec::PIECE_HEADER_LENGTH;
use shoal_wire::codec::piece_header;
use shoal_wire::mse::Rc4;
use shoal_wire::{Message, RemoteExtensions, Request, encode};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem;

/// What one batch is at most: 32 whole blocks behind their headers. Fewer wake the receiver more often, and more would not stay in
/// a core's second cache.
const MAX_BATCH_BYTES: usize = 32 * (BLOCK_LENGTH as usize + PIECE_HEADER_LENGTH);

/// What one batch is at most where it is encrypted: 8 blocks, which are a few system calls a millisecond at the speed of the cipher.
/// The rest of one is what a connection may keep.
const MAX_ENCRYPTED_BATCH_BYTES: usize = 8 * (BLOCK_LENGTH as usize + PIECE_HEADER_LENGTH);

/// What one batch is at least. A socket that takes little at once is given little at once, since the rest is read in vain.
const MIN_BATCH_BYTES: usize = 16 * 1024;

/// With so many bytes of messages waiting, the remote is not heard until it takes some of them: answers are the only messages
/// that a remote can make us queue without end. Enough for all that a round trip of requests and haves brings.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// So many bytes that have left may still take room.
const MAX_SENT_BYTES: usize = 16 * 1024;

thread_local! {
    /// The batch that this event loop is sending.
    static BATCH: RefCell<Batch> = const { RefCell::new(Batch { bytes: Vec::new(), len: 0 }) };
}

/// Blocks behind their headers.
struct Batch {
    /// As long as a batch can be, from its first use on.
    bytes: Vec<u8>,
    len: usize,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.resize(MAX_BATCH_BYTES, 0);
        self.len = 0;
    }

    /// Appends what is still to leave of `uploads`, with at most `allowed` bytes of payload, while it has fewer than `size` bytes.
    /// Returns which of the uploads came short, where one did: nothing of that one is appended, and nothing after it.
    fn gather<'a>(
        &mut self,
        uploads: impl Iterator<Item = &'a Upload>,
        mut allowed: usize,
        size: usize,
    ) -> Option<usize> {
        let mut room = &mut self.bytes[self.len..size];
        let mut reads = Reads::default();
        // Where each ends, in the batch and of the payload.
        let mut ends = Vec::new();
        let (mut len, mut payload) = (self.len, 0);
        for upload in uploads {
            if room.is_empty() || allowed == 0 {
                break;
            }
            let header = &piece_header(&upload.request)[upload.sent.min(PIECE_HEADER_LENGTH)..];
            let header = &header[..header.len().min(room.len())];
            let (before, rest) = mem::take(&mut room).split_at_mut(header.len());
            before.copy_from_slice(header);
            let done = upload.sent.saturating_sub(PIECE_HEADER_LENGTH);
            let count = (upload.request.length as usize - done)
                .min(allowed)
                .min(rest.len());
            let (block, rest) = rest.split_at_mut(count);
            let there = reads.add(&upload.source, done as u64, block);
            room = rest;
            allowed -= count;
            payload += count as u64;
            len += header.len() + count;
            ends.push((len, payload));
            if there < count {
                break;
            }
        }
        // What cannot be read at all is found out by looking for who came short.
        let there = reads.read().unwrap_or(0);
        let whole = ends.partition_point(|(_, payload)| *payload <= there);
        if let Some(last) = whole.checked_sub(1) {
            self.len = ends[last].0;
        }
        (whole < ends.len()).then_some(whole)
    }
}

#[derive(Debug)]
struct Upload {
    request: Request,
    source: Source,
    /// Of header and payload.
    sent: usize,
}

impl Upload {
    const fn has_begun(&self) -> bool {
        self.sent > 0
    }

    fn len(&self) -> usize {
        PIECE_HEADER_LENGTH + self.request.length as usize
    }
}

/// What a flush came to.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// Nothing is left to send.
    Empty,
    /// The socket takes no more, or the allowance is used up.
    Blocked,
    /// There is more to send.
    More,
    /// The bytes of this upload are not there any more. It was taken out; where it has begun, the stream cannot be continued.
    Short { request: Request, begun: bool },
}

/// What leaves next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    Messages,
    /// Payload, which counts against the rate limits.
    Upload,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Encrypts what leaves, if anything does.
    cipher: Option<Box<Rc4>>,
    /// `leaving[sent..]` leaves as it is, before everything else: messages, or the rest of an encrypted batch.
    leaving: Vec<u8>,
    sent: usize,
    messages: Vec<u8>,
    uploads: VecDeque<Upload>,
    /// What the next batch is at most.
    batch_bytes: usize,
}

impl Outbound {
    /// Nothing to send yet. `cipher` encrypts everything, from the first byte on.
    pub(crate) fn new(cipher: Option<Box<Rc4>>) -> Self {
        let mut outbound = Outbound {
            cipher,
            leaving: Vec::new(),
            sent: 0,
            messages: Vec::new(),
            uploads: VecDeque::new(),
            batch_bytes: 0,
        };
        outbound.batch_bytes = outbound.max_batch_bytes() / 2;
        outbound
    }

    const fn max_batch_bytes(&self) -> usize {
        match self.cipher {
            Some(_) => MAX_ENCRYPTED_BATCH_BYTES,
            None => MAX_BATCH_BYTES,
        }
    }

    pub(crate) fn next(&self) -> Next {
        if !self.leaving.is_empty() {
            return Next::Messages;
        }
        match self.uploads.front() {
            Some(upload) if upload.has_begun() => Next::Upload,
            _ if !self.messages.is_empty() => Next::Messages,
            Some(_) => Next::Upload,
            None => Next::Nothing,
        }
    }

    /// Whether so much waits that the remote should not be heard.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.messages.len() + self.leaving.len() - self.sent >= MAX_WAITING_BYTES
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, message: &Message, remote: &RemoteExtensions) {
        encode(message, remote, &mut self.messages);
    }

    /// Queues a block; its header is made when it leaves.
    pub(crate) fn upload(&mut self, request: Request, source: Source) {
        self.uploads.push_back(Upload {
            request,
            source,
            sent: 0,
        });
    }

    /// Takes an upload back; false where it is not there or has begun.
    pub(crate) fn cancel(&mut self, request: Request) -> bool {
        let found = self
            .uploads
            .iter()
            .position(|upload| upload.request == request && !upload.has_begun());
        found.is_some_and(|at| self.uploads.remove(at).is_some())
    }

    /// Writes messages, or a batch of uploads, as far as the socket takes them and `allowance` lets payload pass. Uploads that have
    /// left are appended to `left`.
    pub(crate) fn flush(
        &mut self,
        stream: &PeerStream,
        allowance: &mut Allowance,
        left: &mut Vec<Request>,
    ) -> io::Result<Flushed> {
        let outcome = match self.next() {
            Next::Nothing => return Ok(Flushed::Empty),
            Next::Messages => self.write_messages(stream).map(|()| Flushed::More),
            Next::Upload => BATCH.with_borrow_mut(|batch| {
                batch.clear();
                self.write_batch(stream, allowance, batch, left)
            }),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            other => other,
        }
    }

    fn write_messages(&mut self, stream: &PeerStream) -> io::Result<()> {
        if self.leaving.is_empty() {
            mem::swap(&mut self.leaving, &mut self.messages);
            if let Some(cipher) = &mut self.cipher {
                cipher.apply(&mut self.leaving);
            }
        }
        self.sent += stream.try_write(&self.leaving[self.sent..])?;
        if self.sent == self.leaving.len() {
            self.leaving.clear();
            self.leaving.shrink_to(MAX_SENT_BYTES);
            self.sent = 0;
        }
        Ok(())
    }

    fn write_batch(
        &mut self,
        stream: &PeerStream,
        allowance: &mut Allowance,
        batch: &mut Batch,
        left: &mut Vec<Request>,
    ) -> io::Result<Flushed> {
        let allowed = usize::try_from(allowance.open()).unwrap_or(usize::MAX);
        if allowed == 0 {
            return Ok(Flushed::Blocked);
        }
        // Messages that wait go before the next block.
        let together = match self.messages.is_empty() {
            true => self.uploads.len(),
            false => 1,
        };
        let short = batch.gather(
            self.uploads.iter().take(together),
            allowed,
            self.batch_bytes,
        );
        if let Some(at @ 0) = short {
            let upload = self.uploads.remove(at);
            return Ok(upload.map_or(Flushed::More, |upload| Flushed::Short {
                request: upload.request,
                begun: upload.has_begun(),
            }));
        }
        let (taken, gone) = self.write_bytes(stream, &mut batch.bytes[..batch.len])?;
        let all = taken == batch.len;
        self.batch_bytes = if all { self.batch_bytes * 2 } else { taken }
            .clamp(MIN_BATCH_BYTES, self.max_batch_bytes());
        allowance.spend(self.advance(gone, left));
        Ok(Flushed::More)
    }

    /// Writes a batch. Returns how much of it the socket has taken, and how much is not to be gathered again.
    fn write_bytes(&mut self, stream: &PeerStream, bytes: &mut [u8]) -> io::Result<(usize, usize)> {
        let Some(cipher) = &mut self.cipher else {
            let taken = stream.try_write(bytes)?;
            return Ok((taken, taken));
        };
        cipher.apply(bytes);
        let taken = match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            taken => taken?,
        };
        self.leaving.extend_from_slice(&bytes[taken..]);
        Ok((taken, bytes.len()))
    }

    /// Notes that so many bytes of uploads have left. Returns how many of them were payload.
    fn advance(&mut self, mut taken: usize, left: &mut Vec<Request>) -> u64 {
        let mut payload = 0;
        while let Some(upload) = self.uploads.front_mut() {
            let before = upload.sent.max(PIECE_HEADER_LENGTH);
            let count = taken.min(upload.len() - upload.sent);
            upload.sent += count;
            taken -= count;
            payload += upload.sent.max(PIECE_HEADER_LENGTH) - before;
            if upload.sent < upload.len() {
                break;
            }
            left.push(upload.request);
            self.uploads.pop_front();
        }
        payload as u64
    }
}

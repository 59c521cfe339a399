//! From messages and uploads to the socket, with payload going from file to socket inside the kernel.
//!
//! Messages overtake uploads that have not begun, so that what we ask for does not wait for what a rate limit holds back.
//!
//! Invariant: what has begun to leave leaves whole, so the remote never loses its place; messages keep their order, and so do
//! uploads; an upload that has not begun can be taken back.

use crate::allowance::Allowance;
use shoal_storage::{Segment, Source};
use shoal_transport::PeerStream;
use shoal_wire::{Message, RemoteExtensions, Request, encode};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// What padding is sent from.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// With so many bytes of messages waiting, the remote is not heard until it takes some of them: answers are the only messages
/// that a remote can make us queue without end. Enough for all that a round trip of requests and haves brings.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// So many bytes that have left may still take room.
const MAX_SENT_BYTES: usize = 16 * 1024;

#[derive(Debug)]
struct Upload {
    request: Request,
    header: Vec<u8>,
    header_sent: usize,
    segments: VecDeque<Segment>,
}

impl Upload {
    const fn has_begun(&self) -> bool {
        self.header_sent > 0
    }
}

/// What a flush came to.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// Nothing is left to send.
    Empty,
    /// The socket takes no more, or the allowance is used up.
    Blocked,
    /// This upload has left.
    Sent(Request),
    /// The file under this upload came short, so that the stream cannot be continued.
    Short(Request),
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
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// `messages[sent..]` is still to leave.
    messages: Vec<u8>,
    sent: usize,
    uploads: VecDeque<Upload>,
}

impl Outbound {
    pub(crate) fn next(&self) -> Next {
        match self.uploads.front() {
            Some(upload) if upload.has_begun() => Next::Upload,
            _ if self.sent < self.messages.len() => Next::Messages,
            Some(_) => Next::Upload,
            None => Next::Nothing,
        }
    }

    /// Whether so much waits that the remote should not be heard.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.messages.len() - self.sent >= MAX_WAITING_BYTES
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, message: &Message, remote: &RemoteExtensions) {
        encode(message, remote, &mut self.messages);
    }

    /// Queues a block with its header.
    pub(crate) fn upload(&mut self, request: Request, source: Source, remote: &RemoteExtensions) {
        let mut header = Vec::with_capacity(13);
        encode(&Message::Piece(request), remote, &mut header);
        self.uploads.push_back(Upload {
            request,
            header,
            header_sent: 0,
            segments: source.segments.into(),
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

    /// Writes what the socket takes and, of payload, `allowance` lets pass, up to the end of the next upload.
    pub(crate) fn flush(
        &mut self,
        stream: &PeerStream,
        allowance: &mut Allowance,
    ) -> io::Result<Flushed> {
        let outcome = self.write(stream, allowance);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            other => other,
        }
    }

    fn write(&mut self, stream: &PeerStream, allowance: &mut Allowance) -> io::Result<Flushed> {
        loop {
            match self.next() {
                Next::Nothing => return Ok(Flushed::Empty),
                Next::Messages => self.write_messages(stream)?,
                Next::Upload => return self.write_upload(stream, allowance),
            }
        }
    }

    fn write_messages(&mut self, stream: &PeerStream) -> io::Result<()> {
        self.sent += stream.try_write(&self.messages[self.sent..])?;
        if self.sent == self.messages.len() || self.sent >= MAX_SENT_BYTES {
            self.messages.drain(..self.sent);
            self.messages.shrink_to(MAX_SENT_BYTES);
            self.sent = 0;
        }
        Ok(())
    }

    fn write_upload(
        &mut self,
        stream: &PeerStream,
        allowance: &mut Allowance,
    ) -> io::Result<Flushed> {
        let Some(upload) = self.uploads.front_mut() else {
            return Ok(Flushed::Empty);
        };
        let request = upload.request;
        if allowance.open() == 0 {
            return Ok(Flushed::Blocked);
        }
        while upload.header_sent < upload.header.len() {
            let rest = &upload.header[upload.header_sent..];
            upload.header_sent += stream.try_write_more(rest)?;
        }
        while let Some(segment) = upload.segments.front_mut() {
            let allowed = allowance.open();
            if allowed == 0 {
                return Ok(Flushed::Blocked);
            }
            let count = write_segment(stream, segment, segment.len().min(allowed))?;
            if count == 0 {
                return Ok(Flushed::Short(request));
            }
            allowance.spend(count);
            if segment.is_empty() {
                upload.segments.pop_front();
            }
        }
        self.uploads.pop_front();
        Ok(Flushed::Sent(request))
    }
}

/// Sends up to `most` bytes of a segment, which shrinks by what was sent.
fn write_segment(stream: &PeerStream, segment: &mut Segment, most: u64) -> io::Result<u64> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = match segment {
        Segment::File { file, offset, len } => {
            let count = stream.try_send_file(file.as_fd(), *offset, most)?;
            *offset += count as u64;
            *len -= count as u64;
            count
        }
        Segment::Zeros { len } => {
            let count = stream.try_write(&ZEROS[..most.min(ZEROS.len())])?;
            *len -= count as u64;
            count
        }
        Segment::Buffer { block, start, len } => {
            let count = stream.try_write(&block[*start..*start + most.min(*len)])?;
            *start += count;
            *len -= count;
            count
        }
    };
    Ok(count as u64)
}

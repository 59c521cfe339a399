//! From messages and uploads to the socket, with payload going from file to socket inside the kernel.
//!
//! Invariant: what has begun to leave leaves whole, so the remote never loses its place; an upload that has not begun can be
//! taken back.

use shoal_storage::{Segment, Source};
use shoal_transport::PeerStream;
use shoal_wire::{Message, RemoteExtensions, Request, encode};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// What padding is sent from.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

#[derive(Debug)]
enum Part {
    Messages { bytes: Vec<u8>, sent: usize },
    Upload(Upload),
}

#[derive(Debug)]
struct Upload {
    request: Request,
    header: Vec<u8>,
    header_sent: usize,
    segments: VecDeque<Segment>,
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

/// The sending half of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    parts: VecDeque<Part>,
}

impl Outbound {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether payload is next, which counts against the rate limits.
    pub(crate) fn payload_is_next(&self) -> bool {
        matches!(self.parts.front(), Some(Part::Upload(_)))
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, message: &Message, remote: &RemoteExtensions) {
        if let Some(Part::Messages { bytes, .. }) = self.parts.back_mut() {
            encode(message, remote, bytes);
        } else {
            let mut bytes = Vec::with_capacity(32);
            encode(message, remote, &mut bytes);
            self.parts.push_back(Part::Messages { bytes, sent: 0 });
        }
    }

    /// Queues a block with its header.
    pub(crate) fn upload(&mut self, request: Request, source: Source, remote: &RemoteExtensions) {
        let mut header = Vec::with_capacity(13);
        encode(&Message::Piece(request), remote, &mut header);
        let segments = source.segments.into();
        self.parts.push_back(Part::Upload(Upload {
            request,
            header,
            header_sent: 0,
            segments,
        }));
    }

    /// Takes an upload back; false where it is not there or has begun.
    pub(crate) fn cancel(&mut self, request: Request) -> bool {
        let found = self.parts.iter().position(|part| {
            matches!(part, Part::Upload(upload) if upload.request == request && upload.header_sent == 0)
        });
        found.is_some_and(|at| self.parts.remove(at).is_some())
    }

    /// Writes what the socket takes, at most `allowance` bytes of payload, up to the end of the next upload.
    pub(crate) fn flush(
        &mut self,
        stream: &PeerStream,
        allowance: &mut u64,
    ) -> io::Result<Flushed> {
        let outcome = self.write(stream, allowance);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            other => other,
        }
    }

    fn write(&mut self, stream: &PeerStream, allowance: &mut u64) -> io::Result<Flushed> {
        while let Some(part) = self.parts.front_mut() {
            match part {
                Part::Messages { bytes, sent } => {
                    *sent += stream.try_write(&bytes[*sent..])?;
                    if *sent == bytes.len() {
                        self.parts.pop_front();
                    }
                }
                Part::Upload(upload) => {
                    if *allowance == 0 {
                        return Ok(Flushed::Blocked);
                    }
                    while upload.header_sent < upload.header.len() {
                        let rest = &upload.header[upload.header_sent..];
                        upload.header_sent += stream.try_write_more(rest)?;
                    }
                    while let Some(segment) = upload.segments.front_mut() {
                        if *allowance == 0 {
                            return Ok(Flushed::Blocked);
                        }
                        let most = segment.len().min(*allowance);
                        let count = write_segment(stream, segment, most)?;
                        if count == 0 {
                            return Ok(Flushed::Short(upload.request));
                        }
                        *allowance -= count;
                        if segment.is_empty() {
                            upload.segments.pop_front();
                        }
                    }
                    let request = upload.request;
                    self.parts.pop_front();
                    return Ok(Flushed::Sent(request));
                }
            }
        }
        Ok(Flushed::Empty)
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

//! What a stream and its event loop share: the bytes of both directions, and who is to be woken.
//!
//! Invariant: no lock is held across an await or while another one is taken; each buffer has a bound, which its writer keeps: what the
//! remote may send is the machine's window, what may be written here is [`MAX_UNSENT_BYTES`] beyond what was sent.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_utp::{Closed, Key, MAX_IN_FLIGHT_BYTES};
use tokio::sync::Notify;

/// What may be written beyond what was sent, as for TCP: enough for what a fast line takes while the writer looks elsewhere.
const MAX_UNSENT_BYTES: u64 = 512 * 1024;
/// A reader tells the event loop of what it has read by so much at a time: a quarter of the least window.
const CONSUMED_STEP_BYTES: u64 = 16 * 1024;
/// A buffer that has run empty keeps so much memory.
const KEPT_BYTES: usize = 256 * 1024;

/// The streams that the event loop has to look at.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    keys: Mutex<Vec<Key>>,
    pub(super) wake: Notify,
}

impl Wishes {
    /// The keys since the last call, in exchange for an empty list.
    pub(super) fn take(&self, list: &mut Vec<Key>) {
        std::mem::swap(&mut *lock(&self.keys), list);
    }
}

#[derive(Debug, Default)]
struct Received {
    bytes: VecDeque<u8>,
    finished: bool,
    closed: Option<Closed>,
}

#[derive(Debug, Default)]
struct Written {
    /// From what is not acknowledged on.
    bytes: VecDeque<u8>,
    /// The offset of the first of them in the stream.
    start: u64,
    /// The end of what was sent.
    sent: u64,
    /// What the machine was not told of.
    fresh: u64,
    finished: bool,
    closed: Option<Closed>,
    /// The writer was told that there is no room.
    wanted: bool,
}

impl Written {
    fn room(&self) -> u64 {
        let end = self.start + self.bytes.len() as u64;
        let unsent = MAX_UNSENT_BYTES.saturating_sub(end.saturating_sub(self.sent));
        let all = MAX_IN_FLIGHT_BYTES + MAX_UNSENT_BYTES;
        unsent.min(all.saturating_sub(self.bytes.len() as u64))
    }
}

/// What the user of a stream has done since the event loop last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) written: u64,
    pub(super) consumed: u64,
    pub(super) finished: bool,
    pub(super) abandoned: bool,
}

/// A connection between its event loop and its user.
#[derive(Debug)]
pub(super) struct Pipe {
    key: Key,
    wishes: Arc<Wishes>,
    /// Whether the key is in the list of wishes.
    listed: AtomicBool,
    received: Mutex<Received>,
    written: Mutex<Written>,
    consumed: AtomicU64,
    abandoned: AtomicBool,
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

impl Pipe {
    pub(super) fn new(key: Key, wishes: Arc<Wishes>) -> Self {
        Pipe {
            key,
            wishes,
            listed: AtomicBool::new(false),
            received: Mutex::default(),
            written: Mutex::default(),
            consumed: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
            readable: Notify::new(),
            writable: Notify::new(),
        }
    }

    // The user's side.

    /// Asks the event loop to look here.
    fn wish(&self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            lock(&self.wishes.keys).push(self.key);
            self.wishes.wake.notify_one();
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        let received = lock(&self.received);
        !received.bytes.is_empty() || received.finished || received.closed.is_some()
    }

    pub(super) fn is_writable(&self) -> bool {
        let mut written = lock(&self.written);
        let ready = written.room() > 0 || written.finished || written.closed.is_some();
        written.wanted = !ready;
        ready
    }

    /// Fills `buffers` in order.
    pub(super) fn read(&self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let mut received = lock(&self.received);
        let mut count = 0;
        for buffer in buffers {
            count += take(&received.bytes, count, buffer);
        }
        if count == 0 {
            return received.end();
        }
        received.bytes.drain(..count);
        trim(&mut received.bytes);
        drop(received);
        let before = self.consumed.fetch_add(count as u64, Ordering::AcqRel);
        if before + count as u64 >= CONSUMED_STEP_BYTES {
            self.wish();
        }
        Ok(count)
    }

    /// Takes as much of `bytes` as there is room for.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = lock(&self.written);
        if let Some(closed) = written.closed {
            return Err(match closed {
                Closed::Ended => io::ErrorKind::BrokenPipe.into(),
                other => error(other),
            });
        }
        if written.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = usize::try_from(written.room()).unwrap_or(usize::MAX);
        let count = bytes.len().min(room);
        if count == 0 && !bytes.is_empty() {
            written.wanted = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        written.bytes.extend(&bytes[..count]);
        written.fresh += count as u64;
        drop(written);
        self.wish();
        Ok(count)
    }

    /// Nothing more will be written.
    pub(super) fn finish(&self) {
        lock(&self.written).finished = true;
        self.wish();
    }

    /// Nothing more will be read.
    pub(super) fn stop_reading(&self) {
        lock(&self.received).finished = true;
    }

    /// The user is gone.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.wish();
    }

    // The event loop's side.

    /// What the user has done. Anything after this is a new wish.
    pub(super) fn done(&self) -> Done {
        self.listed.store(false, Ordering::Release);
        let abandoned = self.abandoned.load(Ordering::Acquire);
        let mut written = lock(&self.written);
        Done {
            written: std::mem::take(&mut written.fresh),
            consumed: self.consumed.swap(0, Ordering::AcqRel),
            finished: written.finished,
            abandoned,
        }
    }

    /// What the user has read.
    pub(super) fn take_consumed(&self) -> u64 {
        self.consumed.swap(0, Ordering::AcqRel)
    }

    /// Appends what came.
    pub(super) fn deliver(&self, bytes: &[u8]) {
        lock(&self.received).bytes.extend(bytes);
    }

    /// The remote's stream has ended.
    pub(super) fn finish_received(&self) {
        lock(&self.received).finished = true;
    }

    /// Copies a range of our stream, and notes that it was sent.
    pub(super) fn fill(&self, range: &Range<u64>, target: &mut [u8]) {
        let mut written = lock(&self.written);
        written.sent = written.sent.max(range.end);
        let at = range.start.saturating_sub(written.start);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        take(&written.bytes, at, target);
    }

    /// Our stream before `up_to` is not needed any more.
    pub(super) fn release(&self, up_to: u64) {
        let mut written = lock(&self.written);
        let count = usize::try_from(up_to.saturating_sub(written.start)).unwrap_or(usize::MAX);
        let count = count.min(written.bytes.len());
        written.bytes.drain(..count);
        written.start += count as u64;
        trim(&mut written.bytes);
    }

    /// Whether a writer that found no room is to be woken: half of the room is there again.
    pub(super) fn wakes_writer(&self) -> bool {
        let mut written = lock(&self.written);
        let wakes = written.wanted && written.room() >= MAX_UNSENT_BYTES / 2;
        written.wanted &= !wakes;
        wakes
    }

    /// The connection is over.
    pub(super) fn close(&self, reason: Closed) {
        lock(&self.received).closed = Some(reason);
        let mut written = lock(&self.written);
        written.closed = Some(reason);
        written.bytes = VecDeque::new();
        drop(written);
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

impl Received {
    /// What a read finds where there are no bytes.
    fn end(&self) -> io::Result<usize> {
        match (self.finished, self.closed) {
            (true, _) | (_, Some(Closed::Ended)) => Ok(0),
            (false, Some(closed)) => Err(error(closed)),
            (false, None) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Copies from `bytes` at `at` on, and returns how many there were.
fn take(bytes: &VecDeque<u8>, at: usize, target: &mut [u8]) -> usize {
    let (first, second) = bytes.as_slices();
    let skipped = at.min(first.len());
    let first = &first[skipped..];
    let second = &second[(at - skipped).min(second.len())..];
    let from_first = first.len().min(target.len());
    target[..from_first].copy_from_slice(&first[..from_first]);
    let from_second = second.len().min(target.len() - from_first);
    target[from_first..from_first + from_second].copy_from_slice(&second[..from_second]);
    from_first + from_second
}

fn trim(bytes: &mut VecDeque<u8>) {
    if bytes.is_empty() && bytes.capacity() > 4 * KEPT_BYTES {
        bytes.shrink_to(KEPT_BYTES);
    }
}

pub(super) fn error(closed: Closed) -> io::Error {
    let kind = match closed {
        Closed::Ended => io::ErrorKind::UnexpectedEof,
        Closed::Reset => io::ErrorKind::ConnectionReset,
        Closed::TimedOut => io::ErrorKind::TimedOut,
        Closed::Aborted => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, closed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_machine::Moment;
    use shoal_utp::{Multiplexer, Settings};
    use std::io::IoSliceMut;

    fn pipe() -> (Pipe, Arc<Wishes>) {
        let mut machine = Multiplexer::new(Settings::default(), fastrand::Rng::with_seed(1));
        let remote = ([127, 0, 0, 1], 1).into();
        let key = machine.connect(Moment::ZERO, remote).unwrap();
        let wishes = Arc::<Wishes>::default();
        (Pipe::new(key, Arc::clone(&wishes)), wishes)
    }

    #[test]
    fn what_is_written_is_kept_until_it_is_released_wherever_the_buffer_wraps() {
        let (pipe, _) = pipe();
        let content = |offset: u64| u8::try_from(offset * 7 % 251).unwrap();
        let (mut written, mut released) = (0_u64, 0_u64);
        for step in 1..200_u64 {
            let bytes: Vec<u8> = (written..written + step * 13).map(content).collect();
            assert_eq!(pipe.write(&bytes).unwrap(), bytes.len());
            written += step * 13;
            let range = released + step..written - step;
            let mut target = vec![0; usize::try_from(range.end - range.start).unwrap()];
            pipe.fill(&range, &mut target);
            assert!(target.iter().copied().eq(range.map(content)));
            released += step * 12;
            pipe.release(released);
        }
        assert_eq!(pipe.done().written, written);
        assert_eq!(pipe.done().written, 0);
    }

    #[test]
    fn a_writer_stops_at_the_bound_and_is_woken_at_half_of_it() {
        let (pipe, _) = pipe();
        let bytes = vec![0; 1 << 20];
        let room = usize::try_from(MAX_UNSENT_BYTES).unwrap();
        assert_eq!(pipe.write(&bytes).unwrap(), room);
        assert!(!pipe.is_writable());
        pipe.fill(&(0..1_000), &mut [0; 1_000]);
        assert!(!pipe.wakes_writer());
        pipe.fill(&(0..MAX_UNSENT_BYTES / 2), &mut [0; 0]);
        assert!(pipe.wakes_writer() && !pipe.wakes_writer());
        // What was sent is kept, too, and bounded.
        let mut sent = MAX_UNSENT_BYTES;
        while let Ok(count) = pipe.write(&bytes) {
            sent += count as u64;
            pipe.fill(&(0..sent), &mut [0; 0]);
        }
        assert!(sent <= MAX_IN_FLIGHT_BYTES + 2 * MAX_UNSENT_BYTES);
    }

    #[test]
    fn a_key_is_listed_once_until_the_event_loop_has_looked() {
        let (pipe, wishes) = pipe();
        let mut keys = Vec::new();
        pipe.write(b"a").unwrap();
        pipe.write(b"b").unwrap();
        pipe.finish();
        wishes.take(&mut keys);
        assert_eq!(keys.len(), 1);
        let done = pipe.done();
        assert_eq!((done.written, done.finished), (2, true));
        keys.clear();
        pipe.abandon();
        wishes.take(&mut keys);
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn a_reader_gets_all_bytes_before_the_reason_of_the_end() {
        let (pipe, _) = pipe();
        pipe.deliver(b"hello");
        pipe.close(Closed::Reset);
        let (mut first, mut second) = ([0; 3], [0; 8]);
        let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(pipe.read(&mut buffers).unwrap(), 5);
        assert_eq!((&first, &second[..2]), (b"hel", &b"lo"[..]));
        let error = pipe.read(&mut [IoSliceMut::new(&mut second)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            pipe.write(b"x").unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
}

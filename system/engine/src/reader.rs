//! Files that are read while they arrive: what a reader waits for comes first, and what it will want soon comes in time.
//!
//! Invariant: a reader sees verified bytes only, in order. What it asks for has a deadline as long as it lives, and not longer.

use crate::command::{Command, CommandError, Reply};
use crate::handle::TorrentHandle;
use bytes::Bytes;
use shoal_metainfo::{FileIndex, Layout, PieceIndex};
use shoal_storage::{Content, ReadError};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The most readers of a torrent at a time: as many claims as are kept.
pub const MAX_READERS: usize = shoal_swarm::picker::MAX_DEADLINE_LEASES;

/// How many bytes a second a reader is expected to take: those of a film in high definition. Decides when what lies ahead of it is due, and
/// does not hold it back.
pub(crate) const EXPECTED_RATE_BYTES_PER_S: u64 = 1024 * 1024;

/// The most bytes that are handed out at once.
const CHUNK_BYTES: u32 = 256 * 1024;

/// How often what was lost between being verified and being read is waited for again.
const MAX_LOSSES: u32 = 3;

/// Names readers apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What a reader wants to know of a torrent.
pub(crate) struct Opened {
    pub(crate) content: Content,
    pub(crate) layout: Arc<Layout>,
    /// Where the range is in the address space of the layout.
    pub(crate) range: Range<u64>,
}

/// A reader waits for a piece.
pub(crate) struct Need {
    pub(crate) reader: u64,
    pub(crate) piece: PieceIndex,
    /// The last piece that it will want.
    pub(crate) last: PieceIndex,
    /// Gone when the reader is.
    pub(crate) alive: Weak<()>,
    pub(crate) reply: Reply<()>,
}

/// A range of a file, read from its beginning to its end while it arrives.
#[derive(Debug)]
pub struct FileReader {
    torrent: TorrentHandle,
    content: Content,
    layout: Arc<Layout>,
    number: u64,
    alive: Arc<()>,
    left: Range<u64>,
    /// The piece that is known to be there.
    ready: Option<PieceIndex>,
}

impl TorrentHandle {
    /// Reads `range` of a file's bytes while they arrive. What it is about to read is fetched before everything else, as long as the
    /// reader lives. While files are being checked, this waits.
    ///
    /// # Errors
    /// Where there is no such file or range, or the torrent has ended.
    pub async fn read(
        &self,
        file: FileIndex,
        range: Range<u64>,
    ) -> Result<FileReader, CommandError> {
        let opened = self.ask(|reply| Command::Open(file, range, reply)).await?;
        Ok(FileReader {
            torrent: self.clone(),
            content: opened.content,
            layout: opened.layout,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            alive: Arc::new(()),
            left: opened.range,
            ready: None,
        })
    }
}

impl FileReader {
    /// The next bytes, as soon as they are verified: at least one, `None` at the end. May be cancelled without losing any.
    ///
    /// # Errors
    /// Where the next bytes are not wanted and will not come, cannot be read, or the torrent has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CommandError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let piece = self.piece_at(self.left.start);
        let mut losses = 0;
        loop {
            if self.ready != Some(piece) {
                self.wait_for(piece).await?;
                self.ready = Some(piece);
            }
            match self.fetch(piece).await? {
                Ok(bytes) => {
                    self.left.start += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                // It was right, and somebody has changed the file since.
                Err(ReadError::NotVerified(_) | ReadError::Changed(_)) if losses < MAX_LOSSES => {
                    losses += 1;
                    self.ready = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How many bytes are left to read.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left.end - self.left.start
    }

    async fn wait_for(&self, piece: PieceIndex) -> Result<(), CommandError> {
        let need = |reply| {
            Command::Need(Need {
                reader: self.number,
                piece,
                last: self.piece_at(self.left.end - 1),
                alive: Arc::downgrade(&self.alive),
                reply,
            })
        };
        self.torrent.ask(need).await
    }

    async fn fetch(&self, piece: PieceIndex) -> Result<Result<Bytes, ReadError>, CommandError> {
        let place = self.layout.range_of(piece);
        let begin = u32::try_from(self.left.start - place.start).unwrap_or(u32::MAX);
        let end = self.left.end.min(place.end);
        let length = u32::try_from(end - self.left.start).unwrap_or(u32::MAX);
        let mut bytes = vec![0; length.min(CHUNK_BYTES) as usize];
        let content = self.content.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = content.read(piece, begin, &mut bytes);
            read.map(|()| Bytes::from(bytes))
        });
        reading.await.map_err(|_| CommandError::Gone)
    }

    fn piece_at(&self, at: u64) -> PieceIndex {
        let piece = at / u64::from(self.layout.piece_length());
        PieceIndex(u32::try_from(piece).unwrap_or(u32::MAX))
    }
}

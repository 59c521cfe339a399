//! One content: the handle through which its owner writes, reads and verifies it.

use smallvec::SmallVec;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_metainfo::{BLOCK_LENGTH, Bitfield, Block, BlockIndex, FileIndex, PieceIndex};

use crate::Storage;
use crate::check::Check;
use crate::error::{ReadError, StorageError};
use crate::files::{Failure, Look};
use crate::inner::Inner;
use crate::pool::BlockBuffer;
use crate::relocate::Progress;
use crate::source::{Segment, Source};
use crate::spec::{Location, Mode};

/// What the journal knew when the content was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Pieces that are known to be right, without having been read.
    pub have: Bitfield,
    /// Pieces, in order, that may be right and must be verified: not synced before a power failure, in a file that changed, or
    /// never looked at. All others are not there.
    pub suspect: Vec<PieceIndex>,
    /// Whether there was no journal to go by.
    pub fresh: bool,
    /// Where the files are, if they were moved from where they were looked for: to be remembered. They are looked for there as long as
    /// they are opened in the old place.
    pub relocated: Option<Location>,
}

impl Resumed {
    pub(crate) fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.suspect.binary_search(&piece).is_ok()
    }
}

/// What became of a block given to [`Content::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is kept.
    Kept,
    /// It was there already.
    Duplicate,
    /// There is no such block, its length is wrong, or the content is closed or read-only.
    Refused,
}

/// A content that is open. Cloning gives another handle to the same. Dropping the last one without [`Content::close`]
/// loses no verified piece.
#[derive(Clone, Debug)]
pub struct Content {
    pub(crate) inner: Arc<Inner>,
    /// Keeps the threads.
    pub(crate) _storage: Storage,
}

impl Content {
    /// What the journal knew, without any content having been read.
    #[must_use]
    pub fn resumed(&self) -> &Resumed {
        &self.inner.resumed
    }

    /// Takes a received block. Never blocks; events follow when the piece is complete.
    pub fn write(&self, block: Block, buffer: BlockBuffer) -> Stored {
        self.inner.take_block(block, buffer)
    }

    /// Drops the received blocks of a piece that is not verified yet.
    pub fn forget(&self, piece: PieceIndex) {
        self.inner.forget(piece);
    }

    /// Reads and hashes `pieces` on the worker threads; one [`crate::Event::Checked`] follows for each. A piece that turns
    /// out right is verified from then on, and one that turns out wrong no longer. A piece of which blocks were received
    /// is not read and counts as wrong.
    pub fn verify(&self, pieces: Vec<PieceIndex>) -> Check {
        Check::start(&self.inner, pieces, false)
    }

    /// As [`Content::verify`] of all pieces, as a person asks for it: pieces of files that are missing are wrong, and those files are not
    /// waited for any more ([`crate::Reason::FilesMissing`]). A drive that is missing is.
    pub fn recheck(&self) -> Check {
        self.inner.stop_waiting();
        // What was deleted while it was open could still be read.
        self.inner.files.close_all();
        Check::start(&self.inner, self.inner.layout.pieces().collect(), true)
    }

    /// Takes every piece for right whose files reach that far, without reading them. Returns the pieces that are to be had.
    pub fn trust(&self) -> Bitfield {
        let inner = &self.inner;
        let there = |piece: &PieceIndex| {
            let mut places = inner.files.places(inner.layout.range_of(*piece));
            places.all(|place| {
                let end = place.offset + place.len;
                let look = |slot| inner.files.look(slot, end, false);
                place
                    .slot
                    .is_none_or(|slot| matches!(look(slot), Look::Same))
            })
        };
        let pieces: Vec<PieceIndex> = inner.layout.pieces().filter(there).collect();
        let mut state = inner.state();
        for piece in pieces {
            if !state.partials.contains_key(&piece) {
                state.gain(piece);
            }
        }
        state.have.clone()
    }

    /// Where the bytes of a range of a verified piece are. Reads nothing; looks at a file's state at most once a second.
    ///
    /// # Errors
    /// Where the piece is not verified, the range not within it, or a file is not what it was.
    pub fn source(&self, piece: PieceIndex, begin: u32, length: u32) -> Result<Source, ReadError> {
        let inner = &self.inner;
        let piece_length = inner.layout.length_of(piece);
        let end = begin.checked_add(length).filter(|&end| end <= piece_length);
        let end = end.ok_or(ReadError::OutOfRange(piece))?;
        if !inner.state().have.get(piece) {
            return self.cached_source(piece, begin..end);
        }
        let start = inner.layout.range_of(piece).start;
        let mut segments = SmallVec::new();
        for place in inner
            .files
            .places(start + u64::from(begin)..start + u64::from(end))
        {
            if let Some(slot) = place.slot {
                let path = || inner.files.full_path(slot);
                match inner.look(slot, place.offset + place.len, false) {
                    Look::Same => {}
                    Look::Changed => return Err(ReadError::Changed(path())),
                    Look::Missing => return Err(ReadError::Missing(path())),
                    Look::Unknown(source) => {
                        let path = path();
                        return Err(ReadError::Io { path, source });
                    }
                }
                let segment = inner.files.segment(place);
                segments.push(segment.map_err(|error| inner.files.failure(slot, error))?);
            } else {
                segments.push(Segment::Zeros { len: place.len });
            }
        }
        Ok(Source { segments })
    }

    /// The range of a piece that is right and waits in memory to be written.
    fn cached_source(&self, piece: PieceIndex, range: Range<u32>) -> Result<Source, ReadError> {
        let mut segments = SmallVec::new();
        let mut begin = range.start;
        while begin < range.end {
            let block = BlockIndex(begin / BLOCK_LENGTH);
            let cached = self.inner.cached_right(Block { piece, block });
            let block_buffer = cached.ok_or(ReadError::NotVerified(piece))?;
            let start = begin - block.offset();
            let len = (range.end - begin).min(BLOCK_LENGTH - start);
            segments.push(Segment::Buffer {
                block: block_buffer,
                start: start as usize,
                len: len as usize,
            });
            begin += len;
        }
        Ok(Source { segments })
    }

    /// Reads a range of a verified piece: `out` is filled. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Content::source`], and where the file system fails.
    pub fn read(&self, piece: PieceIndex, begin: u32, out: &mut [u8]) -> Result<(), ReadError> {
        let length = u32::try_from(out.len()).map_err(|_| ReadError::OutOfRange(piece))?;
        let source = self.source(piece, begin, length)?;
        let mut at = 0;
        for segment in &source.segments {
            if let Segment::Buffer { block, start, len } = segment {
                out[at..at + len].copy_from_slice(&block[*start..start + len]);
                at += len;
            }
        }
        if at == out.len() {
            return Ok(());
        }
        let start = self.inner.layout.range_of(piece).start + u64::from(begin);
        self.inner.files.read(start, out).map_err(|failure| {
            if failure.error.kind() != io::ErrorKind::UnexpectedEof {
                return failure.into();
            }
            self.doubt(piece);
            ReadError::Changed(failure.path)
        })
    }

    /// Tells that reading from a source of `piece` came short or gave other bytes than promised: the piece is lost, and so
    /// are all pieces of a file of it that changed. Events follow.
    pub fn doubt(&self, piece: PieceIndex) {
        let inner = &self.inner;
        inner.look_at_volume();
        let mut reachable = !inner.is_absent(piece);
        for place in inner.files.places(inner.layout.range_of(piece)) {
            if let Some(slot) = place.slot {
                let look = inner.look(slot, place.offset + place.len, true);
                reachable &= matches!(look, Look::Same | Look::Changed);
            }
        }
        // What is missing may come back.
        if reachable {
            inner.lose(std::iter::once(piece));
        }
    }

    /// Takes files that are missing ([`crate::Reason::FilesMissing`]) for gone, as a person wants it: their pieces are lost, and can be
    /// written anew. Blocks on the disk.
    ///
    /// # Errors
    /// Where their volume is missing.
    pub fn accept_missing(&self) -> Result<(), StorageError> {
        self.inner.accept_missing()
    }

    /// Changes which files are wanted. Fragments of a file that becomes wanted move from the parts file into it, so that
    /// this blocks on the disk. A file that is no longer wanted keeps what it has.
    ///
    /// # Errors
    /// Where the selection is not over all files, a path is refused as in [`Storage::open`], or the file system fails. Files
    /// that were not wanted before are then still not.
    pub fn select(&self, wanted: &[bool]) -> Result<(), StorageError> {
        if wanted.len() != self.inner.files.specs().len() {
            return Err(StorageError::Spec("its selection is not over its files"));
        }
        self.inner.place(wanted, false)?;
        if self.inner.mode == Mode::Download {
            crate::open::create_empty(&self.inner.files, wanted)?;
        }
        Ok(())
    }

    /// Where the files are.
    #[must_use]
    pub fn location(&self) -> Arc<Location> {
        Arc::clone(&self.inner.files.homes.now().location)
    }

    /// Where the files are to be with one of them at another `path` below the directory.
    ///
    /// # Errors
    /// Where there is no such file.
    pub fn with_file_at(&self, file: FileIndex, path: PathBuf) -> Result<Location, StorageError> {
        let specs = self.inner.files.specs();
        let spec = specs.iter().find(|spec| spec.index == file);
        let spec = spec.ok_or(StorageError::NoFile(path.clone()))?;
        let mut location = (*self.location()).clone();
        location.rename(spec, path);
        Ok(location)
    }

    /// Where the files are to be with those of the folder `old` in the folder `new`, both below the directory.
    ///
    /// # Errors
    /// Where no file is in the folder.
    pub fn with_folder_at(&self, old: &Path, new: &Path) -> Result<Location, StorageError> {
        let specs = self.inner.files.specs();
        self.location().with_folder(specs, old, new)
    }

    /// Moves the files to another place, in another directory, under other names, or both. Blocks on the disk for as long as that takes.
    /// What is there can be read all the time; what is received meanwhile is written afterwards. On the same volume files are renamed. On
    /// another one they are copied, synced and compared by length, and the old ones go when all new ones are there.
    ///
    /// Whatever happens, also to the process, all of the content is in the old place or in the new one afterwards: where it was opened
    /// with a journal, opening it in the old place again finds it ([`Resumed::relocated`]). Where there is none, a process that is
    /// killed leaves its files in both.
    ///
    /// # Errors
    /// Everything is as it was, but for the last: a path that is not plain or is there already (nothing is ever overwritten), a directory
    /// that is missing or cannot be written to, no room, a disk that fails, [`close`](Self::close) (`Cancelled`), another move that is
    /// going on (`Moving`); and where the disk does not even let go back, files are in both places and can be read and written there.
    pub fn relocate(&self, to: Location, progress: &Progress) -> Result<(), StorageError> {
        self.inner.relocate(to, progress)
    }

    /// Makes everything verified so far survive a power failure. Blocks on the disk.
    ///
    /// # Errors
    /// Where the file system fails.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.inner.sync()
    }

    /// Whether nothing has happened since it was opened that closing it would have to write down: then that needs no disk.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        self.inner.is_left_alone()
    }

    /// Writes what is verified, syncs, and records a clean end. Blocks on the disk. Afterwards writes are refused; other
    /// handles may still read.
    ///
    /// # Errors
    /// Where the file system fails; everything recorded before stays good.
    pub fn close(&self) -> Result<(), StorageError> {
        self.inner.close()
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure.error.kind() {
            io::ErrorKind::NotFound => ReadError::Missing(failure.path),
            _ => ReadError::Io {
                path: failure.path,
                source: failure.error,
            },
        }
    }
}

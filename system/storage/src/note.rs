//! The note beside a journal that says where the files are while they move, and where they went until whoever opens them knows.
//!
//! ```text
//! magic 8, version u32, stage u8, copied u8, from, to (places), slots (count u32, then u32 each),
//! prints (count u32, then slot u32, size u64, time i64, inode u64 each), CRC-32                integers are little endian
//! place     directory (length u32, bytes), count u32, then file u32 and path (length u32, bytes) each
//! ```
//!
//! Invariant: before [`Stage::Committed`] all bytes are in the old place or can be put back there; from then on they are in the new one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use shoal_metainfo::FileIndex;

use crate::disk::Disk;
use crate::journal::Fingerprint;
use crate::spec::Location;
use crate::state_file;

const MAGIC: &[u8; 8] = b"shoal-p\n";
const VERSION: u32 = 1;

/// More than the paths and prints of the most files that a torrent may have.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Files are renamed, or copied to a folder of their own.
    Moving,
    /// All are copied, and get their names.
    Placing,
    /// They are in the new place; what is left in the old one is to go.
    Committed,
    /// Nothing is to be done: they are where `to` says.
    Settled,
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) stage: Stage,
    /// The new place is on another volume.
    pub(crate) copied: bool,
    pub(crate) from: Location,
    pub(crate) to: Location,
    /// The files that move, as the journal numbers them.
    pub(crate) slots: Vec<u32>,
    /// What copies look like.
    pub(crate) prints: Vec<(u32, Fingerprint)>,
}

impl Note {
    /// Where the note of the journal at `path` is.
    pub(crate) fn path(journal: &Path) -> PathBuf {
        let mut name = journal.as_os_str().to_owned();
        name.push(".place");
        PathBuf::from(name)
    }

    /// What the note at `path` says; `None` where there is none. `InvalidData` for one that is damaged.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = state_file::read(path, MAX_BYTES)? else {
            return Ok(None);
        };
        let note = decode(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(note))
    }

    /// Puts it at `path`, for good.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        disk.note(path, Some(&encode(self)))
    }
}

fn encode(note: &Note) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, VERSION);
    bytes.push(match note.stage {
        Stage::Moving => 1,
        Stage::Placing => 2,
        Stage::Committed => 3,
        Stage::Settled => 4,
    });
    bytes.push(u8::from(note.copied));
    for place in [&note.from, &note.to] {
        put_path(&mut bytes, &place.directory);
        put_count(&mut bytes, place.renamed.len());
        for (file, path) in &place.renamed {
            put(&mut bytes, file.0);
            put_path(&mut bytes, path);
        }
    }
    put_count(&mut bytes, note.slots.len());
    note.slots.iter().for_each(|&slot| put(&mut bytes, slot));
    put_count(&mut bytes, note.prints.len());
    for (slot, print) in &note.prints {
        put(&mut bytes, *slot);
        bytes.extend_from_slice(&print.size.to_le_bytes());
        bytes.extend_from_slice(&print.mtime_ns.to_le_bytes());
        bytes.extend_from_slice(&print.inode.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes);
    put(&mut bytes, crc);
    bytes
}

fn put(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// Of what is in memory; paths and files are fewer than 2^32.
fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put(bytes, u32::try_from(count).unwrap_or(u32::MAX));
}

fn put_path(bytes: &mut Vec<u8>, path: &Path) {
    let path = path.as_os_str().as_bytes();
    put_count(bytes, path.len());
    bytes.extend_from_slice(path);
}

fn decode(bytes: &[u8]) -> Option<Note> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = Rest(body);
    let known = rest.array()? == *MAGIC && rest.number()? == VERSION;
    let [stage, copied] = rest.array()?;
    let stage = match stage {
        1 => Stage::Moving,
        2 => Stage::Placing,
        3 => Stage::Committed,
        4 => Stage::Settled,
        _ => return None,
    };
    let (from, to) = (rest.place()?, rest.place()?);
    let slots = (0..rest.number()?).map(|_| rest.number());
    let slots = slots.collect::<Option<Vec<u32>>>()?;
    let prints = (0..rest.number()?).map(|_| rest.print());
    let prints = prints.collect::<Option<Vec<_>>>()?;
    (known && rest.0.is_empty()).then_some(Note {
        stage,
        copied: copied != 0,
        from,
        to,
        slots,
        prints,
    })
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn path(&mut self) -> Option<PathBuf> {
        let length = usize::try_from(self.number()?).ok()?;
        let (path, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    fn place(&mut self) -> Option<Location> {
        let directory = self.path()?;
        let renamed = (0..self.number()?).map(|_| Some((FileIndex(self.number()?), self.path()?)));
        let renamed = renamed.collect::<Option<BTreeMap<_, _>>>()?;
        Some(Location { directory, renamed })
    }

    fn print(&mut self) -> Option<(u32, Fingerprint)> {
        let slot = self.number()?;
        let print = Fingerprint {
            size: self.array().map(u64::from_le_bytes)?,
            mtime_ns: self.array().map(i64::from_le_bytes)?,
            inode: self.array().map(u64::from_le_bytes)?,
        };
        Some((slot, print))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Note {
        let place = |directory: &str| Location {
            directory: directory.into(),
            renamed: BTreeMap::from([(FileIndex(7), PathBuf::from("new\nname"))]),
        };
        let print = Fingerprint {
            size: 1 << 40,
            mtime_ns: -5,
            inode: u64::MAX,
        };
        Note {
            stage: Stage::Placing,
            copied: true,
            from: place("/from"),
            to: place(""),
            slots: vec![0, u32::MAX],
            prints: vec![(3, print)],
        }
    }

    #[test]
    fn a_note_says_what_was_noted_and_a_damaged_one_nothing() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes), Some(sample()));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None);
            let mut damaged = bytes.clone();
            damaged[cut] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }

    #[test]
    fn counts_that_promise_more_than_there_is_are_refused() {
        let mut note = sample();
        note.prints.clear();
        let mut bytes = encode(&note);
        bytes.truncate(bytes.len() - 8);
        put(&mut bytes, u32::MAX);
        let crc = crc32fast::hash(&bytes);
        put(&mut bytes, crc);
        assert_eq!(decode(&bytes), None);
    }
}

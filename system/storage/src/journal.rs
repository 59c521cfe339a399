//! The completion journal: which pieces are right, remembered across crashes and power failures.
//!
//! A journal is a header, a bitfield of pieces that are right and synced, and records that are appended one at a time:
//!
//! ```text
//! header    magic 8, version u32, piece count u32, info hash 20, boot id 16, zero 8, CRC-32
//! bitfield  as on the wire (BEP 3), CRC-32
//! record    kind u8, zero 3, index u32, a u64, b i64, c u64, CRC-32      integers are little endian
//! ```
//!
//! Invariant: a piece's record is appended after its bytes were written, by one write; a reader stops at the first record
//! whose CRC is wrong. So a crash at any moment costs at most the record that was being appended. After a power failure
//! (told by the kernel's boot id) only what a `Synced` record covers is taken for right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use shoal_metainfo::{Bitfield, InfoHash, PieceIndex};

use crate::absence::Whereabouts;
use crate::disk::{self, Disk};
use crate::error::StorageError;

const MAGIC: &[u8; 8] = b"shoal-j\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 36;

/// A journal is rewritten when it has more records than this plus two for each piece, so that reading one stays cheap.
const COMPACT_RECORDS: u64 = 4096;

const UNKNOWN_BOOT: [u8; 16] = [0; 16];

/// What is appended to a journal's path for the one that is about to replace it.
const NEW: &str = ".new";

/// What is appended to a journal's path for one of something else that was there.
const BAD: &str = ".bad";

/// The file index that stands for the parts file in fingerprints.
pub(crate) const PARTS_FILE: u32 = u32::MAX;

/// What a file looked like when all its bytes were known to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) inode: u64,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The piece is right and was written.
    Verified(PieceIndex),
    /// The piece is wrong.
    Lost(PieceIndex),
    /// The piece was right and must be verified again.
    Suspect(PieceIndex),
    /// Whatever the records before this byte of the journal say survives a power failure.
    Synced(u64),
    /// Syncing failed: what no `Synced` record covers may be gone although the machine kept running.
    Unsafe,
    /// What the file looks like.
    Fingerprint(u32, Fingerprint),
    /// Where the directory is.
    Root(Whereabouts),
    /// From here on the file's fragments are in the file, not in the parts file.
    Placed(u32),
    /// Somebody uses the journal.
    Opened,
    /// The content was closed in good order: fingerprints hold exactly.
    Closed,
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Knowledge {
    pub(crate) have: Bitfield,
    pub(crate) suspect: BTreeSet<PieceIndex>,
    pub(crate) placed: BTreeSet<u32>,
    pub(crate) fingerprints: BTreeMap<u32, Fingerprint>,
    pub(crate) root: Option<Whereabouts>,
    /// Whether the last record is `Closed`.
    pub(crate) closed: bool,
    /// Pieces that are not synced, with the place of their record.
    unsynced: Vec<(u64, PieceIndex)>,
    unsafe_now: bool,
}

impl Knowledge {
    fn new(have: Bitfield) -> Self {
        Knowledge {
            have,
            suspect: BTreeSet::new(),
            placed: BTreeSet::new(),
            fingerprints: BTreeMap::new(),
            root: None,
            closed: false,
            unsynced: Vec::new(),
            unsafe_now: false,
        }
    }

    fn learn(&mut self, at: u64, record: Record) {
        self.closed = matches!(record, Record::Closed);
        match record {
            Record::Verified(piece) => {
                self.suspect.remove(&piece);
                if piece.0 < self.have.len() && self.have.insert(piece) {
                    self.unsynced.push((at, piece));
                }
            }
            Record::Lost(piece) => {
                self.have.remove(piece);
                self.suspect.remove(&piece);
            }
            Record::Suspect(piece) => {
                self.have.remove(piece);
                if piece.0 < self.have.len() {
                    self.suspect.insert(piece);
                }
            }
            Record::Synced(upto) => {
                self.unsynced.retain(|&(at, _)| at >= upto);
                self.unsafe_now = false;
            }
            Record::Unsafe => self.unsafe_now = true,
            Record::Fingerprint(file, fingerprint) => {
                self.fingerprints.insert(file, fingerprint);
            }
            Record::Root(root) => self.root = Some(root),
            Record::Placed(file) => {
                self.placed.insert(file);
            }
            Record::Opened | Record::Closed => {}
        }
    }

    /// Makes suspects of the pieces that no `Synced` record covers.
    fn suspect_unsynced(&mut self) {
        for (_, piece) in std::mem::take(&mut self.unsynced) {
            if self.have.remove(piece) {
                self.suspect.insert(piece);
            }
        }
    }

    /// The pieces that no `Synced` record covers.
    pub(crate) fn unsynced(&self) -> Vec<PieceIndex> {
        self.unsynced.iter().map(|&(_, piece)| piece).collect()
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }
}

/// The open journal of one content, locked against other processes while it lives.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
    path: PathBuf,
    identity: Identity,
    end: u64,
    records: u64,
    knowledge: Knowledge,
    written_at: Instant,
    /// What could not be appended yet: the latest about each piece.
    pending: BTreeMap<PieceIndex, Record>,
    /// Its header names an earlier boot. It is rewritten before something is appended, as what follows holds for this one.
    of_earlier_boot: bool,
    /// When the journal was last written before it was opened, in nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) info_hash: InfoHash,
    pub(crate) piece_count: u32,
    pub(crate) boot: [u8; 16],
}

impl Journal {
    /// Opens or creates the journal at `path`, cutting off a torn end. A journal of something else is set aside under the
    /// same name with `.bad` appended. The flag tells whether there was nothing to go by.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        identity: Identity,
    ) -> Result<(Self, bool), StorageError> {
        let fail = |error| StorageError::io(path, error);
        let file = lock(path, true)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        let metadata = file.metadata().map_err(fail)?;
        let mtime_ns = mtime_ns(&metadata);
        let read = parse(&file, identity).map_err(fail)?;
        let fresh = read.is_none();
        let mut foreign = false;
        let (knowledge, end, records, boot) = read.unwrap_or_else(|| {
            foreign = true;
            (
                Knowledge::new(Bitfield::empty(identity.piece_count)),
                0,
                0,
                UNKNOWN_BOOT,
            )
        });
        if foreign && metadata.len() > 0 {
            fs::copy(path, with_suffix(path, BAD)).map_err(fail)?;
        }
        let mut journal = Journal {
            disk,
            file: Arc::new(file),
            path: path.to_owned(),
            identity,
            end,
            records,
            knowledge,
            written_at: Instant::now(),
            pending: BTreeMap::new(),
            of_earlier_boot: boot != identity.boot || boot == UNKNOWN_BOOT,
            mtime_ns,
        };
        let known = &journal.knowledge;
        let all_synced = known.unsynced.is_empty() && !known.unsafe_now && !fresh;
        // After a boot, thousands of torrents may be opened that were closed in good order and stay as they are.
        let stays = known.closed && all_synced && end == metadata.len();
        if stays {
            return Ok((journal, fresh));
        }
        if journal.of_earlier_boot || known.unsafe_now {
            journal.knowledge.suspect_unsynced();
            journal.rewrite().map_err(fail)?;
            // Files are compared with when it was last written, also where this attempt to open comes to nothing.
            let modified = Duration::from_nanos(mtime_ns.unsigned_abs());
            let _ = journal.file.set_modified(UNIX_EPOCH + modified);
        } else if journal.file.metadata().map_err(fail)?.len() != end {
            journal.file.set_len(end).map_err(fail)?;
        }
        Ok((journal, fresh))
    }

    /// Writes the journal of a content that is not open, of which these records are all that is known: whole, or not at all. `false`
    /// where it has one already. A journal of something else is set aside, as in [`Journal::open`].
    pub(crate) fn found(
        disk: Arc<dyn Disk>,
        path: &Path,
        identity: Identity,
        records: &[Record],
    ) -> Result<bool, StorageError> {
        let fail = |error| StorageError::io(path, error);
        let file = lock(path, true)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        if parse(&file, identity).map_err(fail)?.is_some() {
            return Ok(false);
        }
        if file.metadata().map_err(fail)?.len() > 0 {
            fs::copy(path, with_suffix(path, BAD)).map_err(fail)?;
        }
        let mut knowledge = Knowledge::new(Bitfield::empty(identity.piece_count));
        for (at, &record) in (0..).zip(records) {
            knowledge.learn(at, record);
        }
        let mut journal = Journal {
            disk,
            file: Arc::new(file),
            path: path.to_owned(),
            identity,
            end: 0,
            records: 0,
            knowledge,
            written_at: Instant::now(),
            pending: BTreeMap::new(),
            of_earlier_boot: false,
            mtime_ns: 0,
        };
        journal.rewrite().map_err(fail)?;
        Ok(true)
    }

    pub(crate) const fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next record will be: records before it can be declared synced later.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// How long ago the journal was written.
    pub(crate) fn age(&self) -> Duration {
        self.written_at.elapsed()
    }

    /// Whether it ends as it was closed in an earlier life, and nothing waits to be appended.
    pub(crate) fn is_as_closed(&self) -> bool {
        self.knowledge.closed && self.pending.is_empty()
    }

    /// Sees to it that the next record follows others of this boot.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        match self.of_earlier_boot {
            true => self.rewrite(),
            false => Ok(()),
        }
    }

    /// Appends one record by one write. On failure the journal is as it was.
    pub(crate) fn append(&mut self, record: Record) -> io::Result<()> {
        self.append_all(&[record])
    }

    /// Appends records about pieces, or keeps them to be appended before whatever is appended next.
    pub(crate) fn append_or_keep(&mut self, records: &[Record]) -> io::Result<()> {
        for &record in records {
            if let Record::Verified(piece) | Record::Lost(piece) | Record::Suspect(piece) = record {
                self.pending.insert(piece, record);
            }
        }
        self.flush()
    }

    /// Appends what was kept.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let records: Vec<Record> = self.pending.values().copied().collect();
        self.append_now(&records)?;
        self.pending.clear();
        Ok(())
    }

    /// Appends records by one write. On failure the journal is as it was, or has the first of them.
    pub(crate) fn append_all(&mut self, records: &[Record]) -> io::Result<()> {
        self.flush()?;
        self.append_now(records)
    }

    fn append_now(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.renew()?;
        let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
        for record in records {
            bytes.extend_from_slice(&encode(record));
        }
        let mut slices = [IoSlice::new(&bytes)];
        // Always written at the end as we know it, so that the rest of an attempt that failed is overwritten.
        disk::write_all(self.disk.as_ref(), &self.file, &mut slices, self.end)?;
        for &record in records {
            self.knowledge.learn(self.end, record);
            self.end += RECORD_BYTES as u64;
            self.records += 1;
        }
        self.written_at = Instant::now();
        Ok(())
    }

    /// Records that everything before `upto` survives a power failure, and rewrites a journal that grew long. The caller
    /// syncs the returned file, without keeping others from the journal meanwhile.
    pub(crate) fn synced(&mut self, upto: u64) -> io::Result<Arc<File>> {
        self.append(Record::Synced(upto))?;
        if self.records > COMPACT_RECORDS + 2 * u64::from(self.identity.piece_count) {
            self.rewrite()?;
        }
        Ok(Arc::clone(&self.file))
    }

    /// Writes what is known to a new file that then takes the journal's place.
    pub(crate) fn rewrite(&mut self) -> io::Result<()> {
        let mut synced = self.knowledge.have.clone();
        for (_, piece) in &self.knowledge.unsynced {
            synced.remove(*piece);
        }
        let mut bytes = header(&self.identity).to_vec();
        bytes.extend_from_slice(&with_crc(&synced.to_wire()));
        let start = bytes.len() as u64;
        let known = &self.knowledge;
        let records: Vec<Record> = known
            .placed
            .iter()
            .map(|&file| Record::Placed(file))
            .chain(known.root.map(Record::Root))
            .chain(
                known
                    .fingerprints
                    .iter()
                    .map(|(&file, &print)| Record::Fingerprint(file, print)),
            )
            .chain(known.suspect.iter().map(|&piece| Record::Suspect(piece)))
            .chain(
                known
                    .unsynced
                    .iter()
                    .map(|&(_, piece)| Record::Verified(piece)),
            )
            .chain(known.closed.then_some(Record::Closed))
            .collect();
        for record in &records {
            bytes.extend_from_slice(&encode(record));
        }
        let temporary = with_suffix(&self.path, NEW);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&temporary)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut slices = [IoSlice::new(&bytes)];
        disk::write_all(self.disk.as_ref(), &file, &mut slices, 0)?;
        self.disk.sync(&file)?;
        fs::rename(&temporary, &self.path)?;
        if let Some(parent) = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            File::open(parent)?.sync_all()?;
        }
        self.file = Arc::new(file);
        self.of_earlier_boot = false;
        let mut knowledge = Knowledge::new(synced);
        self.end = start;
        for &record in &records {
            knowledge.learn(self.end, record);
            self.end += RECORD_BYTES as u64;
        }
        self.knowledge = knowledge;
        self.records = records.len() as u64;
        self.written_at = Instant::now();
        Ok(())
    }
}

/// What the journal at `path` says, if it is one of this content, with its lock: nobody uses it while that is held. `None` where
/// there is no file.
///
/// # Errors
/// Where somebody uses it, and what the system says.
pub(crate) fn peek(
    path: &Path,
    info_hash: InfoHash,
    piece_count: u32,
) -> Result<Option<(File, Option<Knowledge>)>, StorageError> {
    let Some(file) = lock(path, false)? else {
        return Ok(None);
    };
    let identity = Identity {
        info_hash,
        piece_count,
        boot: UNKNOWN_BOOT,
    };
    let contents = parse(&file, identity).map_err(|error| StorageError::io(path, error))?;
    Ok(Some((file, contents.map(|(knowledge, ..)| knowledge))))
}

/// Whether there is a journal at `path` in which something is written.
pub(crate) fn is_begun(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Where a journal is put while it replaces the one at `path`, and where one of something else is set aside.
pub(crate) fn beside(path: &Path) -> [PathBuf; 2] {
    [NEW, BAD].map(|suffix| with_suffix(path, suffix))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens and locks the file at `path`, which another process may be replacing meanwhile. `None` where there is none and none is
/// to be made.
fn lock(path: &Path, create: bool) -> Result<Option<File>, StorageError> {
    let fail = |error| StorageError::io(path, error);
    loop {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .truncate(false);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
            opened => opened.map_err(fail)?,
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                StorageError::Locked(path.to_owned())
            } else {
                fail(error.into())
            }
        })?;
        let (ours, there) = (file.metadata().map_err(fail)?, fs::metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Some(file));
        }
    }
}

/// What a journal says, where its good part ends, how many records that has, and the boot it was begun in.
type Contents = (Knowledge, u64, u64, [u8; 16]);

/// Reads a journal from its beginning. `None` for a journal of something else, a damaged one, and an empty one.
fn parse(file: &File, identity: Identity) -> io::Result<Option<Contents>> {
    // Most are short: of one piece, and closed in good order.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut reader = io::BufReader::with_capacity(length.min(64 * 1024), file);
    let mut head = [0; HEADER_BYTES];
    let field_bytes = identity.piece_count.div_ceil(8) as usize;
    let mut field = vec![0; field_bytes + 4];
    if read_or_end(&mut reader, &mut head)?.is_none()
        || read_or_end(&mut reader, &mut field)?.is_none()
    {
        return Ok(None);
    }
    let mut boot = [0; 16];
    boot.copy_from_slice(&head[36..52]);
    let expected = header(&Identity { boot, ..identity });
    let have = checked(&field).and_then(|bits| Bitfield::from_wire(bits, identity.piece_count));
    let (true, Some(have)) = (head[..] == expected[..], have) else {
        return Ok(None);
    };
    let mut knowledge = Knowledge::new(have);
    let (mut end, mut records) = ((HEADER_BYTES + field.len()) as u64, 0);
    let mut bytes = [0; RECORD_BYTES];
    while read_or_end(&mut reader, &mut bytes)?.is_some() {
        let Some(record) = decode(&bytes) else { break };
        knowledge.learn(end, record);
        end += RECORD_BYTES as u64;
        records += 1;
    }
    Ok(Some((knowledge, end, records, boot)))
}

/// Fills `out`, or tells that the file ends before.
fn read_or_end(reader: &mut impl Read, out: &mut [u8]) -> io::Result<Option<()>> {
    match reader.read_exact(out) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn header(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&identity.piece_count.to_le_bytes());
    bytes.extend_from_slice(&identity.info_hash.0);
    bytes.extend_from_slice(&identity.boot);
    bytes.extend_from_slice(&[0; 8]);
    with_crc(&bytes)
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    all
}

/// The bytes before a CRC-32 that is theirs.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(body) == u32::from_le_bytes(*crc)).then_some(body)
}

fn encode(record: &Record) -> Vec<u8> {
    let (kind, index, a, b, c) = match *record {
        Record::Verified(piece) => (1, piece.0, 0, 0, 0),
        Record::Lost(piece) => (2, piece.0, 0, 0, 0),
        Record::Suspect(piece) => (3, piece.0, 0, 0, 0),
        Record::Synced(upto) => (4, 0, upto, 0, 0),
        Record::Unsafe => (5, 0, 0, 0, 0),
        Record::Fingerprint(file, print) => (6, file, print.size, print.mtime_ns, print.inode),
        Record::Placed(file) => (7, file, 0, 0, 0),
        Record::Opened => (8, 0, 0, 0, 0),
        Record::Closed => (9, 0, 0, 0, 0),
        Record::Root(root) => {
            let mount = i64::from_ne_bytes(root.mount.to_ne_bytes());
            (10, 0, root.device, mount, root.inode)
        }
    };
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes.extend_from_slice(&u32::to_le_bytes(index));
    bytes.extend_from_slice(&u64::to_le_bytes(a));
    bytes.extend_from_slice(&i64::to_le_bytes(b));
    bytes.extend_from_slice(&u64::to_le_bytes(c));
    with_crc(&bytes)
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Record> {
    let body = checked(bytes)?;
    let (kind, rest) = body.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let (a, rest) = rest.split_first_chunk::<8>()?;
    let (b, rest) = rest.split_first_chunk::<8>()?;
    let (c, _) = rest.split_first_chunk::<8>()?;
    let index = u32::from_le_bytes(*index);
    let a = u64::from_le_bytes(*a);
    Some(match kind[0] {
        1 => Record::Verified(PieceIndex(index)),
        2 => Record::Lost(PieceIndex(index)),
        3 => Record::Suspect(PieceIndex(index)),
        4 => Record::Synced(a),
        5 => Record::Unsafe,
        6 => {
            let print = Fingerprint {
                size: a,
                mtime_ns: i64::from_le_bytes(*b),
                inode: u64::from_le_bytes(*c),
            };
            Record::Fingerprint(index, print)
        }
        7 => Record::Placed(index),
        8 => Record::Opened,
        9 => Record::Closed,
        10 => Record::Root(Whereabouts {
            device: a,
            mount: u64::from_le_bytes(*b),
            inode: u64::from_le_bytes(*c),
        }),
        _ => return None,
    })
}

impl Fingerprint {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Fingerprint {
            size: metadata.len(),
            mtime_ns: mtime_ns(metadata),
            inode: metadata.ino(),
        }
    }
}

/// The modification time in nanoseconds since 1970.
pub(crate) fn mtime_ns(metadata: &fs::Metadata) -> i64 {
    metadata
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(metadata.mtime_nsec())
}

/// The id of this run of the kernel; [`UNKNOWN_BOOT`], which always counts as a reboot, where it cannot be told.
pub(crate) fn boot_id() -> [u8; 16] {
    static BOOT: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
    })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the sizes here are small")]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    const IDENTITY: Identity = Identity {
        info_hash: InfoHash([7; 20]),
        piece_count: 100,
        boot: [1; 16],
    };

    fn open(path: &Path, identity: Identity) -> (Journal, bool) {
        Journal::open(Arc::new(SystemDisk), path, identity).unwrap()
    }

    fn pieces(journal: &Journal) -> Vec<u32> {
        journal
            .knowledge()
            .have
            .iter()
            .map(|piece| piece.0)
            .collect()
    }

    fn with_pieces(path: &Path, count: u32) -> Journal {
        let (mut journal, fresh) = open(path, IDENTITY);
        assert!(fresh);
        for piece in 0..count {
            journal.append(Record::Verified(PieceIndex(piece))).unwrap();
        }
        journal
    }

    #[test]
    fn a_journal_cut_at_any_byte_counts_no_piece_that_is_not_there_and_loses_one_record_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let start = with_pieces(&path, 0).end();
        let all = {
            drop(with_pieces_reopened(&path, 10));
            fs::read(&path).unwrap()
        };
        for cut in 0..=all.len() {
            fs::write(&path, &all[..cut]).unwrap();
            let (journal, fresh) = open(&path, IDENTITY);
            let whole = (cut as u64).saturating_sub(start) / RECORD_BYTES as u64;
            assert_eq!(fresh, (cut as u64) < start, "{cut}");
            let expected: Vec<u32> = (0..10).take(usize::try_from(whole).unwrap()).collect();
            assert_eq!(pieces(&journal), expected, "{cut}");
        }
    }

    fn with_pieces_reopened(path: &Path, count: u32) -> Journal {
        let (mut journal, _) = open(path, IDENTITY);
        for piece in 0..count {
            journal.append(Record::Verified(PieceIndex(piece))).unwrap();
        }
        journal
    }

    #[test]
    fn a_flipped_bit_anywhere_never_adds_a_piece() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(with_pieces(&path, 5));
        let all = fs::read(&path).unwrap();
        for at in 0..all.len() {
            let mut bad = all.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            let (journal, _) = open(&path, IDENTITY);
            let have = pieces(&journal);
            assert_eq!(have, (0..have.len() as u32).collect::<Vec<_>>());
            assert!(have.len() <= 5);
        }
    }

    #[test]
    fn what_comes_after_a_torn_record_is_appended_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(with_pieces(&path, 3));
        let mut torn = fs::read(&path).unwrap();
        torn.truncate(torn.len() - 5);
        fs::write(&path, torn).unwrap();
        let (mut journal, _) = open(&path, IDENTITY);
        journal.append(Record::Verified(PieceIndex(50))).unwrap();
        drop(journal);
        assert_eq!(pieces(&open(&path, IDENTITY).0), [0, 1, 50]);
    }

    #[test]
    fn after_a_reboot_what_was_not_synced_is_suspect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = with_pieces(&path, 3);
        let upto = journal.end();
        journal.append(Record::Verified(PieceIndex(10))).unwrap();
        journal.synced(upto).unwrap();
        journal.append(Record::Verified(PieceIndex(11))).unwrap();
        drop(journal);
        let rebooted = Identity {
            boot: [2; 16],
            ..IDENTITY
        };
        for _ in 0..2 {
            let (journal, fresh) = open(&path, rebooted);
            assert!(!fresh);
            assert_eq!(pieces(&journal), [0, 1, 2]);
            let suspect: Vec<u32> = journal.knowledge().suspect.iter().map(|p| p.0).collect();
            assert_eq!(suspect, [10, 11]);
        }
    }

    #[test]
    fn after_a_failed_sync_what_was_not_synced_is_suspect_even_without_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = with_pieces(&path, 3);
        journal.append(Record::Unsafe).unwrap();
        drop(journal);
        let (journal, _) = open(&path, IDENTITY);
        assert_eq!(journal.knowledge().suspect.len(), 3);
    }

    #[test]
    fn a_journal_of_something_else_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        drop(with_pieces(&path, 3));
        let before = fs::read(&path).unwrap();
        let other = Identity {
            info_hash: InfoHash([8; 20]),
            ..IDENTITY
        };
        let (journal, fresh) = open(&path, other);
        assert!(fresh && pieces(&journal).is_empty());
        assert_eq!(fs::read(dir.path().join("j.bad")).unwrap(), before);
    }

    #[test]
    fn a_journal_in_use_is_refused_even_after_it_was_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = with_pieces(&path, 3);
        journal.rewrite().unwrap();
        let again = Journal::open(Arc::new(SystemDisk), &path, IDENTITY);
        assert!(matches!(again, Err(StorageError::Locked(_))));
        drop(journal);
        assert_eq!(pieces(&open(&path, IDENTITY).0), [0, 1, 2]);
    }

    #[test]
    fn a_long_journal_is_rewritten_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = with_pieces(&path, 50);
        let print = Fingerprint {
            size: 1,
            mtime_ns: -2,
            inode: 3,
        };
        journal.append(Record::Placed(4)).unwrap();
        journal.append(Record::Fingerprint(5, print)).unwrap();
        for _ in 0..COMPACT_RECORDS + 200 {
            journal.append(Record::Lost(PieceIndex(60))).unwrap();
        }
        let upto = journal.end();
        journal.append(Record::Verified(PieceIndex(70))).unwrap();
        journal.append(Record::Suspect(PieceIndex(71))).unwrap();
        journal.synced(upto).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 1000);
        let known = journal.knowledge().clone();
        assert!(known.has_unsynced());
        drop(journal);
        let (again, fresh) = open(&path, IDENTITY);
        assert!(!fresh);
        assert_eq!(again.knowledge(), &known);
        assert_eq!(pieces(&again).len(), 51);
        assert_eq!(known.fingerprints.get(&5), Some(&print));
        assert!(known.placed.contains(&4) && known.suspect.contains(&PieceIndex(71)));
    }
}

//! Taking over a content that another client had: its word for which pieces are right is compared with the disk, and becomes a journal.
//!
//! Invariant: no content is read or written. A piece is taken for right only where the client says so and all of its files are as the client
//! remembers them, as far as it does, and reach as far as what it says of them; and only what was synced. The journal is there whole or not at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_metainfo::{Bitfield, PieceIndex};

use crate::disk::{self, Access, Disk, Root};
use crate::error::StorageError;
use crate::journal::{self, Fingerprint, Identity, Journal, Record};
use crate::map::FileMap;
use crate::open;
use crate::spec::{ContentSpec, FileSpec, Location, Mode};

/// So many files are synced by one call for their device, which costs what others wrote there too, but not a flush of the disk's
/// own cache for each.
const MANY_FILES: usize = if cfg!(test) { 3 } else { 64 };

/// The most files that are named in [`Adopted`]: a person reads no more.
const MAX_NAMED: usize = 16;

/// What another client says of a content.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Pieces that it verified.
    pub verified: Bitfield,
    /// Pieces that may be there and must be verified first.
    pub doubtful: Bitfield,
    /// How each file of the specification looked then; nothing is known of those beyond the end.
    pub stamps: Vec<Stamp>,
    /// What the client may have put behind the names of files that are not complete. They lose it, where something is to be written.
    pub unfinished_suffix: Option<String>,
}

/// How a file looked when the client knew its pieces, as far as it remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// In bytes.
    pub length: Option<u64>,
    /// When it was last modified.
    pub modified: Option<Modified>,
}

/// When a file was last modified, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modified {
    /// At this time.
    At(i64),
    /// Not after this time.
    NotAfter(i64),
}

/// What became of the claims, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Pieces that are taken for right.
    pub verified: u32,
    /// Pieces that are to be verified: doubtful ones, and those of files that differ.
    pub suspect: u32,
    /// Pieces that the client verified and that are not there any more.
    pub lost: u32,
    /// Pieces that the client verified and that are not taken for right.
    pub withheld: Vec<PieceIndex>,
    /// Files that are not as the client remembers them, or shorter or longer than it can be.
    pub changed_files: u64,
    /// Files that should be there and are not.
    pub missing_files: u64,
    /// The first of both, as far as a person reads.
    pub named: Vec<PathBuf>,
}

/// A file that is there.
#[derive(Clone, Copy, Debug)]
struct Seen {
    print: Fingerprint,
    differs: bool,
}

/// Which files are synced as they are looked at.
#[derive(Clone, Copy, Debug)]
enum Sync {
    None,
    Each,
    /// All but those on this device.
    AllBut(u64),
}

struct Adoption<'a> {
    disk: &'a dyn Disk,
    spec: &'a ContentSpec,
    /// Where its files are.
    location: Location,
    claims: &'a Claims,
    map: FileMap,
    root: Root,
}

/// Whether what comes of it is only to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The journal is written.
    Earnest,
    /// Nothing on the disk changes.
    Trial,
}

/// Adopts a content, see [`crate::Storage::adopt`].
pub(crate) fn adopt(
    disk: &Arc<dyn Disk>,
    spec: &ContentSpec,
    claims: &Claims,
    manner: Manner,
) -> Result<Option<Adopted>, StorageError> {
    let pieces = spec.layout.piece_count();
    if claims.verified.len() != pieces || claims.doubtful.len() != pieces {
        return Err(StorageError::Spec("what is claimed is not over its pieces"));
    }
    let path = spec.journal.as_deref();
    let path = path.ok_or(StorageError::Spec(
        "it is to be remembered without a journal",
    ))?;
    let location = spec.location();
    location.check(&spec.files)?;
    let adoption = Adoption {
        map: FileMap::new(&spec.files, &spec.layout)?,
        root: open::root(&spec.directory)?,
        disk: disk.as_ref(),
        spec,
        location,
        claims,
    };
    if let Some((_, Some(_))) = journal::peek(path, spec.info_hash, pieces)? {
        return Ok(None);
    }
    let needed = adoption.needed();
    let mut places = adoption.find()?;
    if manner == Manner::Earnest {
        adoption.settle_names(&mut places)?;
    }
    let files = adoption.look(&needed, &places, manner)?;
    let (records, adopted) = adoption.judge(&needed, &places, &files);
    if adopted.lost > 0 && adopted.verified == 0 && adopted.suspect == 0 {
        return Err(StorageError::Gone(spec.directory.clone()));
    }
    if manner == Manner::Trial {
        return Ok(Some(adopted));
    }
    let identity = Identity {
        info_hash: spec.info_hash,
        piece_count: pieces,
        boot: journal::boot_id(),
    };
    let is_new = Journal::found(Arc::clone(disk), path, identity, &records)?;
    Ok(is_new.then_some(adopted))
}

impl Adoption<'_> {
    /// How far each file must reach for what the client verified; `None` where nothing of it is claimed.
    fn needed(&self) -> Vec<Option<u64>> {
        let mut needed = vec![None; self.spec.files.len()];
        let sets = [
            (&self.claims.verified, true),
            (&self.claims.doubtful, false),
        ];
        for (set, is_verified) in sets {
            for span in set.iter().flat_map(|piece| self.spans(piece)) {
                let end = if is_verified { span.1 } else { 0 };
                let so_far = needed[span.0].get_or_insert(0);
                *so_far = end.max(*so_far);
            }
        }
        needed
    }

    /// The files of a piece, and where in each it ends.
    fn spans(&self, piece: PieceIndex) -> impl Iterator<Item = (usize, u64)> {
        let spans = self.map.spans(self.spec.layout.range_of(piece));
        spans
            .filter(|span| !span.padding)
            .map(|span| (span.file.get(), span.offset + span.len))
    }

    /// Where the files are that are there: under their own names or those of unfinished ones.
    fn find(&self) -> Result<Vec<Option<PathBuf>>, StorageError> {
        let mut places = Vec::with_capacity(self.spec.files.len());
        for file in &self.spec.files {
            let path = self.location.path_of(file);
            let mut place = None;
            if !file.padding && self.is_there(path)? {
                place = Some(path.to_owned());
            } else if let Some(name) = self.unfinished(file)
                && self.is_there(&name)?
            {
                place = Some(name);
            }
            places.push(place);
        }
        Ok(places)
    }

    /// Gives all files their own names. Whatever is refused was refused before one is renamed.
    fn settle_names(&self, places: &mut [Option<PathBuf>]) -> Result<(), StorageError> {
        for (file, place) in self.spec.files.iter().zip(places) {
            let path = self.location.path_of(file);
            let Some(name) = place.as_mut().filter(|name| *name != path) else {
                continue;
            };
            let renamed = self.disk.rename(&self.root, name, &self.root, path);
            renamed.map_err(|error| self.failure(name, error))?;
            path.clone_into(name);
        }
        Ok(())
    }

    /// The name of a file while it is not complete, where the client gave it another and something may be written.
    fn unfinished(&self, file: &FileSpec) -> Option<PathBuf> {
        let suffix = self.claims.unfinished_suffix.as_ref()?;
        if file.padding || self.spec.mode == Mode::Seed {
            return None;
        }
        let mut name = self.location.path_of(file).as_os_str().to_owned();
        name.push(suffix);
        Some(name.into())
    }

    fn is_there(&self, path: &Path) -> Result<bool, StorageError> {
        let full = || self.spec.directory.join(path);
        match self.root.inspect(path) {
            Ok(None) => Ok(false),
            Ok(Some(stat)) if disk::is_regular(&stat) => Ok(true),
            Ok(Some(_)) => Err(StorageError::NotAFile(full())),
            Err(error) if disk::is_link(&error) => Err(StorageError::Link(full())),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(StorageError::NotAFile(full()))
            }
            Err(error) => Err(self.failure(path, error)),
        }
    }

    /// What the files that something is claimed of look like, once what they have is synced.
    fn look(
        &self,
        needed: &[Option<u64>],
        places: &[Option<PathBuf>],
        manner: Manner,
    ) -> Result<Vec<Option<Seen>>, StorageError> {
        let looked_at = needed.iter().zip(places);
        let count = looked_at.filter(|(needed, place)| needed.is_some() && place.is_some());
        let sync = match manner {
            Manner::Trial => Sync::None,
            Manner::Earnest if count.count() < MANY_FILES => Sync::Each,
            Manner::Earnest => match self.sync_device()? {
                Some(device) => Sync::AllBut(device),
                None => Sync::Each,
            },
        };
        let mut files = Vec::with_capacity(needed.len());
        for (slot, file) in self.spec.files.iter().enumerate() {
            let seen = match needed[slot].zip(places[slot].as_deref()) {
                Some((needed, path)) => Some(self.look_at(slot, file, path, needed, sync)?),
                None => None,
            };
            files.push(seen);
        }
        Ok(files)
    }

    /// Syncs all of the device that the directory lies on, and names it; `None` where the system cannot.
    fn sync_device(&self) -> Result<Option<u64>, StorageError> {
        match self.disk.sync_all(&self.root) {
            Ok(()) => Ok(self.root.device().ok()),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(StorageError::io(&self.spec.directory, error)),
        }
    }

    fn look_at(
        &self,
        slot: usize,
        file: &FileSpec,
        path: &Path,
        needed: u64,
        sync: Sync,
    ) -> Result<Seen, StorageError> {
        let look = || -> io::Result<Fingerprint> {
            let opened: File = self.disk.open(&self.root, path, Access::Read)?;
            let is_due = match sync {
                Sync::None => false,
                Sync::Each => true,
                Sync::AllBut(device) => opened.metadata()?.dev() != device,
            };
            if is_due {
                self.disk.sync(&opened)?;
            }
            Ok(Fingerprint::of(&opened.metadata()?))
        };
        let print = look().map_err(|error| self.failure(path, error))?;
        let stamp = self.claims.stamps.get(slot).copied().unwrap_or_default();
        let possible = needed..=file.length;
        Ok(Seen {
            print,
            differs: !possible.contains(&print.size) || !stamp.fits(&print),
        })
    }

    /// What the journal is to say, and what a person is told.
    fn judge(
        &self,
        needed: &[Option<u64>],
        places: &[Option<PathBuf>],
        files: &[Option<Seen>],
    ) -> (Vec<Record>, Adopted) {
        let mut adopted = self.tell(needed, files);
        let mut suspect = BTreeSet::new();
        let mut records = Vec::new();
        let is_there = |(slot, end): (usize, u64)| files[slot].is_some_and(|f| end <= f.print.size);
        for piece in self.claims.verified.iter() {
            let differs = |(slot, _): (usize, u64)| files[slot].is_some_and(|file| file.differs);
            if !self.spans(piece).all(is_there) {
                adopted.lost += 1;
                adopted.withheld.push(piece);
            } else if self.spans(piece).any(differs) {
                suspect.insert(piece);
                adopted.withheld.push(piece);
            } else {
                adopted.verified += 1;
                records.push(Record::Verified(piece));
            }
        }
        for piece in self.claims.doubtful.iter() {
            if !self.claims.verified.get(piece) && self.spans(piece).all(is_there) {
                suspect.insert(piece);
            }
        }
        adopted.suspect = u32::try_from(suspect.len()).unwrap_or(u32::MAX);
        records.push(Record::Synced(u64::MAX));
        records.extend(suspect.into_iter().map(Record::Suspect));
        for ((slot, place), seen) in (0..).zip(places).zip(files) {
            // What the client has of a file is in it, whether that is wanted or not.
            records.extend(place.as_ref().map(|_| Record::Placed(slot)));
            records.extend(seen.map(|seen| Record::Fingerprint(slot, seen.print)));
        }
        records.push(Record::Closed);
        (records, adopted)
    }

    fn tell(&self, needed: &[Option<u64>], files: &[Option<Seen>]) -> Adopted {
        let mut adopted = Adopted::default();
        for ((file, needed), seen) in self.spec.files.iter().zip(needed).zip(files) {
            match (needed, seen) {
                (Some(needed), None) if *needed > 0 => adopted.missing_files += 1,
                (Some(_), Some(seen)) if seen.differs => adopted.changed_files += 1,
                _ => continue,
            }
            if adopted.named.len() < MAX_NAMED {
                adopted.named.push(self.location.path_of(file).to_owned());
            }
        }
        adopted
    }

    fn failure(&self, path: &Path, error: io::Error) -> StorageError {
        StorageError::io(self.spec.directory.join(path), error)
    }
}

impl Stamp {
    fn fits(self, print: &Fingerprint) -> bool {
        let seconds = print.mtime_ns.div_euclid(1_000_000_000);
        let is_then = match self.modified {
            None => true,
            Some(Modified::At(time)) => seconds == time,
            Some(Modified::NotAfter(time)) => seconds <= time,
        };
        is_then && self.length.is_none_or(|length| length == print.size)
    }
}

//! What a session needs to know of a torrent to go on with it: the same for every client that it may come from.
//!
//! Invariant: of the pieces in [`Have`], none is claimed that the client itself would have checked again, and none of a file whose
//! place is not known. Paths in [`Imported::paths`] stay below the folder.

use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, FileIndex, InfoHashes, Magnet, Metainfo, PieceIndex};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A torrent of another client's session.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it is.
    pub torrent: Torrent,
    /// Where its content is: the folder that has the torrent's folder, or its only file, in it. As the client wrote it: absolute on the
    /// machine that the client ran on.
    pub folder: PathBuf,
    /// Where the content goes when it is complete, if not to [`Imported::folder`]. Of a torrent of Transmission, a file that is not in the
    /// one folder may be in the other.
    pub completed_folder: Option<PathBuf>,
    /// What the person calls it, where that is not its name.
    pub name: Option<String>,
    /// The files that do not lie where the metainfo says: their paths below [`Imported::folder`], with the torrent's folder in them,
    /// components joined by `/`. A person or a client chose them, so they are as they are on the disk.
    pub paths: BTreeMap<FileIndex, String>,
    /// What the client may have put behind the names of files that are not complete.
    pub unfinished_suffix: Option<&'static str>,
    /// Which pieces are there.
    pub have: Have,
    /// What the client knew of the files on the disk when it verified them. A file that differs has changed since.
    pub stamps: BTreeMap<FileIndex, Stamp>,
    /// Files that are not [`Priority::Normal`].
    pub priorities: BTreeMap<FileIndex, Priority>,
    /// The category or label.
    pub category: Option<String>,
    /// Tags, or labels where a torrent may have several.
    pub tags: Vec<String>,
    /// Whether it runs.
    pub run: Run,
    /// Payload sent, over all sessions.
    pub uploaded_bytes: u64,
    /// Payload received, over all sessions.
    pub downloaded_bytes: u64,
    /// How long it has seeded, in seconds, as far as the client counts that.
    pub seeding_s: u64,
    /// When it was added, in seconds since 1970.
    pub added_at: Option<i64>,
    /// When it was complete, in seconds since 1970.
    pub completed_at: Option<i64>,
    /// When it has been seeded enough.
    pub share_limits: ShareLimits,
    /// The most bytes it may send in a second, where it has a limit of its own.
    pub upload_bytes_per_s: Option<u64>,
    /// The most bytes it may receive in a second, where it has a limit of its own.
    pub download_bytes_per_s: Option<u64>,
    /// Whether pieces are fetched in order.
    pub sequential: bool,
    /// Whether the first and last pieces of files come first.
    pub first_last_first: bool,
    /// Whether it is super-seeded.
    pub super_seeding: bool,
    /// The trackers in tiers, where they are not those of the metainfo or magnet.
    pub trackers: Option<Vec<Vec<TrackerUrl>>>,
    /// The web seeds, where they are not those of the metainfo or magnet.
    pub web_seeds: Option<Vec<String>>,
    /// What could not be taken over as it was.
    pub notes: Vec<Note>,
}

/// What an imported torrent is.
#[derive(Clone, Debug)]
pub enum Torrent {
    /// Its metainfo is known.
    File {
        /// The .torrent file, to be stored.
        bytes: Vec<u8>,
        /// What it says.
        metainfo: Arc<Metainfo>,
    },
    /// Its metainfo was never found.
    Magnet(Box<Magnet>),
}

/// Which pieces are there, as the client left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Have {
    /// Every piece, verified.
    All,
    /// No piece.
    None,
    /// Some. No piece is in both sets.
    Pieces {
        /// The verified ones.
        verified: Bitfield,
        /// Those that may be there and must be verified first.
        doubtful: Bitfield,
    },
    /// The client did not know. What is on the disk must be checked.
    Unknown,
}

/// A file of a torrent as the client last saw it on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its length in bytes.
    pub length: Option<u64>,
    /// When it was last modified.
    pub modified: Option<Modified>,
}

/// When a file was last modified, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modified {
    /// At this time.
    At(i64),
    /// Not after this time, at which it was verified.
    NotAfter(i64),
}

/// How much a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// As files are.
    Normal,
    /// Before the others.
    High,
}

/// Whether a torrent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It is stopped until somebody starts it.
    Paused,
    /// It runs when its turn comes.
    Queued,
    /// It runs, whatever the queue says.
    Forced,
}

/// A limit of one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Limit<T> {
    /// That of the session or category.
    #[default]
    Inherited,
    /// None, whatever the session says.
    Unlimited,
    /// This.
    At(T),
}

/// When a torrent has been seeded enough. Each limit counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShareLimits {
    /// Bytes sent for each byte of content.
    pub ratio: Limit<f64>,
    /// Seconds of seeding.
    pub seeding_s: Limit<u64>,
    /// Seconds of seeding in which nothing was sent.
    pub idle_s: Limit<u64>,
}

/// Something of a torrent that could not be taken over as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// A folder that is none on this machine.
    #[error("its folder {0:?} is not an absolute path of this system: say where the content is")]
    FolderElsewhere(PathBuf),
    /// No folder.
    #[error("the client does not say where the content is: say where it is")]
    NoFolder,
    /// No resume data.
    #[error("the client has no resume data of it: its content must be checked")]
    NoResumeData,
    /// Resume data that cannot be used.
    #[error("what the client says of its pieces cannot be used: its content must be checked")]
    NoPieces,
    /// Files of which nobody knows where they are.
    #[error(
        "{count} files have paths that lead out of its folder, the first is {first:?}: their pieces are not taken over"
    )]
    PathsOutside {
        /// How many.
        count: usize,
        /// The first of the paths.
        first: String,
    },
    /// Files that are called differently.
    #[error(
        "{count} files have names that clients make safe in ways of their own, the first is {first:?} here: where one is not found, \
         rename it"
    )]
    OddNames {
        /// How many.
        count: usize,
        /// The path of the first as it is here.
        first: String,
    },
    /// Trackers or web seeds that are not taken over.
    #[error("{0} trackers or web seeds are not valid or too many and are left out")]
    UrlsLeftOut(usize),
}

impl Imported {
    /// A torrent of which nothing else is known.
    pub(crate) fn new(torrent: Torrent) -> Self {
        let have = match torrent {
            Torrent::File { .. } => Have::Unknown,
            Torrent::Magnet(_) => Have::None,
        };
        Imported {
            torrent,
            folder: PathBuf::new(),
            completed_folder: None,
            name: None,
            paths: BTreeMap::new(),
            unfinished_suffix: None,
            have,
            stamps: BTreeMap::new(),
            priorities: BTreeMap::new(),
            category: None,
            tags: Vec::new(),
            run: Run::Queued,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            seeding_s: 0,
            added_at: None,
            completed_at: None,
            share_limits: ShareLimits::default(),
            upload_bytes_per_s: None,
            download_bytes_per_s: None,
            sequential: false,
            first_last_first: false,
            super_seeding: false,
            trackers: None,
            web_seeds: None,
            notes: Vec::new(),
        }
    }

    /// Bounds when files were last modified by when the client wrote what it says of their pieces, where it says nothing more exact: what was
    /// written to them later, it did not verify.
    pub(crate) fn saved_at(&mut self, time: Option<i64>) {
        let (Some(time), Torrent::File { metainfo, .. }) = (time, &self.torrent) else {
            return;
        };
        let files = (0..).map(FileIndex).zip(metainfo.files());
        for (index, _) in files.filter(|(_, file)| !file.padding) {
            let stamp = self.stamps.entry(index).or_default();
            stamp.modified.get_or_insert(Modified::NotAfter(time));
        }
    }

    /// Files that were not complete were written to until the client wrote what it says of them, whenever it checked pieces of them.
    pub(crate) fn written_until(&mut self, time: Option<i64>) {
        let (Some(time), Torrent::File { metainfo, .. }) = (time, &self.torrent) else {
            return;
        };
        for (file, stamp) in &mut self.stamps {
            let mut pieces = metainfo.pieces_of(*file).map(PieceIndex);
            let is_complete = pieces.all(|piece| self.have.has(piece));
            if let Some(Modified::NotAfter(bound)) = &mut stamp.modified
                && !is_complete
            {
                *bound = time.max(*bound);
            }
        }
    }

    /// Its info hashes.
    #[must_use]
    pub fn info_hashes(&self) -> InfoHashes {
        match &self.torrent {
            Torrent::File { metainfo, .. } => metainfo.info_hashes(),
            Torrent::Magnet(magnet) => magnet.info_hashes,
        }
    }

    /// Its metainfo, if that is known.
    #[must_use]
    pub fn metainfo(&self) -> Option<&Metainfo> {
        match &self.torrent {
            Torrent::File { metainfo, .. } => Some(metainfo),
            Torrent::Magnet(_) => None,
        }
    }
}

impl Have {
    /// Of two sets over the same pieces.
    pub(crate) fn of(verified: Bitfield, mut doubtful: Bitfield) -> Self {
        for piece in verified.iter() {
            doubtful.remove(piece);
        }
        match (verified.is_clear(), doubtful.is_clear()) {
            (true, true) => Have::None,
            (false, true) if verified.is_full() => Have::All,
            (true, false) if doubtful.is_full() => Have::Unknown,
            _ => Have::Pieces { verified, doubtful },
        }
    }

    /// Whether `piece` is there and verified.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        match self {
            Have::All => true,
            Have::Pieces { verified, .. } => verified.get(piece),
            Have::None | Have::Unknown => false,
        }
    }
}

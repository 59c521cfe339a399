//! Makes .torrent files: v1 (BEP 3), v2 (BEP 52) and hybrid, with padding and attributes (BEP 47).
//!
//! Invariant: the info dictionary depends on the files and options alone, and is byte for byte the one that libtorrent
//! makes of them, so that two people who publish the same files meet in one swarm. (One exception: beside a directory `a`
//! and a name like `a.txt`, libtorrent gives the two file lists of a hybrid different orders, and refuses most such torrents
//! when it reads them; here both are in the order of the file tree, as BEP 52 demands.)
//!
//! The work is in three parts: [`Plan::new`] decides order, padding and piece length; whoever may read files hashes the
//! pieces ([`Plan::segments`], [`Plan::hasher`], [`Plan::piece_hash`]), in any order and on any number of threads; and
//! [`Plan::finish`] writes the file. Memory is in proportion to files and pieces, never to content.

mod check;
mod write;

#[cfg(test)]
mod tests;

use crate::geometry::{BLOCK_LENGTH, Layout, LayoutError, PieceIndex};
use crate::hasher::PieceHasher;
use crate::merkle;
use crate::names::NameError;
use crate::verifier::{Needs, PieceDigests};

/// The longest piece we make: other clients refuse longer ones.
pub const MAX_CREATED_PIECE_LENGTH: u32 = 128 * 1024 * 1024;

/// The most directories a file may lie under: with the dictionaries around them they stay below the depth of 100 to which
/// we and others read metainfo.
pub const MAX_PATH_DEPTH: usize = 90;

/// The longest automatic piece length, with which libtorrent's table ends.
const MAX_AUTOMATIC_PIECE_LENGTH: u32 = 16 * 1024 * 1024;

/// Which protocols a torrent is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// BEP 3 alone.
    V1,
    /// BEP 52 alone.
    V2,
    /// Both, over the same bytes.
    #[default]
    Hybrid,
}

impl Kind {
    const fn has_v1(self) -> bool {
        matches!(self, Kind::V1 | Kind::Hybrid)
    }

    const fn has_v2(self) -> bool {
        matches!(self, Kind::V2 | Kind::Hybrid)
    }
}

/// A file to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path below the torrent's name, empty where the torrent is this one file.
    pub path: Vec<String>,
    /// Its length in bytes; 0 for a symlink.
    pub length: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether it is hidden.
    pub hidden: bool,
    /// Where it points, below the torrent's name, if it is to be published as a symlink (BEP 47). Many clients skip such
    /// entries; whoever wants no symlinks does not list them, or lists what they point to.
    pub symlink: Option<Vec<String>>,
}

/// What to make of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The protocols.
    pub kind: Kind,
    /// The piece length in bytes; by default libtorrent's choice for the total length.
    pub piece_length: Option<u32>,
    /// Whether the last file of a hybrid torrent is padded to a whole piece as all others are. libtorrent does so unless
    /// asked not to (`canonical_files_no_tail_padding`).
    pub tail_padding: bool,
    /// Tracker URLs in tiers (BEP 12). Empty and repeated ones are left out.
    pub trackers: Vec<Vec<String>>,
    /// URLs of web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Whether peers may come from the trackers only (BEP 27).
    pub private: bool,
    /// A remark for people.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970.
    pub creation_date: Option<u64>,
    /// A word in the info dictionary with which private trackers give the same files an info hash of their own.
    pub source: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            kind: Kind::default(),
            piece_length: None,
            tail_padding: true,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
            comment: None,
            created_by: None,
            creation_date: None,
            source: None,
        }
    }
}

/// A file of the torrent in the making, in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Which of [`Plan::sources`] it is; `None` for padding, which is zeros and is not read from anywhere.
    pub source: Option<usize>,
    /// Where its first byte lies in the torrent's address space (see [`Layout`]).
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl PlannedFile {
    const fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// A part of a piece that lies in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which of [`Plan::sources`] to read; `None` for zeros.
    pub source: Option<usize>,
    /// Where in the file to begin.
    pub offset: u64,
    /// How many bytes, at least 1 and at most a piece.
    pub length: u32,
}

/// What goes into the .torrent file for one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceHash {
    /// SHA-1 over the piece, for v1 and hybrid.
    pub sha1: Option<[u8; 20]>,
    /// Merkle root over its blocks of content, for v2 and hybrid.
    pub root: Option<[u8; 32]>,
}

/// A name that is published as it is, but that those who download it will see as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The path of the file, or the torrent's name.
    pub published: String,
    /// What it will be on disks.
    pub becomes: String,
}

/// A torrent of which everything is decided but the hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    name: String,
    options: Options,
    sources: Vec<SourceFile>,
    files: Vec<PlannedFile>,
    layout: Layout,
    renamed: Vec<Renamed>,
}

impl Plan {
    /// Plans a torrent called `name` of `sources`. v1 torrents keep the order given; in others the files are in the order of
    /// the file tree, which is that of their path components, byte by byte.
    ///
    /// # Errors
    /// Where there is nothing to publish, two files would be in one place, a name cannot be written, or the piece length or
    /// the number of pieces is beyond what is possible.
    pub fn new(
        name: String,
        sources: Vec<SourceFile>,
        options: Options,
    ) -> Result<Self, CreateError> {
        check::names(&name, &sources)?;
        let total = check::total_length(&sources)?;
        let piece_length = choose_piece_length(&options, total)?;
        let order = tree_order(&sources);
        check::places(&sources, &order)?;
        let place = Placement {
            sources: &sources,
            piece_length: u64::from(piece_length),
        };
        let files = match options.kind {
            Kind::V1 => place.in_sequence(0..sources.len()),
            Kind::V2 => place.at_piece_boundaries(order),
            Kind::Hybrid => place.with_padding(order, options.tail_padding),
        };
        let layout = match options.kind {
            Kind::V2 => Layout::aligned(files.iter().map(|file| file.length), piece_length)?,
            _ => Layout::contiguous(files.last().map_or(0, PlannedFile::end), piece_length)?,
        };
        check::size(&sources, &layout, options.kind)?;
        let renamed = check::renamed(&name, &sources, &files)?;
        Ok(Plan {
            name,
            options,
            sources,
            files,
            layout,
            renamed,
        })
    }

    /// The torrent's name, which is also that of its top-level file or directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was asked for.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The files as they were given, in that order.
    #[must_use]
    pub fn sources(&self) -> &[SourceFile] {
        &self.sources
    }

    /// The files in the order of the torrent, padding included.
    #[must_use]
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// How the torrent is cut into pieces.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The names that readers will change because disks cannot hold them or people would mistake them. They are worth a
    /// warning before anything is hashed.
    #[must_use]
    pub fn renamed(&self) -> &[Renamed] {
        &self.renamed
    }

    /// Which digests are needed of each piece.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        Needs {
            sha1: self.options.kind.has_v1(),
            blocks: self.options.kind.has_v2(),
        }
    }

    /// What `piece` consists of, in order; nothing where there is no such piece.
    pub fn segments(&self, piece: PieceIndex) -> impl Iterator<Item = Segment> + '_ {
        let range = self.layout.range_of(piece);
        let first = self.files.partition_point(|file| file.end() <= range.start);
        self.files[first..]
            .iter()
            .take_while(move |file| file.offset < range.end)
            .filter_map(move |file| {
                let start = range.start.max(file.offset);
                let length = range.end.min(file.end()).checked_sub(start)?;
                Some(Segment {
                    source: file.source,
                    offset: start - file.offset,
                    length: u32::try_from(length).ok().filter(|&length| length > 0)?,
                })
            })
    }

    /// How many bytes at the beginning of `piece` are content of the file that it belongs to; the rest is padding. 0 for
    /// v1 torrents, where a piece belongs to no file.
    #[must_use]
    pub fn content_length(&self, piece: PieceIndex) -> u32 {
        match self.segments(piece).next() {
            Some(segment) if self.options.kind.has_v2() && segment.source.is_some() => {
                segment.length
            }
            _ => 0,
        }
    }

    /// A hasher to feed with the bytes of [`Plan::segments`] of `piece`.
    #[must_use]
    pub fn hasher(&self, piece: PieceIndex) -> PieceHasher {
        PieceHasher::new(self.needs(), self.content_length(piece))
    }

    /// What goes into the torrent for `piece`, from what its hasher found.
    #[must_use]
    pub fn piece_hash(&self, piece: PieceIndex, digests: &PieceDigests) -> PieceHash {
        let root = |blocks: &Vec<[u8; 32]>| merkle::root(blocks, self.leaves(piece));
        PieceHash {
            sha1: digests.sha1,
            root: digests.blocks.as_ref().map(root),
        }
    }

    /// How many leaves the tree of `piece` has: the blocks of a full piece, or those of a file that fits in one, rounded up
    /// to a power of two.
    fn leaves(&self, piece: PieceIndex) -> u32 {
        let start = self.layout.range_of(piece).start;
        let at = self.files.partition_point(|file| file.end() <= start);
        let file_blocks = self
            .files
            .get(at)
            .map_or(0, |file| file.length.div_ceil(u64::from(BLOCK_LENGTH)));
        let piece_blocks = self.layout.blocks_per_piece();
        u32::try_from(file_blocks.next_power_of_two())
            .unwrap_or(u32::MAX)
            .min(piece_blocks)
    }
}

/// libtorrent's rule: the shortest piece for which the list of pieces is not much longer than the square root of the
/// content. Each doubling of the piece serves four times the content: 16 KiB up to 2,684,354.56 bytes.
fn automatic_piece_length(total: u64) -> u32 {
    let mut piece_length = BLOCK_LENGTH;
    // In hundredths of a byte, so that every step of the table comes out exactly.
    let mut reach = 268_435_456u128;
    while u128::from(total) > (reach + 50) / 100 && piece_length < MAX_AUTOMATIC_PIECE_LENGTH {
        piece_length *= 2;
        reach *= 4;
    }
    piece_length
}

fn choose_piece_length(options: &Options, total: u64) -> Result<u32, CreateError> {
    let Some(length) = options.piece_length else {
        return Ok(automatic_piece_length(total));
    };
    let possible = match options.kind {
        Kind::V1 => length.is_power_of_two() || length.is_multiple_of(BLOCK_LENGTH),
        Kind::V2 | Kind::Hybrid => length.is_power_of_two() && length >= BLOCK_LENGTH,
    };
    if !possible || length == 0 || length > MAX_CREATED_PIECE_LENGTH {
        return Err(CreateError::PieceLength(length));
    }
    Ok(length)
}

/// The sources by the order of their path components, which is the order of the keys of the file tree.
fn tree_order(sources: &[SourceFile]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by(|&a, &b| sources[a].path.cmp(&sources[b].path));
    order
}

/// Puts files at their offsets.
struct Placement<'a> {
    sources: &'a [SourceFile],
    piece_length: u64,
}

impl Placement<'_> {
    fn in_sequence(&self, order: impl IntoIterator<Item = usize>) -> Vec<PlannedFile> {
        let mut files = Vec::with_capacity(self.sources.len());
        for source in order {
            self.push(&mut files, Some(source), self.sources[source].length);
        }
        files
    }

    fn at_piece_boundaries(&self, order: Vec<usize>) -> Vec<PlannedFile> {
        let mut files = self.in_sequence(order);
        let mut pieces = 0u64;
        for file in &mut files {
            file.offset = pieces.saturating_mul(self.piece_length);
            pieces += file.length.div_ceil(self.piece_length);
        }
        files
    }

    /// In sequence, with padding behind each file that does not end with a piece; behind the last one only if `tail`.
    fn with_padding(&self, order: Vec<usize>, tail: bool) -> Vec<PlannedFile> {
        let alone = order.len() == 1;
        let mut files = Vec::with_capacity(order.len() * 2);
        for source in order {
            let length = self.sources[source].length;
            if !tail && length > 0 {
                self.pad(&mut files);
            }
            self.push(&mut files, Some(source), length);
            if tail && length > 0 && !alone {
                self.pad(&mut files);
            }
        }
        files
    }

    fn pad(&self, files: &mut Vec<PlannedFile>) {
        let end = files.last().map_or(0, PlannedFile::end);
        match end % self.piece_length {
            0 => {}
            over => self.push(files, None, self.piece_length - over),
        }
    }

    fn push(&self, files: &mut Vec<PlannedFile>, source: Option<usize>, length: u64) {
        let offset = files.last().map_or(0, PlannedFile::end);
        files.push(PlannedFile {
            source,
            offset,
            length,
        });
    }
}

/// Why a torrent cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A name that is empty, `.` or `..`, or contains a slash or a zero byte.
    #[error(
        "{0:?} cannot be the path of a file: choose a name that is not empty, '.' or '..', and has no '/' in it"
    )]
    Name(String),
    /// More than [`MAX_PATH_DEPTH`] directories.
    #[error("{0:?} lies under more than {MAX_PATH_DEPTH} directories")]
    TooDeep(String),
    /// A path that is taken twice, or by a file and a directory.
    #[error("there are two files at {0:?}, or a file and a directory")]
    Conflict(String),
    /// A symlink that points nowhere or has content.
    #[error("the symlink {0:?} needs a target below the torrent's name, and no length")]
    Symlink(String),
    /// A piece length that the kind of torrent cannot have.
    #[error(
        "a piece length of {0} bytes is not possible: it must be a power of two from 16 KiB to 128 MiB \
         (v1 torrents also take smaller powers of two and multiples of 16 KiB)"
    )]
    PieceLength(u32),
    /// No content, too much of it, or too many pieces.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Fewer or more hashes than pieces.
    #[error("there are hashes for {given} pieces, but the torrent has {needed}")]
    HashCount {
        /// How many there are.
        given: usize,
        /// How many there should be.
        needed: u32,
    },
    /// A hash that [`Plan::needs`] asks for is missing.
    #[error("piece {0} has not been hashed in full")]
    HashMissing(PieceIndex),
    /// A name that every reader would refuse.
    #[error(transparent)]
    Names(#[from] NameError),
    /// A result that readers would refuse for its length.
    #[error(
        "the .torrent file would be at least {0} bytes long, more than programs read: choose longer pieces"
    )]
    TooLarge(usize),
    /// More files than readers take.
    #[error(
        "the .torrent file would list {0} files, more than programs read: publish fewer, or an archive of them"
    )]
    TooManyFiles(usize),
}

//! Files that no torrent describes: an origin or a Metalink says what they are called and how long they are.
//!
//! Such content is cut and kept like a torrent's. Where nobody promises hashes of its pieces, a piece is what the origin sent:
//! that it is right rests on the origin, and on a digest of the whole file where there is one.
//!
//! Invariant: such content is served to no peer. Its name can be made by whoever knows what its identity is made of, such as a URL, so that
//! nobody who asks for it by that name is to be answered.

use super::{Error, File, Metainfo};
use crate::geometry::{BLOCK_LENGTH, Layout};
use crate::info_hash::{InfoHashV1, InfoHashes};
use crate::names::{Names, Place};
use crate::verifier::{V1Pieces, Verifier};
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// What a whole file hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeDigest {
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// Hashes a whole file as its bytes come.
#[derive(Clone, Debug)]
pub struct WholeHasher {
    promised: WholeDigest,
    sha1: Sha1,
    sha256: Sha256,
}

impl WholeHasher {
    /// Begins a file that is to hash to `promised`.
    #[must_use]
    pub fn new(promised: WholeDigest) -> Self {
        WholeHasher {
            promised,
            sha1: Sha1::new(),
            sha256: Sha256::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match self.promised {
            WholeDigest::Sha1(_) => self.sha1.update(bytes),
            WholeDigest::Sha256(_) => self.sha256.update(bytes),
        }
    }

    /// Whether the file is what was promised.
    #[must_use]
    pub fn is_right(self) -> bool {
        match self.promised {
            WholeDigest::Sha1(promised) => self.sha1.finalize()[..] == promised,
            WholeDigest::Sha256(promised) => self.sha256.finalize()[..] == promised,
        }
    }
}

/// One file of plain content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFile {
    /// Its path, in components as somebody else wrote them.
    pub path: Vec<Vec<u8>>,
    /// Its length in bytes.
    pub length: u64,
    /// What it hashes to, where that is promised.
    pub digest: Option<WholeDigest>,
}

/// Pieces of this length are asked for: so many that progress shows, so few that a journal stays short.
const PIECES_AIMED_AT: u64 = 1024;

/// ... but not shorter or longer than this.
const PIECE_LENGTHS: core::ops::RangeInclusive<u64> = 256 * 1024..=16 * 1024 * 1024;

impl Metainfo {
    /// Content of these files. `pieces` are the length and the SHA-1 of its pieces, where they are promised, which they can be of
    /// a single file only. `identity` tells it from all other content, versions of the same files included.
    ///
    /// # Errors
    /// Where there is nothing in the files, a name leads out of the folder, or a limit is exceeded.
    pub fn plain(
        files: &[PlainFile],
        pieces: Option<(u32, Vec<[u8; 20]>)>,
        identity: &[u8],
    ) -> Result<Self, Error> {
        let lengths = || files.iter().map(|file| file.length);
        let total = lengths().fold(0, u64::saturating_add);
        let aimed = (total / PIECES_AIMED_AT).clamp(*PIECE_LENGTHS.start(), *PIECE_LENGTHS.end());
        let aimed = u32::try_from(aimed.next_power_of_two()).unwrap_or(BLOCK_LENGTH);
        let piece_length = pieces.as_ref().map_or(aimed, |(length, _)| *length);
        let layout = match files {
            [_] => Layout::contiguous(total, piece_length)?,
            _ => Layout::aligned(lengths(), piece_length)?,
        };
        let count = layout.piece_count();
        let promised = pieces
            .filter(|(_, hashes)| files.len() == 1 && u32::try_from(hashes.len()) == Ok(count));
        let verifier = promised.map_or(Verifier::Unhashed(count), |(_, hashes)| {
            Verifier::V1(V1Pieces(hashes))
        });
        let files = place(files, piece_length)?;
        let name = files.first().map(|file| file.path.clone());
        let id = Sha1::new()
            .chain_update(b"shoal: content without a torrent\n")
            .chain_update(identity)
            .finalize();
        let info_hashes = InfoHashes::new(Some(InfoHashV1(id.into())), None);
        Ok(Metainfo {
            raw_info: Vec::new(),
            info_hashes: info_hashes.ok_or(Error::NoFiles)?,
            name: name.ok_or(Error::NoFiles)?,
            raw_name: None,
            folder: false,
            files,
            layout,
            verifier,
            plain: true,
            private: true,
            source: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            http_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            warnings: Vec::new(),
        })
    }

    /// The same, where somebody else than its author promises what its first file hashes to as a whole.
    #[must_use]
    pub fn promised(mut self, digest: Option<WholeDigest>) -> Self {
        if let Some(file) = self.files.first_mut() {
            file.digest = digest;
        }
        self
    }

    /// Whether no torrent describes it, so that it can come from origins only.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }
}

fn place(files: &[PlainFile], piece_length: u32) -> Result<Vec<File>, Error> {
    let mut names = Names::new();
    let mut places = Vec::new();
    for (at, file) in (0..).zip(files) {
        let (name, folders) = file.path.split_last().ok_or(Error::FilePath(at))?;
        let mut directory = Names::ROOT;
        for folder in folders {
            directory = names.directory(directory, folder)?;
        }
        places.push(Place { directory, name });
    }
    let mut offset = 0u64;
    let resolved = names.resolve(&places)?;
    let placed = files.iter().zip(resolved).map(|(file, resolved)| {
        let begin = offset;
        offset = offset.saturating_add(file.length);
        offset = offset.next_multiple_of(u64::from(piece_length.max(1)));
        File {
            path: resolved.path,
            raw_path: None,
            length: file.length,
            offset: begin,
            padding: false,
            executable: false,
            hidden: false,
            symlink: None,
            root: None,
            digest: file.digest,
        }
    });
    Ok(placed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::{PieceDigests, Verdict};
    use crate::{FileIndex, PieceIndex};

    fn file(path: &[&str], length: u64) -> PlainFile {
        PlainFile {
            path: path.iter().map(|part| part.as_bytes().to_vec()).collect(),
            length,
            digest: None,
        }
    }

    #[test]
    fn a_plain_file_has_pieces_that_nobody_vouches_for() {
        let content = Metainfo::plain(&[file(&["a.iso"], 5_000_000_000)], None, b"1").unwrap();
        assert!(content.is_plain() && content.is_private());
        assert_eq!((content.name(), content.folder()), ("a.iso", None));
        assert_eq!(content.layout().total_length(), 5_000_000_000);
        assert!((500..2_000).contains(&content.layout().piece_count()));
        let none = PieceDigests::default();
        assert_eq!(
            content.verifier().check(PieceIndex(0), &none),
            Verdict::Right
        );
        assert!(!content.verifier().can_tell());
        let other = Metainfo::plain(&[file(&["a.iso"], 5_000_000_000)], None, b"2").unwrap();
        assert_ne!(content.info_hashes(), other.info_hashes());
    }

    #[test]
    fn several_files_begin_at_pieces_and_keep_apart() {
        let files = [
            file(&["d", "a"], 300_000),
            file(&["d", "A"], 0),
            file(&["b"], 1),
        ];
        let content = Metainfo::plain(&files, None, b"").unwrap();
        let paths: Vec<&str> = content.files().iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["d/a", "d/A (1)", "b"]);
        assert_eq!(content.pieces_of(FileIndex(0)), 0..2);
        assert_eq!(content.pieces_of(FileIndex(2)), 2..3);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for files in [
            vec![],
            vec![file(&["a"], 0)],
            vec![file(&["..", "a"], 1)],
            vec![file(&[], 1)],
            vec![file(&["a"], u64::MAX)],
            vec![file(&["a"], u64::MAX), file(&["b"], u64::MAX)],
        ] {
            assert!(Metainfo::plain(&files, None, b"").is_err(), "{files:?}");
        }
    }

    #[test]
    fn promised_pieces_are_verified() {
        let hashes = vec![[1; 20], [2; 20]];
        let content = Metainfo::plain(&[file(&["a"], 40_000)], Some((32_768, hashes)), b"");
        let content = content.unwrap();
        assert!(content.verifier().can_tell());
        assert_eq!(content.layout().piece_length(), 32_768);
    }
}

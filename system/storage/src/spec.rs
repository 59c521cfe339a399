//! What the owner of a content says about it when opening it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shoal_metainfo::{File, InfoHash, Layout, Metainfo, Verifier};

/// Settings of [`crate::Storage`], which is one for the whole process.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Threads that hash, read and write; 0 means one for each core.
    pub threads: usize,
    /// The most bytes that received blocks take in memory, those in the hands of connections included. At least 16 blocks.
    pub cache_bytes: usize,
    /// The most content files that are held open. At least 1.
    pub max_open_files: usize,
    /// The pause before a write is tried again after it failed.
    pub retry_pause: Duration,
    /// How often written files are synced in the background.
    pub sync_interval: Duration,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            threads: 0,
            cache_bytes: 32 * 1024 * 1024,
            // Well below the usual limit of 1,024 descriptors, most of which sockets need.
            max_open_files: 256,
            // A person who makes room should not have to wait, and a full disk should not be asked all the time.
            retry_pause: Duration::from_secs(3),
            // What a power failure can cost is read again, not downloaded again, so that seconds are cheap.
            sync_interval: Duration::from_secs(5),
        }
    }
}

/// One content: how its bytes are cut, promised and laid out in files.
#[derive(Clone, Debug)]
pub struct ContentSpec {
    /// Names the torrent in the journal's header and in the name of the parts file.
    pub info_hash: InfoHash,
    /// Pieces and blocks.
    pub layout: Arc<Layout>,
    /// What the pieces must hash to.
    pub verifier: Arc<Verifier>,
    /// The files, by rising offset.
    pub files: Vec<FileSpec>,
    /// Where the files lie. Must exist.
    pub directory: PathBuf,
    /// For each file, whether it is wanted. Padding files never are on disk.
    pub wanted: Vec<bool>,
    /// The completion journal's path; without one, nothing is remembered.
    pub journal: Option<PathBuf>,
    /// Whether anything may be written.
    pub mode: Mode,
    /// Whether room for the wanted files is reserved when opening, instead of as they fill.
    pub preallocate: bool,
}

impl ContentSpec {
    /// The content of a torrent in `directory`, to be downloaded, sparsely and without a journal. `wanted` is for each file of
    /// the metainfo; symbolic links are not content, and files beyond the end of `wanted` are wanted.
    #[must_use]
    pub fn new(metainfo: &Metainfo, directory: PathBuf, wanted: &[bool]) -> Self {
        let folder = metainfo.folder().map(PathBuf::from).unwrap_or_default();
        let spec = |file: &File| FileSpec {
            path: folder.join(&file.path),
            length: file.length,
            offset: file.offset,
            padding: file.padding,
            executable: file.executable,
        };
        let wanted = wanted.iter().copied().chain(std::iter::repeat(true));
        let stored = metainfo
            .files()
            .iter()
            .zip(wanted)
            .filter(|(file, _)| file.symlink.is_none());
        let (files, wanted) = stored.map(|(file, wanted)| (spec(file), wanted)).unzip();
        ContentSpec {
            info_hash: metainfo.info_hashes().primary(),
            layout: Arc::new(metainfo.layout().clone()),
            verifier: Arc::new(metainfo.verifier().clone()),
            files,
            directory,
            wanted,
            journal: None,
            mode: Mode::Download,
            preallocate: false,
        }
    }
}

/// One file of a content.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Relative to the directory, already sanitised.
    pub path: PathBuf,
    /// In bytes.
    pub length: u64,
    /// Of the first byte, in the address space of the layout.
    pub offset: u64,
    /// Bytes that are all zero and not on disk (BEP 47).
    pub padding: bool,
    /// Whether the file is made executable (BEP 47).
    pub executable: bool,
}

/// Whether anything may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Files are created and written.
    Download,
    /// Files are only read.
    Seed,
}

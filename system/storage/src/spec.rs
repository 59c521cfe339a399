//! What the owner of a content says about it when opening it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shoal_metainfo::{File, FileIndex, InfoHash, Layout, Metainfo, Verifier, names};

use crate::error::StorageError;

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
    /// Other paths of files than those in `files`, as a person wants them.
    pub renamed: BTreeMap<FileIndex, PathBuf>,
    /// For each file, whether it is wanted. Padding files never are on disk.
    pub wanted: Vec<bool>,
    /// The completion journal's path; without one, nothing is remembered.
    pub journal: Option<PathBuf>,
    /// Whether anything may be written.
    pub mode: Mode,
    /// Whether room for the wanted files is reserved when opening, instead of as they fill.
    pub preallocate: bool,
    /// Whether files that are missing are taken for gone, as a person wants it; otherwise the content is not opened. Where their volume is
    /// missing, it never is.
    pub accept_missing: bool,
}

impl ContentSpec {
    /// The content of a torrent in `directory`, to be downloaded, sparsely and without a journal. `wanted` is for each file of
    /// the metainfo; symbolic links are not content, and files beyond the end of `wanted` are wanted.
    #[must_use]
    pub fn new(metainfo: &Metainfo, directory: PathBuf, wanted: &[bool]) -> Self {
        let wanted = wanted.iter().copied().chain(std::iter::repeat(true));
        let stored = metainfo
            .files()
            .iter()
            .zip(wanted)
            .filter(|(file, _)| file.symlink.is_none());
        let wanted = stored.map(|(_, wanted)| wanted).collect();
        ContentSpec {
            info_hash: metainfo.info_hashes().primary(),
            layout: Arc::new(metainfo.layout().clone()),
            verifier: Arc::new(metainfo.verifier().clone()),
            files: FileSpec::all_of(metainfo),
            directory,
            renamed: BTreeMap::new(),
            wanted,
            journal: None,
            mode: Mode::Download,
            preallocate: false,
            accept_missing: false,
        }
    }

    /// Where its files are.
    #[must_use]
    pub fn location(&self) -> Location {
        Location {
            directory: self.directory.clone(),
            renamed: self.renamed.clone(),
        }
    }
}

/// Where the files of a content are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The directory that all of them are in. Absolute where the content is to be found again by another process.
    pub directory: PathBuf,
    /// Below it, the paths of those files that are not where the metainfo has them.
    pub renamed: BTreeMap<FileIndex, PathBuf>,
}

impl Location {
    /// The path of `file` below the directory.
    #[must_use]
    pub fn path_of<'a>(&'a self, file: &'a FileSpec) -> &'a Path {
        self.renamed.get(&file.index).unwrap_or(&file.path)
    }

    /// With the file of `files` that is at `old` at `new`.
    ///
    /// # Errors
    /// Where no file is there.
    pub fn with_file(
        &self,
        files: &[FileSpec],
        old: &Path,
        new: PathBuf,
    ) -> Result<Location, StorageError> {
        let mut own = files.iter().filter(|file| !file.padding);
        let file = own.find(|file| self.path_of(file) == old);
        let file = file.ok_or_else(|| StorageError::NoFile(old.to_owned()))?;
        let mut location = self.clone();
        location.rename(file, new);
        Ok(location)
    }

    /// With those of `files` that are in the folder `old` in the folder `new`, both below the directory.
    ///
    /// # Errors
    /// Where no file is in the folder.
    pub fn with_folder(
        &self,
        files: &[FileSpec],
        old: &Path,
        new: &Path,
    ) -> Result<Location, StorageError> {
        let mut location = self.clone();
        let mut found = false;
        for file in files {
            if let Ok(rest) = self.path_of(file).strip_prefix(old)
                && !rest.as_os_str().is_empty()
            {
                found = true;
                location.rename(file, new.join(rest));
            }
        }
        match found {
            true => Ok(location),
            false => Err(StorageError::NoFile(old.to_owned())),
        }
    }

    /// With `file` at `path`.
    pub fn rename(&mut self, file: &FileSpec, path: PathBuf) {
        if path == file.path {
            self.renamed.remove(&file.index);
        } else {
            self.renamed.insert(file.index, path);
        }
    }

    /// Refuses paths that lead out of the directory, new ones that are not as names of files are everywhere, and two of the same.
    ///
    /// # Errors
    /// Which path that is.
    pub fn check(&self, files: &[FileSpec]) -> Result<(), StorageError> {
        /// Of the metainfo, which a folder is around.
        const MAX_DEPTH: usize = names::MAX_PATH_DEPTH + 1;
        let mut taken = BTreeSet::new();
        for file in files.iter().filter(|file| !file.padding) {
            let path = self.path_of(file);
            let renamed = self.renamed.contains_key(&file.index);
            let sound = |component| match component {
                Component::Normal(name) => {
                    !renamed || names::sanitise(name.as_bytes()).as_bytes() == name.as_bytes()
                }
                _ => false,
            };
            let empty = path.as_os_str().is_empty();
            if empty || !path.components().all(sound) || path.components().count() > MAX_DEPTH {
                return Err(StorageError::Path(path.to_owned()));
            }
            if !self.renamed.is_empty() && !taken.insert(path) {
                return Err(StorageError::Occupied(path.to_owned()));
            }
        }
        let is_taken = |path: &&&Path| path.ancestors().skip(1).any(|above| taken.contains(above));
        match taken.iter().find(is_taken) {
            Some(path) => Err(StorageError::NotAFile((**path).to_owned())),
            None => Ok(()),
        }
    }
}

/// One file of a content.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Which file of the metainfo it is.
    pub index: FileIndex,
    /// Relative to the directory, as the metainfo has it, already sanitised. [`Location`] tells where it is.
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

impl FileSpec {
    /// All files of a torrent that have bytes of their own: symbolic links do not.
    #[must_use]
    pub fn all_of(metainfo: &Metainfo) -> Vec<FileSpec> {
        let folder = metainfo.folder().map(PathBuf::from).unwrap_or_default();
        let spec = |(index, file): (u32, &File)| FileSpec {
            index: FileIndex(index),
            path: folder.join(&file.path),
            length: file.length,
            offset: file.offset,
            padding: file.padding,
            executable: file.executable,
        };
        let stored = (0..).zip(metainfo.files());
        let stored = stored.filter(|(_, file)| file.symlink.is_none());
        stored.map(spec).collect()
    }
}

/// Whether anything may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Files are created and written.
    Download,
    /// Files are only read.
    Seed,
}

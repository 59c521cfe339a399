//! Files to move: pseudo-random, the same for the same seed, and checked file by file.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that are generated and hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// How content is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One file of so many bytes.
    File(u64),
    /// A folder: nested, with empty, tiny and odd files, and one that holds most of so many bytes.
    Folder(u64),
}

/// Content that was generated, and what its files hash to.
#[derive(Debug)]
pub struct Content {
    /// The folder that the top-level name is in.
    pub parent: PathBuf,
    /// The top-level name.
    pub name: String,
    /// Paths below `parent`, and the SHA-256 of each file.
    files: BTreeMap<PathBuf, [u8; 32]>,
}

impl Content {
    /// Writes content below `parent`, from this seed.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn generate(parent: &Path, name: &str, shape: Shape, seed: u64) -> Result<Content> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sizes: Vec<(PathBuf, u64)> = match shape {
            Shape::File(bytes) => vec![(PathBuf::from(name), bytes)],
            Shape::Folder(bytes) => folder_of(bytes)
                .into_iter()
                .map(|(path, bytes)| (Path::new(name).join(path), bytes))
                .collect(),
        };
        Self::write(parent, name, &sizes, &mut rng)
    }

    /// Writes files of these sizes; paths are below `parent` and begin with the top-level name.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn write(
        parent: &Path,
        name: &str,
        sizes: &[(PathBuf, u64)],
        rng: &mut fastrand::Rng,
    ) -> Result<Content> {
        let mut files = BTreeMap::new();
        for (path, bytes) in sizes {
            let hash = write_noise(&parent.join(path), *bytes, rng)?;
            files.insert(path.clone(), hash);
        }
        Ok(Content {
            parent: parent.to_path_buf(),
            name: name.to_owned(),
            files,
        })
    }

    /// Where the top-level name is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Copies the largest file to below `folder`, under the same path.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub fn copy_largest(&self, folder: &Path) -> Result<()> {
        let length =
            |path: &&PathBuf| fs::metadata(self.parent.join(path)).map_or(0, |of| of.len());
        let largest = self.files.keys().max_by_key(length).context("no files")?;
        let to = folder.join(largest);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(self.parent.join(largest), to)?;
        Ok(())
    }

    /// Checks that below `folder` is every file with the same bytes.
    ///
    /// # Errors
    ///
    /// Names the first file that is missing or differs.
    pub fn check(&self, folder: &Path) -> Result<()> {
        for (path, hash) in &self.files {
            let found = sha256_of(&folder.join(path))?;
            ensure!(found == *hash, "{} differs", path.display());
        }
        Ok(())
    }

    /// As [`Content::check`], of files that are not empty.
    ///
    /// # Errors
    ///
    /// Names the first file that is missing or differs.
    pub fn check_but_empty(&self, folder: &Path) -> Result<()> {
        let empty: [u8; 32] = Sha256::digest([]).into();
        for (path, hash) in self.files.iter().filter(|(_, hash)| **hash != empty) {
            let found = sha256_of(&folder.join(path))?;
            ensure!(found == *hash, "{} differs", path.display());
        }
        Ok(())
    }

    /// As [`Content::check`], and that there is nothing else.
    ///
    /// # Errors
    ///
    /// Names the first file that is missing, differs, or should not be there.
    pub fn check_exactly(&self, folder: &Path) -> Result<()> {
        self.check(folder)?;
        for path in files_below(folder)? {
            let path = path.strip_prefix(folder)?;
            ensure!(
                self.files.contains_key(path),
                "{} should not be there",
                path.display()
            );
        }
        Ok(())
    }
}

/// Sizes that meet the edges: nothing, one byte, around a block of 16 KiB, and one file that holds the rest.
fn folder_of(bytes: u64) -> Vec<(&'static str, u64)> {
    const BLOCK: u64 = 16 * 1024;
    let mut files = vec![
        ("a first.bin", 3 * BLOCK + 5),
        ("empty", 0),
        ("inner/deep/deeper/one byte", 1),
        ("inner/deep/exactly a block", BLOCK),
        ("inner/less than a block", BLOCK - 1),
        ("inner/more than a block", BLOCK + 1),
        ("inner/nothing either", 0),
        ("zuletzt – ünïcode.txt", 777),
    ];
    let small: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    files.push(("main.dat", bytes.saturating_sub(small)));
    files
}

fn write_noise(path: &Path, bytes: u64, rng: &mut fastrand::Rng) -> Result<[u8; 32]> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder)?;
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::with_capacity(CHUNK_BYTES, file);
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let chunk = &mut chunk[..length];
        rng.fill(chunk);
        hasher.update(&*chunk);
        out.write_all(chunk)?;
        left -= length as u64;
    }
    out.flush()?;
    Ok(hasher.finalize().into())
}

/// The SHA-256 of a file.
///
/// # Errors
///
/// It cannot be read.
pub fn sha256_of(path: &Path) -> Result<[u8; 32]> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&chunk[..length]);
    }
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

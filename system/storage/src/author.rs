//! Reading what is to be published: which files there are, and what their pieces hash to.
//!
//! Invariant: memory is in proportion to files, pieces and threads, never to the files' length: a thread reads at most half a
//! MiB at a time.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{io, thread};

use rustix::fs::Advice;
use shoal_metainfo::create::{MAX_PATH_DEPTH, PieceHash, Plan, Segment, SourceFile};
use shoal_metainfo::{PieceIndex, hasher};

use crate::error::StorageError;
use crate::lockstep::{Lane, READ_AHEAD, hash_lanes};

/// The files below a path that can be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The path's last component: what the torrent is called.
    pub name: String,
    /// The files, sorted by their path as one string, hidden ones included.
    pub files: Vec<SourceFile>,
    /// What was left out: symbolic links, which are not followed, devices, sockets and the like.
    pub skipped: Vec<PathBuf>,
}

/// Lists the files at `path`, a file or a directory. `path` itself may be a symbolic link. With `skip_hidden`, what lies below it and whose
/// name begins with a dot is left out without being looked at.
///
/// # Errors
/// Where something cannot be read, a name is not UTF-8, or directories are nested too deeply.
pub fn scan(path: &Path, skip_hidden: bool) -> Result<Scan, StorageError> {
    let fail = |error| StorageError::io(path, error);
    let real = fs::canonicalize(path).map_err(fail)?;
    let named = path.file_name().or_else(|| real.file_name());
    let name = named.ok_or_else(|| StorageError::Path(path.to_owned()))?;
    let mut found = Scan {
        name: text(name, path)?,
        files: Vec::new(),
        skipped: Vec::new(),
    };
    let metadata = fs::metadata(&real).map_err(fail)?;
    if metadata.is_file() {
        found.files.push(describe(Vec::new(), &metadata));
        return Ok(found);
    }
    let mut folders = vec![(real, Vec::new())];
    while let Some((folder, components)) = folders.pop() {
        if components.len() > MAX_PATH_DEPTH {
            return Err(StorageError::TooDeep(folder));
        }
        list(&folder, &components, skip_hidden, &mut folders, &mut found)?;
    }
    found.files.sort_by_cached_key(|file| file.path.join("/"));
    found.skipped.sort();
    Ok(found)
}

type Folder = (PathBuf, Vec<String>);

fn list(
    folder: &Path,
    components: &[String],
    skip_hidden: bool,
    folders: &mut Vec<Folder>,
    found: &mut Scan,
) -> Result<(), StorageError> {
    for entry in fs::read_dir(folder).map_err(|error| StorageError::io(folder, error))? {
        let entry = entry.map_err(|error| StorageError::io(folder, error))?;
        let path = entry.path();
        if skip_hidden && entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Of the entry itself, not of what a link points to.
        let metadata = entry
            .metadata()
            .map_err(|error| StorageError::io(&path, error))?;
        if !metadata.is_dir() && !metadata.is_file() {
            found.skipped.push(path);
            continue;
        }
        let name = text(&entry.file_name(), &path)?;
        let mut inner = components.to_vec();
        inner.push(name);
        if metadata.is_dir() {
            folders.push((path, inner));
        } else {
            found.files.push(describe(inner, &metadata));
        }
    }
    Ok(())
}

fn text(name: &std::ffi::OsStr, path: &Path) -> Result<String, StorageError> {
    let text = name
        .to_str()
        .ok_or_else(|| StorageError::NotText(path.to_owned()))?;
    Ok(text.to_owned())
}

fn describe(path: Vec<String>, metadata: &fs::Metadata) -> SourceFile {
    SourceFile {
        path,
        length: metadata.len(),
        executable: metadata.permissions().mode() & 0o100 != 0,
        // Unix has no such attribute: a dot says it already, and libtorrent does not set it here either.
        hidden: false,
        symlink: None,
    }
}

/// Hashes every piece of `plan`, whose files lie at or below `base` (the path that was scanned), on `threads` threads (0:
/// one for each core). `progress` is told of bytes as they are hashed, from any of the threads.
///
/// # Errors
/// Where a file cannot be read or changed its length or time meanwhile, and where `cancelled` became true.
pub fn hash(
    plan: &Plan,
    base: &Path,
    threads: usize,
    progress: impl Fn(u64) + Sync,
    cancelled: &AtomicBool,
) -> Result<Vec<PieceHash>, StorageError> {
    let pieces = plan.layout().piece_count();
    let sources = Sources::look(plan, base)?;
    let hashes = Mutex::new(vec![PieceHash::default(); pieces as usize]);
    let failure = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let lanes = u32::try_from(hasher::lanes(plan.needs())).unwrap_or(1);
    let next = AtomicU32::new(0);
    let run = || {
        let reader = || Reader {
            sources: &sources,
            open: None,
        };
        let mut readers: Vec<Reader<'_>> = (0..lanes).map(|_| reader()).collect();
        let mut scratch = Vec::new();
        loop {
            let first = next.fetch_add(lanes, Ordering::Relaxed).min(pieces);
            let batch: Vec<PieceIndex> = (first..pieces)
                .take(lanes as usize)
                .map(PieceIndex)
                .collect();
            if batch.is_empty() || stop.load(Ordering::Relaxed) {
                return;
            }
            let progress = |bytes| {
                progress(bytes);
                !cancelled.load(Ordering::Relaxed)
            };
            match hash_pieces(plan, &batch, &mut readers, &mut scratch, progress) {
                Ok(found) => {
                    let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
                    hashes[batch[0].get()..][..found.len()].copy_from_slice(&found);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores } else { threads };
    thread::scope(|scope| {
        for _ in 1..threads.min(pieces as usize) {
            scope.spawn(run);
        }
        run();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    sources.look_again()?;
    Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Hashes pieces side by side, each through a reader of its own. `progress` is told of bytes as they are read; false from it
/// ends it.
fn hash_pieces(
    plan: &Plan,
    pieces: &[PieceIndex],
    readers: &mut [Reader<'_>],
    scratch: &mut Vec<u8>,
    progress: impl Fn(u64) -> bool,
) -> Result<Vec<PieceHash>, StorageError> {
    let segments = pieces.iter().map(|&piece| plan.segments(piece).collect());
    let segments: Vec<Vec<Segment>> = segments.collect();
    let lanes = pieces.iter().zip(&segments).map(|(&piece, segments)| {
        let length = segments.iter().map(|segment| segment.length).sum();
        Lane::new(plan.hasher(piece), length)
    });
    let mut lanes: Vec<Lane> = lanes.collect();
    hash_lanes(&mut lanes, scratch, |lane, begin, chunk| {
        readers[lane].read(&segments[lane], begin, chunk)?;
        if progress(chunk.len() as u64) {
            Ok(true)
        } else {
            Err(StorageError::Cancelled)
        }
    })?;
    let hashes = lanes
        .into_iter()
        .zip(pieces)
        .map(|(lane, &piece)| plan.piece_hash(piece, &lane.hasher.finish()));
    Ok(hashes.collect())
}

/// The files of a plan, and what they looked like before they were hashed.
struct Sources {
    paths: Vec<PathBuf>,
    before: Vec<(u64, i64, i64)>,
}

impl Sources {
    fn look(plan: &Plan, base: &Path) -> Result<Self, StorageError> {
        let paths: Vec<PathBuf> = plan
            .sources()
            .iter()
            .map(|source| match source.path.is_empty() {
                true => base.to_owned(),
                false => base.join(source.path.iter().collect::<PathBuf>()),
            })
            .collect();
        let mut before = Vec::with_capacity(paths.len());
        for (path, source) in paths.iter().zip(plan.sources()) {
            let seen = state(path)?;
            if source.symlink.is_none() && seen.0 != source.length {
                return Err(StorageError::Changed(path.clone()));
            }
            before.push(seen);
        }
        Ok(Sources { paths, before })
    }

    fn look_again(&self) -> Result<(), StorageError> {
        for (path, before) in self.paths.iter().zip(&self.before) {
            if state(path)? != *before {
                return Err(StorageError::Changed(path.clone()));
            }
        }
        Ok(())
    }
}

/// Length and time of the last change.
fn state(path: &Path) -> Result<(u64, i64, i64), StorageError> {
    let metadata = fs::metadata(path).map_err(|error| StorageError::io(path, error))?;
    Ok((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// One lane's way to the files: its pieces mostly lie in one file, and the kernel sees one sequence of reads for each.
struct Reader<'a> {
    sources: &'a Sources,
    open: Option<(usize, File)>,
}

impl Reader<'_> {
    /// Fills `out` with the bytes of a piece from `begin` on; `segments` are all of the piece.
    fn read(
        &mut self,
        segments: &[Segment],
        begin: u32,
        out: &mut [u8],
    ) -> Result<(), StorageError> {
        let (mut skip, mut rest) = (begin, out);
        for segment in segments {
            let passed = skip.min(segment.length);
            skip -= passed;
            let left = usize::try_from(segment.length - passed).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at_mut(rest.len().min(left));
            rest = after;
            match segment.source {
                _ if part.is_empty() => {}
                None => part.fill(0),
                Some(source) => {
                    let offset = segment.offset + u64::from(passed);
                    self.read_file(source, offset, part)?;
                    if begin.is_multiple_of(READ_AHEAD) && part.len() < left {
                        self.expect(offset, u64::from(segment.length - passed));
                    }
                }
            }
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        source: usize,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StorageError> {
        let path = &self.sources.paths[source];
        let file = match &mut self.open {
            Some((open, file)) if *open == source => file,
            other => {
                let file = File::open(path).map_err(|error| StorageError::io(path, error))?;
                // A hint: where it is not taken, reading is merely slower.
                let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
                &mut other.insert((source, file)).1
            }
        };
        file.read_exact_at(out, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => StorageError::Changed(path.clone()),
                _ => StorageError::io(path, error),
            })
    }

    /// Tells the kernel that the open file is about to be read from `offset` on.
    fn expect(&self, offset: u64, length: u64) {
        if let Some((_, file)) = &self.open {
            let length = NonZeroU64::new(length.min(u64::from(READ_AHEAD)));
            // A hint, as above.
            let _ = rustix::fs::fadvise(file, offset, length, Advice::WillNeed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha1::{Digest, Sha1};
    use shoal_metainfo::create::{Kind, Options};
    use std::os::unix::fs::symlink;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("album");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/deep"), vec![1; 50_000]).unwrap();
        fs::write(root.join("a.txt"), vec![2; 10]).unwrap();
        fs::write(root.join(".hidden"), vec![3; 40_000]).unwrap();
        fs::write(root.join("empty"), "").unwrap();
        fs::write(root.join("run"), vec![4; 20_000]).unwrap();
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("a.txt", root.join("link")).unwrap();
        symlink("/", root.join("a/loop")).unwrap();
        dir
    }

    fn plan(scan: &Scan, kind: Kind) -> Plan {
        let options = Options {
            kind,
            piece_length: Some(16 * 1024),
            ..Options::default()
        };
        Plan::new(scan.name.clone(), scan.files.clone(), options).unwrap()
    }

    #[test]
    fn files_are_found_in_order_and_links_are_left_out() {
        let dir = sample();
        let found = scan(&dir.path().join("album"), false).unwrap();
        let paths: Vec<String> = found.files.iter().map(|file| file.path.join("/")).collect();
        assert_eq!(paths, [".hidden", "a.txt", "a/b/deep", "empty", "run"]);
        assert_eq!(found.name, "album");
        assert_eq!(found.skipped.len(), 2);
        let flags: Vec<bool> = found.files.iter().map(|file| file.executable).collect();
        assert_eq!(flags, [false, false, false, false, true]);
        let single = scan(&dir.path().join("album/run"), false).unwrap();
        assert_eq!(
            (single.name.as_str(), single.files[0].path.len()),
            ("run", 0)
        );
    }

    #[test]
    fn pieces_hash_to_what_the_bytes_say_on_any_number_of_threads() {
        let dir = sample();
        let base = dir.path().join("album");
        let found = scan(&base, false).unwrap();
        let mut bytes = Vec::new();
        for file in &found.files {
            bytes.extend(fs::read(base.join(file.path.join("/"))).unwrap());
        }
        for threads in [0, 1, 7] {
            let hashed = std::sync::atomic::AtomicU64::new(0);
            let count = |len| {
                hashed.fetch_add(len, Ordering::Relaxed);
            };
            let go = AtomicBool::new(false);
            let hashes = hash(&plan(&found, Kind::V1), &base, threads, count, &go).unwrap();
            let expected: Vec<Option<[u8; 20]>> = bytes
                .chunks(16 * 1024)
                .map(|piece| Some(Sha1::digest(piece).into()))
                .collect();
            assert_eq!(
                hashes.iter().map(|hash| hash.sha1).collect::<Vec<_>>(),
                expected
            );
            assert_eq!(hashed.into_inner(), bytes.len() as u64);
            let hybrid = hash(&plan(&found, Kind::Hybrid), &base, threads, |_| (), &go).unwrap();
            assert!(hybrid.iter().all(|hash| hash.sha1.is_some()));
        }
    }

    #[test]
    fn a_file_that_changes_and_a_cancellation_end_it() {
        let dir = sample();
        let base = dir.path().join("album");
        let found = scan(&base, false).unwrap();
        let go = AtomicBool::new(false);
        let stop = AtomicBool::new(true);
        let plan = plan(&found, Kind::V1);
        assert!(matches!(
            hash(&plan, &base, 2, |_| (), &stop),
            Err(StorageError::Cancelled)
        ));
        // Grows while it is hashed: every byte that was promised can still be read.
        let grow = |_| fs::write(base.join("run"), vec![4; 20_001]).unwrap();
        assert!(matches!(
            hash(&plan, &base, 1, grow, &go),
            Err(StorageError::Changed(_))
        ));
        assert!(matches!(
            hash(&plan, &base, 1, |_| (), &go),
            Err(StorageError::Changed(_))
        ));
        fs::remove_file(base.join("run")).unwrap();
        assert!(matches!(
            hash(&plan, &base, 1, |_| (), &go),
            Err(StorageError::Io { .. })
        ));
    }
}

//! A content with known bytes, and a disk that fails as told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;
use shoal_metainfo::verifier::{V1Pieces, V2Piece, V2Pieces};
use shoal_metainfo::{
    BLOCK_LENGTH, Bitfield, Block, BlockIndex, FileIndex, InfoHash, Layout, PieceIndex, Verifier,
    merkle,
};
use tokio::sync::mpsc;

use crate::disk::{Access, Disk, Root, SystemDisk};
use crate::{
    Content, ContentSpec, Event, FileSpec, Mode, Storage, StorageConfig, StorageError, Stored,
};

pub(super) const PIECE_LENGTH: u32 = 4 * BLOCK_LENGTH;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes in files: an odd one, an empty one, one in the middle of a piece, padding, and a long one.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) bytes: Vec<u8>,
    pub(super) layout: Arc<Layout>,
    verifier: Arc<Verifier>,
    pub(super) files: Vec<FileSpec>,
}

impl World {
    pub(super) fn new() -> Self {
        let piece = u64::from(PIECE_LENGTH);
        let lengths = [
            ("top/a", piece + 5_000, false),
            ("top/empty", 0, false),
            ("top/sub/b", 3_000, false),
            ("top/c", piece * 2 - 9_000, false),
            (".pad/1", 0, true),
            ("top/d", piece * 3 + 20_001, false),
        ];
        let mut files = Vec::new();
        let mut bytes = Vec::new();
        let mut rng = fastrand::Rng::with_seed(7);
        for (path, length, padding) in lengths {
            let length = match padding {
                true => {
                    bytes.len().next_multiple_of(PIECE_LENGTH as usize) as u64 - bytes.len() as u64
                }
                false => length,
            };
            files.push(FileSpec {
                index: FileIndex(files.len() as u32),
                path: PathBuf::from(path),
                length,
                offset: bytes.len() as u64,
                padding,
                executable: path == "top/c",
            });
            bytes.extend((0..length).map(|_| if padding { 0 } else { rng.u8(..) }));
        }
        let hashes = bytes
            .chunks(PIECE_LENGTH as usize)
            .map(|piece| Sha1::digest(piece).into());
        World {
            dir: tempfile::tempdir().unwrap(),
            verifier: Arc::new(Verifier::V1(V1Pieces(hashes.collect()))),
            layout: Arc::new(Layout::contiguous(bytes.len() as u64, PIECE_LENGTH).unwrap()),
            files,
            bytes,
        }
    }

    /// The same kind of files in a v2 torrent, whose address space has gaps.
    pub(super) fn v2() -> Self {
        let piece = u64::from(PIECE_LENGTH);
        let mut world = World::new();
        let (mut files, mut bytes, mut promises) = (Vec::new(), Vec::new(), Vec::new());
        for file in world.files.iter().filter(|file| !file.padding) {
            let content = world.bytes_of(file).to_vec();
            let mut file = file.clone();
            file.offset = bytes.len() as u64;
            for chunk in content.chunks(PIECE_LENGTH as usize) {
                let blocks: Vec<[u8; 32]> = chunk
                    .chunks(BLOCK_LENGTH as usize)
                    .map(|block| Sha256::digest(block).into())
                    .collect();
                let leaves = if file.length <= piece {
                    blocks.len().next_power_of_two()
                } else {
                    4
                };
                promises.push(V2Piece {
                    root: merkle::root(&blocks, leaves as u32),
                    content_length: chunk.len() as u32,
                    leaves: leaves as u32,
                });
            }
            bytes.extend(content);
            // Noise, so that nobody gets away with reading what is in no file.
            bytes.resize(bytes.len().next_multiple_of(PIECE_LENGTH as usize), 0xee);
            files.push(file);
        }
        let lengths: Vec<u64> = files.iter().map(|file| file.length).collect();
        world.layout = Arc::new(Layout::aligned(lengths, PIECE_LENGTH).unwrap());
        world.verifier = Arc::new(Verifier::V2(V2Pieces(promises)));
        (world.files, world.bytes) = (files, bytes);
        world
    }

    pub(super) fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    pub(super) fn spec(&self) -> ContentSpec {
        std::fs::create_dir_all(self.target()).unwrap();
        ContentSpec {
            info_hash: InfoHash([9; 20]),
            layout: Arc::clone(&self.layout),
            verifier: Arc::clone(&self.verifier),
            files: self.files.clone(),
            directory: self.target(),
            renamed: BTreeMap::new(),
            wanted: vec![true; self.files.len()],
            journal: Some(self.journal()),
            mode: Mode::Download,
            preallocate: false,
            accept_missing: false,
        }
    }

    pub(super) fn block(&self, block: Block) -> &[u8] {
        let start = self.layout.range_of(block.piece).start as usize;
        let start = start + block.block.offset() as usize;
        &self.bytes[start..start + self.layout.block_length(block) as usize]
    }

    pub(super) fn blocks(&self, piece: PieceIndex) -> Vec<Block> {
        (0..self.layout.block_count(piece))
            .map(|block| Block {
                piece,
                block: BlockIndex(block),
            })
            .collect()
    }

    /// Every block in a random order.
    pub(super) fn shuffled(&self, seed: u64) -> Vec<Block> {
        let mut all: Vec<Block> = self
            .layout
            .pieces()
            .flat_map(|piece| self.blocks(piece))
            .collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut all);
        all
    }

    pub(super) fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        self.target().join(path)
    }

    /// Puts the files where a download would.
    pub(super) fn materialise(&self) {
        for file in self.files.iter().filter(|file| !file.padding) {
            let path = self.file(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.bytes_of(file)).unwrap();
        }
    }

    pub(super) fn bytes_of(&self, file: &FileSpec) -> &[u8] {
        &self.bytes[file.offset as usize..(file.offset + file.length) as usize]
    }

    /// The wanted files are on disk, byte for byte.
    pub(super) fn assert_on_disk(&self, wanted: &[bool]) {
        for (file, _) in self
            .files
            .iter()
            .zip(wanted)
            .filter(|(file, wanted)| !file.padding && **wanted)
        {
            let found = std::fs::read(self.file(&file.path)).unwrap();
            assert!(found == self.bytes_of(file), "{}", file.path.display());
        }
    }
}

pub(super) fn config() -> StorageConfig {
    StorageConfig {
        threads: 3,
        cache_bytes: 1024 * 1024,
        max_open_files: 3,
        retry_pause: Duration::from_millis(5),
        sync_interval: Duration::from_millis(50),
    }
}

/// An open content and its events.
pub(super) struct Rig {
    pub(super) storage: Storage,
    pub(super) content: Content,
    pub(super) events: mpsc::Receiver<Event>,
}

impl Rig {
    pub(super) fn open(spec: ContentSpec) -> Self {
        Rig::open_on(spec, config(), Arc::new(SystemDisk)).unwrap()
    }

    pub(super) fn open_on(
        spec: ContentSpec,
        config: StorageConfig,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StorageError> {
        let storage = Storage::start_on(config, disk).unwrap();
        // Shorter than what happens, so that events have to wait.
        let (sender, events) = mpsc::channel(4);
        let content = storage.open(spec, sender)?;
        Ok(Rig {
            storage,
            content,
            events,
        })
    }

    pub(super) async fn write(&self, block: Block, bytes: &[u8]) -> Stored {
        let lease = self.storage.lease();
        let mut buffer = tokio::time::timeout(PATIENCE, lease)
            .await
            .expect("no buffer");
        buffer.set_len(bytes.len());
        buffer.copy_from_slice(bytes);
        self.content.write(block, buffer)
    }

    pub(super) async fn write_piece(&self, world: &World, piece: u32) {
        for block in world.blocks(PieceIndex(piece)) {
            self.write(block, world.block(block)).await;
        }
    }

    pub(super) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("no event came").unwrap()
    }

    /// Takes events until so many pieces were verified.
    pub(super) async fn await_verified(&mut self, count: usize) -> Vec<Event> {
        let (mut others, mut verified) = (Vec::new(), 0);
        while verified < count {
            match self.next().await {
                Event::Verified { .. } => verified += 1,
                other => others.push(other),
            }
        }
        others
    }

    /// Writes and verifies all that is missing.
    pub(super) async fn complete(&mut self, world: &World) {
        let have = self.have(world);
        let missing: Vec<u32> = world
            .layout
            .pieces()
            .filter(|&piece| !have.get(piece))
            .map(|piece| piece.0)
            .collect();
        for &piece in &missing {
            self.write_piece(world, piece).await;
        }
        self.await_verified(missing.len()).await;
    }

    /// Which pieces can be read; all that can be read is right.
    pub(super) fn have(&self, world: &World) -> Bitfield {
        let mut have = Bitfield::empty(world.layout.piece_count());
        for piece in world.layout.pieces() {
            let range = world.layout.range_of(piece);
            let mut bytes = vec![0; world.layout.length_of(piece) as usize];
            if self.content.read(piece, 0, &mut bytes).is_ok() {
                assert!(
                    bytes == world.bytes[range.start as usize..range.end as usize],
                    "{piece}"
                );
                have.insert(piece);
            }
        }
        have
    }

    pub(super) async fn check_all(&mut self, world: &World) -> Vec<bool> {
        let mut result = vec![false; world.layout.piece_count() as usize];
        let check = self.content.verify(world.layout.pieces().collect());
        for _ in 0..check.total() {
            loop {
                if let Event::Checked { piece, right } = self.next().await {
                    result[piece.get()] = right;
                    break;
                }
            }
        }
        assert_eq!(check.checked(), check.total());
        result
    }
}

/// A disk that fails as told.
#[derive(Debug)]
pub(super) struct FaultyDisk {
    /// The operation that fails: counted down, negative for none.
    fail_at: AtomicI64,
    /// Bytes that still fit.
    pub(super) room: AtomicU64,
    /// Whether every write fails.
    pub(super) broken: AtomicBool,
    /// Whether writes take only a part.
    short: AtomicBool,
    /// So many files cannot be opened because too many are.
    pub(super) exhausted: AtomicU64,
    /// What writes fail with; 0 for nothing.
    pub(super) refuses_with: AtomicI32,
    /// Whether every directory is a volume of its own.
    pub(super) volumes: AtomicBool,
    /// Whether everything fails from that operation on, as nothing is done any more by a process that was killed.
    dies: AtomicBool,
    pub(super) operations: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) reads: AtomicU64,
}

impl FaultyDisk {
    pub(super) fn sound() -> Arc<Self> {
        FaultyDisk::failing_at(-1)
    }

    pub(super) fn failing_at(operation: i64) -> Arc<Self> {
        FaultyDisk::from(operation, false)
    }

    /// Stands for `kill -9`: from that operation on none is done.
    pub(super) fn dying_at(operation: i64) -> Arc<Self> {
        FaultyDisk::from(operation, true)
    }

    /// From here on, so many operations are done, and then none.
    pub(super) fn die_at(&self, operation: i64) {
        self.fail_at.store(operation, Ordering::Relaxed);
        self.dies.store(true, Ordering::Relaxed);
    }

    /// From here on, this operation fails; negative for none.
    pub(super) fn fail_once_at(&self, operation: i64) {
        self.fail_at.store(operation, Ordering::Relaxed);
    }

    fn from(operation: i64, dies: bool) -> Arc<Self> {
        Arc::new(FaultyDisk {
            dies: AtomicBool::new(dies),
            volumes: AtomicBool::new(false),
            exhausted: AtomicU64::new(0),
            refuses_with: AtomicI32::new(0),
            fail_at: AtomicI64::new(operation),
            room: AtomicU64::new(u64::MAX),
            broken: AtomicBool::new(false),
            short: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        })
    }

    pub(super) fn short() -> Arc<Self> {
        let disk = FaultyDisk::sound();
        disk.short.store(true, Ordering::Relaxed);
        disk
    }

    pub(super) fn with_room(bytes: u64) -> Arc<Self> {
        let disk = FaultyDisk::sound();
        disk.room.store(bytes, Ordering::Relaxed);
        disk
    }

    fn count(&self) -> io::Result<()> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let left = self.fail_at.fetch_sub(1, Ordering::Relaxed);
        if left == 0 || left < 0 && self.dies.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn open(&self, root: &Root, path: &Path, access: Access) -> io::Result<File> {
        self.count()?;
        let exhausted = self.exhausted.load(Ordering::Relaxed);
        if exhausted > 0 {
            if exhausted < u64::MAX {
                self.exhausted.store(exhausted - 1, Ordering::Relaxed);
            }
            return Err(io::Error::from_raw_os_error(24));
        }
        SystemDisk.open(root, path, access)
    }

    fn write(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.count()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let refusal = self.refuses_with.load(Ordering::Relaxed);
        if refusal != 0 {
            return Err(io::Error::from_raw_os_error(refusal));
        }
        let len: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        if room != u64::MAX {
            self.room.store(room.saturating_sub(len), Ordering::Relaxed);
        }
        if room < len || self.short.load(Ordering::Relaxed) {
            let part = buffers[0].len().min(room as usize).min(10_000);
            return SystemDisk.write(file, &[IoSlice::new(&buffers[0][..part])], offset);
        }
        SystemDisk.write(file, buffers, offset)
    }

    fn read(&self, file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.count()?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let len = match self.short.load(Ordering::Relaxed) {
            true => out.len().min(7_000),
            false => out.len(),
        };
        SystemDisk.read(file, &mut out[..len], offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.count()?;
        SystemDisk.set_len(file, len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // No test here switches the machine off.
        let _ = file;
        self.count()
    }

    fn sync_all(&self, root: &Root) -> io::Result<()> {
        let _ = root;
        self.count()
    }

    fn rename(&self, from: &Root, path: &Path, to: &Root, new: &Path) -> io::Result<()> {
        self.count()?;
        let apart = from.identity()? != to.identity()?;
        if apart && self.volumes.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(18));
        }
        SystemDisk.rename(from, path, to, new)
    }

    fn note(&self, path: &Path, bytes: Option<&[u8]>) -> io::Result<()> {
        self.count()?;
        SystemDisk.note(path, bytes)
    }

    fn remove(&self, root: &Root, path: &Path) -> io::Result<()> {
        self.count()?;
        SystemDisk.remove(root, path)
    }

    fn remove_folder(&self, root: &Root, path: &Path) -> io::Result<()> {
        self.count()?;
        SystemDisk.remove_folder(root, path)
    }
}

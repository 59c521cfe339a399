//! A file system in memory that takes and gives no more bytes a second than it is told to, over FUSE.
//!
//! What is written waits here before it is answered, and the kernel keeps nothing back: a program sees what it would see of a
//! disk whose own queue is full.
//!
//! Invariant: reads and writes together never exceed the rate by more than [`BURST`].

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How far the disk may fall behind its rate and make up for it: a disk's own cache.
const BURST: Duration = Duration::from_millis(100);
/// Attributes change behind the kernel's back only where nobody looks.
const TTL: Duration = Duration::from_secs(1);

/// A mounted file system, until it is dropped.
pub(crate) struct SlowDisk {
    _session: BackgroundSession,
}

impl SlowDisk {
    /// Mounts one at `at`, whose files are kept in `backing`. Both are folders that exist.
    ///
    /// # Errors
    ///
    /// There is no right to mount, or no FUSE.
    pub(crate) fn mount(at: &Path, backing: &Path, bytes_per_s: u64) -> Result<SlowDisk> {
        let disk = Disk {
            state: Mutex::new(State {
                paths: BTreeMap::from([(INodeNo::ROOT.0, backing.to_path_buf())]),
                files: BTreeMap::new(),
                next: INodeNo::ROOT.0 + 1,
            }),
            free_at: Mutex::new(Instant::now()),
            bytes_per_s,
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("slow".to_owned()), MountOption::NoAtime];
        let session = fuser::spawn_mount(disk, at, &config)
            .with_context(|| format!("cannot mount over FUSE at {}", at.display()))?;
        Ok(SlowDisk { _session: session })
    }
}

struct Disk {
    state: Mutex<State>,
    /// When the disk has done all that it was given.
    free_at: Mutex<Instant>,
    bytes_per_s: u64,
}

struct State {
    /// Where the files are that the kernel knows, by inode number.
    paths: BTreeMap<u64, PathBuf>,
    /// Open files by handle.
    files: BTreeMap<u64, File>,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        let path = self.paths.get(&inode.0);
        path.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn inode_of(&mut self, path: &Path) -> INodeNo {
        let known = self.paths.iter().find(|(_, known)| *known == path);
        if let Some((inode, _)) = known {
            return INodeNo(*inode);
        }
        let inode = self.number();
        self.paths.insert(inode, path.to_path_buf());
        INodeNo(inode)
    }

    fn attributes(&mut self, path: &Path) -> io::Result<FileAttr> {
        let found = fs::symlink_metadata(path)?;
        let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(FileAttr {
            ino: self.inode_of(path),
            size: found.len(),
            blocks: found.blocks(),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind: FileType::from_std(found.file_type()).unwrap_or(FileType::RegularFile),
            perm: u16::try_from(found.permissions().mode() & 0o7777).unwrap_or(0o644),
            nlink: 1,
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn keep(&mut self, file: File) -> FileHandle {
        let handle = self.number();
        self.files.insert(handle, file);
        FileHandle(handle)
    }

    fn file(&self, handle: FileHandle) -> io::Result<File> {
        match self.files.get(&handle.0) {
            Some(file) => file.try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk {
    /// Waits as long as a disk would take for so many bytes.
    fn spend(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let until = {
            let mut free_at = lock(&self.free_at);
            let earliest = Instant::now().checked_sub(BURST).unwrap_or(*free_at);
            *free_at = (*free_at).max(earliest) + takes;
            *free_at
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    fn entry(&self, path: &Path) -> io::Result<FileAttr> {
        lock(&self.state).attributes(path)
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let file = lock(&self.state).file(handle)?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                length => filled += length,
            }
        }
        buffer.truncate(filled);
        self.spend(filled);
        Ok(buffer)
    }

    fn write_at(&self, handle: FileHandle, offset: u64, bytes: &[u8]) -> io::Result<u32> {
        let file = lock(&self.state).file(handle)?;
        file.write_all_at(bytes, offset)?;
        self.spend(bytes.len());
        u32::try_from(bytes.len()).map_err(io::Error::other)
    }

    fn resize(&self, inode: INodeNo, size: Option<u64>) -> io::Result<FileAttr> {
        let path = lock(&self.state).path(inode)?;
        if let Some(size) = size {
            OpenOptions::new().write(true).open(&path)?.set_len(size)?;
        }
        self.entry(&path)
    }

    fn list(&self, inode: INodeNo) -> io::Result<Vec<(INodeNo, FileType, OsString)>> {
        let mut state = lock(&self.state);
        let path = state.path(inode)?;
        let mut list = vec![
            (inode, FileType::Directory, OsString::from(".")),
            (inode, FileType::Directory, OsString::from("..")),
        ];
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = FileType::from_std(entry.file_type()?).unwrap_or(FileType::RegularFile);
            list.push((state.inode_of(&entry.path()), kind, entry.file_name()));
        }
        Ok(list)
    }

    fn rename_path(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> io::Result<()> {
        let mut state = lock(&self.state);
        let (from, to) = (state.child(from.0, from.1)?, state.child(to.0, to.1)?);
        fs::rename(&from, &to)?;
        state.paths.retain(|_, path| *path != to);
        for path in state.paths.values_mut() {
            if let Ok(below) = path.strip_prefix(&from) {
                *path = if below.as_os_str().is_empty() {
                    to.clone()
                } else {
                    to.join(below)
                };
            }
        }
        Ok(())
    }

    fn remove(
        &self,
        parent: INodeNo,
        name: &OsStr,
        how: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = lock(&self.state);
        let path = state.child(parent, name)?;
        how(&path)?;
        state.paths.retain(|_, known| *known != path);
        Ok(())
    }
}

fn answer(reply: ReplyEmpty, result: io::Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(Errno::from(error)),
    }
}

fn answer_entry(reply: ReplyEntry, result: io::Result<FileAttr>) {
    match result {
        Ok(found) => reply.entry(&TTL, &found, Generation(0)),
        Err(error) => reply.error(Errno::from(error)),
    }
}

fn answer_attributes(reply: ReplyAttr, result: io::Result<FileAttr>) {
    match result {
        Ok(found) => reply.attr(&TTL, &found),
        Err(error) => reply.error(Errno::from(error)),
    }
}

impl Filesystem for Disk {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Large writes come whole. Where the kernel cannot, they come in parts.
        let _ = config.add_capabilities(InitFlags::FUSE_BIG_WRITES);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = lock(&self.state).child(parent, name);
        answer_entry(reply, path.and_then(|path| self.entry(&path)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.resize(inode, None));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer_attributes(reply, self.resize(inode, size));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = lock(&self.state).child(parent, name);
        let made = made.and_then(|path| fs::create_dir(&path).map(|()| path));
        answer_entry(reply, made.and_then(|path| self.entry(&path)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(
            reply,
            self.remove(parent, name, |path| fs::remove_file(path)),
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(
            reply,
            self.remove(parent, name, |path| fs::remove_dir(path)),
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(
            reply,
            self.rename_path((parent, name), (new_parent, new_name)),
        );
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = lock(&self.state);
        let file = state
            .path(inode)
            .and_then(|path| OpenOptions::new().read(true).write(true).open(path));
        match file {
            Ok(file) => reply.opened(state.keep(file), FopenFlags::empty()),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = lock(&self.state);
        let made = state.child(parent, name).and_then(|path| {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false);
            Ok((file.open(&path)?, state.attributes(&path)?))
        });
        match made {
            Ok((file, found)) => {
                let handle = state.keep(file);
                reply.created(&TTL, &found, Generation(0), handle, FopenFlags::empty());
            }
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_at(handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_at(handle, offset, bytes) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.state).files.remove(&handle.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let list = match self.list(inode) {
            Ok(list) => list,
            Err(error) => return reply.error(Errno::from(error)),
        };
        for (next, (inode, kind, name)) in (1..).zip(list) {
            if next > offset && reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // Room for everything: a full disk is another test.
        const BLOCKS: u64 = 1 << 24;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 4096, 255, 4096);
    }
}

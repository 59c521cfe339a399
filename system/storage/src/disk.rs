//! The operations on files that can fail, so that tests can make each of them fail.
//!
//! Invariant: a path is followed below its root only and never through a symbolic link, whoever may be renaming things
//! meanwhile: by the kernel at once where it can (openat2 of Linux), or component by component.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::state_file;

/// The directory below which a content lies.
#[derive(Debug)]
pub struct Root(Option<OwnedFd>);

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist.
    Read,
    /// It is created, with its folders, where it is missing.
    Write {
        /// Whether a file that is created may be executed.
        executable: bool,
    },
}

/// The operations. Each may be called from any thread.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system says; `ELOOP` for a symbolic link.
    fn open(&self, root: &Root, path: &Path, access: Access) -> io::Result<File> {
        root.open(path, access)
    }

    /// Writes as much of `buffers` as the system takes.
    ///
    /// # Errors
    /// What the system says.
    fn write(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, buffers, offset)?)
    }

    /// Reads as much of `out` as there is; 0 at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(file, out, offset)?)
    }

    /// Cuts or extends the file, without using room for the extension.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Makes the written bytes survive a power failure.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// As [`sync`](Self::sync), for every file on the root's device at once, and for what others wrote there.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where it cannot.
    fn sync_all(&self, root: &Root) -> io::Result<()> {
        root.sync_device()
    }

    /// Gives a file another place on the same volume, with its folders made.
    ///
    /// # Errors
    /// What the system says; `EEXIST` where something is in that place, `EXDEV` where it lies on another volume, `ELOOP` for a
    /// symbolic link on the way.
    fn rename(&self, from: &Root, path: &Path, to: &Root, new: &Path) -> io::Result<()> {
        from.rename(path, to, new)
    }

    /// Removes what is at `path` unless it is a folder.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, root: &Root, path: &Path) -> io::Result<()> {
        root.remove(path)
    }

    /// Puts a small file of the program's own, which no content is, in the place of the one at `path`, for good; `None` removes it.
    ///
    /// # Errors
    /// What the system says.
    fn note(&self, path: &Path, bytes: Option<&[u8]>) -> io::Result<()> {
        match bytes {
            Some(bytes) => state_file::replace(path, bytes)?,
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Removes the folder at `path`, which is empty.
    ///
    /// # Errors
    /// What the system says.
    fn remove_folder(&self, root: &Root, path: &Path) -> io::Result<()> {
        root.remove_folder(path)
    }
}

/// The operations as the system has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {}

impl Root {
    /// The directory at `path`, to which links may lead: it is the person's choice.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(Some(rustix::fs::open(path, flags, Mode::empty())?)))
    }

    /// Of a directory that is not there: everything below it fails with `ENODEV`. It keeps no volume busy.
    pub(crate) const fn gone() -> Self {
        Root(None)
    }

    /// Whether it is [`Root::gone`].
    pub(crate) const fn is_gone(&self) -> bool {
        self.0.is_none()
    }

    fn fd(&self) -> Result<&OwnedFd, Errno> {
        self.0.as_ref().ok_or(Errno::NODEV)
    }

    /// Whether files can be created in it.
    pub(crate) fn is_writable(&self) -> bool {
        use rustix::fs::Access;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let may = |fd| rustix::fs::accessat(fd, ".", access, AtFlags::EACCESS);
        self.fd().and_then(may).is_ok()
    }

    /// What is at `path`, `None` where it or one of its folders is missing. `ELOOP` where a component is a symbolic link,
    /// `ENOTDIR` where a folder is something else.
    pub(crate) fn inspect(&self, path: &Path) -> io::Result<Option<Stat>> {
        let found = match self.resolve(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Some(found) => found.and_then(|file| rustix::fs::fstat(&file)),
            None => self
                .parent(path, false)
                .and_then(|(folder, name)| stat_component(&folder, name)),
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what is at `path` with one system call; `None` where the system has no call that keeps to the invariant.
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Option<Result<OwnedFd, Errno>> {
        let plain = |component| matches!(component, Component::Normal(_));
        if !path.components().all(plain) || path.as_os_str().is_empty() {
            return Some(Err(Errno::INVAL));
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = |fd| rustix::fs::openat2(fd, path, flags, mode, resolve);
        match self.fd().and_then(open) {
            // Kernels before 5.6 do not have it, and some sandboxes hide it.
            Err(Errno::NOSYS | Errno::PERM) => None,
            result => Some(result),
        }
    }

    /// Opens a regular file, see [`Disk::open`].
    fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        // NONBLOCK keeps a FIFO that somebody put there from stopping the thread.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (flags, mode) = match access {
            Access::Read => (flags | OFlags::RDONLY, 0),
            Access::Write { executable } => {
                let mode = if executable { 0o777 } else { 0o666 };
                (flags | OFlags::RDWR | OFlags::CREATE, mode)
            }
        };
        let mode = Mode::from_raw_mode(mode);
        let file = match self.resolve(path, flags, mode) {
            Some(Ok(file)) => file,
            Some(Err(Errno::NOENT)) if access != Access::Read => self.walk(path, flags, mode)?,
            Some(Err(error)) => return Err(error.into()),
            None => self.walk(path, flags, mode)?,
        };
        if !is_regular(&rustix::fs::fstat(&file)?) {
            return Err(Errno::INVAL.into());
        }
        Ok(File::from(file))
    }

    /// Opens what is at `path`, with its folders made where the flags say that it is.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path, flags.contains(OFlags::CREATE))?;
        rustix::fs::openat(&folder, name, flags, mode)
    }

    /// Opens a regular file that exists, to look at it.
    pub(crate) fn open_existing(&self, path: &Path) -> io::Result<File> {
        self.open(path, Access::Read)
    }

    /// The device that it lies on.
    pub(crate) fn device(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(self.fd()?)?.st_dev)
    }

    /// Tells it from every other directory that is there at the same time: device and inode.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(self.fd()?)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Whether files keep their inode numbers from one mount to the next. FAT and exFAT have none, so that the kernel makes some up; what
    /// a program does (FUSE) is its own affair.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn has_lasting_inodes(&self) -> io::Result<bool> {
        /// From linux/magic.h.
        const FAT: i128 = 0x4d44;
        const EXFAT: i128 = 0x2011_bab0;
        const FUSE: i128 = 0x6573_5546;
        let kind = i128::from(rustix::fs::fstatfs(self.fd()?)?.f_type);
        Ok(![FAT, EXFAT, FUSE].contains(&kind))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn has_lasting_inodes(&self) -> io::Result<bool> {
        self.fd().map(|_| true).map_err(io::Error::from)
    }

    /// How many bytes there is room for; `None` where the file system does not count.
    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        let stat = rustix::fs::fstatvfs(self.fd()?)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok((stat.f_blocks > 0).then_some(free))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn sync_device(&self) -> io::Result<()> {
        // What only names a folder cannot be synced by; this one was opened for reading.
        Ok(rustix::fs::syncfs(self.fd()?)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn sync_device(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the file at `path`.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path, false)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Removes the folder at `path` if it is empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path, false)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
    }

    /// See [`Disk::rename`].
    fn rename(&self, path: &Path, to: &Root, new: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path, false)?;
        let (new_folder, new_name) = to.parent(new, true)?;
        match rename_to_nothing(&folder, name, &new_folder, new_name) {
            // The kernel or the file system cannot look and rename at once. What comes into the way between the two is lost.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::statat(&new_folder, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {
                        Ok(rustix::fs::renameat(&folder, name, &new_folder, new_name)?)
                    }
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(error) => Err(error.into()),
                }
            }
            result => Ok(result?),
        }
    }

    /// The folder that `path` lies in, made where `create` says so, and the last component.
    fn parent<'a>(
        &self,
        path: &'a Path,
        create: bool,
    ) -> Result<(OwnedFd, &'a std::ffi::OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let mut folder = rustix::io::fcntl_dupfd_cloexec(self.fd()?, 0)?;
        for component in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(component) = component else {
                return Err(Errno::INVAL);
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(&folder, component, flags, Mode::empty());
            folder = match open() {
                Err(Errno::NOENT) if create => {
                    match rustix::fs::mkdirat(&folder, component, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => open()?,
                        Err(error) => return Err(error),
                    }
                }
                // A symbolic link is "not a directory" too: say which.
                Err(Errno::NOTDIR) => {
                    stat_component(&folder, component)?;
                    return Err(Errno::NOTDIR);
                }
                other => other?,
            };
        }
        Ok((folder, name))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn rename_to_nothing(
    folder: &OwnedFd,
    name: &std::ffi::OsStr,
    new_folder: &OwnedFd,
    new_name: &std::ffi::OsStr,
) -> Result<(), Errno> {
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(folder, name, new_folder, new_name, flags)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn rename_to_nothing(
    _folder: &OwnedFd,
    _name: &std::ffi::OsStr,
    _new_folder: &OwnedFd,
    _new_name: &std::ffi::OsStr,
) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Reserves room on disk for the whole file. A file system that cannot is left to grow the file as it fills.
pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the error says that a symbolic link is in the way.
pub(crate) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn stat_component(folder: impl AsFd, name: &std::ffi::OsStr) -> Result<Stat, Errno> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Err(Errno::LOOP),
        _ => Ok(stat),
    }
}

/// Writes all of `buffers`, in as few operations as the system allows.
pub(crate) fn write_all(
    disk: &dyn Disk,
    file: &File,
    mut buffers: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    /// `IOV_MAX` of Linux: the most slices one `pwritev` takes.
    const MAX_SLICES: usize = 1024;
    while !buffers.is_empty() {
        let some = &buffers[..buffers.len().min(MAX_SLICES)];
        match disk.write(file, some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut buffers, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `out`; `UnexpectedEof` where the file ends before.
pub(crate) fn read_exact(
    disk: &dyn Disk,
    file: &File,
    mut out: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !out.is_empty() {
        match disk.read(file, out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                out = &mut out[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const WRITE: Access = Access::Write { executable: false };

    #[test]
    fn nothing_is_opened_through_a_link_or_above_the_root() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        symlink(outside.path().join("new"), dir.path().join("dangling")).unwrap();
        std::fs::write(dir.path().join("plain"), "x").unwrap();
        let root = Root::new(dir.path()).unwrap();
        for path in ["folder/secret", "file", "dangling", "folder/new"] {
            assert!(
                is_link(&root.open(Path::new(path), WRITE).unwrap_err()),
                "{path}"
            );
            assert!(
                is_link(&root.inspect(Path::new(path)).unwrap_err()),
                "{path}"
            );
            // What older systems do instead.
            let flags = OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CREATE;
            let walked = root.walk(Path::new(path), flags, Mode::from_raw_mode(0o666));
            assert!(is_link(&walked.unwrap_err().into()), "{path}");
        }
        for path in ["../x", "/etc/hostname", "a/../../x", "plain/x", ""] {
            assert!(root.open(Path::new(path), WRITE).is_err(), "{path}");
        }
        assert!(!outside.path().join("new").exists());
    }

    #[test]
    fn only_regular_files_are_opened_and_folders_are_made_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(root.open(Path::new("fifo"), WRITE).is_err());
        assert!(root.inspect(Path::new("a/b/c")).unwrap().is_none());
        assert!(root.open(Path::new("a/b/c"), Access::Read).is_err());
        assert!(!dir.path().join("a").exists());
        root.open(Path::new("a/b/c"), WRITE).unwrap();
        assert!(is_regular(
            &root.inspect(Path::new("a/b/c")).unwrap().unwrap()
        ));
        assert!(root.open(Path::new("a/b"), WRITE).is_err());
    }
}

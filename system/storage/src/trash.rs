//! The trash of a volume, where file browsers look for what was thrown away (freedesktop.org, Trash specification 1.0).
//!
//! Invariant: what is in the trash has its note beside it: the note is made first, and its name is taken by nobody else.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::disk::Root;
use crate::error::StorageError;

/// So many things of one name may lie in a trash: a person who throws away more of them empties it first.
const MAX_SAME_NAMES: u32 = 10_000;

/// The most bytes of a name in the trash that are kept of the name before, so that a number and an ending fit within the usual 255.
const MAX_NAME_BYTES: usize = 200;

/// The trash of whoever runs this process, as its environment says. It exists once something was thrown away.
#[must_use]
pub fn home_trash() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME");
    let data = data.or_else(|| Some(absolute("HOME")?.join(".local/share")));
    data.map(|data| data.join("Trash"))
}

/// The trash for what lies below one folder.
#[derive(Debug)]
pub(crate) struct Trash {
    path: PathBuf,
    root: Root,
    /// What paths in notes are relative to, where they are.
    top: Option<PathBuf>,
}

impl Trash {
    /// The trash on the volume of `directory`, which `root` is: the person's own where that is there, or the volume's.
    pub(crate) fn open(
        directory: &Path,
        root: &Root,
        home: Option<&Path>,
    ) -> Result<Self, StorageError> {
        let fail = |error| StorageError::io(directory, error);
        let device = root.device().map_err(fail)?;
        if let Some(home) = home.filter(|home| device_above(home) == Some(device)) {
            return Trash::make(home.to_owned(), None);
        }
        let top = top_of(&directory.canonicalize().map_err(fail)?);
        let user = rustix::process::getuid().as_raw();
        let common = top.join(".Trash");
        // Whoever set it up for everybody made it sticky, so that nobody removes what is others'.
        let shared = fs::symlink_metadata(&common)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & 0o1000 != 0);
        if shared && let Ok(trash) = Trash::make(common.join(user.to_string()), Some(&top)) {
            return Ok(trash);
        }
        Trash::make(top.join(format!(".Trash-{user}")), Some(&top))
    }

    fn make(path: PathBuf, top: Option<&Path>) -> Result<Self, StorageError> {
        let fail = |error| StorageError::io(&path, error);
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(top.is_none());
        for folder in [&path, &path.join("files"), &path.join("info")] {
            match private.create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(fail(error)),
                _ => {}
            }
            let metadata = fs::symlink_metadata(folder).map_err(fail)?;
            let ours = metadata.uid() == rustix::process::geteuid().as_raw();
            if !metadata.is_dir() || !ours {
                return Err(StorageError::NotAFile(folder.clone()));
            }
        }
        let root = Root::new(&path).map_err(fail)?;
        Ok(Trash {
            root,
            top: top.map(Path::to_owned),
            path,
        })
    }

    /// What the places that [`Trash::announce`] gives are in.
    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }

    /// Notes that what is at `path`, which is absolute, is thrown away: where to put it, seen from the root.
    pub(crate) fn announce(&self, path: &Path) -> io::Result<PathBuf> {
        let shown = match &self.top {
            Some(top) => {
                let path = path.canonicalize()?;
                path.strip_prefix(top).map_or(path.clone(), Path::to_owned)
            }
            None => path.to_owned(),
        };
        let note = format!(
            "[Trash Info]\nPath={}\nDeletionDate={}\n",
            escaped(&shown),
            date(SystemTime::now())
        );
        let name = path.file_name().unwrap_or_default();
        for number in 1..=MAX_SAME_NAMES {
            let name = numbered(name, number);
            if fs::symlink_metadata(self.path.join("files").join(&name)).is_ok() {
                continue;
            }
            let mut info = name.clone();
            info.push(".trashinfo");
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match options.open(self.path.join("info").join(info)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                file => {
                    file?.write_all(note.as_bytes())?;
                    return Ok(Path::new("files").join(name));
                }
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

/// `name`, and from the second on its number; short enough for both to be a name.
fn numbered(name: &OsStr, number: u32) -> std::ffi::OsString {
    let bytes = name.as_bytes();
    let bytes = &bytes[..bytes.len().min(MAX_NAME_BYTES)];
    let mut numbered = OsStr::from_bytes(bytes).to_owned();
    if number > 1 {
        numbered.push(format!(".{number}"));
    }
    numbered
}

/// The device of what is at `path`, or will be when it is made.
fn device_above(path: &Path) -> Option<u64> {
    let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok());
    metadata.map(|metadata| metadata.dev())
}

/// Where the volume of `path`, which has no links in it, is mounted.
pub(crate) fn top_of(path: &Path) -> PathBuf {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let here = device(path);
    let above = path.ancestors();
    let same = above.take_while(|above| device(above) == here);
    same.last().unwrap_or(path).to_owned()
}

/// As the note has it: percent-encoded, as in a URL.
fn escaped(path: &Path) -> String {
    let mut escaped = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// `YYYY-MM-DDThh:mm:ss`, of UTC: which hour it is where the person lives is not known here.
fn date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (day, time) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that a leap day is the last of its year (H. Hinnant, days_from_civil).
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn a_note_names_any_path_and_two_things_of_one_name_lie_beside_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::make(folder.path().join("Trash"), None).unwrap();
        let thrown = Path::new("/a b/ü%\n");
        let places = [1, 2].map(|_| trash.announce(thrown).unwrap());
        assert_eq!(places[0], Path::new("files/ü%\n"));
        assert_eq!(places[1], Path::new("files/ü%\n.2"));
        let note = folder.path().join("Trash/info/ü%\n.2.trashinfo");
        let note = fs::read_to_string(note).unwrap();
        assert!(note.starts_with("[Trash Info]\nPath=/a%20b/%C3%BC%25%0A\nDeletionDate=2"));
    }

    #[test]
    fn a_trash_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let link = folder.path().join(".Trash-0");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(Trash::make(link, Some(folder.path())).is_err());
        assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    }
}

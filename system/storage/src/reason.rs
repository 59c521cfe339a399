//! Why writing stopped, or files cannot be had: what it is, and what whoever reads it can do.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Why writing stopped. Its text is a sentence without a path; [`crate::Event::Suspended`] has that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The disk or the quota is full.
    Full,
    /// The directory is not there, or the volume that it was on: a drive that was unplugged, a share that is not mounted.
    VolumeMissing,
    /// Files of which pieces are verified are not there any more, although their volume is.
    FilesMissing,
    /// The volume is mounted so that it can only be read.
    ReadOnly,
    /// Permissions do not let us.
    Denied,
    /// The file system takes no file of that length: FAT ends at 4 GiB.
    TooLarge,
    /// The file system takes no such name: too long, or with characters that FAT and exFAT do not have.
    Name,
    /// The network file system does not answer, or has forgotten us.
    Unreachable,
    /// This process, or all together, have so many files open that there can be no more. The disk is well.
    OpenFiles,
    /// The system's own words for what else is wrong.
    Failing(String),
}

impl Reason {
    /// What `error` means that an operation on `path` ended with.
    pub(crate) fn of(error: &io::Error, path: &Path) -> Self {
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        match code {
            Some(Errno::NOSPC | Errno::DQUOT) => Reason::Full,
            Some(Errno::NODEV | Errno::NXIO) => Reason::VolumeMissing,
            Some(Errno::ROFS) => Reason::ReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => Reason::Denied,
            Some(Errno::FBIG) => Reason::TooLarge,
            Some(Errno::NAMETOOLONG | Errno::ILSEQ) => Reason::Name,
            // What Linux says of a name with characters that a FAT does not have.
            Some(Errno::INVAL) if is_odd(path) => Reason::Name,
            Some(
                Errno::STALE
                | Errno::TIMEDOUT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::NETDOWN
                | Errno::NOTCONN
                | Errno::CONNRESET
                | Errno::CONNREFUSED,
            ) => Reason::Unreachable,
            Some(Errno::MFILE | Errno::NFILE) => Reason::OpenFiles,
            _ => Reason::Failing(error.to_string()),
        }
    }

    /// Whether another copy of the same bytes, on another part of the disk, might be taken. Otherwise they wait.
    pub(crate) const fn is_of_the_medium(&self) -> bool {
        matches!(self, Reason::Failing(_))
    }

    /// Whether nothing is to be tried before somebody looked for what is missing.
    pub(crate) const fn is_absence(&self) -> bool {
        matches!(self, Reason::VolumeMissing | Reason::FilesMissing)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Full => "the disk is full; make room, and it goes on",
            Reason::VolumeMissing => {
                "the drive or share is not there; connect or mount it, and it goes on"
            }
            Reason::FilesMissing => {
                "files are gone that were complete; bring them back, and it goes on, or check it again to download them anew"
            }
            Reason::ReadOnly => {
                "the volume can only be read; mount it for writing, and it goes on"
            }
            Reason::Denied => "permission denied; let this user write there, and it goes on",
            Reason::TooLarge => {
                "the file system takes no file of this length (FAT ends at 4 GiB); move the torrent to another volume"
            }
            Reason::Name => {
                "the file system does not take this name; rename the file, or move the torrent to another volume"
            }
            Reason::Unreachable => {
                "the network file system does not answer; see to the server and the network, and it goes on"
            }
            Reason::OpenFiles => {
                "too many files are open; raise the limit of open files, or lower how many are kept open, and it goes on"
            }
            Reason::Failing(why) => why,
        })
    }
}

/// Whether a name of the path is one that FAT and exFAT refuse.
fn is_odd(path: &Path) -> bool {
    let is_refused = |c: char| c.is_control() || "\"*:<>?\\|".contains(c);
    path.to_string_lossy().chars().any(is_refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_what_a_person_can_do() {
        for (code, path, reason) in [
            (Errno::NOSPC, "a", Reason::Full),
            (Errno::DQUOT, "a", Reason::Full),
            (Errno::NODEV, "a", Reason::VolumeMissing),
            (Errno::ROFS, "a", Reason::ReadOnly),
            (Errno::ACCESS, "a", Reason::Denied),
            (Errno::FBIG, "a", Reason::TooLarge),
            (Errno::NAMETOOLONG, "a", Reason::Name),
            (Errno::INVAL, "what?", Reason::Name),
            (Errno::STALE, "a", Reason::Unreachable),
            (Errno::TIMEDOUT, "a", Reason::Unreachable),
            (Errno::MFILE, "a", Reason::OpenFiles),
        ] {
            let error = io::Error::from(code);
            let found = Reason::of(&error, Path::new(path));
            assert_eq!(found, reason, "{error}");
            assert!(!found.is_of_the_medium());
            // What it is, and what to do.
            assert!(found.to_string().contains("; "), "{found}");
        }
        for code in [Errno::IO, Errno::INVAL, Errno::LOOP] {
            let error = io::Error::from(code);
            let found = Reason::of(&error, Path::new("a"));
            assert!(found.is_of_the_medium(), "{found}");
            assert_eq!(found.to_string(), error.to_string());
        }
    }
}

//! Whether a client runs: by the marks that it leaves in its folders while it does.
//!
//! Invariant: the marks stay as they are.

use crate::{Client, ImportError, disk};
use std::path::{Path, PathBuf};

/// The longest mark that is read, in bytes: a process, and the name of a machine.
const MAX_MARK_BYTES: u64 = 4096;

impl Client {
    /// Whether its session in `folder` is in use, as far as the client leaves a mark of that.
    ///
    /// # Errors
    /// [`ImportError::Running`] where it is.
    pub fn rests(self, folder: &Path) -> Result<(), ImportError> {
        match self.mark(folder) {
            Some(path) => Err(ImportError::Running { client: self, path }),
            None => Ok(()),
        }
    }

    /// Whether it leaves a mark while it runs. Where it does not, a person has to look.
    #[must_use]
    pub const fn is_seen_running(self) -> bool {
        match self {
            Client::QBittorrent | Client::RTorrent | Client::Deluge => true,
            Client::Transmission => false,
        }
    }

    fn mark(self, folder: &Path) -> Option<PathBuf> {
        let marks: Vec<PathBuf> = match self {
            // Beside the data of a profile, or where configurations are.
            Client::QBittorrent => {
                let data = match folder.ends_with("BT_backup") {
                    true => folder.parent()?,
                    false => folder,
                };
                let mut marks = vec![data.join("../config/lockfile"), data.join("lockfile")];
                if let Some(home) = data.ancestors().nth(3) {
                    marks.push(home.join(".config/qBittorrent/lockfile"));
                    marks.push(home.join("config/qBittorrent/lockfile"));
                }
                marks
            }
            Client::Transmission => Vec::new(),
            Client::RTorrent => vec![folder.join("rtorrent.lock")],
            Client::Deluge => vec![
                folder.join("deluged.pid"),
                folder.join("../deluged.pid"),
                folder.join("ipc/deluge-gtk.lock"),
                folder.join("../ipc/deluge-gtk.lock"),
            ],
        };
        let is_held = |mark: &PathBuf| match self {
            Client::QBittorrent => disk::is_locked(mark) || process(mark).is_some_and(runs),
            _ => process(mark).is_some_and(runs),
        };
        marks.into_iter().find(is_held)
    }
}

/// The process that a mark names: `HOST:+PID` of rTorrent, `PID;PORT` of Deluge, `PID` alone, or a link to one of these.
fn process(mark: &Path) -> Option<u32> {
    let text = match mark.read_link() {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(_) => String::from_utf8(disk::read(mark, MAX_MARK_BYTES).ok()?).ok()?,
    };
    let line = text.lines().next()?;
    let (_, last) = line.rsplit_once('+').unwrap_or(("", line));
    let (number, _) = last.split_once(';').unwrap_or((last, ""));
    number.trim().parse().ok()
}

/// Whether there is such a process.
fn runs(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

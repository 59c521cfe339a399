//! Where the completion journal of a download is: `journals/HASH-TARGET.journal` in the state folder.
//!
//! Invariant: one journal for each torrent and target folder, however the folder is written.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shoal_metainfo::InfoHash;
use shoal_node::journal;

use crate::exit::{Exit, Failure};

/// The path of the journal of the torrent `info_hash` whose content lies in `target`; its folder exists afterwards.
///
/// # Errors
/// Where the target or the state folder cannot be used.
pub(crate) fn of(
    info_hash: InfoHash,
    target: &Path,
    state_dir: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let target = canonical(target)?;
    let folder = state_folder("journals", state_dir)?;
    Ok(folder.join(journal::file_name(info_hash, &target)))
}

/// The folder `name` in the state folder; it exists afterwards.
///
/// # Errors
/// Where it cannot be made.
pub(crate) fn state_folder(name: &str, state_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = match state_dir {
        Some(folder) => folder.to_owned(),
        None => default_state_dir()?,
    };
    let folder = folder.join(name);
    fs::create_dir_all(&folder).map_err(|error| {
        let then = format!("{error}; choose another with --state-dir");
        Failure::at(
            Exit::Unusable,
            "cannot create the state folder",
            &folder,
            then,
        )
    })?;
    Ok(folder)
}

/// The folder `target` without links and `..`.
///
/// # Errors
/// Where it is no folder.
pub(crate) fn canonical(target: &Path) -> Result<PathBuf, Failure> {
    let unusable =
        |then: String| Failure::at(Exit::Unusable, "cannot use the folder", target, then);
    let path = target.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            unusable("there is no such folder; create it or choose another".to_owned())
        }
        _ => unusable(error.to_string()),
    })?;
    match path.is_dir() {
        true => Ok(path),
        false => Err(unusable("it is not a folder; choose another".to_owned())),
    }
}

/// As the XDG base directory specification has it: a relative path counts as none.
fn default_state_dir() -> Result<PathBuf, Failure> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("shoal")).ok_or_else(|| {
        let message = "there is no place to remember what is verified: HOME is not set; \
             name one with --state-dir";
        Failure::new(Exit::Unusable, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_has_one_journal_however_it_is_written() {
        let state = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join("sub")).unwrap();
        let path = |target: &Path| of(InfoHash([7; 20]), target, Some(state.path())).unwrap();
        let plain = path(target.path());
        assert_eq!(plain, path(&target.path().join("sub/..")));
        assert_ne!(plain, path(&target.path().join("sub")));
        assert!(plain.starts_with(state.path().join("journals")));
    }

    #[test]
    fn a_target_that_is_no_folder_is_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for target in [file, folder.path().join("missing")] {
            assert_eq!(canonical(&target).unwrap_err().exit, Exit::Unusable);
        }
    }
}

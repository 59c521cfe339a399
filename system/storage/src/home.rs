//! Where the files of an open content are: all in one place or, while they move, each in one of two.
//!
//! Invariant: whoever opens a file finds it in the place where it is at that moment.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::absence::Whereabouts;
use crate::disk::Root;
use crate::journal::Fingerprint;
use crate::spec::{FileSpec, Location};

/// One place.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) root: Root,
    /// Of the root; `None` where it cannot be known.
    pub(crate) device: Option<u64>,
    /// Device and inode, likewise.
    pub(crate) identity: Option<(u64, u64)>,
    /// Likewise.
    pub(crate) whereabouts: Option<Whereabouts>,
    /// Whether files keep their inode numbers from one mount to the next.
    lasting_inodes: bool,
    pub(crate) location: Arc<Location>,
    /// Of the file with fragments, below the root.
    parts: PathBuf,
}

impl Home {
    pub(crate) fn new(root: Root, location: Location, parts: PathBuf) -> Self {
        let whereabouts = Whereabouts::of(&root, &location.directory).ok();
        Home::at(root, location, parts, whereabouts)
    }

    /// The same, whose whereabouts are known.
    pub(crate) fn at(
        root: Root,
        location: Location,
        parts: PathBuf,
        whereabouts: Option<Whereabouts>,
    ) -> Self {
        Home {
            device: root.device().ok(),
            identity: root.identity().ok(),
            whereabouts,
            lasting_inodes: root.has_lasting_inodes().unwrap_or(true),
            root,
            location: Arc::new(location),
            parts,
        }
    }

    /// The same place with its directory opened again, or, for a root that is gone, known to be missing.
    pub(crate) fn with(&self, root: Root) -> Self {
        Home {
            device: root.device().ok().or(self.device),
            identity: root.identity().ok().or(self.identity),
            whereabouts: Whereabouts::of(&root, &self.location.directory)
                .ok()
                .or(self.whereabouts),
            lasting_inodes: root.has_lasting_inodes().unwrap_or(self.lasting_inodes),
            root,
            location: Arc::clone(&self.location),
            parts: self.parts.clone(),
        }
    }

    /// What a file here looks like, as far as that lasts.
    pub(crate) fn print(&self, metadata: &Metadata) -> Fingerprint {
        let print = Fingerprint::of(metadata);
        if self.lasting_inodes {
            return print;
        }
        Fingerprint { inode: 0, ..print }
    }

    /// The path below the root of `file`; without one, of the file with fragments.
    pub(crate) fn path<'a>(&'a self, file: Option<&'a FileSpec>) -> &'a Path {
        file.map_or(&self.parts, |file| self.location.path_of(file))
    }
}

/// The places of one content.
#[derive(Debug)]
pub(crate) struct Homes(RwLock<Places>);

#[derive(Debug)]
struct Places {
    now: Arc<Home>,
    /// Where files move to, and which of them are there.
    next: Option<(Arc<Home>, BTreeSet<usize>)>,
}

impl Places {
    fn of(&self, slot: usize) -> &Arc<Home> {
        match &self.next {
            Some((next, arrived)) if arrived.contains(&slot) => next,
            _ => &self.now,
        }
    }
}

impl Homes {
    pub(crate) fn new(home: Home) -> Self {
        Homes(RwLock::new(Places {
            now: Arc::new(home),
            next: None,
        }))
    }

    /// Where most files are, or were before they moved.
    pub(crate) fn now(&self) -> Arc<Home> {
        Arc::clone(&self.read().now)
    }

    /// Does something with the place of a file, which stays there meanwhile.
    pub(crate) fn with<T>(&self, slot: usize, what: impl FnOnce(&Home) -> T) -> T {
        what(self.read().of(slot))
    }

    /// Files are about to move there.
    pub(crate) fn begin(&self, next: Arc<Home>) {
        self.write().next = Some((next, BTreeSet::new()));
    }

    /// Moves a file: nobody opens one while `how` does that. What it says counts.
    pub(crate) fn move_file<E>(
        &self,
        slot: usize,
        to_next: bool,
        how: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut places = self.write();
        how()?;
        if let Some((_, arrived)) = &mut places.next {
            if to_next {
                arrived.insert(slot);
            } else {
                arrived.remove(&slot);
            }
        }
        Ok(())
    }

    /// Everything is there from here on.
    pub(crate) fn settle(&self, home: Arc<Home>) {
        let mut places = self.write();
        places.now = home;
        places.next = None;
    }

    /// `now` is there in place of `before`; false where files have moved since `before` was looked up, or are moving: whoever moves them
    /// says where they are.
    pub(crate) fn replace(&self, before: &Arc<Home>, now: Arc<Home>) -> bool {
        let mut places = self.write();
        let as_before = places.next.is_none() && Arc::ptr_eq(&places.now, before);
        if as_before {
            places.now = now;
        }
        as_before
    }

    /// Whether some files are in one place and some in another.
    pub(crate) fn is_split(&self) -> bool {
        self.read().next.is_some()
    }

    fn read(&self) -> RwLockReadGuard<'_, Places> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Places> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(directory: &Path) -> Arc<Home> {
        let location = Location {
            directory: directory.to_owned(),
            ..Location::default()
        };
        let root = Root::new(directory).unwrap();
        Arc::new(Home::new(root, location, PathBuf::from("parts")))
    }

    #[test]
    fn who_opens_a_place_again_does_not_undo_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (home(dir.path()), home(dir.path()));
        let homes = Homes(RwLock::new(Places {
            now: Arc::clone(&old),
            next: None,
        }));
        homes.begin(Arc::clone(&new));
        assert!(!homes.replace(&old, Arc::new(old.with(Root::gone()))));
        assert!(homes.is_split());
        homes.settle(Arc::clone(&new));
        assert!(!homes.replace(&old, Arc::new(old.with(Root::gone()))));
        assert!(Arc::ptr_eq(&homes.now(), &new));
        assert!(homes.replace(&new, Arc::new(new.with(Root::gone()))));
        assert!(homes.now().root.is_gone());
    }
}

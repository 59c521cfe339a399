//! Where the data of torrents is to lie: as a person says of a torrent, or as its category, its tags and the session say.
//!
//! A torrent without a folder of its own follows what others say. Where they change what they say, it goes along or, as the settings have
//! it, stays, and has a folder of its own from then on. Until everything wanted is there, data may lie in another folder; the torrent
//! knows its home meanwhile.
//!
//! Invariant: what is to be moved where is in the database before anything moves.

use super::running::{addition, journal_name};
use super::{NodeError, Session};
use crate::entry::{Entry, Source};
use crate::message::FolderRequest;
use crate::settings::WhenMoved;
use crate::{places, rules_text, shape};
use shoal_engine::{AddTorrent, EngineHandle};
use shoal_session::rules::Effective;
use shoal_storage::Location;
use shoal_store::{Moving, TorrentOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is to be looked at on the disks before torrents are moved.
pub(super) struct Plan {
    /// Who looks.
    pub(super) engine: EngineHandle,
    /// What moves, and where.
    pub(super) moves: Vec<(AddTorrent, Location)>,
}

/// The folder that a request names, which has to be there.
pub(super) fn named(request: &FolderRequest) -> Option<&str> {
    match request {
        FolderRequest::Move { directory, .. } => Some(directory),
        FolderRequest::Incomplete { directory, .. } => {
            let word = matches!(directory.as_str(), "none" | "inherit");
            (!word).then_some(directory)
        }
        _ => None,
    }
}

/// The same request with that folder as it is called without links and `..`.
pub(super) fn renamed(request: FolderRequest, name: &Path) -> Result<FolderRequest, NodeError> {
    let what = || {
        let what = format!(
            "cannot use the folder {}: its name is no UTF-8",
            name.display()
        );
        NodeError::Refused(format!("{what}; rename it, or choose another"))
    };
    let directory = name.to_str().ok_or_else(what)?.to_owned();
    Ok(match request {
        FolderRequest::Move { torrents, .. } => FolderRequest::Move {
            torrents,
            directory,
        },
        FolderRequest::Incomplete { torrents, .. } => FolderRequest::Incomplete {
            torrents,
            directory,
        },
        other => other,
    })
}

impl Session {
    /// What a request would move, without anything being done.
    pub(super) fn plan(&self, request: &FolderRequest) -> Result<Plan, NodeError> {
        let mut plan = Plan {
            engine: self.engine.handle(),
            moves: Vec::new(),
        };
        for (id, options) in self.told_of_folders(request)? {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            if let (Some(moving), Some(add)) = (&options.moving, addition(entry, &self.journals)) {
                plan.moves.push((add, target(entry, moving)));
            }
        }
        Ok(plan)
    }

    /// Does what a request asks for, which has been found possible.
    pub(super) async fn place(&mut self, request: &FolderRequest) -> Result<Vec<i64>, NodeError> {
        let told = self.told_of_folders(request)?;
        let ids = told.iter().map(|(id, _)| *id).collect();
        self.database.set_options(&told).await?;
        for (id, _) in &told {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.unmoved = None;
            }
        }
        self.heed(told);
        Ok(ids)
    }

    fn told_of_folders(
        &self,
        request: &FolderRequest,
    ) -> Result<Vec<(i64, TorrentOptions)>, NodeError> {
        let ids = self.resolve(request.torrents())?;
        let entries = ids.iter().filter_map(|id| self.entries.get(id));
        entries
            .map(|entry| Ok((entry.id, self.asked(entry, request)?)))
            .collect()
    }

    /// What is told of a torrent then.
    fn asked(&self, entry: &Entry, request: &FolderRequest) -> Result<TorrentOptions, NodeError> {
        let mut options = TorrentOptions::clone(&entry.options);
        match request {
            FolderRequest::Move { directory, .. } if entry.is_away() => {
                options.rules.folder = Some(directory.clone());
                options.home = Some(directory.clone());
                if let Some(moving) = &mut options.moving {
                    moving.home.clone_from(&options.home);
                }
            }
            FolderRequest::Move { directory, .. } => {
                let moving = Moving {
                    directory: Some(directory.clone()),
                    renamed: will_be_renamed(&options),
                    home: None,
                    own: true,
                };
                intend(entry, &mut options, moving);
            }
            FolderRequest::Incomplete { directory, .. } => {
                let said = BTreeMap::from([("incomplete".to_owned(), directory.clone())]);
                rules_text::tell(&mut options.rules, &said).map_err(NodeError::Usage)?;
                return Ok(self.arranged(entry, options, None));
            }
            FolderRequest::Inherit { .. } => {
                options.rules.folder = None;
                let held = self.carriers.effective(&options, &self.settings);
                return Ok(self.arranged(entry, options, held.folder.value));
            }
            FolderRequest::Stay { .. } => {
                options.rules.folder = Some(entry.folder());
                options.moving = None;
            }
            FolderRequest::RenameFile { old, new, .. } => {
                rename(entry, &mut options, old, new, false)?;
            }
            FolderRequest::RenameFolder { old, new, .. } => {
                rename(entry, &mut options, old, new, true)?;
            }
        }
        Ok(options)
    }

    /// What is told of a torrent where it lies as others say, in this folder or the one that it has.
    fn arranged(
        &self,
        entry: &Entry,
        mut options: TorrentOptions,
        folder: Option<String>,
    ) -> TorrentOptions {
        let folder = folder.unwrap_or_else(|| entry.folder());
        let held = self.carriers.effective(&options, &self.settings);
        let until = held.incomplete.value.filter(|until| {
            let incomplete = entry.completed_at.is_none() && !options.seed_only;
            incomplete && *until != folder
        });
        let (directory, home) = match until {
            Some(until) => (until, Some(folder)),
            None => (folder, None),
        };
        if entry.directory == Path::new(&directory) && options.moving.is_none() {
            options.home = home;
            return options;
        }
        let moving = Moving {
            directory: Some(directory),
            renamed: will_be_renamed(&options),
            home,
            own: false,
        };
        intend(entry, &mut options, moving);
        options
    }

    /// What is told of a torrent of which others say something else than `before`.
    pub(super) fn go_along(
        &self,
        entry: &Entry,
        before: &Folders,
        mut options: TorrentOptions,
        when: WhenMoved,
    ) -> TorrentOptions {
        let now = Folders::of(&self.carriers.effective(&options, &self.settings));
        let follows = options.rules.folder.is_none() && now.folder != before.folder;
        match when {
            _ if !follows && now.incomplete == before.incomplete => options,
            WhenMoved::Move => self.arranged(entry, options, now.folder.filter(|_| follows)),
            WhenMoved::Stay => {
                if follows {
                    options.rules.folder = Some(entry.folder());
                }
                options
            }
        }
    }

    /// What holds of folders for all torrents, before others say something else.
    pub(super) fn all_folders(&self) -> Vec<(i64, Folders)> {
        let present = self.entries.values().filter(|entry| !entry.removed);
        let folders = |entry: &Entry| {
            let held = self.carriers.effective(&entry.options, &self.settings);
            (entry.id, Folders::of(&held))
        };
        present.map(folders).collect()
    }

    /// Others say something else than before: their torrents go along or stay.
    pub(super) async fn all_go_along(
        &mut self,
        before: Vec<(i64, Folders)>,
        when: WhenMoved,
    ) -> Result<(), NodeError> {
        let mut told = Vec::new();
        for (id, before) in before {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            let options = TorrentOptions::clone(&entry.options);
            let options = self.go_along(entry, &before, options, when);
            if options != *entry.options {
                told.push((id, options));
            }
        }
        self.database.set_options(&told).await?;
        self.heed(told);
        Ok(())
    }

    /// Everything wanted is there: its data goes where it is to lie then.
    pub(super) async fn go_home(&mut self, id: i64) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let mut options = TorrentOptions::clone(&entry.options);
        let (home, mark) = (options.home.clone(), options.mark.clone());
        if home.is_none() && mark.is_none() && options.moving.is_none() {
            return;
        }
        let mut renamed = will_be_renamed(&options);
        if let (Some(mark), Source::Metainfo(metainfo)) = (&mark, &entry.source) {
            let marked = places::location(PathBuf::new(), &renamed);
            renamed = places::stored(&shape::unmarked(metainfo, &marked, mark).renamed);
        }
        // What is wanted of it by now leads there.
        let (directory, own) = match &options.moving {
            Some(moving) => {
                let wanted = moving.home.clone().or_else(|| moving.directory.clone());
                (wanted.or(home), moving.own)
            }
            None => (home, false),
        };
        let moving = Moving {
            directory,
            renamed,
            home: None,
            own,
        };
        if options.moving.as_ref() == Some(&moving) {
            return;
        }
        intend(entry, &mut options, moving);
        let told = vec![(id, options)];
        match self.database.set_options(&told).await {
            Ok(()) => self.heed(told),
            // The next start has it go.
            Err(error) => tracing::warn!(torrent = id, %error, "its data does not go home"),
        }
    }
}

/// What holds of the folders of a torrent.
pub(super) struct Folders {
    folder: Option<String>,
    incomplete: Option<String>,
}

impl Folders {
    pub(super) fn of(held: &Effective) -> Self {
        Folders {
            folder: held.folder.value.clone(),
            incomplete: held.incomplete.value.clone(),
        }
    }
}

/// Where a move leads to.
pub(super) fn target(entry: &Entry, moving: &Moving) -> Location {
    let directory = moving.directory.as_ref();
    let directory = directory.map_or_else(|| entry.directory.clone(), PathBuf::from);
    places::location(directory, &moving.renamed)
}

/// The names that its files have, or are about to get.
fn will_be_renamed(options: &TorrentOptions) -> places::Renamed {
    let moving = options.moving.as_ref();
    moving.map_or_else(|| options.renamed.clone(), |moving| moving.renamed.clone())
}

/// From here on it is to be moved. Its journal keeps the name that it has.
fn intend(entry: &Entry, options: &mut TorrentOptions, moving: Moving) {
    if let (Some(_), Source::Metainfo(_)) = (&moving.directory, &entry.source) {
        options.journal = Some(journal_name(entry));
    }
    options.moving = Some(moving);
}

fn rename(
    entry: &Entry,
    options: &mut TorrentOptions,
    old: &str,
    new: &str,
    folder: bool,
) -> Result<(), NodeError> {
    let Source::Metainfo(metainfo) = &entry.source else {
        let what = format!(
            "the files of {:?} are not known yet; wait for them",
            entry.name()
        );
        return Err(NodeError::Usage(what));
    };
    let mut moving = options.moving.take().unwrap_or_else(|| Moving {
        renamed: options.renamed.clone(),
        home: options.home.clone(),
        ..Moving::default()
    });
    let before = target(entry, &moving);
    let after = places::renamed(metainfo, &before, old, new, folder);
    let after = after.map_err(|error| NodeError::Usage(error.to_string()))?;
    moving.renamed = places::stored(&after.renamed);
    options.moving = Some(moving);
    Ok(())
}

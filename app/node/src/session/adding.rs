//! Torrents that become part of a session: by a person, and from the database at its start.
//!
//! Invariant: what is refused leaves nothing behind.

use super::running::journal_name;
use super::{NodeError, Session, key, unix_now};
use crate::entry::{Entry, Source};
use crate::message::{self, Occasion};
use crate::settings::{Follow, STOPS_AT};
use crate::shape::{self, LAYOUTS};
use crate::wanted::Wanted;
use crate::{connections, places, settings};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHashes, Magnet, Metainfo};
use shoal_session::queue;
use shoal_store::{NewTorrent, ShareState, StopAt, StoredTorrent, TorrentOptions, Totals, Wish};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is wrong where there is none, or more than one.
pub(super) const ONE_SOURCE: &str =
    "a torrent is added by its file, by a URL or by a magnet link, one of them";

/// More torrents than a session has room for.
const MAX_TORRENTS: usize = 100_000;

/// A torrent from peers can be larger than a person's file, by the hashes that they give.
const FOUND: Limits = Limits {
    bytes: 96 * 1024 * 1024,
    ..Limits::LOCAL
};

impl Session {
    pub(super) async fn add(
        &mut self,
        add: message::Add,
        file: Option<Vec<u8>>,
    ) -> Result<i64, NodeError> {
        self.check_room()?;
        let (hashes, source) = source(&add, file.as_deref())?;
        if add.merge.unwrap_or(self.settings.add_merge)
            && let Some(id) = self.copy_of(&hashes, &source)
        {
            return self.merge(id, &source, add).await;
        }
        if let (Source::Metainfo(metainfo), Some(selection)) = (&source, &add.selection)
            && selection.len() != metainfo.files().len()
        {
            let (files, selected) = (metainfo.files().len(), selection.len());
            let what = format!("the torrent has {files} files, and the selection is of {selected}");
            return Err(NodeError::Usage(what));
        }
        let mut options = self.options(&add)?;
        let directory = self.directory(&add, &mut options)?;
        let Wanted {
            mut selection,
            priorities,
        } = wanted(&add, &source)?;
        options.priorities = priorities;
        let mut paused = add.paused.unwrap_or(self.settings.add_paused && !add.force);
        if let Source::Metainfo(metainfo) = &source {
            self.shape(metainfo, &directory, &mut selection, &mut options);
            // It is known already.
            paused |= options
                .stop_at
                .take_if(|at| *at == StopAt::Metadata)
                .is_some();
        }
        let directory = self.until_complete(directory, &source, &mut options)?;
        let torrent = NewTorrent {
            info_hashes: hashes,
            file,
            magnet: add.magnet,
            directory,
            wish: match (add.force, paused) {
                (_, true) => Wish::Paused,
                (true, false) => Wish::Forced,
                (false, false) => Wish::Queued,
            },
            selection,
            sequential: add.sequential,
            added_at: unix_now(),
            options,
        };
        let id = self.database.add_torrent(&torrent).await?;
        let stored = StoredTorrent {
            id,
            torrent,
            completed_at: None,
            totals: Totals::default(),
            share: ShareState::default(),
            removing: None,
        };
        let mut entry = Entry::new(stored, source);
        entry.peers = add.peers;
        entry.trust = add.trust;
        if let Some(options) = self.with_free_journal(&entry) {
            self.database.set_options(&[(id, options.clone())]).await?;
            entry.options = options.into();
        }
        let queued = self.queued(&entry);
        self.entries.insert(id, entry);
        self.tell(queue::Input::Added(key(id), queued));
        if add.top.unwrap_or(self.settings.add_top) {
            self.move_in_queue(vec![key(id)], queue::Shift::Top).await?;
        }
        self.happened(id, Occasion::Added).await;
        Ok(id)
    }

    /// Whether there is room for another torrent.
    pub(super) fn check_room(&self) -> Result<(), NodeError> {
        if self.entries.len() >= MAX_TORRENTS {
            let what = format!("there are {MAX_TORRENTS} torrents already; remove some");
            return Err(NodeError::Refused(what));
        }
        Ok(())
    }

    /// What is told of a torrent as it is added.
    pub(super) fn options(&self, add: &message::Add) -> Result<TorrentOptions, NodeError> {
        let mut options = TorrentOptions {
            name: add.name.clone().filter(|name| !name.is_empty()),
            category: add.category.clone(),
            tags: add.tags.clone(),
            first_last: add.first_last,
            preallocate: add.preallocate.unwrap_or(self.settings.preallocate),
            seed_only: add.seed_only,
            super_seed: add.super_seed,
            more_trackers: add.trackers.clone(),
            layout: add.layout.clone(),
            ..TorrentOptions::default()
        };
        self.check_carriers(options.category.as_deref(), &options.tags)?;
        settings::trackers(&add.trackers.join(" ")).map_err(NodeError::Usage)?;
        if let Some(layout) = &add.layout {
            let layout = settings::choice(layout, &LAYOUTS);
            layout.map_err(|error| NodeError::Usage(format!("layout: {error}")))?;
        }
        options.stop_at = match &add.stop_at {
            Some(text) => settings::choice(text, &STOPS_AT)
                .map_err(|error| NodeError::Usage(format!("stop_at: {error}")))?,
            // Who forces it wants it to run.
            None => self.settings.stop_at.filter(|_| !add.force),
        };
        connections::tell_torrent(&mut options, &add.rules).map_err(NodeError::Usage)?;
        self.routes.check(&add.rules, &options.rules)?;
        if add.directory.is_some() {
            options.rules.folder.clone_from(&add.directory);
        }
        Ok(options)
    }

    /// The folder for the data: as it was said, or else that of the category, a tag or the session, or else where whoever asks is.
    pub(super) fn directory(
        &self,
        add: &message::Add,
        options: &mut TorrentOptions,
    ) -> Result<PathBuf, NodeError> {
        let folder = match (self.settings.follow, &options.rules.folder) {
            (Follow::Never, None) => self.settings.folder_data.clone(),
            _ => {
                let held = self.carriers.effective(options, &self.settings);
                held.folder.value
            }
        };
        let folder = folder.or_else(|| add.current.clone());
        let Some(folder) = folder else {
            let what = "no folder is said for the data; name one, or set folder.data";
            return Err(NodeError::Usage(what.to_owned()));
        };
        let path = directory(&folder)?;
        if self.settings.follow != Follow::Always && options.rules.folder.is_none() {
            options.rules.folder = Some(folder);
        }
        Ok(path)
    }

    /// What of a torrent is fetched that comes to be known, and under which names, where a person has not said so. What is only served, or is
    /// there already, is not incomplete.
    pub(super) fn shape(
        &self,
        metainfo: &Metainfo,
        directory: &Path,
        selection: &mut Option<Vec<bool>>,
        options: &mut TorrentOptions,
    ) {
        let said = options.layout.take();
        let said = said.and_then(|layout| settings::choice(&layout, &LAYOUTS).ok());
        let layout = said.unwrap_or(self.settings.layout);
        let mut location = shape::named(metainfo, directory.to_owned(), layout, "");
        let mark = &self.settings.incomplete_suffix;
        let is_new = || !shape::is_there(metainfo, &location);
        if !mark.is_empty() && !options.seed_only && is_new() {
            location = shape::named(metainfo, directory.to_owned(), layout, mark);
            options.mark = (!location.renamed.is_empty()).then(|| mark.clone());
        }
        options.renamed = places::stored(&location.renamed);
        if selection.is_none() && !options.seed_only {
            *selection = shape::wanted(metainfo, &self.settings.exclude);
        }
    }

    /// The folder that the data lies in at first: that for incomplete data where there is one, unless something of it is there already.
    fn until_complete(
        &self,
        home: PathBuf,
        source: &Source,
        options: &mut TorrentOptions,
    ) -> Result<PathBuf, NodeError> {
        let held = self.carriers.effective(options, &self.settings);
        let Some(until) = held.incomplete.value.filter(|_| !options.seed_only) else {
            return Ok(home);
        };
        let until = directory(&until)?;
        let is_there = match source {
            Source::Metainfo(metainfo) => {
                let location = places::location(home.clone(), &options.renamed);
                options.mark.is_none() && shape::is_there(metainfo, &location)
            }
            Source::Magnet(_) => false,
        };
        match home.to_str() {
            Some(name) if until != home && !is_there => {
                options.home = Some(name.to_owned());
                Ok(until)
            }
            _ => Ok(home),
        }
    }

    /// What is told of a torrent whose journal would have a name that another one's has, which was moved or is being forgotten.
    fn with_free_journal(&self, entry: &Entry) -> Option<TorrentOptions> {
        let name = journal_name(entry);
        let others = || {
            let others = self.entries.values();
            others.filter(|other| other.hashes.primary() == entry.hashes.primary())
        };
        // One in the same folder, which is being forgotten, leaves it.
        let same_place = |other: &Entry| {
            other.directory == entry.directory && other.options.renamed == entry.options.renamed
        };
        let mut all = others().filter(|other| other.id != entry.id);
        if !all.any(|other| journal_name(other) == name && !same_place(other)) {
            return None;
        }
        // No other torrent has its number.
        let mut options = TorrentOptions::clone(&entry.options);
        options.journal = Some(format!("{}-{name}", entry.id));
        Some(options)
    }

    /// A torrent that was found by its link gets a journal of its own.
    pub(super) async fn name_journal(&mut self, id: i64) {
        let entry = self.entries.get(&id);
        let Some(options) = entry.and_then(|entry| self.with_free_journal(entry)) else {
            return;
        };
        let told = vec![(id, options)];
        if let Err(error) = self.database.set_options(&told).await {
            tracing::warn!(torrent = id, %error, "the name of its journal is not written down");
        }
        self.heed(told);
    }
}

/// What the database has, as far as it can be read.
pub(super) fn revived(stored: StoredTorrent) -> Entry {
    let torrent = &stored.torrent;
    let source = match (&torrent.file, &torrent.magnet) {
        (Some(file), _) => Metainfo::parse(file, FOUND)
            .or_else(|_| Metainfo::parse_v1(file, FOUND))
            .map(|metainfo| Source::Metainfo(Arc::new(metainfo)))
            .map_err(|error| error.to_string()),
        (None, magnet) => Magnet::parse(magnet.as_deref().unwrap_or_default())
            .map(|magnet| Source::Magnet(Box::new(magnet)))
            .map_err(|error| error.to_string()),
    };
    match source {
        Ok(source) => Entry::new(stored, source),
        Err(why) => {
            let nothing = Magnet::new(torrent.info_hashes);
            let mut entry = Entry::new(stored, Source::Magnet(Box::new(nothing)));
            entry.failure = Some(format!(
                "the stored torrent cannot be read: {why}; add it again"
            ));
            entry
        }
    }
}

/// Which of its files are wanted, and how much.
fn wanted(add: &message::Add, source: &Source) -> Result<Wanted, NodeError> {
    let mut wanted = Wanted {
        selection: add.selection.clone(),
        ..Wanted::default()
    };
    match source {
        _ if add.priorities.is_empty() => {}
        Source::Metainfo(metainfo) => {
            let told = wanted.tell(metainfo, &add.priorities);
            told.map_err(NodeError::Usage)?;
        }
        Source::Magnet(_) => {
            let what = "the files of a magnet link are not known yet; give them priorities later";
            return Err(NodeError::Usage(what.to_owned()));
        }
    }
    Ok(wanted)
}

fn source(add: &message::Add, file: Option<&[u8]>) -> Result<(InfoHashes, Source), NodeError> {
    match (file, &add.magnet) {
        (Some(file), None) => {
            let metainfo = Metainfo::parse(file, Limits::LOCAL);
            let refused = |error| NodeError::Refused(format!("torrent refused: {error}"));
            let metainfo = Arc::new(metainfo.map_err(refused)?);
            Ok((metainfo.info_hashes(), Source::Metainfo(metainfo)))
        }
        (None, Some(link)) => {
            let refused = |error| NodeError::Refused(format!("magnet link refused: {error}"));
            let magnet = Magnet::parse(link).map_err(refused)?;
            Ok((magnet.info_hashes, Source::Magnet(Box::new(magnet))))
        }
        _ => Err(NodeError::Usage(ONE_SOURCE.to_owned())),
    }
}

/// Without links and `..`, as journals are named by it.
pub(super) fn directory(text: &str) -> Result<PathBuf, NodeError> {
    let path = Path::new(text);
    let refused = |why: &str| {
        let what = format!("cannot use the folder {text}: {why}");
        Err(NodeError::Refused(what))
    };
    if !path.is_absolute() {
        return refused("write it from the root, as the node has a current folder of its own");
    }
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => refused("it is no folder; choose another"),
        Err(error) => refused(&format!("{error}; create it, or choose another")),
    }
}

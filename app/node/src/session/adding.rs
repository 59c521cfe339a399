//! Torrents that become part of a session: by a person, and from the database at its start.
//!
//! Invariant: what is refused leaves nothing behind.

use super::{NodeError, Session, key, unix_now};
use crate::entry::{Entry, Source};
use crate::message;
use crate::wanted::Wanted;
use crate::{connections, settings};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHashes, Magnet, Metainfo};
use shoal_session::queue;
use shoal_store::{NewTorrent, ShareState, StoredTorrent, TorrentOptions, Totals, Wish};
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
        if self.entries.len() >= MAX_TORRENTS {
            let what = format!("there are {MAX_TORRENTS} torrents already; remove some");
            return Err(NodeError::Refused(what));
        }
        let (hashes, source) = source(&add, file.as_deref())?;
        if let (Source::Metainfo(metainfo), Some(selection)) = (&source, &add.selection)
            && selection.len() != metainfo.files().len()
        {
            let (files, selected) = (metainfo.files().len(), selection.len());
            let what = format!("the torrent has {files} files, and the selection is of {selected}");
            return Err(NodeError::Usage(what));
        }
        let mut options = self.options(&add)?;
        let wanted = wanted(&add, &source)?;
        options.priorities = wanted.priorities;
        let directory = self.directory(&add, &options)?;
        let paused = add.paused.unwrap_or(self.settings.add_paused && !add.force);
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
            selection: wanted.selection,
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
        let queued = self.queued(&entry);
        self.entries.insert(id, entry);
        self.tell(queue::Input::Added(key(id), queued));
        if add.top.unwrap_or(self.settings.add_top) {
            self.move_in_queue(vec![key(id)], queue::Shift::Top).await?;
        }
        Ok(id)
    }

    /// What is told of a torrent as it is added.
    fn options(&self, add: &message::Add) -> Result<TorrentOptions, NodeError> {
        let mut options = TorrentOptions {
            name: add.name.clone().filter(|name| !name.is_empty()),
            category: add.category.clone(),
            tags: add.tags.clone(),
            first_last: add.first_last,
            preallocate: add.preallocate.unwrap_or(self.settings.preallocate),
            seed_only: add.seed_only,
            super_seed: add.super_seed,
            more_trackers: add.trackers.clone(),
            ..TorrentOptions::default()
        };
        self.check_carriers(options.category.as_deref(), &options.tags)?;
        settings::trackers(&add.trackers.join(" ")).map_err(NodeError::Usage)?;
        connections::tell_torrent(&mut options, &add.rules).map_err(NodeError::Usage)?;
        if add.directory.is_some() {
            options.rules.folder.clone_from(&add.directory);
        }
        Ok(options)
    }

    /// The folder for the data: as it was said, or else that of the category, a tag or the session, or else where whoever asks is.
    fn directory(
        &self,
        add: &message::Add,
        options: &TorrentOptions,
    ) -> Result<PathBuf, NodeError> {
        let held = self.carriers.effective(options, &self.settings);
        let folder = held.folder.value.or_else(|| add.current.clone());
        let Some(folder) = folder else {
            let what = "no folder is said for the data; name one, or set folder.data";
            return Err(NodeError::Usage(what.to_owned()));
        };
        directory(&folder)
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

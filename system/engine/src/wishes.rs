//! What a person wants of a torrent that runs: what it was added with, changed by what was said since.
//!
//! Invariant: the last word holds, also when everything else of the torrent is built anew.

use crate::engine::{AddTorrent, EngineError};
use crate::priorities::{self, FilePriority};
use crate::start;
use crate::web_seed::Place;
use shoal_metainfo::Metainfo;
use std::net::SocketAddr;

/// The most peers that a person names: as many as a torrent keeps in mind.
const MAX_NAMED_PEERS: usize = shoal_swarm::candidates::MAX_CANDIDATES;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// How much each file of the metainfo is wanted.
    pub(crate) files: Vec<FilePriority>,
    /// The first and the last pieces of each wanted file come first.
    pub(crate) first_last: bool,
    /// Pieces are fetched in order.
    pub(crate) sequential: bool,
    /// Nothing is fetched, whatever is wanted.
    pub(crate) seed_only: bool,
    /// It is shown piece by piece, once everything is there.
    pub(crate) super_seed: bool,
    /// The most connections; `None` is as many as the session allows.
    pub(crate) max_connections: Option<u32>,
    /// The most peers that are served at a time; `None` is as many as the session allows.
    pub(crate) max_uploads: Option<u32>,
    /// Peers that a person named.
    pub(crate) peers: Vec<SocketAddr>,
    /// Whom to ask besides peers.
    pub(crate) web_seeds: Vec<Place>,
}

impl Wishes {
    /// What a torrent is added with.
    ///
    /// # Errors
    /// Where the priorities are not one for each file.
    pub(crate) fn of(add: &AddTorrent) -> Result<Self, EngineError> {
        let files = add.metainfo.files().len();
        let given = add.priorities.clone();
        let given = given.unwrap_or_else(|| vec![FilePriority::Normal; files]);
        if given.len() != files {
            let given = given.len();
            return Err(EngineError::Priorities { files, given });
        }
        Ok(Wishes {
            files: given,
            first_last: add.first_last,
            sequential: add.sequential,
            seed_only: add.seed_only,
            super_seed: add.super_seed,
            max_connections: add.max_connections,
            max_uploads: add.max_uploads,
            peers: add.peers.clone(),
            web_seeds: start::web_seeds(add),
        })
    }

    /// A person names more peers. Beyond [`MAX_NAMED_PEERS`], they are not kept in mind.
    pub(crate) fn add_peers(&mut self, peers: &[SocketAddr]) {
        let room = MAX_NAMED_PEERS.saturating_sub(self.peers.len());
        self.peers.extend(peers.iter().take(room));
    }

    /// For each file, whether it is wanted.
    pub(crate) fn wanted(&self) -> Vec<bool> {
        priorities::wanted(&self.files)
    }

    /// How much each piece is wanted. Whoever only seeds fetches nothing.
    pub(crate) fn of_pieces(&self, metainfo: &Metainfo) -> Vec<FilePriority> {
        if self.seed_only {
            return vec![FilePriority::Skip; metainfo.layout().piece_count() as usize];
        }
        priorities::of_pieces(metainfo, &self.files, self.first_last)
    }
}

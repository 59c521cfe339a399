//! Web seeds of torrents.

use serde::{Deserialize, Serialize};

/// What is asked of the web seeds of torrents. Their URLs may hold secrets, and stand in no log or error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum WebSeedRequest {
    /// All of them.
    List {
        /// Of which torrents.
        torrents: Vec<String>,
    },
    /// Some more (BEP 19).
    Add {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The web seeds.
        urls: Vec<String>,
    },
    /// Another one in place of one.
    Set {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The web seed.
        url: String,
        /// The one in its place.
        to: String,
    },
    /// Some are not asked any more.
    Remove {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The web seeds.
        urls: Vec<String>,
    },
}

impl std::fmt::Debug for WebSeedRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WebSeedRequest")
    }
}

/// A web seed of a torrent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSeed {
    /// The number of the torrent.
    pub torrent: i64,
    /// Its URL, with its secrets.
    pub url: String,
}

impl std::fmt::Debug for WebSeed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("WebSeed");
        shown
            .field("torrent", &self.torrent)
            .finish_non_exhaustive()
    }
}

//! Torrents for the tests, made by us or by libtorrent.

use crate::content::Content;
use crate::process::output_of;
use crate::program::{Program, script, shoal};
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Which protocols a torrent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BEP 3 alone.
    V1,
    /// BEP 52 alone.
    V2,
    /// Both.
    Hybrid,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::V1 => "v1",
            Kind::V2 => "v2",
            Kind::Hybrid => "hybrid",
        })
    }
}

/// Who makes a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// `shoal create`.
    Shoal,
    /// libtorrent, as its own defaults would have it.
    Libtorrent,
}

/// What a torrent is to be like.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The protocols.
    pub kind: Kind,
    /// The piece length in bytes, where it is not left to the maker.
    pub piece_length: Option<u32>,
    /// Trackers, each in a tier of its own.
    pub trackers: Vec<String>,
    /// HTTP servers that have the content.
    pub web_seeds: Vec<String>,
    /// Whether it is private (BEP 27).
    pub private: bool,
}

impl Recipe {
    /// A torrent without trackers.
    #[must_use]
    pub fn new(kind: Kind) -> Recipe {
        Recipe {
            kind,
            piece_length: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
        }
    }

    /// The same, with this piece length.
    #[must_use]
    pub fn pieces(mut self, bytes: u32) -> Recipe {
        self.piece_length = Some(bytes);
        self
    }

    /// The same, with one more tracker.
    #[must_use]
    pub fn tracker(mut self, url: &str) -> Recipe {
        self.trackers.push(url.to_owned());
        self
    }

    /// The same, with one more HTTP server that has the content.
    #[must_use]
    pub fn web_seed(mut self, url: &str) -> Recipe {
        self.web_seeds.push(url.to_owned());
        self
    }

    /// Makes the torrent of this content, and writes it to `out`.
    ///
    /// # Errors
    ///
    /// The maker refuses; the error has what it said.
    pub fn make(&self, maker: Maker, content: &Content, out: &Path) -> Result<()> {
        match maker {
            Maker::Shoal => self.make_by_shoal(content, out),
            Maker::Libtorrent => self.make_by_libtorrent(content, out),
        }
    }

    fn make_by_shoal(&self, content: &Content, out: &Path) -> Result<()> {
        let mut command = Command::new(shoal()?);
        command.arg("create").arg(content.path()).arg("-o").arg(out);
        command.arg(format!("--{}", self.kind));
        if let Some(bytes) = self.piece_length {
            command.arg("--piece-size").arg(bytes.to_string());
        }
        for tracker in &self.trackers {
            command.arg("--tracker").arg(tracker);
        }
        for url in &self.web_seeds {
            command.arg("--web-seed").arg(url);
        }
        if self.private {
            command.arg("--private");
        }
        output_of(&mut command)?;
        Ok(())
    }

    fn make_by_libtorrent(&self, content: &Content, out: &Path) -> Result<()> {
        let order = json!({
            "path": content.path(),
            "out": out,
            "kind": self.kind.to_string(),
            "piece_length": self.piece_length.unwrap_or(0),
            "trackers": self.trackers,
            "web_seeds": self.web_seeds,
            "private": self.private,
        });
        let mut command = Command::new(Program::Libtorrent.find()?);
        command
            .arg(script("make_torrent.py"))
            .arg(order.to_string());
        output_of(&mut command)?;
        Ok(())
    }
}

/// The info dictionary of a torrent, as it is in the file.
///
/// # Errors
///
/// It cannot be read, or is no torrent.
pub fn info_of(torrent: &Path) -> Result<Vec<u8>> {
    Ok(parse(torrent)?.raw_info().to_vec())
}

/// The hashes under which peers and trackers know a torrent: one, or two for a hybrid.
///
/// # Errors
///
/// It cannot be read, or is no torrent.
pub fn swarms_of(torrent: &Path) -> Result<Vec<[u8; 20]>> {
    let swarms = parse(torrent)?.info_hashes().swarms();
    Ok(swarms.map(|hash| hash.0).collect())
}

/// The link that leads to a torrent.
///
/// # Errors
///
/// It cannot be read, or is no torrent.
pub(crate) fn magnet_of(torrent: &Path) -> Result<String> {
    Ok(shoal_metainfo::Magnet::from(&parse(torrent)?).to_string())
}

fn parse(torrent: &Path) -> Result<shoal_metainfo::Metainfo> {
    let bytes = fs::read(torrent).with_context(|| format!("cannot read {}", torrent.display()))?;
    Ok(shoal_metainfo::Metainfo::parse(
        &bytes,
        shoal_metainfo::metainfo::Limits::LOCAL,
    )?)
}

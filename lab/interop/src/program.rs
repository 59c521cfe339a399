//! The third-party programs that tests need, and where they are.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};

/// A program that has to be there for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Python with libtorrent 2.1.
    Libtorrent,
    /// `qbittorrent-nox`.
    QBittorrent,
    /// `transmission-daemon`.
    Transmission,
    /// `transmission-create`.
    TransmissionCreate,
    /// `deluged`, with `deluge-console`.
    Deluge,
    /// `aria2c`.
    Aria2,
    /// `rtorrent`.
    RTorrent,
    /// Node.js with webtorrent.
    WebTorrent,
    /// `rqbit`.
    Rqbit,
    /// `opentracker`.
    OpenTracker,
    /// Node.js with bittorrent-tracker.
    BittorrentTracker,
    /// `nginx`.
    Nginx,
    /// `mktorrent`.
    Mktorrent,
    /// `strace`, which counts system calls.
    Strace,
    /// `valgrind`, which counts instructions.
    Valgrind,
    /// `nft`, which makes a namespace a router.
    Nft,
    /// `miniupnpd`, which maps ports for hosts behind a router.
    Miniupnpd,
    /// `danted`, a proxy that speaks SOCKS4 and SOCKS5.
    Danted,
    /// `tinyproxy`, a proxy that speaks HTTP.
    Tinyproxy,
}

impl Program {
    /// The path of what runs it.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn find(self) -> Result<PathBuf> {
        match self {
            Program::Libtorrent => installed("python", "bin/python"),
            Program::WebTorrent | Program::BittorrentTracker => installed("node", "bin/node"),
            Program::QBittorrent => on_path("qbittorrent-nox"),
            Program::Transmission => on_path("transmission-daemon"),
            Program::TransmissionCreate => on_path("transmission-create"),
            Program::Deluge => on_path("deluge-console").and(on_path("deluged")),
            Program::Aria2 => on_path("aria2c"),
            Program::RTorrent => on_path("rtorrent"),
            Program::Rqbit => by_cargo("rqbit"),
            Program::OpenTracker => on_path("opentracker"),
            Program::Nginx => on_path("nginx"),
            Program::Mktorrent => on_path("mktorrent"),
            Program::Strace => on_path("strace"),
            Program::Valgrind => on_path("valgrind"),
            Program::Nft => on_path("nft"),
            Program::Miniupnpd => on_path("miniupnpd"),
            Program::Danted => on_path("danted"),
            Program::Tinyproxy => on_path("tinyproxy"),
        }
    }
}

/// A script of `lab/interop/peers`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// The folder of the packages of Node.js.
pub(crate) fn node_folder() -> Result<PathBuf> {
    Ok(cache()?.join("node"))
}

/// The binary `shoal`, built by cargo into the folder that this program is in; `SHOAL` names another.
///
/// # Errors
///
/// It is not built.
pub fn shoal() -> Result<PathBuf> {
    if let Some(named) = env::var_os("SHOAL") {
        return Ok(PathBuf::from(named));
    }
    let this = env::current_exe()?;
    // Tests are in a folder below the one that binaries are in.
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("shoal"))
        .find(|path| path.is_file())
        .context("shoal is not built; run: cargo build --package shoal-cli")
}

fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("shoal").join("peers"))
}

/// A program below `folder` of the cache. `install-peers` writes `.pins` when all that belongs to it was installed.
fn installed(folder: &str, program: &str) -> Result<PathBuf> {
    let folder = cache()?.join(folder);
    if folder.join(".pins").is_file() {
        return Ok(folder.join(program));
    }
    bail!(
        "nothing in {}; run lab/interop/install-peers",
        folder.display()
    )
}

/// A program that cargo installed into the cache, or elsewhere.
fn by_cargo(name: &str) -> Result<PathBuf> {
    let path = cache()?.join("cargo").join("bin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    on_path(name).with_context(|| "it is built by: lab/interop/install-peers measured")
}

fn on_path(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Daemons are often where only root looks.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed; run lab/interop/install-peers"))
}

//! Thousands of small torrents with their content on disk, and the sessions that have them all: ours as a node leaves it, and libtorrent's
//! resume data.
//!
//! Invariant: both sessions are of the same torrents over the same files, and were made by the programs that are measured.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use sha1::{Digest, Sha1};
use shoal_interop::{Client, Lab, Process, libtorrent, output_of, shoal};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHash, Metainfo};
use shoal_node::Client as Control;
use shoal_node::message::{Reply, Request, State};
use shoal_store::{Database, NewTorrent, TorrentOptions, Wish};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// One piece of one block.
const FILE_BYTES: usize = 16 * 1024;
/// Time to look at all of them for the first time, and to write everything down at the end.
const MADE_WITHIN: Duration = Duration::from_secs(300);
/// Few, as asking costs a node something; the others are done, or nearly, when these are.
const LAST: u32 = 8;
/// How often a node is asked whether it is ready: each time costs it something.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// See the module.
pub(crate) struct Shelf {
    pub(crate) count: u32,
    pub(crate) hashes: Vec<InfoHash>,
    folder: PathBuf,
    /// The state folder of a node that seeds them all, to be copied.
    state: PathBuf,
    torrents: PathBuf,
    resume: PathBuf,
}

impl Shelf {
    /// Makes torrents, content and sessions.
    pub(crate) fn make(lab: &Lab, count: u32) -> Result<Shelf> {
        let parts = lab.folder("shelf")?;
        let mut shelf = Shelf {
            count,
            hashes: Vec::new(),
            folder: parts.join("content"),
            state: parts.join("state"),
            torrents: parts.join("torrents"),
            resume: parts.join("resume"),
        };
        for folder in [&shelf.folder, &shelf.state] {
            fs::create_dir(folder)?;
        }
        let torrents = shelf.write_content()?;
        let mut packed = File::create(&shelf.torrents)?;
        for torrent in &torrents {
            packed.write_all(&u32::try_from(torrent.len())?.to_le_bytes())?;
            packed.write_all(torrent)?;
            let hashes = Metainfo::parse(torrent, Limits::LOCAL)?.info_hashes();
            shelf.hashes.push(hashes.primary());
        }
        let runtime = runtime()?;
        runtime.block_on(shelf.fill_database(&torrents))?;
        let (mut node, _) = runtime.block_on(shelf.start_node(lab, &shelf.state, lab.address()))?;
        node.signal(Signal::TERM);
        node.wait(MADE_WITHIN)?;
        shelf.make_resume_data(lab)?;
        Ok(shelf)
    }

    /// Writes the files, and gives their torrents.
    fn write_content(&self) -> Result<Vec<Vec<u8>>> {
        let mut rng = fastrand::Rng::with_seed(u64::from(self.count));
        let mut bytes = vec![0; FILE_BYTES];
        let mut torrents = Vec::new();
        for number in 0..self.count {
            let name = format!("{number:05}.bin");
            rng.fill(&mut bytes);
            fs::write(self.folder.join(&name), &bytes)?;
            let info = format!(
                "d6:lengthi{FILE_BYTES}e4:name{}:{name}12:piece lengthi{FILE_BYTES}e6:pieces20:",
                name.len()
            );
            let mut torrent = b"d4:info".to_vec();
            torrent.extend_from_slice(info.as_bytes());
            torrent.extend_from_slice(&Sha1::digest(&bytes));
            torrent.extend_from_slice(b"ee");
            torrents.push(torrent);
        }
        Ok(torrents)
    }

    async fn fill_database(&self, torrents: &[Vec<u8>]) -> Result<()> {
        let database = Database::open(&self.state.join("session.db")).await?;
        let directory = self.folder.canonicalize()?;
        for torrent in torrents {
            let new = NewTorrent {
                info_hashes: Metainfo::parse(torrent, Limits::LOCAL)?.info_hashes(),
                file: Some(torrent.clone()),
                magnet: None,
                directory: directory.clone(),
                wish: Wish::Queued,
                selection: None,
                sequential: false,
                added_at: 1_700_000_000,
                options: TorrentOptions::default(),
            };
            database.add_torrent(&new).await?;
        }
        database.close().await;
        Ok(())
    }

    fn make_resume_data(&self, lab: &Lab) -> Result<()> {
        output_of(&mut self.libtorrent(lab.address(), true)?)?;
        let written = fs::metadata(&self.resume)?.len();
        ensure!(written > 0, "libtorrent wrote no resume data");
        Ok(())
    }

    fn libtorrent(&self, listen: SocketAddr, make: bool) -> Result<std::process::Command> {
        libtorrent::session(&json!({
            "listen": listen.to_string(),
            "torrents": self.torrents,
            "folder": self.folder,
            "resume": self.resume,
            "make": make,
        }))
    }

    /// Starts libtorrent's session. It says when it is ready.
    pub(crate) fn start_libtorrent(&self, lab: &Lab, listen: SocketAddr) -> Result<Process> {
        let name = format!("{}-{}", Client::Libtorrent, self.count);
        Process::start(lab, &name, &mut self.libtorrent(listen, false)?)
    }

    /// A copy of the node's state, as it is left by a node that ended.
    pub(crate) fn copy_state(&self, lab: &Lab) -> Result<PathBuf> {
        let copy = lab.folder("state")?;
        output_of(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(self.state.join("."))
                .arg(&copy),
        )?;
        Ok(copy)
    }

    /// Starts a node in this state folder, and waits until it says that it seeds them all: after so many seconds.
    pub(crate) async fn start_node(
        &self,
        lab: &Lab,
        state: &Path,
        listen: SocketAddr,
    ) -> Result<(Process, f64)> {
        let start = Instant::now();
        let mut node = start_node(lab, &format!("node-{}", self.count), state, listen)?;
        let mut control = connect(&mut node, state).await?;
        // Who is begun last; all others are asked about when these are done, as that costs a node something.
        let last = self.count.saturating_sub(LAST)..self.count;
        let last = last.map(|number| (number + 1).to_string());
        let last = Request::List {
            torrents: last.collect(),
        };
        let last_count = self.count.min(LAST);
        let all = Request::List {
            torrents: Vec::new(),
        };
        while !seed(&mut control, &last, last_count).await?
            || !seed(&mut control, &all, self.count).await?
        {
            ensure!(start.elapsed() < MADE_WITHIN, "not all of them seed");
            sleep(ASK_EVERY).await;
        }
        Ok((node, start.elapsed().as_secs_f64()))
    }
}

/// Starts a node that runs all that it has.
pub(crate) fn start_node(
    lab: &Lab,
    name: &str,
    state: &Path,
    listen: SocketAddr,
) -> Result<Process> {
    let mut command = shoal::command(&["up", "--headless", "--isolated", "--no-dht"])?;
    command.args(["--max-seeds", "all", "--max-downloads", "all"]);
    command.arg("--listen").arg(listen.to_string());
    command.arg("--allow-net").arg(lab.network());
    command.arg("--state-dir").arg(state);
    Process::start(lab, name, &mut command)
}

/// Speaks to a node, as soon as it listens.
pub(crate) async fn connect(node: &mut Process, state: &Path) -> Result<Control> {
    let (start, path) = (Instant::now(), state.join("node.sock"));
    loop {
        match Control::connect(&path).await {
            Ok(control) => return Ok(control),
            Err(error) => {
                let ended = node.ended()?;
                ensure!(ended.is_none(), "the node ended: {}", node.said());
                ensure!(start.elapsed() < MADE_WITHIN, "{error}");
            }
        }
        sleep(ASK_EVERY / 5).await;
    }
}

/// Whether the request shows so many torrents, and all of them seed.
async fn seed(control: &mut Control, request: &Request, count: u32) -> Result<bool> {
    let Reply::Torrents { torrents: shown } = control.ask(request, &[]).await? else {
        anyhow::bail!("the node answers something else");
    };
    let failed = shown.iter().find(|line| line.state == State::Failed);
    if let Some(line) = failed {
        let why = line.message.as_deref().unwrap_or_default();
        anyhow::bail!("{} failed: {why}", line.name);
    }
    let seeding = shown.iter().filter(|line| line.state == State::Seeding);
    Ok(seeding.count() == usize::try_from(count)?)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("there is no event loop")
}

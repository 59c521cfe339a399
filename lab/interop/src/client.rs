//! A client of other people, or ours, with one torrent.

mod aria2;
pub mod libtorrent;
mod qbittorrent;
mod rqbit;
mod rtorrent;
pub mod shoal;
mod transmission;
mod webtorrent;

use crate::lab::Lab;
use crate::matrix::Found;
use crate::process::{Process, eventually};
use crate::program::Program;
use crate::torrent::Kind;
use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// How long a client may take to start and to check what it is to seed.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A client's software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Ours.
    Shoal,
    /// libtorrent 2.1.
    Libtorrent,
    /// qBittorrent 4.5, on libtorrent 2.0.
    QBittorrent,
    /// Transmission 3.00.
    Transmission,
    /// aria2 1.36.
    Aria2,
    /// rTorrent 0.9.8.
    RTorrent,
    /// webtorrent 3, over TCP.
    WebTorrent,
    /// rqbit 9; only measured.
    Rqbit,
}

impl Client {
    /// The program that it needs; ours is built by cargo.
    #[must_use]
    pub const fn program(self) -> Option<Program> {
        match self {
            Client::Shoal => None,
            Client::Libtorrent => Some(Program::Libtorrent),
            Client::QBittorrent => Some(Program::QBittorrent),
            Client::Transmission => Some(Program::Transmission),
            Client::Aria2 => Some(Program::Aria2),
            Client::RTorrent => Some(Program::RTorrent),
            Client::WebTorrent => Some(Program::WebTorrent),
            Client::Rqbit => Some(Program::Rqbit),
        }
    }

    /// Whether it can be told of a peer by address. The others find peers through trackers, or are found.
    #[must_use]
    pub const fn takes_addresses(self) -> bool {
        !matches!(
            self,
            Client::Transmission | Client::Aria2 | Client::RTorrent
        )
    }

    /// Why it cannot have torrents of this kind, where it is known not to.
    #[must_use]
    pub const fn lacks(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (
                Client::Transmission | Client::Aria2 | Client::RTorrent | Client::Rqbit,
                Kind::V2 | Kind::Hybrid,
            ) => Some("the peer knows v1 alone"),
            (Client::WebTorrent, Kind::V2) => Some("the peer knows v1, and hybrids as v1"),
            _ => None,
        }
    }

    /// Why it cannot speak over uTP, where it is known not to.
    #[must_use]
    pub const fn lacks_utp(self) -> Option<&'static str> {
        match self {
            Client::Aria2 | Client::RTorrent | Client::Rqbit => Some("the peer has no uTP"),
            Client::WebTorrent => {
                Some("the peer has uTP only with native code that is not installed")
            }
            _ => None,
        }
    }

    /// Why it cannot find or be found like this, where it is known not to.
    #[must_use]
    pub const fn lacks_way(self, found: Found) -> Option<&'static str> {
        match (self, found) {
            (Client::RTorrent | Client::WebTorrent | Client::Rqbit, Found::Locally) => {
                Some("the peer has no local service discovery")
            }
            (Client::RTorrent | Client::Rqbit, Found::OnTheWeb) => {
                Some("the peer has no web seeds")
            }
            (Client::QBittorrent, Found::ByDht) => Some("the peer's DHT contacts cannot be set"),
            // Transmission 3.00 neither announces nor finds anybody in 90 seconds, and asks its own routers after a minute.
            (Client::Transmission, Found::ByDht) => {
                Some("the peer does not begin with a single DHT contact")
            }
            _ => None,
        }
    }

    /// Starts it. A seed is ready when this returns.
    ///
    /// # Errors
    ///
    /// It does not start, or cannot do what the job asks.
    pub fn start(self, lab: &Lab, job: &Job<'_>) -> Result<Running> {
        if !job.connect.is_empty() && !self.takes_addresses() {
            bail!("{self} cannot be told of peers by address");
        }
        let mut running = match self {
            Client::Shoal => shoal::start(lab, job),
            Client::Libtorrent => libtorrent::start(lab, job),
            Client::QBittorrent => qbittorrent::start(lab, job),
            Client::Transmission => transmission::start(lab, job),
            Client::Aria2 => aria2::start(lab, job),
            Client::RTorrent => rtorrent::start(lab, job),
            Client::WebTorrent => webtorrent::start(lab, job),
            Client::Rqbit => rqbit::start(lab, job),
        }?;
        if job.role == Role::Seed {
            running.wait("be ready to seed", READY_WITHIN)?;
        }
        Ok(running)
    }

    /// A name for logs and folders.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Client::Shoal => "shoal",
            Client::Libtorrent => "libtorrent",
            Client::QBittorrent => "qbittorrent",
            Client::Transmission => "transmission",
            Client::Aria2 => "aria2",
            Client::RTorrent => "rtorrent",
            Client::WebTorrent => "webtorrent",
            Client::Rqbit => "rqbit",
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a client is to do with its one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has everything, and serves it until it is stopped.
    Seed,
    /// It has nothing, and fetches everything.
    Leech,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Seed => "seed",
            Role::Leech => "leech",
        }
    }
}

/// How a client is to begin its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// As it does unless told otherwise.
    #[default]
    Usual,
    /// In the clear alone.
    Clear,
    /// Encrypted alone, payload included.
    Encrypted,
}

impl Speech {
    /// One of three words, in this order.
    const fn word(
        self,
        usual: &'static str,
        clear: &'static str,
        encrypted: &'static str,
    ) -> &'static str {
        match self {
            Speech::Usual => usual,
            Speech::Clear => clear,
            Speech::Encrypted => encrypted,
        }
    }
}

/// The whole order to a client.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What to do.
    pub role: Role,
    /// The .torrent file.
    pub torrent: &'a Path,
    /// The magnet link, where that is all that it is told.
    pub magnet: Option<&'a str>,
    /// The folder that the torrent's top-level name is or will be in.
    pub folder: &'a Path,
    /// Where to listen.
    pub address: SocketAddr,
    /// Peers that it is told of.
    pub connect: &'a [SocketAddr],
    /// Whether it looks for peers on the local network.
    pub local: bool,
    /// The most it may send, in bytes a second; only libtorrent and we are asked.
    pub upload_limit: Option<u64>,
    /// How it begins its connections, in and out.
    pub speech: Speech,
    /// Whether it speaks to peers over uTP alone: Transmission cannot be told to do without TCP, so that its other side has to.
    /// Otherwise all speak over TCP alone, but for us, who have both.
    pub utp: bool,
    /// Whether it tells peers of others and believes them (BEP 11). Where that is not said, others do, and ours keeps to who was named.
    pub exchange: Option<bool>,
    /// A DHT contact to begin with; without one it has no DHT.
    pub router: Option<SocketAddr>,
    /// The most it may receive, in bytes a second.
    pub download_limit: Option<u64>,
    /// Whether it is to be measured: a seed takes what it has for right where it can be told to, and libtorrent, which is a
    /// script here, ends when it is complete and hears of no peers but by us.
    pub measured: bool,
}

impl<'a> Job<'a> {
    /// To seed what is in `folder`.
    #[must_use]
    pub fn seed(torrent: &'a Path, folder: &'a Path, address: SocketAddr) -> Job<'a> {
        Job {
            role: Role::Seed,
            torrent,
            magnet: None,
            folder,
            address,
            connect: &[],
            local: false,
            upload_limit: None,
            speech: Speech::Usual,
            utp: false,
            exchange: None,
            router: None,
            download_limit: None,
            measured: false,
        }
    }

    /// To fetch everything into `folder`.
    #[must_use]
    pub fn leech(torrent: &'a Path, folder: &'a Path, address: SocketAddr) -> Job<'a> {
        Job {
            role: Role::Leech,
            ..Job::seed(torrent, folder, address)
        }
    }

    /// The same, told of these peers.
    #[must_use]
    pub fn with(self, connect: &'a [SocketAddr]) -> Job<'a> {
        Job { connect, ..self }
    }

    /// What a command line says: the link, or where the file is.
    #[must_use]
    pub fn source(&self) -> &'a OsStr {
        self.magnet.map_or(self.torrent.as_os_str(), OsStr::new)
    }

    /// The same, sending no more than this.
    #[must_use]
    pub fn at_most(self, bytes_per_s: u64) -> Job<'a> {
        Job {
            upload_limit: Some(bytes_per_s),
            ..self
        }
    }

    /// The same, to be measured.
    #[must_use]
    pub fn measured(self) -> Job<'a> {
        Job {
            measured: true,
            ..self
        }
    }

    /// A name for the log and the private folder of the client that does this.
    fn name(&self, client: Client) -> String {
        let port = self.address.port();
        format!("{client}-{}-{port}", self.role.name())
    }
}

/// Whether a client has reached what its role asks: complete as a leech, ready as a seed.
type Reached = Box<dyn FnMut(&mut Process) -> Result<bool>>;

/// A client that runs, until it is stopped or dropped.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
    client: Client,
    reached: Reached,
}

impl Running {
    fn new(client: Client, job: &Job<'_>, process: Process, reached: Reached) -> Running {
        Running {
            address: job.address,
            process,
            client,
            reached,
        }
    }

    /// Waits until it has everything.
    ///
    /// # Errors
    ///
    /// It does not in time, or it ended or failed before.
    pub fn wait_complete(&mut self, within: Duration) -> Result<()> {
        self.wait("complete", within)
    }

    /// Whether it has everything, and said so.
    ///
    /// # Errors
    ///
    /// It ended or failed before.
    pub fn is_complete(&mut self) -> Result<bool> {
        if (self.reached)(&mut self.process)? {
            return Ok(true);
        }
        match self.process.ended()? {
            // What it said last may be what was waited for.
            Some(_) if (self.reached)(&mut self.process)? => Ok(true),
            Some(status) => bail!("{} ended: {status}", self.client),
            None => Ok(false),
        }
    }

    fn wait(&mut self, what: &str, within: Duration) -> Result<()> {
        let what = format!("{} to {what}", self.client);
        eventually(within, &what, || self.is_complete())
    }

    /// Asks it to leave, and waits for that.
    pub fn stop(self) {
        self.process.stop();
    }
}

/// Whether a program printed this text.
fn has_said(text: &'static str) -> Reached {
    Box::new(move |process| Ok(process.said().contains(text)))
}

/// Whether somebody accepts connections there.
fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

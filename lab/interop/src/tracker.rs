//! Third-party trackers.

use crate::http;
use crate::lab::{Lab, make_public};
use crate::process::{Process, eventually};
use crate::program::{Program, node_folder, script};
use crate::torrent::swarms_of;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a tracker may take to start.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A tracker's software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerKind {
    /// opentracker; Debian's serves only hashes that are on its list.
    OpenTracker,
    /// bittorrent-tracker of the WebTorrent project, which says who announces what.
    BittorrentTracker,
}

impl TrackerKind {
    /// The program that it needs.
    #[must_use]
    pub const fn program(self) -> Program {
        match self {
            TrackerKind::OpenTracker => Program::OpenTracker,
            TrackerKind::BittorrentTracker => Program::BittorrentTracker,
        }
    }
}

impl fmt::Display for TrackerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrackerKind::OpenTracker => "opentracker",
            TrackerKind::BittorrentTracker => "bittorrent-tracker",
        })
    }
}

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// BEP 3.
    Http,
    /// BEP 15.
    Udp,
}

impl Protocol {
    /// The announce URL of a tracker at this address.
    #[must_use]
    pub fn url(self, address: SocketAddr) -> String {
        match self {
            Protocol::Http => format!("http://{address}/announce"),
            Protocol::Udp => format!("udp://{address}/announce"),
        }
    }
}

/// An announce that a bittorrent-tracker saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `start`, `complete`, `stop` or `update`.
    pub event: String,
    /// Address and port of the peer.
    pub peer: String,
    /// Bytes that it has left, where it says so.
    pub left: Option<u64>,
}

/// A tracker that runs.
pub struct Tracker {
    process: Process,
}

impl Tracker {
    /// Starts a tracker at this address, on TCP and UDP, that serves these torrents. They may name the tracker, so the address is
    /// the caller's.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(
        lab: &Lab,
        kind: TrackerKind,
        address: SocketAddr,
        torrents: &[&Path],
    ) -> Result<Tracker> {
        let process = match kind {
            TrackerKind::OpenTracker => start_opentracker(lab, address, torrents)?,
            TrackerKind::BittorrentTracker => start_bittorrent_tracker(lab, address)?,
        };
        eventually(START_WITHIN, &format!("{kind} to answer"), || {
            Ok(http::get(address, "/stats").is_ok())
        })?;
        Ok(Tracker { process })
    }

    /// The announces with an event so far, of a bittorrent-tracker.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let said = self.process.said();
        said.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter_map(|line: Value| {
                Some(Seen {
                    event: line["event"].as_str()?.to_owned(),
                    peer: line["address"].as_str()?.to_owned(),
                    left: line["left"].as_u64(),
                })
            })
            .collect()
    }

    /// Waits until this peer made an announce with this event.
    ///
    /// # Errors
    ///
    /// It does not come in time.
    pub fn wait_seen(&self, event: &str, peer: SocketAddr, within: Duration) -> Result<Seen> {
        let what = format!("{peer} to announce {event}");
        let peer = peer.to_string();
        let mut found = None;
        eventually(within, &what, || {
            let mut seen = self.seen().into_iter();
            found = seen.find(|seen| seen.event == event && seen.peer == peer);
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| anyhow::anyhow!("{what} was seen"))
    }
}

fn start_opentracker(lab: &Lab, address: SocketAddr, torrents: &[&Path]) -> Result<Process> {
    let root = lab.folder(&format!("opentracker-{}", address.port()))?;
    make_public(&root)?;
    let mut allowed = String::new();
    for torrent in torrents {
        for hash in swarms_of(torrent)? {
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            allowed += &hex;
            allowed.push('\n');
        }
    }
    fs::write(root.join("allowed"), allowed)?;
    let port = address.port().to_string();
    let mut command = Command::new(Program::OpenTracker.find()?);
    command.arg("-i").arg(address.ip().to_string());
    command.args(["-p", &port, "-P", &port]);
    // As root it makes `root` its root folder, so the list is named from there.
    command.arg("-d").arg(&root).args(["-w", "allowed"]);
    Process::start(lab, "opentracker", &mut command)
}

fn start_bittorrent_tracker(lab: &Lab, address: SocketAddr) -> Result<Process> {
    let order = json!({
        "address": address.ip().to_string(),
        "port": address.port(),
        "modules": node_folder()?.join("node_modules"),
    });
    let mut command = Command::new(Program::BittorrentTracker.find()?);
    command.arg(script("tracker.mjs")).arg(order.to_string());
    Process::start(lab, "bittorrent-tracker", &mut command)
}

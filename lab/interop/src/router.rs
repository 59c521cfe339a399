//! A DHT contact of others to begin with: libtorrent's, without a torrent.

use crate::lab::Lab;
use crate::process::{Process, eventually};
use crate::program::{Program, script};
use anyhow::Result;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const START_WITHIN: Duration = Duration::from_secs(10);

/// A contact that runs.
pub struct Router {
    address: SocketAddr,
    process: Process,
}

impl Router {
    /// Starts one at this address.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(lab: &Lab, address: SocketAddr) -> Result<Router> {
        let mut command = Command::new(Program::Libtorrent.find()?);
        command
            .arg(script("dht_router.py"))
            .arg(address.to_string());
        let process = Process::start(lab, "dht-router", &mut command)?;
        let router = Router { address, process };
        eventually(START_WITHIN, "the DHT router to be ready", || {
            Ok(router.process.said().contains("ready"))
        })?;
        Ok(router)
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a peer has announced a torrent to it.
    ///
    /// # Errors
    ///
    /// None does in time.
    pub fn wait_announced(&self, within: Duration) -> Result<()> {
        eventually(within, "a peer to announce itself to the DHT", || {
            Ok(self.process.said().contains("announced"))
        })
    }
}

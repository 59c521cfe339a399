//! A third-party contact of the DHT, where clients begin.

use crate::lab::Lab;
use crate::process::{Process, eventually};
use crate::program::{Program, script};
use crate::torrent::swarms_of;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long it may take to start.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A contact that runs: libtorrent without a torrent.
pub struct DhtContact {
    /// Where it is.
    pub address: SocketAddr,
    process: Process,
}

impl DhtContact {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(lab: &Lab) -> Result<DhtContact> {
        let address = lab.address();
        let mut command = Command::new(Program::Libtorrent.find()?);
        command.arg(script("libtorrent_dht.py"));
        command.arg(address.to_string());
        let name = format!("dht-contact-{}", address.port());
        let process = Process::start(lab, &name, &mut command)?;
        eventually(START_WITHIN, "the contact of the DHT to listen", || {
            Ok(process.said().contains(r#"{"event": "ready"}"#))
        })?;
        Ok(DhtContact { address, process })
    }

    /// Waits until somebody has announced a name of the torrent. Of a hybrid one, some clients announce one.
    ///
    /// # Errors
    ///
    /// Nobody does in time.
    pub fn wait_announced(&self, torrent: &Path, within: Duration) -> Result<()> {
        let in_hexadecimal =
            |hash: &[u8; 20]| -> String { hash.iter().map(|byte| format!("{byte:02x}")).collect() };
        let names: Vec<String> = swarms_of(torrent)?.iter().map(in_hexadecimal).collect();
        eventually(within, "the torrent to be announced in the DHT", || {
            let said = self.process.said();
            Ok(names.iter().any(|name| said.contains(name)))
        })
    }
}

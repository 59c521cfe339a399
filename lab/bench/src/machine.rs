//! The machine that measures, in a few words, and the versions of what is measured.

use serde::{Deserialize, Serialize};
use shoal_interop::{Client, output_of, shoal_binary};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many cores the system offers.
    pub cores: u64,
    /// The system's name and version.
    pub kernel: String,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// What each client says its version is.
    pub versions: BTreeMap<String, String>,
    /// When the section ended, in seconds since 1970.
    pub measured_unix_s: u64,
    /// How many processes wanted to run in the minute before the section began: beside 0, something else ran.
    pub load_before: f64,
}

impl Machine {
    /// This one, with the versions of these clients.
    pub(crate) fn describe(clients: &[Client]) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let load = read("/proc/loadavg");
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            memory_gib: memory_kib.div_ceil(1 << 20),
            versions: clients
                .iter()
                .map(|client| (client.name().to_owned(), version(*client)))
                .collect(),
            measured_unix_s: 0,
            load_before: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// The same, at the end of its section.
    pub(crate) fn stamped(self) -> Machine {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Machine {
            measured_unix_s: now.map_or(0, |now| now.as_secs()),
            ..self
        }
    }
}

/// The first line with a digit of what a client says about itself.
fn version(client: Client) -> String {
    let Ok(binary) = client
        .program()
        .map_or_else(shoal_binary, |program| program.find())
    else {
        return "not installed".to_owned();
    };
    let mut command = Command::new(binary);
    match client {
        Client::Libtorrent => {
            command.args(["-c", "import libtorrent; print(libtorrent.__version__)"])
        }
        Client::RTorrent => command.arg("-h"),
        _ => command.arg("--version"),
    };
    // Some say it on the other stream, or end with an error.
    let said = match output_of(&mut command) {
        Ok(said) if !said.trim().is_empty() => said,
        Ok(_) => command
            .output()
            .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
            .unwrap_or_default(),
        Err(error) => error.to_string().replace("ended with exit", ""),
    };
    let version = said
        .split_whitespace()
        .map(|word| {
            word.trim_start_matches('v')
                .trim_end_matches(['.', ',', ':'])
        })
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or("unknown").to_owned()
}

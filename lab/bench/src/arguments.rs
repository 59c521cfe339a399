//! The command line.

use clap::{Parser, ValueEnum};
use shoal_interop::Client;
use std::path::PathBuf;

/// Measures Shoal against the engines of the field
///
/// Runs are interleaved, every downloaded file is compared with its source by SHA-256, and nothing leaves the machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "shoal-bench", version, max_term_width = 100)]
pub struct Arguments {
    /// What to measure; `page` measures nothing and draws the plots and the page again
    #[arg(required = true, value_enum)]
    pub what: Vec<What>,
    /// How much is transferred in one run, such as 512MiB or 2GiB
    #[arg(long, value_parser = parse_size, default_value = "2GiB")]
    pub size: u64,
    /// How often each run is repeated
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// How long the soak lasts, such as 60
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(5..=600))]
    pub minutes: u64,
    /// Small sizes and one round, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// The clients beside Shoal to measure, by default all that are installed
    #[arg(long, value_delimiter = ',', value_parser = parse_client)]
    pub clients: Vec<Client>,
    /// Where files go: a folder in memory, with room for five times the size
    #[arg(long, default_value = "/dev/shm")]
    pub dir: PathBuf,
    /// What the simulator's `distribution --json` printed, instead of running it for hours
    #[arg(long, value_delimiter = ',')]
    pub simulated: Vec<PathBuf>,
    /// The folder `docs`: results are merged into performance/results.json there, and plots and page are drawn again
    #[arg(long)]
    pub docs: Option<PathBuf>,
    /// A file to write the results of this run to
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A scenario, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// One seed to one leech, of all clients
    Pairs,
    /// One seed to four leeches
    FanOut,
    /// Four seeds to one leech
    FanIn,
    /// A v2 torrent beside a v1 torrent
    V2,
    /// One seed to one leech, encrypted
    Rc4,
    /// One seed to one leech over uTP, beside TCP
    Utp,
    /// `create` and `check` of files in memory
    Hashing,
    /// 100,000 files of 16 KiB
    SmallFiles,
    /// Memory for each of 500 peers
    ManyPeers,
    /// 10,000 torrents that nobody asks for
    ManyTorrents,
    /// 1,000 torrents that come and go
    Soak,
    /// A disk that takes 20 MB/s
    SlowDisk,
    /// Instructions of the piece picker
    Picker,
    /// Distribution of a torrent in simulation
    Distribution,
    /// Everything
    All,
    /// The plots and the page, from the results that are there
    Page,
}

impl Arguments {
    /// The scenarios in the order of their definition, each once.
    #[must_use]
    pub fn scenarios(&self) -> Vec<What> {
        let all = self.what.contains(&What::All);
        What::value_variants()
            .iter()
            .copied()
            .filter(|what| !matches!(what, What::All | What::Page))
            .filter(|what| all || self.what.contains(what))
            .collect()
    }

    /// How much one run transfers.
    #[must_use]
    pub fn size(&self) -> u64 {
        if self.quick {
            self.size.min(256 << 20)
        } else {
            self.size
        }
    }

    /// How often each run is repeated.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

/// A number with one of the units KiB, MiB and GiB, or of bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write a size like 2GiB")?;
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        unit => return Err(format!("{unit} is no unit; write a size like 2GiB")),
    };
    match number.checked_mul(1 << shift) {
        Some(bytes @ 1_048_576..=68_719_476_736) => Ok(bytes),
        _ => Err("a size is at least 1MiB and at most 64GiB".to_owned()),
    }
}

fn parse_client(text: &str) -> Result<Client, String> {
    let mut clients = crate::scenario::CLIENTS.into_iter();
    let found = clients.find(|client| client.name() == text);
    found.ok_or_else(|| format!("no client is called {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("1048576"), Ok(1 << 20));
        for wrong in [
            "",
            "GiB",
            "1",
            "2GB",
            "65GiB",
            "99999999999999999999",
            "-1M",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scenarios_are_named_once_and_in_order() {
        let read = |line: &str| Arguments::parse_from(line.split(' ')).scenarios();
        assert_eq!(read("bench v2 pairs v2"), [What::Pairs, What::V2]);
        assert_eq!(read("bench page"), []);
        assert_eq!(read("bench all page v2").len(), 14);
    }
}

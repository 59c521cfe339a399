//! One measured transfer: seeds that have everything, leeches that fetch it, and what that took.
//!
//! The clock starts when the first leech is started, and stops when the last one has everything on the disk and says so: by
//! its end, or by its interface. CPU time of a leech counts from its start, that of a seed from the start of the leeches.
//!
//! Invariant: figures are given only where every leech has every file as it was sent, by SHA-256.

use crate::figures::Metric;
use crate::usage::{cpu_s, loopback_bytes, peak_rss_bytes};
use anyhow::{Context, Result, bail};
use shoal_interop::{
    Client, Content, Job, Kind, Lab, Maker, Protocol, Recipe, Running, Speech, Tracker, TrackerKind,
};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of all torrents here.
const PIECE_BYTES: u32 = 1 << 20;
/// How often processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often a client is asked whether it is complete, where that costs it something.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Payload has begun when this part of the content was moved: more than clients say to each other before the first block, and to
/// us where they are asked for half a minute whether they are complete.
const PAYLOAD_BEGAN_PART: u64 = 256;
/// Time for seeds to come to rest.
const REST: Duration = Duration::from_millis(500);
/// The slowest client begins after half a minute, and checks 2 GiB before that.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(60);
const TOUCHED_AT_ONCE: usize = 1 << 20;
/// What is slower than this is broken.
const LEAST_BYTES_PER_S: u64 = 5_000_000;
const LONGEST_START: Duration = Duration::from_secs(60);

pub(crate) const GIB: f64 = (1u64 << 30) as f64;
pub(crate) const MIB: f64 = (1u64 << 20) as f64;

/// What is moved.
pub(crate) struct Goods {
    pub(crate) content: Content,
    pub(crate) bytes: u64,
    /// Without a tracker.
    pub(crate) torrent: PathBuf,
    /// The same with a tracker, for those who find peers by no other means.
    tracked: PathBuf,
    tracker: SocketAddr,
}

impl Goods {
    /// Makes the torrents of a content.
    pub(crate) fn new(lab: &Lab, content: Content, bytes: u64, kind: Kind) -> Result<Goods> {
        let folder = lab.folder("torrents")?;
        let torrent = folder.join("plain.torrent");
        let tracked = folder.join("tracked.torrent");
        let tracker = lab.address();
        let recipe = Recipe::new(kind).pieces(PIECE_BYTES);
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let recipe = recipe.tracker(&Protocol::Http.url(tracker));
        recipe.make(Maker::Shoal, &content, &tracked)?;
        Ok(Goods {
            content,
            bytes,
            torrent,
            tracked,
            tracker,
        })
    }
}

/// Who moves it.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) goods: &'a Goods,
    pub(crate) seeds: &'a [Client],
    pub(crate) leeches: &'a [Client],
    /// Where the leeches' folders are made, if not beside everything else.
    pub(crate) target: Option<&'a Path>,
    /// How everybody begins connections.
    pub(crate) speech: Speech,
    /// Whether everybody speaks over uTP alone.
    pub(crate) utp: bool,
}

impl Plan<'_> {
    /// The job as everybody here does it.
    fn measured<'a>(&self, job: Job<'a>) -> Job<'a> {
        Job {
            speech: self.speech,
            utp: self.utp,
            ..job.measured()
        }
    }
}

/// What it took.
#[derive(Debug)]
pub(crate) struct Measured {
    wall_s: f64,
    /// From the first payload on.
    transfer_s: f64,
    seed_cpu_s: f64,
    leech_cpu_s: f64,
    leech_peak_rss_bytes: u64,
    delivered_bytes: f64,
    /// What the leeches printed.
    pub(crate) said: Vec<String>,
}

impl Measured {
    /// As figures.
    pub(crate) fn figures(&self) -> Vec<(Metric, f64)> {
        let gib = self.delivered_bytes / GIB;
        let megabytes = self.delivered_bytes / 1e6;
        let rss = self.leech_peak_rss_bytes as f64 / MIB;
        vec![
            (Metric::ThroughputMbPerS, megabytes / self.wall_s),
            (Metric::TransferMbPerS, megabytes / self.transfer_s),
            (Metric::WallS, self.wall_s),
            (Metric::SeedCpuSPerGib, self.seed_cpu_s / gib),
            (Metric::LeechCpuSPerGib, self.leech_cpu_s / gib),
            (
                Metric::TotalCpuSPerGib,
                (self.seed_cpu_s + self.leech_cpu_s) / gib,
            ),
            (Metric::LeechPeakRssMib, rss),
        ]
    }
}

/// Runs the transfer in a room of its own. Where it fails, the logs of all are shown.
///
/// # Errors
///
/// A client does not do what it should, in time, or what arrived is not what was sent.
pub(crate) fn measure(lab: &Lab, plan: Plan<'_>) -> Result<Measured> {
    let lab = lab.another()?;
    let measured = transfer(&lab, plan);
    if measured.is_err() {
        lab.show_logs();
    }
    measured
}

/// Writes so much into the folder in memory, and gives it back: a virtual machine gets memory from its host when it first writes to
/// it, the host takes back what is free, and whoever is measured would be measured waiting for that.
pub(crate) fn touch_memory(lab: &Lab, bytes: u64) -> Result<()> {
    let path = lab.path("touched");
    let (mut file, zeros) = (File::create(&path)?, vec![0; TOUCHED_AT_ONCE]);
    for _ in 0..bytes / TOUCHED_AT_ONCE as u64 {
        // A folder that is too small for this may be large enough for what was asked for.
        if file.write_all(&zeros).is_err() {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(())
}

fn transfer(lab: &Lab, plan: Plan<'_>) -> Result<Measured> {
    let goods = plan.goods;
    let by_tracker = |client: &&Client| !client.takes_addresses();
    let everyone = plan.seeds.iter().chain(plan.leeches);
    let (torrent, tracker) = match everyone.clone().any(|client| by_tracker(&client)) {
        true => {
            let kind = TrackerKind::OpenTracker;
            let tracker = Tracker::start(lab, kind, goods.tracker, &[&goods.tracked])?;
            (&goods.tracked, Some(tracker))
        }
        false => (&goods.torrent, None),
    };
    let seeds = start_seeds(lab, plan, torrent)?;
    if let Some(tracker) = &tracker {
        tracker.wait_seed(torrent, ANNOUNCED_WITHIN)?;
    }
    thread::sleep(REST);

    let addresses: Vec<SocketAddr> = seeds.iter().map(|seed| seed.address).collect();
    let folders = target_folders(lab, plan)?;
    let seed_cpu = |seeds: &[Running]| -> Result<f64> {
        seeds.iter().map(|seed| cpu_s(seed.process.id())).sum()
    };
    touch_memory(lab, goods.bytes * plan.leeches.len() as u64)?;
    let cpu_before = seed_cpu(&seeds)?;
    let mut watch = Watch::start(goods.bytes * plan.leeches.len() as u64)?;
    let mut leeches = Vec::new();
    for (&client, folder) in plan.leeches.iter().zip(&folders) {
        let mut job = plan.measured(Job::leech(torrent, folder, lab.address()));
        if client.takes_addresses() {
            job = job.with(&addresses);
        }
        leeches.push(Leech::new(client, client.start(lab, &job)?));
    }
    watch.until_complete(&mut leeches)?;
    let seed_cpu_s = seed_cpu(&seeds)? - cpu_before;
    let wall_s = leeches.iter().filter_map(|leech| leech.complete_s);
    let wall_s = wall_s.fold(0.0, f64::max);
    let measured = Measured {
        wall_s,
        transfer_s: wall_s - watch.payload_began_s.context("nothing was transferred")?,
        seed_cpu_s,
        leech_cpu_s: leeches.iter().map(|leech| leech.cpu_s).sum(),
        leech_peak_rss_bytes: leeches.iter().map(|leech| leech.peak).max().unwrap_or(0),
        delivered_bytes: goods.bytes as f64 * leeches.len() as f64,
        said: leeches
            .iter()
            .map(|leech| leech.running.process.said())
            .collect(),
    };
    for leech in leeches {
        leech.running.stop();
    }
    for seed in seeds {
        seed.stop();
    }
    for folder in &folders {
        goods.content.check(folder)?;
        fs::remove_dir_all(folder)?;
    }
    Ok(measured)
}

fn start_seeds(lab: &Lab, plan: Plan<'_>, torrent: &Path) -> Result<Vec<Running>> {
    let mut seeds = Vec::new();
    for &client in plan.seeds {
        let folder = match plan.seeds.len() {
            1 => plan.goods.content.parent.clone(),
            _ => linked(lab, &plan.goods.content)?,
        };
        let job = plan.measured(Job::seed(torrent, &folder, lab.address()));
        seeds.push(client.start(lab, &job)?);
    }
    Ok(seeds)
}

/// A folder with the same file under another name: two seeds of one client must not share a folder.
fn linked(lab: &Lab, content: &Content) -> Result<PathBuf> {
    let folder = lab.folder("linked")?;
    fs::hard_link(content.path(), folder.join(&content.name))
        .context("several seeds can only have a single file")?;
    Ok(folder)
}

fn target_folders(lab: &Lab, plan: Plan<'_>) -> Result<Vec<PathBuf>> {
    let folder = |number: usize| match plan.target {
        None => lab.folder("target"),
        Some(parent) => {
            let folder = parent.join(format!("target-{number}"));
            fs::create_dir(&folder)?;
            Ok(folder)
        }
    };
    (0..plan.leeches.len()).map(folder).collect()
}

/// A leech that runs, and what it used so far.
struct Leech {
    running: Running,
    ask_every: Duration,
    asked: Instant,
    cpu_s: f64,
    peak: u64,
    complete_s: Option<f64>,
}

impl Leech {
    fn new(client: Client, running: Running) -> Leech {
        let over_http = matches!(client, Client::QBittorrent | Client::Transmission);
        Leech {
            running,
            ask_every: if over_http { ASK_EVERY } else { LOOK_EVERY },
            asked: Instant::now(),
            cpu_s: 0.0,
            peak: 0,
            complete_s: None,
        }
    }

    /// Takes note of what it has used. One that has ended can be asked until somebody waits for it, as asking whether it is
    /// complete does.
    fn look(&mut self, since: Instant) -> Result<()> {
        let pid = self.running.process.id();
        self.cpu_s = cpu_s(pid)?;
        self.peak = self.peak.max(peak_rss_bytes(pid).unwrap_or(0));
        if self.asked.elapsed() >= self.ask_every {
            self.asked = Instant::now();
            if self.running.is_complete()? {
                self.complete_s = Some(since.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }
}

/// The clock of one transfer.
struct Watch {
    since: Instant,
    within: Duration,
    /// What the loopback interface has counted when payload has begun.
    payload_begins_at: u64,
    payload_began_s: Option<f64>,
}

impl Watch {
    fn start(bytes: u64) -> Result<Watch> {
        Ok(Watch {
            payload_begins_at: loopback_bytes()? + bytes / PAYLOAD_BEGAN_PART,
            within: LONGEST_START + Duration::from_secs(bytes / LEAST_BYTES_PER_S),
            since: Instant::now(),
            payload_began_s: None,
        })
    }

    fn until_complete(&mut self, leeches: &mut [Leech]) -> Result<()> {
        while self.since.elapsed() < self.within {
            for leech in leeches.iter_mut() {
                if leech.complete_s.is_none() {
                    leech.look(self.since)?;
                }
            }
            if self.payload_began_s.is_none() && loopback_bytes()? > self.payload_begins_at {
                self.payload_began_s = Some(self.since.elapsed().as_secs_f64());
            }
            if leeches.iter().all(|leech| leech.complete_s.is_some()) {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!("not complete after {} s", self.within.as_secs())
    }
}

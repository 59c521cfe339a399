//! Memory that a seed needs for each of five hundred peers: connected and interested, and while they fetch slowly.

use super::Run;
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::load::{Swarm, Tally, start_peer};
use crate::report;
use crate::usage::rss_bytes;
use anyhow::{Context, Result, ensure};
use shoal_interop::{Content, Kind, Lab, Maker, Process, Recipe, Shape, eventually, swarms_of};
use shoal_metainfo::InfoHash;
use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const PEERS: u64 = 500;
/// A home has a few addresses, and the seed counts connections of one.
const ADDRESSES: usize = 50;
const CONTENT_BYTES: u64 = 64 << 20;
/// Of one block, so that there are many.
const PIECE_BYTES: u32 = 16 * 1024;
const READY_WITHIN: Duration = Duration::from_secs(20);
/// For queues to drain and timers to begin.
const REST: Duration = Duration::from_secs(3);
/// Two rounds of choking.
const FETCH_FOR: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let settings = format!("{PEERS} peers, each interested and with half of 4,096 pieces");
    let mut section = run.section(What::ManyPeers, settings);
    let folder = run.lab.folder("source")?;
    let content = Content::generate(&folder, "content.bin", Shape::File(CONTENT_BYTES), 3)?;
    let torrent = run.lab.path("small-pieces.torrent");
    let recipe = Recipe::new(Kind::V1).pieces(PIECE_BYTES);
    recipe.make(Maker::Shoal, &content, &torrent)?;
    for round in run.rounds() {
        for (name, figures) in measure(&run.lab.another()?, &torrent, &folder)? {
            report::round(round, name, &figures);
            section.add(name, &figures);
        }
    }
    Ok(section)
}

type Figures = Vec<(Metric, f64)>;

fn measure(lab: &Lab, torrent: &Path, folder: &Path) -> Result<[(&'static str, Figures); 2]> {
    let addresses: Vec<SocketAddr> = (0..=ADDRESSES).map(|_| lab.address()).collect();
    let program = env::current_exe()?.with_file_name("engine-seed");
    ensure!(
        program.is_file(),
        "engine-seed is not built; run: cargo build --release --package shoal-bench"
    );
    let mut command = Command::new(program);
    command
        .arg(torrent)
        .arg(folder)
        .arg(addresses[0].to_string());
    let seed = Process::start(lab, "engine-seed", &mut command)?;
    eventually(READY_WITHIN, "the seed to be ready", || {
        Ok(seed.said().contains("ready"))
    })?;
    let hashes = swarms_of(torrent)?;
    let swarm = Swarm {
        seed: addresses[0],
        info_hash: InfoHash(*hashes.first().context("a torrent has a hash")?),
        piece_count: u32::try_from(CONTENT_BYTES / u64::from(PIECE_BYTES))?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(crowd(swarm, &addresses[1..], seed.id()));
    seed.stop();
    measured
}

async fn crowd(
    swarm: Swarm,
    from: &[SocketAddr],
    pid: u32,
) -> Result<[(&'static str, Figures); 2]> {
    let rss = || rss_bytes(pid).context("the seed ended");
    sleep(REST).await;
    let alone = rss()?;
    let tally = Arc::new(Tally::default());
    let (fetch, fetching) = watch::channel(false);
    for (number, from) in (0..PEERS).zip(from.iter().cycle()) {
        start_peer(
            swarm,
            from.ip(),
            number,
            fetching.clone(),
            Arc::clone(&tally),
        )
        .await?;
    }
    sleep(REST).await;
    let connected = tally.connected.load(Ordering::Relaxed);
    ensure!(
        connected == PEERS,
        "only {connected} of {PEERS} peers are connected"
    );
    let idle = rss()?;

    fetch.send(true)?;
    let (start, mut most) = (Instant::now(), idle);
    while start.elapsed() < FETCH_FOR {
        sleep(LOOK_EVERY).await;
        most = most.max(rss()?);
    }
    let blocks = tally.blocks.load(Ordering::Relaxed);
    ensure!(blocks > 0, "nobody was served");
    let lost = tally.lost.load(Ordering::Relaxed) as f64;
    let each = |rss: u64| rss.saturating_sub(alone) as f64 / 1024.0 / PEERS as f64;
    Ok([
        ("idle", vec![(Metric::KibPerPeer, each(idle))]),
        (
            "fetching",
            vec![(Metric::KibPerPeer, each(most)), (Metric::LostPeers, lost)],
        ),
    ])
}

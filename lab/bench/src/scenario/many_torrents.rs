//! Ten thousand torrents that are seeded and that nobody asks for: how long a session takes to start, and what it costs to have it. Then
//! fifty of them are asked for, beside a session that has these fifty alone.

use super::Run;
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::load::{Swarm, Tally, start_peer};
use crate::report;
use crate::shelf::{self, Shelf, runtime};
use crate::transfer::MIB;
use crate::usage::{Held, rss_bytes, running_s};
use anyhow::{Context, Result, ensure};
use shoal_interop::{Client, Lab, Process, eventually};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const TORRENTS: u32 = 10_000;
const TORRENTS_IN_A_HURRY: u32 = 1_000;
const ACTIVE: u32 = 50;
const READY_WITHIN: Duration = Duration::from_secs(120);
/// For an empty session to come to rest, and for a full one.
const REST: Duration = Duration::from_secs(3);
const IDLE_FOR: Duration = Duration::from_secs(30);
const ACTIVE_FOR: Duration = Duration::from_secs(15);
const CLIENTS: [Client; 2] = [Client::Shoal, Client::Libtorrent];

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let torrents = match run.arguments.quick {
        true => TORRENTS_IN_A_HURRY,
        false => TORRENTS,
    };
    let settings = format!(
        "{torrents} torrents of one file of 16 KiB, all seeded; then {ACTIVE} of them have a peer"
    );
    let mut section = run.section(What::ManyTorrents, settings);
    let shelves = [
        Shelf::make(run.lab, torrents)?,
        Shelf::make(run.lab, ACTIVE)?,
    ];
    let runtime = runtime()?;
    for round in run.rounds() {
        let lab = run.lab.another()?;
        for (name, figures) in runtime.block_on(measure(&lab, &shelves))? {
            report::round(round, &name, &figures);
            section.add(&name, &figures);
        }
    }
    Ok(section)
}

/// How a session is called: `libtorrent`, or `libtorrent, 50 alone`.
pub(crate) fn name(client: Client, alone: bool) -> String {
    match alone {
        false => client.to_string(),
        true => format!("{client}, {ACTIVE} alone"),
    }
}

type Figures = Vec<(Metric, f64)>;

/// One session that runs.
struct Session<'a> {
    name: String,
    shelf: &'a Shelf,
    process: Process,
    address: SocketAddr,
    /// What the same program has in memory without torrents.
    empty_rss: u64,
    figures: Figures,
}

/// All sessions run at the same time, as they hardly do anything; they start one after the other.
async fn measure(lab: &Lab, shelves: &[Shelf; 2]) -> Result<Vec<(String, Figures)>> {
    let mut sessions = Vec::new();
    for (shelf, alone) in shelves.iter().zip([false, true]) {
        for client in CLIENTS {
            let session = match client {
                Client::Shoal => node(lab, shelf, alone).await?,
                _ => libtorrent(lab, shelf, alone).await?,
            };
            sessions.push(session);
        }
    }
    sleep(REST).await;
    rate(&mut sessions, Metric::IdleCpuPercent, IDLE_FOR).await?;
    let mut peers = Vec::new();
    for session in &mut sessions {
        let pid = session.process.id();
        let held = Held::by(pid)?;
        // At the end of this time, when threads that were needed for the start are gone.
        let rss = rss_bytes(pid).context("it ended")?;
        let growth = rss.saturating_sub(session.empty_rss) as f64 / MIB;
        session.figures.extend([
            (Metric::GrowthMib, growth),
            (Metric::Descriptors, held.descriptors),
            (Metric::Threads, held.threads),
        ]);
        peers.push(activate(session, lab.address()).await?);
    }
    sleep(REST).await;
    rate(&mut sessions, Metric::ActiveCpuPercent, ACTIVE_FOR).await?;
    for ((tally, _), session) in peers.iter().zip(&sessions) {
        let (connected, blocks) = (&tally.connected, &tally.blocks);
        let connected = connected.load(Ordering::Relaxed);
        ensure!(
            connected == u64::from(ACTIVE) && blocks.load(Ordering::Relaxed) > 0,
            "{} has {connected} peers of {ACTIVE}",
            session.name
        );
    }
    let named = sessions.into_iter().map(|session| {
        session.process.stop();
        (session.name, session.figures)
    });
    Ok(named.collect())
}

/// Adds what each uses of a core in this time, in percent.
async fn rate(sessions: &mut [Session<'_>], metric: Metric, during: Duration) -> Result<()> {
    let used = |session: &Session<'_>| running_s(session.process.id());
    let before: Vec<f64> = sessions.iter().map(used).collect::<Result<_>>()?;
    let begin = Instant::now();
    sleep(during).await;
    for (session, before) in sessions.iter_mut().zip(before) {
        let after = running_s(session.process.id())?;
        let percent = (after - before) / begin.elapsed().as_secs_f64() * 100.0;
        session.figures.push((metric, percent));
    }
    Ok(())
}

async fn node<'a>(lab: &Lab, shelf: &'a Shelf, alone: bool) -> Result<Session<'a>> {
    let empty = {
        let (state, name) = (lab.folder("empty")?, "node-empty");
        let mut process = shelf::start_node(lab, name, &state, lab.address())?;
        drop(shelf::connect(&mut process, &state).await?);
        sleep(REST).await;
        let rss = rss_bytes(process.id()).context("the node ended")?;
        process.stop();
        rss
    };
    let (state, address) = (shelf.copy_state(lab)?, lab.address());
    let (process, start_s) = shelf.start_node(lab, &state, address).await?;
    Ok(Session {
        name: name(Client::Shoal, alone),
        shelf,
        process,
        address,
        empty_rss: empty,
        figures: vec![(Metric::StartS, start_s)],
    })
}

async fn libtorrent<'a>(lab: &Lab, shelf: &'a Shelf, alone: bool) -> Result<Session<'a>> {
    let address = lab.address();
    let process = shelf.start_libtorrent(lab, address)?;
    eventually(READY_WITHIN, "an empty session", || {
        Ok(process.said().contains("\"empty\""))
    })?;
    // It waits for two seconds.
    sleep(Duration::from_secs(1)).await;
    let empty = rss_bytes(process.id()).context("libtorrent ended")?;
    let mut start_s = None;
    eventually(READY_WITHIN, "libtorrent to seed", || {
        let said = process.said();
        let mut events = said.lines().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["start_s"].as_f64()
        });
        start_s = events.next_back();
        Ok(start_s.is_some())
    })?;
    let start_s = start_s.context("it seeds")?;
    Ok(Session {
        name: name(Client::Libtorrent, alone),
        shelf,
        process,
        address,
        empty_rss: empty,
        figures: vec![(Metric::StartS, start_s)],
    })
}

/// Gives fifty torrents, far from each other, a peer each. They stay until the second value is dropped.
async fn activate(
    session: &Session<'_>,
    from: SocketAddr,
) -> Result<(Arc<Tally>, watch::Sender<bool>)> {
    let tally = Arc::new(Tally::default());
    let (fetch, fetching) = watch::channel(true);
    let apart = usize::try_from(session.shelf.count / ACTIVE)?;
    for (number, &info_hash) in (0..).zip(session.shelf.hashes.iter().step_by(apart)) {
        let swarm = Swarm {
            seed: session.address,
            info_hash,
            piece_count: 1,
        };
        start_peer(
            swarm,
            from.ip(),
            number,
            fetching.clone(),
            Arc::clone(&tally),
        )
        .await?;
    }
    Ok((tally, fetch))
}

//! Nothing verified is lost, however a download ends.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Process, Program, Recipe, Shape};
use shoal_interop::{Running, eventually, isolated, shoal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const PIECE_BYTES: u32 = 64 * 1024;
const BYTES: u64 = 96 * 1024 * 1024 + 5;
/// What one kill may cost, on average: the piece whose blocks were arriving and the one that was being verified.
const IN_FLIGHT_BYTES: u64 = 2 * PIECE_BYTES as u64;
/// So slow that the whole takes longer than all kills.
const SEED_BYTES_PER_S: u64 = 3 * 1024 * 1024;
const KILLS: usize = 100;
const SOON: Duration = Duration::from_secs(20);
const COMPLETE_WITHIN: Duration = Duration::from_secs(120);

/// A slow seed, and a download that is started again and again.
struct Download {
    content: Content,
    torrent: PathBuf,
    target: PathBuf,
    seed: Running,
    address: SocketAddr,
}

impl Download {
    fn new(lab: &Lab) -> Result<Download> {
        let source = lab.folder("source")?;
        let content = Content::generate(&source, "content", Shape::File(BYTES), 6)?;
        let torrent = lab.path("content.torrent");
        let recipe = Recipe::new(Kind::Hybrid).pieces(PIECE_BYTES);
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let job = Job::seed(&torrent, &source, lab.address()).at_most(SEED_BYTES_PER_S);
        let seed = Client::Libtorrent.start(lab, &job)?;
        let (target, address) = (lab.folder("target")?, lab.address());
        Ok(Download {
            content,
            torrent,
            target,
            seed,
            address,
        })
    }

    /// Payload bytes that the seed has sent in all, once it has said the same number twice, a second apart.
    fn sent(&self) -> Option<u64> {
        let events = shoal::events(&self.seed.process.said());
        let mut said = events
            .iter()
            .rev()
            .filter(|event| event["event"] == "progress");
        let (last, before) = (&said.next()?["sent"], &said.next()?["sent"]);
        last.as_u64().filter(|_| last == before)
    }

    /// One more run, and where in the log it begins.
    fn run(&self, lab: &Lab) -> Result<Run> {
        let peers = [self.seed.address];
        let job = Job::leech(&self.torrent, &self.target, self.address).with(&peers);
        let log = lab.path("logs/get.log");
        let begins = log.metadata().map_or(0, |log| log.len());
        let process = Process::start(lab, "get", &mut shoal::order(lab, &job)?)?;
        Ok(Run { process, begins })
    }
}

/// One run of `shoal get`.
struct Run {
    process: Process,
    begins: u64,
}

impl Run {
    /// The last event of this name in this run.
    fn last(&self, name: &str) -> Option<Value> {
        let (said, _) = self.process.said_since(self.begins);
        let events = shoal::events(&said);
        events.into_iter().rfind(|event| event["event"] == name)
    }

    fn wait_for(&self, name: &str) -> Result<Value> {
        let mut found = None;
        eventually(SOON, name, || {
            found = self.last(name);
            Ok(found.is_some())
        })?;
        found.context("it was said")
    }

    /// Pieces that it last said were verified. All pieces but the last are of one length.
    fn verified_pieces(&self) -> u64 {
        let bytes = self
            .last("progress")
            .and_then(|event| event["verified_bytes"].as_u64());
        bytes.map_or(0, |bytes| bytes.div_ceil(u64::from(PIECE_BYTES)))
    }
}

#[test]
fn a_hundred_kills_at_random_moments_cost_no_verified_piece() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        let download = Download::new(lab)?;
        let mut rng = fastrand::Rng::with_seed(7);
        let mut known = 0;
        for kill in 0..KILLS {
            let mut run = download.run(lab)?;
            let started = run.wait_for("started")?;
            let resumed = started["resumed_pieces"].as_u64().context("it resumes")?;
            ensure!(
                resumed >= known,
                "after {kill} kills: {known} pieces became {resumed}"
            );
            // Progress is told every second, so some runs last longer than that.
            let longest = if kill % 10 == 0 { 2500 } else { 500 };
            thread::sleep(Duration::from_millis(rng.u64(0..longest)));
            run.process.signal(Signal::KILL);
            run.process.wait(SOON)?;
            known = resumed.max(run.verified_pieces());
        }
        ensure!(known > 0, "nothing was ever verified");
        let mut run = download.run(lab)?;
        let status = run.process.wait(COMPLETE_WITHIN)?;
        ensure!(status.success(), "{status}");
        let complete = run.last("complete").context("it is complete")?;
        ensure!(
            complete["resumed_pieces"].as_u64() >= Some(known),
            "{complete}"
        );
        ensure!(complete["failed_pieces"] == 0, "{complete}");
        download.content.check_exactly(&download.target)?;
        let mut sent = 0;
        eventually(SOON, "the seed to say what it sent", || {
            sent = download.sent().unwrap_or(0);
            Ok(sent >= BYTES)
        })?;
        let again = sent - BYTES;
        ensure!(
            again <= KILLS as u64 * IN_FLIGHT_BYTES,
            "{again} bytes were fetched again after {KILLS} kills"
        );
        Ok(())
    })
}

#[test]
fn ctrl_c_ends_within_two_seconds_and_loses_nothing() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        let download = Download::new(lab)?;
        let mut run = download.run(lab)?;
        eventually(SOON, "pieces to be verified", || {
            Ok(run.verified_pieces() > 20)
        })?;
        let start = Instant::now();
        run.process.signal(Signal::INT);
        let status = run.process.wait(SOON)?;
        let took = start.elapsed();
        ensure!(took < Duration::from_millis(2_500), "it took {took:?}");
        ensure!(status.code() == Some(130), "{status}");
        let stopped = run.wait_for("stopped")?;

        let mut run = download.run(lab)?;
        let started = run.wait_for("started")?;
        ensure!(
            started["resumed_pieces"] == stopped["verified_pieces"],
            "{stopped} was continued with {started}"
        );
        let status = run.process.wait(COMPLETE_WITHIN)?;
        ensure!(status.success(), "{status}");
        download.content.check_exactly(&download.target)
    })
}

//! One swarm of different clients and us.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shoal_interop::{Client, Content, Job, Kind, Maker, Process, Program, Protocol, Recipe, Shape};
use shoal_interop::{Tracker, TrackerKind, eventually, isolated, shoal};
use std::time::Duration;

const BYTES: u64 = 48 * 1024 * 1024 + 99;
/// So slow that leeches have time, and reason, to serve each other.
const SEED_BYTES_PER_S: u64 = 3 * 1024 * 1024;
const COMPLETE_WITHIN: Duration = Duration::from_secs(120);
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn qbittorrent_rtorrent_webtorrent_and_shoal_share_what_one_libtorrent_seeds() -> Result<()> {
    let needs = [
        Program::Libtorrent,
        Program::QBittorrent,
        Program::RTorrent,
        Program::WebTorrent,
        Program::OpenTracker,
    ];
    isolated(&needs, |lab| {
        let source = lab.folder("source")?;
        let content = Content::generate(&source, "shared", Shape::Folder(BYTES), 3)?;
        let (torrent, address) = (lab.path("shared.torrent"), lab.address());
        let recipe = Recipe::new(Kind::V1).pieces(256 * 1024);
        let recipe = recipe.tracker(&Protocol::Http.url(address));
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let _tracker = Tracker::start(lab, TrackerKind::OpenTracker, address, &[&torrent])?;
        let job = Job::seed(&torrent, &source, lab.address()).at_most(SEED_BYTES_PER_S);
        let _seed = Client::Libtorrent.start(lab, &job)?;

        // Ours stays until the others are done.
        let our_target = lab.folder("shoal")?;
        let job = Job::leech(&torrent, &our_target, lab.address());
        let mut command = shoal::order(lab, &job)?;
        let mut ours = Process::start(lab, "shoal", command.args(["--seed-time", "1h"]))?;
        let mut others = Vec::new();
        for client in [Client::QBittorrent, Client::RTorrent, Client::WebTorrent] {
            let target = lab.folder(client.name())?;
            let leech = client.start(lab, &Job::leech(&torrent, &target, lab.address()))?;
            others.push((leech, target));
        }

        eventually(COMPLETE_WITHIN, "shoal to be complete", || {
            let events = shoal::events(&ours.said());
            Ok(events.iter().any(|event| event["event"] == "complete"))
        })?;
        content.check_exactly(&our_target)?;
        for (mut leech, target) in others {
            leech.wait_complete(COMPLETE_WITHIN)?;
            leech.stop();
            content.check(&target)?;
        }
        ours.signal(Signal::TERM);
        ours.wait(LEAVE_WITHIN)?;
        let events = shoal::events(&ours.said());
        let stopped = events.last().context("it said something")?;
        ensure!(
            stopped["downloaded_bytes"].as_u64() >= Some(BYTES),
            "{stopped}"
        );
        ensure!(stopped["uploaded_bytes"].as_u64() > Some(0), "{stopped}");
        Ok(())
    })
}

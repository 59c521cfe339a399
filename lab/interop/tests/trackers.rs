//! Shoal and other people's trackers: it finds and is found through them, tells them what they have to know, and does not
//! depend on them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shoal_interop::matrix::tracked_cells;
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Program, Protocol, Recipe, Shape};
use shoal_interop::{Tracker, TrackerKind, eventually, isolated, output_of, shoal};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

const TRACKERS: [Program; 2] = [Program::OpenTracker, Program::BittorrentTracker];
const SHORT: Duration = Duration::from_secs(30);

/// Runs transfers through both trackers, over HTTP and UDP.
fn transfer(lab: &Lab, seed: Client, leech: Client, kind: Kind) -> Result<()> {
    tracked_cells(seed, leech, kind)
        .iter()
        .try_for_each(|cell| cell.run(lab))
}

#[test]
fn libtorrent_finds_shoal_through_each_tracker() -> Result<()> {
    isolated(&[Program::Libtorrent, TRACKERS[0], TRACKERS[1]], |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent, Kind::Hybrid)?;
        transfer(lab, Client::Shoal, Client::Libtorrent, Kind::V2)
    })
}

#[test]
fn shoal_finds_libtorrent_through_each_tracker() -> Result<()> {
    isolated(&[Program::Libtorrent, TRACKERS[0], TRACKERS[1]], |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal, Kind::Hybrid)?;
        transfer(lab, Client::Libtorrent, Client::Shoal, Kind::V2)
    })
}

#[test]
fn aria2_finds_shoal_through_each_tracker() -> Result<()> {
    isolated(&[Program::Aria2, TRACKERS[0], TRACKERS[1]], |lab| {
        transfer(lab, Client::Shoal, Client::Aria2, Kind::V1)
    })
}

#[test]
fn shoal_finds_aria2_through_each_tracker() -> Result<()> {
    let needs = [
        Program::Aria2,
        Program::Libtorrent,
        TRACKERS[0],
        TRACKERS[1],
    ];
    isolated(&needs, |lab| {
        transfer(lab, Client::Aria2, Client::Shoal, Kind::V1)
    })
}

#[test]
fn a_tracker_sees_that_we_start_complete_and_stop_over_http() -> Result<()> {
    isolated(&[Program::BittorrentTracker], |lab| {
        tells_the_tracker(lab, Protocol::Http)
    })
}

#[test]
fn a_tracker_sees_that_we_start_complete_and_stop_over_udp() -> Result<()> {
    isolated(&[Program::BittorrentTracker], |lab| {
        tells_the_tracker(lab, Protocol::Udp)
    })
}

fn tells_the_tracker(lab: &Lab, protocol: Protocol) -> Result<()> {
    const BYTES: u64 = 3_000_000;
    let content = Content::generate(&lab.folder("source")?, "content", Shape::File(BYTES), 1)?;
    let address = lab.address();
    let torrent = lab.path("content.torrent");
    let recipe = Recipe::new(Kind::V1).tracker(&protocol.url(address));
    recipe.make(Maker::Shoal, &content, &torrent)?;
    let tracker = Tracker::start(lab, TrackerKind::BittorrentTracker, address, &[&torrent])?;

    let seed = Client::Shoal.start(lab, &Job::seed(&torrent, &content.parent, lab.address()))?;
    let seen = tracker.wait_seen("start", seed.address, SHORT)?;
    ensure!(seen.left == Some(0), "a seed has left {:?}", seen.left);

    let target = lab.folder("target")?;
    let mut leech = Client::Shoal.start(lab, &Job::leech(&torrent, &target, lab.address()))?;
    leech.wait_complete(SHORT)?;
    content.check_exactly(&target)?;
    let seen = tracker.wait_seen("start", leech.address, SHORT)?;
    ensure!(seen.left == Some(BYTES), "a leech has left {:?}", seen.left);
    let seen = tracker.wait_seen("complete", leech.address, SHORT)?;
    ensure!(
        seen.left == Some(0),
        "one that is complete has left {:?}",
        seen.left
    );
    tracker.wait_seen("stop", leech.address, SHORT)?;

    let address = seed.address;
    seed.stop();
    tracker.wait_seen("stop", address, SHORT)?;
    Ok(())
}

#[test]
fn a_scrape_of_opentracker_tells_of_the_seed_in_both_swarms() -> Result<()> {
    isolated(&[Program::OpenTracker], |lab| {
        scrape(lab, TrackerKind::OpenTracker)
    })
}

#[test]
fn a_scrape_of_bittorrent_tracker_tells_of_the_seed_in_both_swarms() -> Result<()> {
    isolated(&[Program::BittorrentTracker], |lab| {
        scrape(lab, TrackerKind::BittorrentTracker)
    })
}

/// The figures of a swarm before and after a seed joins it, over HTTP and UDP.
fn scrape(lab: &Lab, kind: TrackerKind) -> Result<()> {
    let content = Content::generate(&lab.folder("source")?, "content", Shape::File(100_000), 3)?;
    let address = lab.address();
    let torrent = lab.path("content.torrent");
    let urls = [Protocol::Http, Protocol::Udp].map(|protocol| protocol.url(address));
    let recipe = Recipe::new(Kind::Hybrid)
        .tracker(&urls[0])
        .tracker(&urls[1]);
    recipe.make(Maker::Shoal, &content, &torrent)?;
    let tracker = Tracker::start(lab, kind, address, &[&torrent])?;
    // opentracker says nothing over HTTP of a swarm in which nobody is.
    for (url, scraped) in urls.iter().zip(scrape_each(lab, &torrent, &urls)?) {
        ensure!(
            scraped.iter().all(|seeds| seeds.unwrap_or(0) == 0),
            "{url}: {scraped:?}"
        );
    }
    let seed = Client::Shoal.start(lab, &Job::seed(&torrent, &content.parent, lab.address()))?;
    tracker.wait_seed(&torrent, SHORT)?;
    eventually(
        SHORT,
        "each tracker to tell of the seed in both swarms",
        || {
            let scraped = scrape_each(lab, &torrent, &urls)?;
            Ok(scraped.iter().flatten().all(|seeds| *seeds == Some(1)))
        },
    )?;
    seed.stop();
    Ok(())
}

/// The seeds of the two swarms of a hybrid torrent, as each of its trackers says.
fn scrape_each(lab: &Lab, torrent: &Path, urls: &[String]) -> Result<Vec<[Option<u64>; 2]>> {
    let mut command = shoal::command(&["show", "--scrape"])?;
    command.arg(torrent).arg("--allow-net").arg(lab.network());
    let events = shoal::events(&output_of(&mut command)?);
    let of = |url: &String| {
        let is_it = |event: &&Value| event["event"] == "scrape" && event["tracker"] == **url;
        let event = events
            .iter()
            .find(is_it)
            .context("no answer of a tracker")?;
        ensure!(event["error"].is_null(), "{event}");
        let seeds = |kind: &str| {
            let mut swarms = event["swarms"].as_array().into_iter().flatten();
            let swarm = swarms.find(|swarm| swarm["kind"] == kind);
            swarm
                .context("a swarm is missing")
                .map(|swarm| swarm["seeds"].as_u64())
        };
        Ok([seeds("v1")?, seeds("v2")?])
    };
    urls.iter().map(of).collect()
}

#[test]
fn dead_trackers_neither_delay_a_download_nor_change_its_exit_code() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        // Nobody is at the first address; at the second they listen and never answer.
        let (absent, mute) = (lab.address(), lab.address());
        let _listener = TcpListener::bind(mute)?;
        let _socket = UdpSocket::bind(mute)?;
        let recipe = Recipe::new(Kind::Hybrid)
            .tracker(&Protocol::Http.url(absent))
            .tracker(&Protocol::Udp.url(absent))
            .tracker(&Protocol::Http.url(mute))
            .tracker(&Protocol::Udp.url(mute));
        let shape = Shape::Folder(8_000_000);
        let content = Content::generate(&lab.folder("source")?, "content", shape, 2)?;
        let torrent = lab.path("content.torrent");
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let job = Job::seed(&torrent, &content.parent, lab.address());
        let seed = Client::Libtorrent.start(lab, &job)?;

        let (target, peers) = (lab.folder("target")?, [seed.address]);
        let start = Instant::now();
        let job = Job::leech(&torrent, &target, lab.address()).with(&peers);
        let mut leech = Client::Shoal.start(lab, &job)?;
        let status = leech.process.wait(SHORT)?;
        let took = start.elapsed();
        ensure!(status.success(), "{status}");
        // A transfer takes a second, and taking leave of trackers has two.
        ensure!(took < Duration::from_secs(5), "it took {took:?}");
        content.check_exactly(&target)
    })
}

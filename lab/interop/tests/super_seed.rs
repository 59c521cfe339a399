//! Clients that fetch from a super-seed of ours (BEP 16): each file is checked by SHA-256.

use anyhow::Result;
use rustix::process::Signal;
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Process, Program, Recipe, Shape};
use shoal_interop::{isolated, shoal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const BYTES: u64 = 24 * 1024 * 1024 + 99;
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// A super-seed of ours, what it hides, and the torrent and address that lead to it.
struct Hidden {
    content: Content,
    torrent: PathBuf,
    address: SocketAddr,
    ours: Process,
}

fn hidden(lab: &Lab) -> Result<Hidden> {
    let source = lab.folder("source")?;
    let content = Content::generate(&source, "hidden", Shape::Folder(BYTES), 3)?;
    let torrent = lab.path("hidden.torrent");
    let recipe = Recipe::new(Kind::V1).pieces(256 * 1024);
    recipe.make(Maker::Shoal, &content, &torrent)?;
    let address = lab.address();
    let mut command = shoal::order(lab, &Job::seed(&torrent, &source, address))?;
    let ours = Process::start(lab, "shoal", command.arg("--super-seed"))?;
    Ok(Hidden {
        content,
        torrent,
        address,
        ours,
    })
}

/// A leech that knows the super-seed alone completes. Swarms of several are simulated.
fn serves(lab: &Lab, client: Client) -> Result<()> {
    let mut hidden = hidden(lab)?;
    let target = lab.folder(client.name())?;
    let job = Job {
        connect: &[hidden.address],
        ..Job::leech(&hidden.torrent, &target, lab.address())
    };
    let mut leech = client.start(lab, &job)?;
    leech.wait_complete(COMPLETE_WITHIN)?;
    leech.stop();
    hidden.content.check(&target)?;
    hidden.ours.signal(Signal::TERM);
    hidden.ours.wait(LEAVE_WITHIN).map(drop)
}

#[test]
fn libtorrent_alone_gets_everything_from_a_super_seed() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        serves(lab, Client::Libtorrent)
    })
}

#[test]
fn shoal_alone_gets_everything_from_a_super_seed() -> Result<()> {
    isolated(&[], |lab| serves(lab, Client::Shoal))
}

/// They are told of each other: in the lab, the address from which one connects to a peer is not where it listens.
#[test]
fn three_libtorrents_share_what_a_super_seed_shows() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        let hidden = hidden(lab)?;
        let (mut known, mut leeches) = (vec![hidden.address], Vec::new());
        for _ in 0..3 {
            let (target, address) = (lab.folder("target")?, lab.address());
            let job = Job::leech(&hidden.torrent, &target, address).with(&known);
            leeches.push((Client::Libtorrent.start(lab, &job)?, target));
            known.push(address);
        }
        for (leech, target) in &mut leeches {
            leech.wait_complete(COMPLETE_WITHIN)?;
            hidden.content.check(target)?;
        }
        Ok(())
    })
}

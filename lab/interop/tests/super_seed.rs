//! Clients that fetch from a super-seed of ours (BEP 16): each file is checked by SHA-256.

use anyhow::Result;
use rustix::process::Signal;
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Process, Program, Recipe, Shape};
use shoal_interop::{isolated, shoal};
use std::time::Duration;

const BYTES: u64 = 24 * 1024 * 1024 + 99;
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// So many `leeches`, which know the super-seed alone, complete.
fn serves(lab: &Lab, client: Client, leeches: u32) -> Result<()> {
    let source = lab.folder("source")?;
    let content = Content::generate(&source, "hidden", Shape::Folder(BYTES), 3)?;
    let torrent = lab.path("hidden.torrent");
    let recipe = Recipe::new(Kind::V1).pieces(256 * 1024);
    recipe.make(Maker::Shoal, &content, &torrent)?;
    let seed = Job::seed(&torrent, &source, lab.address());
    let mut command = shoal::order(lab, &seed)?;
    let mut ours = Process::start(lab, "shoal", command.arg("--super-seed"))?;
    let mut others = Vec::new();
    for _ in 0..leeches {
        let target = lab.folder(client.name())?;
        let leech = Job {
            connect: &[seed.address],
            ..Job::leech(&torrent, &target, lab.address())
        };
        others.push((client.start(lab, &leech)?, target));
    }
    for (mut leech, target) in others {
        leech.wait_complete(COMPLETE_WITHIN)?;
        leech.stop();
        content.check(&target)?;
    }
    ours.signal(Signal::TERM);
    ours.wait(LEAVE_WITHIN).map(drop)
}

#[test]
fn libtorrent_alone_and_in_company_gets_everything_from_a_super_seed() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        serves(lab, Client::Libtorrent, 1)?;
        serves(&lab.another()?, Client::Libtorrent, 3)
    })
}

#[test]
fn shoal_alone_gets_everything_from_a_super_seed() -> Result<()> {
    isolated(&[], |lab| serves(lab, Client::Shoal, 1))
}

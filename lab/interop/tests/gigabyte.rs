//! A gibibyte in a hybrid torrent, made here and there, both ways.

use anyhow::Result;
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Program, Recipe, Shape, isolated};
use std::time::Duration;

const BYTES: u64 = 1 << 30;
const COMPLETE_WITHIN: Duration = Duration::from_secs(240);

#[test]
fn libtorrent_gets_a_gibibyte_that_we_made_and_seed() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Maker::Shoal, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn we_get_a_gibibyte_that_libtorrent_made_and_seeds() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Maker::Libtorrent, Client::Libtorrent, Client::Shoal)
    })
}

fn transfer(lab: &Lab, maker: Maker, seed: Client, leech: Client) -> Result<()> {
    let source = lab.folder("source")?;
    let content = Content::generate(&source, "a gibibyte", Shape::Folder(BYTES), 5)?;
    let torrent = lab.path("gibibyte.torrent");
    Recipe::new(Kind::Hybrid).make(maker, &content, &torrent)?;
    let seed = seed.start(lab, &Job::seed(&torrent, &source, lab.address()))?;
    let (target, peers) = (lab.folder("target")?, [seed.address]);
    let job = Job::leech(&torrent, &target, lab.address()).with(&peers);
    let mut leech = leech.start(lab, &job)?;
    leech.wait_complete(COMPLETE_WITHIN)?;
    leech.stop();
    content.check(&target)
}

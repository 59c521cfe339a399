//! `shoal seed`: serves the data of a torrent until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use shoal_engine::{AddTorrent, Engine};
use shoal_metainfo::Metainfo;

use super::Done;
use super::hand_over::{self, HandOver};
use super::transfer::{self, Goal, Prepare, Purpose};
use crate::args::SeedArgs;
use crate::exit::Failure;
use crate::output::Output;
use crate::{journal_path, torrent_file};

/// Checks and serves.
pub(super) fn run(args: &SeedArgs, output: &mut Output) -> Done {
    let metainfo = torrent_file::read(&args.file)?;
    transfer::log_warnings(&metainfo);
    let torrent = || for_node(args, &metainfo);
    let handed_over = match args.alone {
        true => None,
        false => hand_over::run(&args.network, &args.state, torrent, output),
    };
    if let Some(done) = handed_over {
        return done;
    }
    let state_dir = args.state.state_dir.as_deref();
    let journal = journal_path::of(metainfo.info_hashes().primary(), &args.data, state_dir)?;
    let seeding = Seeding {
        args,
        metainfo,
        journal: Some(journal),
    };
    transfer::run(
        &args.network,
        &args.state,
        seeding,
        Purpose::Seed,
        Goal::Forever,
        output,
    )
}

/// As a node is given it.
fn for_node(args: &SeedArgs, metainfo: &Metainfo) -> Result<HandOver, Failure> {
    let mut add = hand_over::add(&args.data, &args.network)?;
    let file = torrent_file::bytes(&args.file)?;
    add.torrent_bytes = Some(file.len());
    add.seed_only = true;
    add.trust = args.trust;
    add.super_seed = args.super_seed;
    Ok(HandOver {
        add,
        file,
        info_hash: Some(metainfo.info_hashes().primary()),
    })
}

struct Seeding<'a> {
    args: &'a SeedArgs,
    metainfo: Metainfo,
    journal: Option<PathBuf>,
}

impl Prepare for Seeding<'_> {
    async fn prepare(self, _: &Engine, _: &mut Output) -> Result<AddTorrent, Failure> {
        let mut add = AddTorrent::new(Arc::new(self.metainfo), self.args.data.clone());
        add.seed_only = true;
        add.trust = self.args.trust;
        add.super_seed = self.args.super_seed;
        add.journal = self.journal;
        Ok(transfer::with_network(add, &self.args.network))
    }
}

//! A seed with room for a thousand connections: the engine as a library, as the command line bounds a torrent's connections to
//! fewer. `engine-seed TORRENT FOLDER ADDRESS`; says `ready`, and seeds until it is ended.

#![allow(clippy::print_stdout, reason = "this program speaks to the bench")]

use anyhow::{Context, Result};
use shoal_engine::{AddTorrent, Engine, EngineConfig, Phase, SessionSettings};
use shoal_metainfo::{Metainfo, bencode::Limits};
use shoal_transport::TransportConfig;
use std::env;
use std::fs;
use std::future::pending;
use std::sync::Arc;

const MAX_CONNECTIONS: u32 = 1000;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [torrent, folder, address] = &words[..] else {
        anyhow::bail!("usage: engine-seed TORRENT FOLDER ADDRESS");
    };
    let config = EngineConfig {
        transport: TransportConfig {
            listen: vec![address.parse()?],
            isolated: true,
            ..TransportConfig::default()
        },
        session: SessionSettings {
            max_connections: MAX_CONNECTIONS,
            max_connections_per_torrent: MAX_CONNECTIONS,
            ..SessionSettings::default()
        },
        ..EngineConfig::default()
    };
    let mut add = AddTorrent::new(
        Arc::new(Metainfo::parse(&fs::read(torrent)?, Limits::LOCAL)?),
        folder.into(),
    );
    (add.seed_only, add.trust) = (true, true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let engine = Engine::start(config).await?;
        let torrent = engine.add(add).await?;
        let mut state = torrent.watch();
        state
            .wait_for(|state| state.phase == Phase::Seeding)
            .await
            .context("it stopped")?;
        println!("ready");
        pending().await
    })
}

//! A leech whose disk takes 20 MB/s, beside what plain writes get out of the same disk.

use super::Run;
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::report;
use crate::slow_disk::SlowDisk;
use crate::transfer::{Goods, Measured, Plan, measure};
use anyhow::Result;
use shoal_interop::{Client, Kind, Lab, Speech, shoal};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

const DISK_BYTES_PER_S: u64 = 20_000_000;
/// Half a minute: six times what the write cache could hide.
const CONTENT_BYTES: u64 = 600 << 20;
const CONTENT_BYTES_IN_A_HURRY: u64 = 200 << 20;
const PROBE_BYTES: usize = 60 << 20;
const CHUNK_BYTES: usize = 1 << 20;

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = match run.arguments.quick {
        true => CONTENT_BYTES_IN_A_HURRY,
        false => CONTENT_BYTES,
    };
    let settings = format!(
        "{} MiB, v1, pieces of 1 MiB, a disk of 20 MB/s",
        bytes >> 20
    );
    let mut section = run.section(What::SlowDisk, settings);
    let goods = run.one_file(bytes, Kind::V1)?;
    for round in run.rounds() {
        let disk = plain_writes(&run.lab.another()?)?;
        let figures = [(Metric::TransferMbPerS, disk)];
        report::round(round, "plain writes", &figures);
        section.add("plain writes", &figures);
        for client in [Client::Shoal, Client::Libtorrent] {
            let figures = leech(&run.lab.another()?, &goods, client)?;
            report::round(round, client.name(), &figures);
            section.add(client.name(), &figures);
        }
    }
    Ok(section)
}

/// Makes a slow disk in a room, and does something with it.
fn with_disk<T>(lab: &Lab, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let (at, backing) = (lab.folder("slow")?, lab.folder("backing")?);
    let disk = SlowDisk::mount(&at, &backing, DISK_BYTES_PER_S)?;
    let done = work(&at);
    drop(disk);
    fs::remove_dir_all(&backing)?;
    done
}

fn plain_writes(lab: &Lab) -> Result<f64> {
    with_disk(lab, |folder| {
        let mut file = File::create(folder.join("probe"))?;
        let (chunk, start) = (vec![7; CHUNK_BYTES], Instant::now());
        for _ in 0..PROBE_BYTES / CHUNK_BYTES {
            file.write_all(&chunk)?;
        }
        Ok(PROBE_BYTES as f64 / 1e6 / start.elapsed().as_secs_f64())
    })
}

fn leech(lab: &Lab, goods: &Goods, client: Client) -> Result<Vec<(Metric, f64)>> {
    let measured = with_disk(lab, |folder| {
        let plan = Plan {
            goods,
            seeds: &[Client::Shoal],
            leeches: &[client],
            target: Some(folder),
            speech: Speech::Clear,
            utp: false,
        };
        measure(lab, plan)
    })?;
    let mut figures = measured.figures();
    if client == Client::Shoal {
        figures.push((Metric::LostPeers, lost_peers(&measured)));
    }
    Ok(figures)
}

/// How often our leech, which has one peer, was left alone while it downloaded: seen once a second.
fn lost_peers(measured: &Measured) -> f64 {
    let mut lost = 0;
    let mut had = 0;
    for said in &measured.said {
        for event in shoal::events(said) {
            if event["event"] == "progress" && event["phase"] == "downloading" {
                let has = event["peers"].as_u64().unwrap_or(0);
                lost += u32::from(has < had);
                had = has;
            }
        }
    }
    f64::from(lost)
}

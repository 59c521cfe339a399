//! `shoal create` and `shoal check` of files in the page cache, beside what one core can hash.

use super::{Run, bounded};
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::report;
use crate::usage::thread_cpu_s;
use anyhow::Result;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use shoal_interop::{Content, Kind, Shape, shoal};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What one core hashes to show its speed, from a buffer that fits its cache.
const PROBE_BYTES: usize = 1 << 30;
const BUFFER_BYTES: usize = 256 * 1024;
/// 64 GiB at 200 MB/s.
const HASHED_WITHIN: Duration = Duration::from_secs(360);

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let bytes = run.arguments.size() * 2;
    let settings = format!("{} MiB in memory, pieces of 1 MiB", bytes >> 20);
    let mut section = run.section(What::Hashing, settings);
    let folder = run.lab.folder("hashing")?;
    let content = Content::generate(&folder, "content.bin", Shape::File(bytes), 3)?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get()) as f64;
    for round in run.rounds() {
        for (kind, one_core) in [
            (Kind::V1, one_core::<Sha1> as fn() -> Result<f64>),
            (Kind::V2, one_core::<Sha256>),
        ] {
            let torrent = run.lab.path(&format!("{kind}.torrent"));
            let one = one_core()?;
            add(&mut section, round, &format!("one core {kind}"), one, None);
            let rate = timed(bytes, || create(kind, &content, &torrent))?;
            let of_cores = Some(rate / one / cores);
            add(
                &mut section,
                round,
                &format!("create {kind}"),
                rate,
                of_cores,
            );
            let rate = timed(bytes, || check(&torrent, &folder))?;
            let of_cores = Some(rate / one / cores);
            add(
                &mut section,
                round,
                &format!("check {kind}"),
                rate,
                of_cores,
            );
        }
    }
    Ok(section)
}

fn add(section: &mut Section, round: u32, name: &str, rate: f64, of_cores: Option<f64>) {
    let mut figures = vec![(Metric::HashMbPerS, rate)];
    figures.extend(of_cores.map(|part| (Metric::OfCores, part)));
    report::round(round, name, &figures);
    section.add(name, &figures);
}

/// Megabytes that one core hashes in a second of its time, whatever else runs.
fn one_core<D: Digest>() -> Result<f64> {
    let buffer = vec![0x5a; BUFFER_BYTES];
    let (mut hasher, before) = (D::new(), thread_cpu_s()?);
    for _ in 0..PROBE_BYTES / BUFFER_BYTES {
        hasher.update(&buffer);
    }
    std::hint::black_box(hasher.finalize());
    Ok(PROBE_BYTES as f64 / 1e6 / (thread_cpu_s()? - before))
}

fn timed(bytes: u64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
}

fn create(kind: Kind, content: &Content, torrent: &Path) -> Result<()> {
    let kind = format!("--{kind}");
    let words = ["create", &kind, "--piece-size", "1MiB", "--force", "-o"];
    let mut command = shoal::command(&words)?;
    bounded(HASHED_WITHIN, command.arg(torrent).arg(content.path()))?;
    Ok(())
}

/// Ends with an error where anything is wrong.
fn check(torrent: &Path, folder: &Path) -> Result<()> {
    let mut command = shoal::command(&["check"])?;
    bounded(
        HASHED_WITHIN,
        command.arg(torrent).arg("--data").arg(folder),
    )?;
    Ok(())
}

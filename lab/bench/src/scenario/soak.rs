//! A thousand tiny torrents that come and go, and what the process holds after each lap.

use super::Run;
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::report;
use crate::shelf::runtime;
use crate::soak::{self, Plan};
use crate::transfer::MIB;
use anyhow::{Result, ensure};
use std::time::Duration;

const TORRENTS: usize = 1_000;

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let plan = Plan::lasting(Duration::from_secs(60 * run.arguments.minutes), TORRENTS);
    let settings = format!(
        "{TORRENTS} torrents of 64 KiB, {} laps of {} s of churn",
        plan.laps,
        plan.churn.as_secs()
    );
    let mut section = run.section(What::Soak, settings);
    let held = runtime()?.block_on(soak::run(&run.lab.folder("soak")?, plan))?;
    for (lap, held) in (0..).zip(&held) {
        let figures = [
            (Metric::RssMib, held.rss_bytes as f64 / MIB),
            (Metric::Descriptors, held.descriptors),
            (Metric::Tasks, held.tasks as f64),
        ];
        report::round(lap, NAME, &figures);
        section.add(NAME, &figures);
    }
    let operations = held.last().map_or(0, |lap| lap.operations);
    ensure!(operations > 0, "nothing happened");
    section.notes.push(format!(
        "A figure for each lap. {operations} times a torrent was added, removed, paused or resumed, or a peer came."
    ));
    Ok(section)
}

/// The one subject.
pub(crate) const NAME: &str = "two nodes in one process";

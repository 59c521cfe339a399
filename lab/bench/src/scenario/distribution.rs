//! Distribution of a torrent in simulation, by the simulator's own program.
//!
//! It prints JSON objects, one a line. As it runs for hours, and needs neither peers nor a quiet machine, lines that it printed
//! elsewhere can be read instead.

use super::{Run, bounded};
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::report;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SIMULATED_WITHIN: Duration = Duration::from_secs(8 * 3600);

/// What the simulator is told: under each policy, then with peers that leave and come, then the most that a machine can hold.
const PLANS: [&[&str]; 3] = [
    &["--peers", "500"],
    &["--peers", "500", "--policy", "shoal", "--churn"],
    &["--peers", "5000", "--mix", "homes", "--policy", "shoal"],
];

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Line {
    peers: u64,
    mix: String,
    policy: String,
    churn: bool,
    /// The last completion, divided by the fluid bound.
    ratio: f64,
}

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let settings = "1 GiB in 1,024 pieces".to_owned();
    let mut section = run.section(What::Distribution, settings);
    let said = if run.arguments.simulated.is_empty() {
        simulate()?
    } else {
        read(&run.arguments.simulated)?
    };
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("no result: {line}"))?;
        let name = name(&line.policy, line.peers, &line.mix, line.churn);
        let figures = [(Metric::OfFluidBound, line.ratio)];
        report::round(0, &name, &figures);
        section.add(&name, &figures);
    }
    ensure!(
        !section.subjects.is_empty(),
        "the simulator gave no results that could be read"
    );
    Ok(section)
}

fn simulate() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut said = String::new();
    for plan in PLANS {
        let mut command = Command::new("cargo");
        command
            .current_dir(&root)
            .args(["run", "--release", "--offline", "--quiet"])
            .args(["--package", "shoal-sim", "--bin", "distribution"])
            .args(["--", "--json"])
            .args(plan);
        said += &bounded(SIMULATED_WITHIN, &command)?;
    }
    Ok(said)
}

fn read(files: &[PathBuf]) -> Result<String> {
    let texts = files.iter().map(|file| {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    });
    texts.collect()
}

/// The name of a result, such as `shoal, 500 peers, homes`.
pub(crate) fn name(policy: &str, peers: u64, mix: &str, churn: bool) -> String {
    let churn = if churn { ", churn" } else { "" };
    format!("{policy}, {peers} peers, {mix}{churn}")
}

//! Distribution of a torrent in simulation, by the simulator's own program.
//!
//! It prints JSON objects, one a line. Those with `peers` (how many), `policy` (`shoal`, or whose published policy it is),
//! `churn` (whether peers leave and come) and `of_bound` (the last completion, divided by the fluid bound) are results.

use super::{Run, bounded};
use crate::arguments::What;
use crate::figures::{Metric, Section};
use crate::report;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SIMULATED_WITHIN: Duration = Duration::from_secs(3600);

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let settings = "1 GiB in 1,024 pieces, mixed links".to_owned();
    let mut section = run.section(What::Distribution, settings);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = root.join("lab/sim/src/bin/distribution.rs");
    if !source.is_file() {
        let note = "the simulator has no program `distribution`";
        section.notes.push(note.to_owned());
        report::say(note);
        return Ok(section);
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["run", "--release", "--offline", "--quiet"]);
    command.args([
        "--package",
        "shoal-sim",
        "--bin",
        "distribution",
        "--",
        "--json",
    ]);
    let said = bounded(SIMULATED_WITHIN, &command)?;
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    for result in lines.filter(|line: &Value| line["of_bound"].is_number()) {
        let of_bound = result["of_bound"].as_f64().context("it is a number")?;
        let policy = result["policy"].as_str().unwrap_or("shoal");
        let peers = result["peers"]
            .as_u64()
            .context("a result names no number of peers")?;
        let name = name(policy, peers, result["churn"].as_bool().unwrap_or(false));
        let figures = [(Metric::OfFluidBound, of_bound)];
        report::round(0, &name, &figures);
        section.add(&name, &figures);
    }
    ensure!(
        !section.subjects.is_empty(),
        "the simulator gave no results that could be read"
    );
    Ok(section)
}

/// The name of a result, such as `shoal, 500 peers`.
pub(crate) fn name(policy: &str, peers: u64, churn: bool) -> String {
    let churn = if churn { ", churn" } else { "" };
    format!("{policy}, {peers} peers{churn}")
}

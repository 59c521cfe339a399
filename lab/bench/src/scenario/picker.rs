//! Instructions of the piece picker, counted by callgrind call by call: a pick, and a have message.

use super::{Run, bounded};
use crate::arguments::What;
use crate::figures::{Metric, Section, Spread};
use crate::report;
use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PIECES: u32 = 50_000;
/// A tenth: what grows with the number of pieces would be ten times cheaper.
const FEWER_PIECES: u32 = 5_000;
const PEERS: u32 = 500;
/// Steps before the first that is counted: until every peer has blocks on their way, and pieces are being completed.
const WARM_UP: u32 = 4_000;
const COUNTED: u32 = 1_000;
const COUNTED_WITHIN: Duration = Duration::from_secs(900);

/// The functions that are counted.
const CALLS: [(&str, &str); 2] = [("pick", "measured_pick"), ("have", "measured_have")];

pub(super) fn run(run: &Run<'_>) -> Result<Section> {
    let settings = format!("{PEERS} peers, each asking for 8 blocks; {COUNTED} steps counted");
    let mut section = run.section(What::Picker, settings);
    if Command::new("valgrind").arg("--version").output().is_err() {
        bail!("valgrind is not installed; run: apt-get install valgrind");
    }
    let counts: &[u32] = match run.arguments.quick {
        true => &[FEWER_PIECES],
        false => &[PIECES, FEWER_PIECES],
    };
    for &pieces in counts {
        for (call, function) in CALLS {
            let folder = run.lab.folder("callgrind")?;
            let counted = count(&folder, pieces, function)?;
            fs::remove_dir_all(folder)?;
            let spread = Spread::of(&counted).context("nothing was counted")?;
            let name = name(call, pieces);
            let figures = [
                (Metric::Instructions, spread.median),
                (Metric::MostInstructions, spread.max),
            ];
            report::round(0, &name, &figures);
            section.add(&name, &figures);
        }
    }
    Ok(section)
}

/// The name of a count, such as `pick, 50000 pieces`.
pub(crate) fn name(call: &str, pieces: u32) -> String {
    format!("{call}, {pieces} pieces")
}

/// The instructions of the call of a function in each of the last steps. A step has at most one of each.
fn count(folder: &Path, pieces: u32, function: &str) -> Result<Vec<f64>> {
    let program = env::current_exe()?.with_file_name("picks");
    ensure!(
        program.is_file(),
        "picks is not built; run: cargo build --release --package shoal-bench"
    );
    let pattern = format!("*{function}*");
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!(
            "--callgrind-out-file={}",
            folder.join("out").display()
        ))
        .arg(format!("--toggle-collect={pattern}"))
        .arg("--dump-before=*between_steps*")
        .arg(program)
        .args([pieces, PEERS, WARM_UP + COUNTED].map(|number| number.to_string()));
    bounded(COUNTED_WITHIN, &command)?;
    let mut calls = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // `out.17` is the dump before the 17th step; `out` is what came after the last.
        let Some(number) = path.extension().and_then(|number| number.to_str()) else {
            continue;
        };
        let number: u32 = number.parse()?;
        calls.push((number, totals(&fs::read_to_string(&path)?)?));
    }
    calls.sort_by_key(|(number, _)| *number);
    let counted = calls.iter().rev().take(COUNTED as usize);
    let counted = counted.map(|(_, instructions)| *instructions);
    Ok(counted.filter(|&instructions| instructions > 0.0).collect())
}

/// The sum at the end of a dump: `totals: INSTRUCTIONS`.
fn totals(dump: &str) -> Result<f64> {
    let line = dump
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "));
    Ok(line
        .context("a dump of callgrind has no totals")?
        .trim()
        .parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_at_the_end_of_a_dump() {
        let dump = "version: 1\nevents: Ir\nsummary: 5\n\nfn=(1) a\n7 5\n\ntotals: 2345\n";
        assert_eq!(totals(dump).unwrap(), 2345.0);
        assert!(totals("events: Ir\n").is_err());
    }
}

//! What people and programs see: progress and tables on the terminal, a JSON file, plots, and the page in `docs`.

#![allow(clippy::print_stdout, reason = "this program speaks to people")]
#![allow(
    clippy::print_stderr,
    reason = "progress is for people, results are for pipes"
)]

mod page;
mod svg;

use crate::arguments::Arguments;
use crate::figures::{Metric, Results, Section};
use crate::target::{Judged, judge};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One line about what goes on.
pub fn say(line: &str) {
    eprintln!("{line}");
}

pub(crate) fn begin(scenario: &str) {
    say(&format!("\n== {scenario}"));
}

/// What one subject did in one round.
pub(crate) fn round(round: u32, name: &str, figures: &[(Metric, f64)]) {
    let figures: Vec<String> = figures
        .iter()
        .map(|(metric, figure)| format!("{figure:.*} {}", metric.decimals(), metric.title()))
        .collect();
    say(&format!(
        "  round {} {name:<26} {}",
        round + 1,
        figures.join(", ")
    ));
}

/// The table of a section.
pub(crate) fn section(section: &Section) {
    println!("\n{} ({})", section.scenario, section.settings);
    print!("{}", aligned(&rows(section)));
    for note in &section.notes {
        println!("  {note}");
    }
}

/// A head and a row for each subject, of all that was measured.
fn rows(section: &Section) -> Vec<Vec<String>> {
    let metrics: BTreeSet<Metric> = section
        .subjects
        .iter()
        .flat_map(|subject| subject.figures.keys().copied())
        .collect();
    let head = metrics.iter().map(|metric| metric.title().to_owned());
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(head)
            .collect::<Vec<_>>(),
    ];
    for subject in &section.subjects {
        let figures = metrics.iter().map(|&metric| {
            let spread = subject.spread(metric);
            spread.map_or("-".to_owned(), |spread| spread.text(metric.decimals()))
        });
        rows.push(
            std::iter::once(subject.name.clone())
                .chain(figures)
                .collect(),
        );
    }
    rows
}

/// The targets as rows under a head.
fn target_rows(judged: &[Judged]) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["what", "target", "measured", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in judged {
        rows.push(vec![
            row.what.to_owned(),
            row.bound_text(),
            row.measured_text(),
            row.verdict().to_owned(),
        ]);
    }
    rows
}

/// Columns as wide as what is in them.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text += &format!("  {}\n", cells.join("  ").trim_end());
    }
    text
}

/// The results that were stored below a folder `docs`.
fn stored(docs: &Path) -> Result<Results> {
    let path = results_path(docs);
    if !path.is_file() {
        return Ok(Results::default());
    }
    let text = fs::read_to_string(&path)?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} is not readable as results", path.display()))?;
    ensure!(
        results.schema == crate::figures::SCHEMA,
        "{} has schema {}; remove it and measure again",
        path.display(),
        results.schema
    );
    Ok(results)
}

fn results_path(docs: &Path) -> PathBuf {
    docs.join("performance").join("results.json")
}

/// Merges results into those that are stored, where there is a place for them.
///
/// # Errors
///
/// They cannot be read or written.
pub(crate) fn store(arguments: &Arguments, results: &Results) -> Result<()> {
    let Some(docs) = &arguments.docs else {
        return Ok(());
    };
    let mut all = stored(docs)?;
    all.merge(results.clone());
    let path = results_path(docs);
    fs::create_dir_all(docs.join("performance"))?;
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

/// Prints how the targets are met, and writes what was asked for.
///
/// # Errors
///
/// Something cannot be written.
pub(crate) fn end(arguments: &Arguments, results: &Results) -> Result<()> {
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(results)? + "\n")?;
    }
    println!("\ntargets");
    print!("{}", aligned(&target_rows(&judge(results))));
    match &arguments.docs {
        Some(_) => redraw(arguments),
        None => Ok(()),
    }
}

/// Draws plots and page from the results that are stored.
///
/// # Errors
///
/// There are none, or something cannot be written.
pub fn redraw(arguments: &Arguments) -> Result<()> {
    let docs = arguments.docs.as_ref();
    let docs = docs.context("name the folder of the page, such as: --docs docs")?;
    let results = stored(docs)?;
    ensure!(
        !results.sections.is_empty(),
        "there are no results in {}; measure something first",
        results_path(docs).display()
    );
    for (name, plot) in svg::plots(&results) {
        fs::write(docs.join("performance").join(name), plot)?;
    }
    page::fill(&docs.join("performance.md"), &results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["a", "bb"]), row(["ccc", "d"])]);
        assert_eq!(text, "  a    bb\n  ccc  d\n");
    }
}

//! The parts of docs/performance.md that are made of results. The rest of it is written by people and left alone.
//!
//! Invariant: only what stands between the two marks of a part is replaced.

use super::{rows, target_rows};
use crate::figures::Results;
use crate::target::judge;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Fills all parts of the page.
///
/// # Errors
///
/// The page cannot be read or written, or has no place for a part.
pub(super) fn fill(page: &Path, results: &Results) -> Result<()> {
    let text =
        fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let text = replace(&text, "targets", &table(&target_rows(&judge(results))))?;
    let text = replace(&text, "results", &sections(results))?;
    fs::write(page, text)?;
    Ok(())
}

fn replace(text: &str, part: &str, filling: &str) -> Result<String> {
    let (open, close) = (format!("<!-- bench: {part} -->\n"), "<!-- bench: end -->");
    let (before, rest) = text
        .split_once(&open)
        .with_context(|| format!("the page has no line {}", open.trim_end()))?;
    let (_, after) = rest
        .split_once(close)
        .with_context(|| format!("the part {part} of the page does not end"))?;
    Ok(format!("{before}{open}\n{filling}\n{close}{after}"))
}

/// A Markdown table. The first row is its head.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    text
}

fn sections(results: &Results) -> String {
    let mut parts = Vec::new();
    for section in &results.sections {
        let machine = &section.machine;
        let mut part = format!(
            "### {}\n\n{}. {}, {} cores, {} GiB, {}; load before: {:.1}.",
            section.scenario,
            section.settings,
            machine.cpu,
            machine.cores,
            machine.memory_gib,
            machine.kernel,
            machine.load_before,
        );
        let versions = machine.versions.iter();
        let versions: Vec<String> = versions
            .filter(|(client, _)| section.mentions(client))
            .map(|(client, version)| format!("{client} {version}"))
            .collect();
        if !versions.is_empty() {
            part += &format!(" {}.", versions.join(", "));
        }
        if !section.subjects.is_empty() {
            part += &format!("\n\n{}", table(&rows(section)));
        } else {
            part += "\n";
        }
        if !section.notes.is_empty() {
            part += &format!("\n- {}\n", section.notes.join("\n- "));
        }
        parts.push(part);
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = "a\n<!-- bench: x -->\nold\n<!-- bench: end -->\nb <!-- bench: end -->\n";
        let filled = replace(page, "x", "new\n").unwrap();
        let wanted = "a\n<!-- bench: x -->\n\nnew\n\n<!-- bench: end -->\nb <!-- bench: end -->\n";
        assert_eq!(filled, wanted);
        assert!(replace(page, "y", "new").is_err());
    }

    #[test]
    fn a_table_has_a_head() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["a", "b"]), row(["1", "x|y"])]);
        assert_eq!(text, "| a | b |\n|---|---|\n| 1 | x\\|y |\n");
    }
}

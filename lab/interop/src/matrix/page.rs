//! What came of the cells: stored as JSON, and shown as docs/interop.md.
//!
//! Invariant: what is between the page's marks is made of the stored results alone.

use super::{Cell, DISCOVERIES, Found, KINDS, Transport};
use crate::client::{Client, Speech};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const MARK: &str = "<!-- matrix: results -->\n";
const END: &str = "<!-- matrix: end -->";

/// What became of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// The content arrived, and every file is right.
    Passed,
    /// One of the two is known not to do this.
    Unsupported,
    /// A program that it needs is missing.
    Skipped,
    /// Anything else.
    Failed,
}

const WORDS: [(Became, &str); 4] = [
    (Became::Passed, "pass"),
    (Became::Unsupported, "not supported"),
    (Became::Skipped, "not run"),
    (Became::Failed, "FAIL"),
];

impl Became {
    /// As it is stored and shown.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let known = WORDS.iter().find(|(one, _)| one == self);
        known.map_or("FAIL", |(_, word)| word)
    }
}

/// One cell that was run, by the words for its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    peer: String,
    from_us: bool,
    /// Kind, transport, encryption, discovery.
    values: [String; 4],
    became: Became,
}

fn word_of_speech(speech: Speech) -> &'static str {
    match speech {
        Speech::Encrypted => "encrypted",
        Speech::Clear | Speech::Usual => "plain",
    }
}

fn word_of_way(found: Found) -> &'static str {
    match found {
        Found::ByAddress => "address",
        Found::Locally => "LSD",
        Found::ByTracker(..) => "tracker",
        Found::ByMagnet => "magnet",
        Found::ByDht => "magnet + DHT",
        Found::ByExchange => "PEX",
        Found::OnTheWeb => "web seed",
    }
}

impl Ran {
    /// What became of `cell`.
    #[must_use]
    pub fn new(cell: &Cell, became: Became) -> Ran {
        let from_us = cell.seed == Client::Shoal;
        let peer = if from_us { cell.leech } else { cell.seed };
        Ran {
            peer: peer.name().to_owned(),
            from_us,
            values: [
                cell.kind.to_string(),
                cell.transport.to_string(),
                word_of_speech(cell.speech).to_owned(),
                word_of_way(cell.found).to_owned(),
            ],
            became,
        }
    }

    /// Whether it went wrong.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.became == Became::Failed
    }

    fn stored(&self) -> Value {
        json!([self.peer, self.from_us, self.values, self.became.word()])
    }

    fn read(value: &Value) -> Option<Ran> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let word = value[3].as_str()?;
        Some(Ran {
            peer: text(&value[0])?,
            from_us: value[1].as_bool()?,
            values: [
                text(&value[2][0])?,
                text(&value[2][1])?,
                text(&value[2][2])?,
                text(&value[2][3])?,
            ],
            became: WORDS.iter().find(|(_, known)| *known == word)?.0.clone(),
        })
    }

    fn direction(&self) -> &'static str {
        if self.from_us {
            "from Shoal"
        } else {
            "to Shoal"
        }
    }
}

/// Stores the results in `docs`, in place of what is stored there of the same peers, and draws the page again.
///
/// # Errors
///
/// A file cannot be read or written, or the page has no marks.
pub fn write(docs: &Path, ran: &[Ran]) -> Result<()> {
    let (stored, page) = (docs.join("interop.json"), docs.join("interop.md"));
    let text = fs::read_to_string(&stored).unwrap_or_else(|_| "[]".to_owned());
    let before: Vec<Value> = serde_json::from_str(&text).context("docs/interop.json")?;
    let before = before.iter().filter_map(Ran::read);
    let again = |old: &Ran| ran.iter().any(|new| new.peer == old.peer);
    let mut all: Vec<Ran> = before.filter(|old| !again(old)).collect();
    all.extend_from_slice(ran);
    all.sort_by_key(|ran| ran.peer.clone());
    let lines: Vec<String> = all.iter().map(|ran| ran.stored().to_string()).collect();
    fs::write(&stored, format!("[\n{}\n]\n", lines.join(",\n")))?;
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    fs::write(&page, replace(&text, &tables(&all))?)?;
    Ok(())
}

fn replace(text: &str, filling: &str) -> Result<String> {
    let (before, rest) = text.split_once(MARK).context("the page has no mark")?;
    let (_, after) = rest.split_once(END).context("the mark does not end")?;
    Ok(format!("{before}{MARK}\n{filling}\n{END}{after}"))
}

/// The values of all dimensions, as columns.
fn columns() -> Vec<(usize, String)> {
    let kinds = KINDS.map(|kind| (0, kind.to_string()));
    let transports = [Transport::Tcp, Transport::Utp].map(|one| (1, one.to_string()));
    let speeches = [Speech::Clear, Speech::Encrypted].map(|one| (2, word_of_speech(one).into()));
    let ways = DISCOVERIES.map(|one| (3, word_of_way(one).into()));
    let all = kinds.into_iter().chain(transports).chain(speeches);
    all.chain(ways).collect()
}

/// One table of what works, and one of every cell.
#[must_use]
pub fn tables(all: &[Ran]) -> String {
    let mut rows: Vec<(String, &str)> = Vec::new();
    for ran in all {
        let row = (ran.peer.clone(), ran.direction());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let columns = columns();
    let names: Vec<String> = columns.iter().map(|(_, name)| name.clone()).collect();
    let mut text = format!("| peer | | {} |\n", names.join(" | "));
    text += &format!("|---|---|{}\n", "---|".repeat(columns.len()));
    for (peer, direction) in &rows {
        let of_row = |ran: &&Ran| ran.peer == *peer && ran.direction() == *direction;
        let of_row: Vec<&Ran> = all.iter().filter(of_row).collect();
        let cell = |(dimension, value): &(usize, String)| {
            summary(of_row.iter().filter(|ran| ran.values[*dimension] == *value))
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        text += &format!("| {peer} | {direction} | {} |\n", cells.join(" | "));
    }
    text += "\n| peer | | torrent | transport | encryption | found by | |\n|---|---|---|---|---|---|---|\n";
    for ran in all {
        let (values, word) = (ran.values.join(" | "), ran.became.word());
        text += &format!(
            "| {} | {} | {values} | {word} |\n",
            ran.peer,
            ran.direction()
        );
    }
    text
}

/// How many of some cells passed, and what became of the others.
fn summary<'a>(cells: impl Iterator<Item = &'a &'a Ran>) -> String {
    let cells: Vec<&Became> = cells.map(|ran| &ran.became).collect();
    let mut parts = Vec::new();
    for (became, word) in &WORDS {
        let count = cells.iter().filter(|one| *one == &became).count();
        match (became, count) {
            (_, 0) => {}
            (Became::Passed, _) => parts.push(format!("{count}")),
            _ => parts.push(format!("{count} {word}")),
        }
    }
    if parts.is_empty() {
        return "–".to_owned();
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::Kind;

    fn ran(found: Found, became: Became) -> Ran {
        let cell = Cell {
            found,
            ..Cell::new(Client::Shoal, Client::Aria2, Kind::V1)
        };
        Ran::new(&cell, became)
    }

    #[test]
    fn a_failure_is_seen_in_every_column_that_it_belongs_to() {
        let all = [
            ran(Found::Locally, Became::Passed),
            ran(Found::OnTheWeb, Became::Failed),
        ];
        let tables = tables(&all);
        let row = tables.lines().nth(2).unwrap();
        let wanted = "| aria2 | from Shoal | 1, 1 FAIL | – | – | 1, 1 FAIL | – | 1, 1 FAIL | – | – | – | 1 | – | 1 FAIL |";
        assert_eq!(row, wanted);
    }

    #[test]
    fn results_are_read_back_and_those_of_other_peers_stay() {
        let docs = tempfile::tempdir().unwrap();
        let page = docs.path().join("interop.md");
        fs::write(&page, format!("a\n{MARK}old{END}\nb\n")).unwrap();
        let one = ran(Found::Locally, Became::Passed);
        write(docs.path(), &[one]).unwrap();
        let mut other = ran(Found::Locally, Became::Skipped);
        other.peer = "zzz".to_owned();
        write(docs.path(), &[other]).unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("a\n") && text.ends_with("\nb\n"), "{text}");
        assert!(text.contains("| aria2 | from Shoal | v1 | TCP | plain | LSD | pass |"));
        assert!(text.contains("| zzz | from Shoal | v1 | TCP | plain | LSD | not run |"));
    }
}

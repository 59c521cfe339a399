//! What is measured, one module for each scenario.

mod distribution;
mod fan;
mod hashing;
mod many_peers;
mod many_torrents;
mod pairs;
mod picker;
mod rc4;
mod slow_disk;
mod small_files;
mod soak;
mod utp;
mod versions;

use crate::arguments::{Arguments, What};
use crate::figures::{Metric, Results, SCHEMA, Section};
use crate::machine::Machine;
use crate::report;
use crate::transfer::{Goods, touch_memory};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use shoal_interop::{Client, Content, Kind, Lab, Shape, output_of};
use std::cell::RefCell;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use distribution::name as distribution_name;
pub(crate) use many_torrents::name as many_torrents_name;
pub(crate) use pairs::{FLOOR, name as pair};
pub(crate) use picker::name as picker_name;
pub(crate) use soak::NAME as SOAK;
pub(crate) use utp::OVER_UTP;

/// Who can be measured, the two that everything is compared with first.
pub const CLIENTS: [Client; 7] = [
    Client::Shoal,
    Client::Libtorrent,
    Client::QBittorrent,
    Client::Transmission,
    Client::Aria2,
    Client::RTorrent,
    Client::Rqbit,
];

/// A transfer has a source and what arrives of it.
const COPIES: u64 = 2;

/// Who takes longer is measured once: its figure is far from all others, and the hours of three rounds of it say no more.
const SLOW: Duration = Duration::from_secs(60);

/// What every scenario gets.
struct Run<'a> {
    lab: &'a Lab,
    arguments: &'a Arguments,
    /// All clients that are measured.
    clients: Vec<Client>,
    /// Those that could be measured and are not here, and why.
    missing: Vec<String>,
    /// Runs that went wrong in a scenario that goes on without them.
    failed: RefCell<Vec<String>>,
}

impl Run<'_> {
    /// A new section, to be filled.
    fn section(&self, what: What, settings: String) -> Section {
        Section {
            scenario: name_of(what),
            machine: Machine::describe(&self.clients),
            settings,
            subjects: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A file of noise and its torrent.
    fn one_file(&self, bytes: u64, kind: Kind) -> Result<Goods> {
        let folder = self.lab.folder("source")?;
        let content = Content::generate(&folder, "content.bin", Shape::File(bytes), 3)?;
        Goods::new(self.lab, content, bytes, kind)
    }

    fn rounds(&self) -> std::ops::Range<u32> {
        0..self.arguments.rounds()
    }
}

fn name_of(what: What) -> String {
    what.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Runs what was asked for, prints and stores what came of it, section by section.
///
/// # Errors
///
/// A scenario failed; the others ran all the same.
pub fn run(lab: &Lab, arguments: &Arguments) -> Result<()> {
    touch_memory(lab, arguments.size() * COPIES)?;
    let (mut all, mut failed) = (Results::default(), Vec::new());
    for what in arguments.scenarios() {
        report::begin(&name_of(what));
        // What a scenario leaves in memory goes with its room.
        let lab = lab.another()?;
        let run = prepare(&lab, arguments);
        let done = match what {
            What::Pairs => pairs::run(&run),
            What::FanOut => fan::out(&run),
            What::FanIn => fan::inward(&run),
            What::V2 => versions::run(&run),
            What::Rc4 => rc4::run(&run),
            What::Utp => utp::run(&run),
            What::Hashing => hashing::run(&run),
            What::SmallFiles => small_files::run(&run),
            What::ManyPeers => many_peers::run(&run),
            What::ManyTorrents => many_torrents::run(&run),
            What::Soak => soak::run(&run),
            What::SlowDisk => slow_disk::run(&run),
            What::Picker => picker::run(&run),
            What::Distribution => distribution::run(&run),
            What::All | What::Page => continue,
        };
        match done {
            Ok(mut section) => {
                failed.extend(run.failed.take());
                section.machine = section.machine.stamped();
                report::section(&section);
                let results = Results {
                    schema: SCHEMA,
                    sections: vec![section],
                };
                report::store(arguments, &results)?;
                all.merge(results);
            }
            Err(error) => {
                report::say(&format!("{} failed: {error:#}", name_of(what)));
                failed.push(name_of(what));
            }
        }
    }
    report::end(arguments, &all)?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn prepare<'a>(lab: &'a Lab, arguments: &'a Arguments) -> Run<'a> {
    let wanted = CLIENTS.into_iter().filter(|client| {
        let always = matches!(client, Client::Shoal | Client::Libtorrent);
        always || arguments.clients.is_empty() || arguments.clients.contains(client)
    });
    let (mut clients, mut missing) = (Vec::new(), Vec::new());
    for client in wanted {
        match client.program().map(shoal_interop::Program::find) {
            Some(Err(why)) => missing.push(format!("{client} is left out: {why:#}")),
            _ => clients.push(client),
        }
    }
    Run {
        lab,
        arguments,
        clients,
        missing,
        failed: RefCell::default(),
    }
}

/// Runs a program to its end, which has to come in time, and gives what it printed.
fn bounded(within: Duration, command: &Command) -> Result<String> {
    let mut timeout = Command::new("timeout");
    timeout.arg(within.as_secs().to_string());
    timeout.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        timeout.current_dir(folder);
    }
    output_of(&mut timeout).with_context(|| {
        format!(
            "{}, which may take {within:?}",
            command.get_program().display()
        )
    })
}

/// Measures everybody once in every round, whoever is slow in the first one alone, and goes on without whoever fails.
fn rounds<S>(
    run: &Run<'_>,
    section: &mut Section,
    mut subjects: Vec<(String, S)>,
    measure: impl Fn(&S) -> Result<Vec<(Metric, f64)>>,
) {
    let last = run.rounds().end.saturating_sub(1);
    for round in run.rounds() {
        subjects.retain(|(name, subject)| {
            let begun = Instant::now();
            let measured = measure(subject);
            let slow = begun.elapsed() > SLOW;
            match measured {
                Ok(figures) => {
                    report::round(round, name, &figures);
                    section.add(name, &figures);
                    if slow && round < last {
                        let of = run.arguments.rounds();
                        section.notes.push(format!(
                            "{name} takes over a minute: {} of {of} rounds",
                            round + 1
                        ));
                    }
                    !slow
                }
                Err(error) => {
                    let note = format!("{name} failed in round {}: {error:#}", round + 1);
                    report::say(&note);
                    run.failed.borrow_mut().push(name.clone());
                    section.notes.push(note);
                    section.subjects.retain(|subject| subject.name != *name);
                    false
                }
            }
        });
    }
}

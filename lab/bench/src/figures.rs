//! What was measured: figures of subjects in sections, round by round.
//!
//! Invariant: all rounds of a section were interleaved, so that figures of one round can be divided by each other.

use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the JSON form; it grows where a reader of the last one would misunderstand.
pub const SCHEMA: u32 = 1;

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// One for each scenario.
    pub sections: Vec<Section>,
}

/// One scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    /// Its name on the command line.
    pub scenario: String,
    /// Where and when it was measured.
    pub machine: Machine,
    /// What was moved, in words.
    pub settings: String,
    /// Who was measured.
    pub subjects: Vec<Subject>,
    /// What is missing, and why.
    pub notes: Vec<String>,
}

/// Somebody who was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Subject {
    /// `SEED -> LEECH`, or what else tells it from the others of its section.
    pub name: String,
    /// One figure of each kind for each round.
    pub figures: BTreeMap<Metric, Vec<f64>>,
}

/// What is measured, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Content bytes delivered a second, in 10^6, from the start of the (first) leech's process to the end of the last.
    ThroughputMbPerS,
    /// The same from the first payload on.
    TransferMbPerS,
    /// Seconds from the start of the first leech's process until the last leech had everything on the disk.
    WallS,
    /// CPU seconds, user and system, of all seeds for each GiB delivered, while the leeches ran.
    SeedCpuSPerGib,
    /// CPU seconds, user and system, of all leeches for each GiB delivered, start of the process included.
    LeechCpuSPerGib,
    /// Both.
    TotalCpuSPerGib,
    /// The most resident memory of the largest leech, in MiB.
    LeechPeakRssMib,
    /// Bytes hashed a second, in 10^6.
    HashMbPerS,
    /// Bytes encrypted a second, in 10^6.
    CipherMbPerS,
    /// The speed of hashing as a part of what the cores could do.
    OfCores,
    /// Resident memory for each peer, in KiB.
    KibPerPeer,
    /// Seconds until a session seeds all that it has.
    StartS,
    /// Resident memory beyond that of the same program without torrents, in MiB.
    GrowthMib,
    /// CPU time while nobody asks for anything, in percent of a core.
    IdleCpuPercent,
    /// CPU time while some torrents have a peer, in percent of a core.
    ActiveCpuPercent,
    /// Open files and sockets.
    Descriptors,
    /// Threads.
    Threads,
    /// Tasks that have not ended.
    Tasks,
    /// Resident memory, in MiB.
    RssMib,
    /// How often a peer was lost.
    LostPeers,
    /// Instructions of one call at the median of all calls.
    Instructions,
    /// Instructions of the most expensive call.
    MostInstructions,
    /// The time of the last completion, divided by the fluid bound.
    OfFluidBound,
}

impl Metric {
    /// The head of a column.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Metric::ThroughputMbPerS => "MB/s",
            Metric::TransferMbPerS => "MB/s from 1st byte",
            Metric::WallS => "s",
            Metric::SeedCpuSPerGib => "seed CPU s/GiB",
            Metric::LeechCpuSPerGib => "leech CPU s/GiB",
            Metric::TotalCpuSPerGib => "all CPU s/GiB",
            Metric::LeechPeakRssMib => "leech peak MiB",
            Metric::HashMbPerS => "hash MB/s",
            Metric::CipherMbPerS => "RC4 MB/s",
            Metric::OfCores => "of all cores",
            Metric::KibPerPeer => "KiB a peer",
            Metric::StartS => "start s",
            Metric::GrowthMib => "MiB more",
            Metric::IdleCpuPercent => "idle CPU %",
            Metric::ActiveCpuPercent => "CPU % with 50 asked for",
            Metric::Descriptors => "descriptors",
            Metric::Threads => "threads",
            Metric::Tasks => "tasks",
            Metric::RssMib => "RSS MiB",
            Metric::LostPeers => "peers lost",
            Metric::Instructions => "instructions",
            Metric::MostInstructions => "at the most",
            Metric::OfFluidBound => "x fluid bound",
        }
    }

    /// Digits after the point where it is shown.
    #[must_use]
    pub const fn decimals(self) -> usize {
        match self {
            Metric::ThroughputMbPerS
            | Metric::TransferMbPerS
            | Metric::HashMbPerS
            | Metric::CipherMbPerS
            | Metric::Descriptors
            | Metric::Threads
            | Metric::Tasks
            | Metric::LostPeers
            | Metric::Instructions
            | Metric::MostInstructions => 0,
            Metric::LeechPeakRssMib | Metric::KibPerPeer | Metric::GrowthMib | Metric::RssMib => 1,
            Metric::WallS
            | Metric::StartS
            | Metric::IdleCpuPercent
            | Metric::ActiveCpuPercent
            | Metric::SeedCpuSPerGib
            | Metric::LeechCpuSPerGib
            | Metric::TotalCpuSPerGib
            | Metric::OfCores => 2,
            Metric::OfFluidBound => 3,
        }
    }
}

/// A median and the range around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` where there are none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Spread { median, min, max })
    }

    /// `MEDIAN (MIN..MAX)`, or the one figure that there is.
    #[must_use]
    pub fn text(&self, decimals: usize) -> String {
        let Spread { median, min, max } = self;
        let one = format!("{median:.decimals$}");
        if format!("{min:.decimals$}") == format!("{max:.decimals$}") {
            return one;
        }
        format!("{one} ({min:.decimals$}..{max:.decimals$})")
    }
}

impl Results {
    /// The section of a scenario.
    #[must_use]
    pub fn section(&self, scenario: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.scenario == scenario)
    }

    /// Takes over the sections of a later run.
    pub fn merge(&mut self, later: Results) {
        self.schema = SCHEMA;
        for section in later.sections {
            match self
                .sections
                .iter_mut()
                .find(|old| old.scenario == section.scenario)
            {
                Some(old) => *old = section,
                None => self.sections.push(section),
            }
        }
    }
}

impl Section {
    /// A subject by its name.
    #[must_use]
    pub fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// Whether a client took part, alone or in a pair.
    #[must_use]
    pub fn mentions(&self, client: &str) -> bool {
        let mut names = self.subjects.iter().map(|subject| &subject.name);
        names.any(|name| name.split(" -> ").any(|side| side == client))
    }

    /// Adds a round's figures to a subject, which is made where it is new.
    pub fn add(&mut self, name: &str, figures: &[(Metric, f64)]) {
        let at = self.subjects.iter().position(|known| known.name == name);
        let at = at.unwrap_or_else(|| {
            self.subjects.push(Subject {
                name: name.to_owned(),
                ..Subject::default()
            });
            self.subjects.len() - 1
        });
        for (metric, figure) in figures {
            let of_metric = self.subjects[at].figures.entry(*metric).or_default();
            of_metric.push(*figure);
        }
    }
}

impl Subject {
    /// The figures of a kind, in the order of rounds.
    #[must_use]
    pub fn rounds(&self, metric: Metric) -> &[f64] {
        self.figures.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The median and range of a kind.
    #[must_use]
    pub fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.rounds(metric))
    }
}

/// One divided by the other, round by round.
#[must_use]
pub fn ratios(of: &[f64], by: &[f64]) -> Vec<f64> {
    of.iter().zip(by).map(|(of, by)| of / by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread.text(1), "2.0 (1.0..3.0)");
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().text(1), "1.5 (1.0..2.0)");
        assert_eq!(Spread::of(&[1.04, 1.01]).unwrap().text(1), "1.0");
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_later_section_replaces_an_earlier_one() {
        let section = |round| {
            let mut section = Section {
                scenario: "pairs".into(),
                machine: Machine::default(),
                settings: String::new(),
                subjects: Vec::new(),
                notes: Vec::new(),
            };
            section.add("a", &[(Metric::WallS, round)]);
            section.add("a", &[(Metric::WallS, round + 1.0)]);
            let sections = vec![section];
            Results {
                schema: SCHEMA,
                sections,
            }
        };
        let mut results = section(1.0);
        results.merge(section(5.0));
        assert_eq!(results.sections.len(), 1);
        let subject = results.section("pairs").unwrap().subject("a").unwrap();
        assert_eq!(subject.rounds(Metric::WallS), [5.0, 6.0]);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        assert_eq!(ratios(&[1.0, 4.0, 9.0], &[2.0, 2.0]), [0.5, 2.0]);
    }
}

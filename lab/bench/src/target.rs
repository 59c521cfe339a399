//! The targets, and how results are judged by them.
//!
//! Invariant: a target that was not measured is not met.

use crate::arguments::What;
use crate::figures::{Metric, Results, Section, Spread, ratios};
use crate::scenario::{
    FLOOR, OVER_UTP, SOAK, distribution_name, many_torrents_name, pair, picker_name,
};
use clap::ValueEnum;
use shoal_interop::Client::{Libtorrent, Shoal};

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(bound) => figure <= bound,
            Bound::AtLeast(bound) => figure >= bound,
        }
    }

    /// Where it lies.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Bound::AtMost(bound) | Bound::AtLeast(bound) => bound,
        }
    }
}

/// One row of the table of targets, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What is measured.
    pub what: &'static str,
    /// What it has to be.
    pub bound: Bound,
    /// The unit of the bound and the figure.
    pub unit: &'static str,
    /// Digits after the point.
    pub decimals: usize,
    /// What was measured, round by round; `None` where nothing was.
    pub measured: Option<Spread>,
}

impl Judged {
    /// Whether the median is what it has to be.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.measured
            .is_some_and(|spread| self.bound.holds(spread.median))
    }

    /// The bound in words.
    #[must_use]
    pub fn bound_text(&self) -> String {
        let (sign, decimals) = match self.bound {
            Bound::AtMost(_) => ("<=", self.decimals),
            Bound::AtLeast(_) => (">=", self.decimals),
        };
        format!("{sign} {:.decimals$} {}", self.bound.value(), self.unit)
            .trim_end()
            .to_owned()
    }

    /// The figure in words.
    #[must_use]
    pub fn measured_text(&self) -> String {
        match self.measured {
            Some(spread) => format!("{} {}", spread.text(self.decimals), self.unit)
                .trim_end()
                .to_owned(),
            None => "not measured".to_owned(),
        }
    }

    /// The verdict in words.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.measured, self.is_met()) {
            (None, _) => "-",
            (_, true) => "met",
            (_, false) => "not met",
        }
    }
}

/// All targets, judged by these results.
#[must_use]
pub fn judge(results: &Results) -> Vec<Judged> {
    let look = Look(results);
    let mut all = look.one_to_one();
    all.extend(look.fans());
    all.extend(look.encrypted());
    all.push(look.over_utp());
    all.extend(look.others());
    all
}

struct Look<'a>(&'a Results);

const X: &str = "x";

fn row(
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    decimals: usize,
    measured: &[f64],
) -> Judged {
    Judged {
        what,
        bound,
        unit,
        decimals,
        measured: Spread::of(measured),
    }
}

/// The most of all, where there is any: memory and losses have no median.
fn most<'a>(figures: impl Iterator<Item = &'a f64>) -> Vec<f64> {
    figures.copied().reduce(f64::max).into_iter().collect()
}

impl Look<'_> {
    fn section(&self, what: What) -> Option<&Section> {
        let name = what.to_possible_value()?;
        self.0.section(name.get_name())
    }

    fn rounds(&self, what: What, subject: &str, metric: Metric) -> &[f64] {
        self.section(what)
            .and_then(|section| section.subject(subject))
            .map_or(&[], |subject| subject.rounds(metric))
    }

    /// One subject's figures divided by another's, round by round.
    fn ratio(&self, what: What, metric: Metric, subject: &str, base: &str) -> Vec<f64> {
        ratios(
            self.rounds(what, subject, metric),
            self.rounds(what, base, metric),
        )
    }

    fn one_to_one(&self) -> Vec<Judged> {
        use Bound::{AtLeast, AtMost};
        let base = pair(Libtorrent, Libtorrent);
        let pairs =
            |metric, subject: &str, base: &str| self.ratio(What::Pairs, metric, subject, base);
        let ours = pair(Shoal, Shoal);
        let download = pairs(Metric::LeechCpuSPerGib, &pair(Libtorrent, Shoal), &base);
        vec![
            row(
                "Seeding to libtorrent, CPU a GiB, to libtorrent's",
                AtMost(0.20),
                X,
                2,
                &pairs(Metric::SeedCpuSPerGib, &pair(Shoal, Libtorrent), &base),
            ),
            row(
                "Downloading from libtorrent, CPU a GiB, to libtorrent's",
                AtMost(0.85),
                X,
                2,
                &download,
            ),
            row("The same, aimed at", AtMost(0.75), X, 2, &download),
            row(
                "Shoal -> Shoal, throughput, to libtorrent's",
                AtLeast(1.8),
                X,
                2,
                &pairs(Metric::ThroughputMbPerS, &ours, &base),
            ),
            row(
                "Shoal -> Shoal, throughput, to the floor",
                AtLeast(1.0),
                X,
                2,
                &pairs(Metric::ThroughputMbPerS, &ours, FLOOR),
            ),
            row(
                "Leech's peak RSS, the worst of pairs and rounds",
                AtMost(48.0),
                "MiB",
                1,
                &self.most_rss(),
            ),
        ]
    }

    /// The most of any leech of ours.
    fn most_rss(&self) -> Vec<f64> {
        let subjects = self
            .section(What::Pairs)
            .map_or(&[][..], |section| section.subjects.as_slice());
        let ours = subjects
            .iter()
            .filter(|subject| subject.name.ends_with("-> shoal"));
        most(ours.flat_map(|subject| subject.rounds(Metric::LeechPeakRssMib)))
    }

    fn fans(&self) -> Vec<Judged> {
        use Bound::{AtLeast, AtMost};
        let fan = |what, metric| self.ratio(what, metric, "shoal", "libtorrent");
        vec![
            row(
                "1 -> 4, throughput, to libtorrent's",
                AtLeast(1.8),
                X,
                2,
                &fan(What::FanOut, Metric::ThroughputMbPerS),
            ),
            row(
                "1 -> 4, CPU of all a GiB delivered, to libtorrent's",
                AtMost(0.5),
                X,
                2,
                &fan(What::FanOut, Metric::TotalCpuSPerGib),
            ),
            row(
                "4 -> 1, throughput, to libtorrent's",
                AtLeast(1.8),
                X,
                2,
                &fan(What::FanIn, Metric::ThroughputMbPerS),
            ),
            row(
                "4 -> 1, CPU of all a GiB delivered, to libtorrent's",
                AtMost(0.5),
                X,
                2,
                &fan(What::FanIn, Metric::TotalCpuSPerGib),
            ),
            row(
                "v2 torrent, throughput, to v1",
                AtLeast(0.9),
                X,
                2,
                &self.ratio(What::V2, Metric::ThroughputMbPerS, "v2", "v1"),
            ),
        ]
    }

    fn encrypted(&self) -> Vec<Judged> {
        let (ours, base) = (pair(Shoal, Shoal), pair(Libtorrent, Libtorrent));
        let throughput = self.ratio(What::Rc4, Metric::ThroughputMbPerS, &ours, &base);
        let bound = Bound::AtLeast;
        vec![
            row(
                "RC4, Shoal -> Shoal, throughput, to libtorrent's",
                bound(1.25),
                X,
                2,
                &throughput,
            ),
            row("RC4, the same, aimed at", bound(1.5), X, 2, &throughput),
        ]
    }

    fn over_utp(&self) -> Judged {
        let (ours, base) = (pair(Shoal, Shoal) + OVER_UTP, pair(Libtorrent, Libtorrent));
        row(
            "uTP, Shoal -> Shoal, throughput, to libtorrent's over TCP",
            Bound::AtLeast(0.40),
            X,
            2,
            &self.ratio(What::Utp, Metric::ThroughputMbPerS, &ours, &base),
        )
    }

    fn others(&self) -> Vec<Judged> {
        let mut all = self.hashing();
        all.extend(self.crowds_and_disks());
        all.extend(self.many_torrents());
        all.extend(self.soak());
        all.extend(self.counted());
        all
    }

    fn hashing(&self) -> Vec<Judged> {
        const ROWS: [(&str, &str); 4] = [
            ("`create` v1, to cores x one core's SHA-1", "create v1"),
            ("`check` v1, to cores x one core's SHA-1", "check v1"),
            ("`create` v2, to cores x one core's SHA-256", "create v2"),
            ("`check` v2, to cores x one core's SHA-256", "check v2"),
        ];
        ROWS.into_iter()
            .map(|(what, subject)| {
                let measured = self.rounds(What::Hashing, subject, Metric::OfCores);
                row(what, Bound::AtLeast(0.9), X, 2, measured)
            })
            .collect()
    }

    fn crowds_and_disks(&self) -> Vec<Judged> {
        use Bound::{AtLeast, AtMost};
        let memory = |subject| self.rounds(What::ManyPeers, subject, Metric::KibPerPeer);
        let disk = |metric| most(self.rounds(What::SlowDisk, "shoal", metric).iter());
        let rate = Metric::TransferMbPerS;
        vec![
            row(
                "100,000 files of 16 KiB, time, to libtorrent's",
                AtMost(0.5),
                X,
                2,
                &self.ratio(What::SmallFiles, Metric::WallS, "shoal", "libtorrent"),
            ),
            row(
                "500 peers, each, connected",
                AtMost(64.0),
                "KiB",
                1,
                memory("idle"),
            ),
            row(
                "500 peers, each, fetching",
                AtMost(64.0),
                "KiB",
                1,
                memory("fetching"),
            ),
            row(
                "Disk of 20 MB/s, rate, to plain writes",
                AtLeast(0.95),
                X,
                2,
                &self.ratio(What::SlowDisk, rate, "shoal", "plain writes"),
            ),
            // The write cache has 64 MiB, and half as much is for everything else.
            row(
                "Disk of 20 MB/s, leech's peak RSS",
                AtMost(96.0),
                "MiB",
                1,
                &disk(Metric::LeechPeakRssMib),
            ),
            row(
                "Disk of 20 MB/s, peers lost",
                AtMost(0.0),
                "",
                0,
                &disk(Metric::LostPeers),
            ),
        ]
    }

    fn many_torrents(&self) -> Vec<Judged> {
        use Bound::AtMost;
        let name = many_torrents_name;
        let to_theirs = |metric| {
            let (ours, theirs) = (name(Shoal, false), name(Libtorrent, false));
            self.ratio(What::ManyTorrents, metric, &ours, &theirs)
        };
        let (all, alone) = (name(Shoal, false), name(Shoal, true));
        let active = Metric::ActiveCpuPercent;
        vec![
            row(
                "10,000 torrents, start from the database, to libtorrent's from memory",
                AtMost(2.0),
                X,
                2,
                &to_theirs(Metric::StartS),
            ),
            row(
                "10,000 torrents, RSS beyond an empty process, to libtorrent's",
                AtMost(1.0),
                X,
                2,
                &to_theirs(Metric::GrowthMib),
            ),
            row(
                "10,000 torrents, CPU while idle, to libtorrent's",
                AtMost(1.0),
                X,
                2,
                &to_theirs(Metric::IdleCpuPercent),
            ),
            row(
                "50 of 10,000 torrents asked for, CPU, to 50 alone",
                AtMost(1.2),
                X,
                2,
                &self.ratio(What::ManyTorrents, active, &all, &alone),
            ),
        ]
    }

    fn soak(&self) -> Vec<Judged> {
        use Bound::AtMost;
        let ends = |metric| {
            let laps = self.rounds(What::Soak, SOAK, metric);
            laps.first().copied().zip(laps.last().copied())
        };
        let more = |metric| ends(metric).map(|(first, last)| last - first);
        let growth = ends(Metric::RssMib).map(|(first, last)| last / first);
        vec![
            row(
                "1,000 torrents with churn, RSS after the last lap, to the first",
                AtMost(1.05),
                X,
                2,
                growth.as_slice(),
            ),
            row(
                "1,000 torrents with churn, descriptors more than after the first lap",
                AtMost(0.0),
                "",
                0,
                more(Metric::Descriptors).as_slice(),
            ),
            row(
                "1,000 torrents with churn, tasks more than after the first lap",
                AtMost(0.0),
                "",
                0,
                more(Metric::Tasks).as_slice(),
            ),
        ]
    }

    fn counted(&self) -> Vec<Judged> {
        use Bound::AtMost;
        let count = |call, metric| {
            let name = picker_name(call, 50_000);
            self.rounds(What::Picker, &name, metric)
        };
        let distribution = |what, peers, mix| {
            let name = distribution_name("shoal", peers, mix, false);
            let ratios = self.rounds(What::Distribution, &name, Metric::OfFluidBound);
            row(what, AtMost(1.15), X, 3, ratios)
        };
        vec![
            row(
                "Picker, 50,000 pieces, 500 peers, a pick, instructions",
                AtMost(3000.0),
                "",
                0,
                count("pick", Metric::Instructions),
            ),
            // A look at every word of a bitfield of 50,000 bits would take 782 and more.
            row(
                "Have message, 50,000 pieces, instructions at the most",
                AtMost(750.0),
                "",
                0,
                count("have", Metric::MostInstructions),
            ),
            distribution(
                "Distribution, 500 peers, homes, to the fluid bound",
                500,
                "homes",
            ),
            distribution(
                "Distribution, 500 peers, fibre, to the fluid bound",
                500,
                "fibre",
            ),
            distribution(
                "Distribution, 500 peers, steep, to the fluid bound",
                500,
                "steep",
            ),
            distribution(
                "Distribution, 5,000 peers, homes, to the fluid bound",
                5_000,
                "homes",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::SCHEMA;
    use crate::machine::Machine;

    fn results(scenario: &str, figures: &[(&str, Metric, &[f64])]) -> Results {
        let mut section = Section {
            scenario: scenario.into(),
            machine: Machine::default(),
            settings: String::new(),
            subjects: Vec::new(),
            notes: Vec::new(),
        };
        for (name, metric, rounds) in figures {
            for round in *rounds {
                section.add(name, &[(*metric, *round)]);
            }
        }
        Results {
            schema: SCHEMA,
            sections: vec![section],
        }
    }

    fn judged(results: &Results, what: &str) -> Judged {
        let all = judge(results);
        all.into_iter()
            .find(|row| row.what.starts_with(what))
            .unwrap()
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        let all = judge(&Results::default());
        assert!(all.iter().all(|row| !row.is_met() && row.verdict() == "-"));
        assert_eq!(all.len(), 37);
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let metric = Metric::SeedCpuSPerGib;
        let results = results(
            "pairs",
            &[
                ("shoal -> libtorrent", metric, &[0.2, 0.9, 0.3]),
                ("libtorrent -> libtorrent", metric, &[2.0, 3.0, 2.0]),
            ],
        );
        let row = judged(&results, "Seeding");
        assert_eq!(row.measured_text(), "0.15 (0.10..0.30) x");
        assert_eq!(
            (row.bound_text().as_str(), row.verdict()),
            ("<= 0.20 x", "met")
        );
    }

    #[test]
    fn memory_is_judged_by_the_worst_round_of_the_worst_pair() {
        let metric = Metric::LeechPeakRssMib;
        let results = results(
            "pairs",
            &[
                ("shoal -> shoal", metric, &[30.0, 31.0, 30.0]),
                ("aria2 -> shoal", metric, &[20.0, 49.0, 20.0]),
                ("shoal -> aria2", metric, &[90.0]),
            ],
        );
        let row = judged(&results, "Leech's peak");
        assert_eq!(
            (row.measured_text().as_str(), row.verdict()),
            ("49.0 MiB", "not met")
        );
    }
}

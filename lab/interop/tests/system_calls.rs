//! System calls for each MiB that is moved, seed and leech apart: what a transfer costs, in a unit that does not depend on how
//! busy the machine is.
//!
//! strace counts them, over a transfer from `shoal seed` to `shoal get` as the suite has built them. Counts depend on how the
//! two take turns, and strace slows them down: so there is room in the bounds, for which see [`Bound`].

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shoal_interop::{Content, Job, Kind, Lab, Maker, Process, Program, Recipe, Shape};
use shoal_interop::{eventually, isolated, shoal};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 256;
const PIECE_BYTES: u32 = 1 << 20;
const READY_WITHIN: Duration = Duration::from_secs(30);
const COMPLETE_WITHIN: Duration = Duration::from_secs(120);

/// The most calls for each MiB, of these kinds together: half as much again as the worst of five runs needed, up to twice as much
/// where it depends on who is faster, and room for a few calls where there are next to none. A change that needs fewer lowers the bound.
struct Bound {
    what: &'static str,
    kinds: &'static [&'static str],
    most_per_mib: f64,
}

const fn bound(what: &'static str, kinds: &'static [&'static str], most_per_mib: f64) -> Bound {
    Bound {
        what,
        kinds,
        most_per_mib,
    }
}

const SENDING: &[&str] = &["sendto", "sendmsg", "write", "writev", "sendfile", "splice"];
const RECEIVING: &[&str] = &["recvfrom", "recvmsg", "read", "readv", "tee"];
const STORING: &[&str] = &["pwrite64", "pwritev", "pwritev2"];
const READING_BACK: &[&str] = &["pread64", "preadv", "preadv2"];
const WAITING: &[&str] = &[
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "io_uring_enter",
];
const WAKING: &[&str] = &["futex"];
const SYNCING: &[&str] = &["fsync", "fdatasync", "sync_file_range"];
/// No list is all of them.
const ALL: &[&str] = &[];

const SEED: [Bound; 6] = [
    bound("sending", SENDING, 16.0),
    bound("receiving", RECEIVING, 10.0),
    bound("reading content", READING_BACK, 28.0),
    bound("waiting", WAITING, 20.0),
    bound("waking", WAKING, 2.0),
    bound("all", ALL, 72.0),
];

const LEECH: [Bound; 8] = [
    bound("sending, and waking event loops", SENDING, 13.0),
    bound("receiving", RECEIVING, 100.0),
    bound("storing", STORING, 3.0),
    bound("reading back", READING_BACK, 1.0),
    bound("waiting", WAITING, 10.0),
    bound("waking", WAKING, 28.0),
    bound("syncing", SYNCING, 1.0),
    bound("all", ALL, 144.0),
];

#[test]
fn a_mebibyte_moved_costs_no_more_system_calls_than_it_did() -> Result<()> {
    isolated(&[Program::Strace], |lab| {
        let source = lab.folder("source")?;
        let shape = Shape::File(MIB * 1024 * 1024);
        let content = Content::generate(&source, "content", shape, 11)?;
        let torrent = lab.path("content.torrent");
        let recipe = Recipe::new(Kind::V1).pieces(PIECE_BYTES);
        recipe.make(Maker::Shoal, &content, &torrent)?;

        let seed_job = Job::seed(&torrent, &source, lab.address());
        let mut seed = Traced::start(lab, "seed", &seed_job)?;
        eventually(READY_WITHIN, "the seed to listen", || {
            Ok(seed.process.said().contains(r#""event":"started""#))
        })?;
        let (target, peers) = (lab.folder("target")?, [seed_job.address]);
        let leech_job = Job::leech(&torrent, &target, lab.address()).with(&peers);
        let mut leech = Traced::start(lab, "leech", &leech_job)?;
        let status = leech.process.wait(COMPLETE_WITHIN)?;
        ensure!(status.success(), "the leech ended with {status}");
        seed.process.signal(Signal::INT);
        seed.process.wait(READY_WITHIN)?;
        content.check(&target)?;
        judge("seed", &seed.calls()?, &SEED)?;
        judge("leech", &leech.calls()?, &LEECH)
    })
}

/// The binary under strace, which stays behind it: the process that we see is ours.
struct Traced {
    process: Process,
    table: PathBuf,
}

impl Traced {
    fn start(lab: &Lab, name: &str, job: &Job<'_>) -> Result<Traced> {
        let order = shoal::order(lab, job)?;
        let table = lab.path(&format!("{name}.calls"));
        let mut command = Command::new(Program::Strace.find()?);
        command.args(["-D", "-f", "-c", "-U", "name,calls", "-o"]);
        command.arg(&table).arg(order.get_program());
        command.args(order.get_args());
        let process = Process::start(lab, name, &mut command)?;
        Ok(Traced { process, table })
    }

    /// What it called, and how often. It must have ended.
    fn calls(&self) -> Result<BTreeMap<String, u64>> {
        let mut calls = None;
        eventually(READY_WITHIN, "strace to write its table", || {
            calls = read_table(&self.table);
            Ok(calls.is_some())
        })?;
        calls.context("it was written")
    }
}

/// The rows of the table, `None` where it is not whole. Its last row is the total.
fn read_table(path: &Path) -> Option<BTreeMap<String, u64>> {
    let text = fs::read_to_string(path).ok()?;
    let rows = text.lines().filter_map(|line| {
        let (name, calls) = line.trim().split_once(' ')?;
        Some((name.to_owned(), calls.trim().parse().ok()?))
    });
    let mut calls: BTreeMap<String, u64> = rows.collect();
    calls.remove("total").is_some().then_some(calls)
}

#[allow(clippy::print_stdout, reason = "whoever lowers a bound looks at this")]
fn judge(who: &str, calls: &BTreeMap<String, u64>, bounds: &[Bound]) -> Result<()> {
    let per_mib = |bound: &Bound| {
        let counted = calls
            .iter()
            .filter(|(name, _)| bound.kinds.is_empty() || bound.kinds.contains(&name.as_str()));
        let sum: u64 = counted.map(|(_, calls)| calls).sum();
        sum as f64 / MIB as f64
    };
    let mut table = format!("{who}: system calls for each MiB, and the bound\n");
    for bound in bounds {
        let (found, most) = (per_mib(bound), bound.most_per_mib);
        let verdict = if found > most { "  TOO MANY" } else { "" };
        writeln!(table, "{:32} {found:8.2} {most:8.2}{verdict}", bound.what)?;
    }
    table += "and all of them, in this run:\n";
    let mut rows: Vec<_> = calls.iter().collect();
    rows.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
    for (name, calls) in rows.iter().take(20) {
        writeln!(table, "{name:24} {calls:8}")?;
    }
    ensure!(
        bounds
            .iter()
            .all(|bound| per_mib(bound) <= bound.most_per_mib),
        "{table}"
    );
    println!("{table}");
    Ok(())
}

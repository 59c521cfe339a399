//! Runs one DHT: `dht [--seed N] [--contacts N] [--percent N] [--networks N] [--churn PER-DAY] [--minutes N] [--made-up]
//! [--paths N] [--any-network] [--any-id]`.

use core::time::Duration;
use shoal_sim::dht::{DhtSetup, DhtWorld, Lies};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

fn setup() -> Option<DhtSetup> {
    let mut setup = DhtSetup::large(1, Lies::Crowd);
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--seed" => setup.seed = given.next()?.parse().ok()?,
            "--contacts" => setup.contacts = given.next()?.parse().ok()?,
            "--percent" => setup.sybil_percent = given.next()?.parse().ok()?,
            "--networks" => setup.sybil_networks = given.next()?.parse().ok()?,
            "--churn" => setup.churn_per_day = given.next()?.parse().ok()?,
            "--minutes" => {
                let minutes: u64 = given.next()?.parse().ok()?;
                setup.time = Duration::from_secs(60 * minutes);
            }
            "--searches" => setup.searches = given.next()?.parse().ok()?,
            "--paths" => setup.settings.paths = given.next()?.parse().ok()?,
            "--made-up" => setup.lies = Lies::MadeUpIds,
            "--any-network" => setup.settings.one_per_network = false,
            "--any-id" => setup.settings.prefer_secure = false,
            _ => return None,
        }
    }
    Some(setup)
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout();
    let Some(setup) = setup() else {
        writeln!(
            out,
            "dht [--seed N] [--contacts N] [--percent N] [--networks N] [--churn PER-DAY] [--minutes N]\n    \
             [--searches N] [--paths N] [--made-up] [--any-network] [--any-id]"
        )?;
        return Ok(ExitCode::from(2));
    };
    let started = Instant::now();
    let outcome = DhtWorld::new(setup).run();
    let figures = &outcome.figures;
    let each = |sum: u64, count: u32| sum as f64 / f64::from(count.max(1));
    writeln!(
        out,
        "{} searches: {:.2} % found every peer, {:.2} % one; {:.1} contacts answered, {:.1} s half of them, {:.1} s the slowest but 1 %",
        figures.searches,
        100.0 * outcome.found_all(),
        100.0 * outcome.found_one(),
        each(figures.answered, figures.searches),
        outcome.median.as_secs_f64(),
        outcome.slowest_but_one_percent.as_secs_f64(),
    )?;
    writeln!(
        out,
        "{} announces, {:.1} contacts stored each; {} datagrams, {} MB, took {:.1} s",
        figures.announces,
        each(figures.stored, figures.announces),
        outcome.datagrams,
        outcome.bytes / 1_000_000,
        started.elapsed().as_secs_f64()
    )?;
    Ok(ExitCode::SUCCESS)
}

//! Runs one scenario again: `shoal-sim SCENARIO [--seed N] [--trace] [--nodes]`, or lists them.

use shoal_sim::{Outcome, Setup, World, scenario};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

struct Arguments {
    name: String,
    seed: u64,
    trace: bool,
    nodes: bool,
}

fn arguments() -> Option<Arguments> {
    let mut given = std::env::args().skip(1);
    let mut arguments = Arguments {
        name: given.next()?,
        seed: 1,
        trace: false,
        nodes: false,
    };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--seed" => arguments.seed = given.next()?.parse().ok()?,
            "--trace" => arguments.trace = true,
            "--nodes" => arguments.nodes = true,
            _ => return None,
        }
    }
    Some(arguments)
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout();
    let Some(arguments) = arguments() else {
        usage(&mut out)?;
        return Ok(ExitCode::from(2));
    };
    let Some(scenario) = scenario::named(&arguments.name) else {
        usage(&mut out)?;
        return Ok(ExitCode::from(2));
    };
    let setup = (scenario.setup)(arguments.seed);
    let started = Instant::now();
    let mut world = World::new(setup.clone());
    if arguments.trace {
        world.trace_to(Box::new(io::BufWriter::new(io::stdout())));
    }
    match world.run() {
        Ok(outcome) => {
            report(&mut out, &setup, &outcome)?;
            writeln!(out, "took {:.1} s", started.elapsed().as_secs_f64())?;
            if arguments.nodes {
                nodes(&mut out, &outcome)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            writeln!(out, "{failure:?}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn usage(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "shoal-sim SCENARIO [--seed N] [--trace] [--nodes]\n")?;
    for scenario in scenario::ALL {
        writeln!(out, "  {:<14} {}", scenario.name, scenario.summary)?;
    }
    Ok(())
}

fn report(out: &mut impl Write, setup: &Setup, outcome: &Outcome) -> io::Result<()> {
    let last = outcome.last_completion.as_secs_f64();
    let bound = scenario::fluid_bound_s(setup);
    let copied = outcome.last_first_copy().as_secs_f64();
    let vain = 100.0 * (outcome.overhead(setup) - 1.0);
    writeln!(out, "seed {}, trace {:016x}", setup.seed, outcome.trace)?;
    writeln!(
        out,
        "last completion {last:.1} s, fluid bound {bound:.1} s, ratio {:.3}",
        last / bound
    )?;
    writeln!(
        out,
        "each piece at some peer after {copied:.1} s, {vain:.2} % received in vain, {} messages",
        outcome.messages
    )
}

fn nodes(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    for (node, id) in outcome.nodes.iter().zip(0..) {
        let completed = node.completed.map_or(f64::NAN, |at| at.as_secs_f64());
        let first = node
            .verified
            .first()
            .map_or(f64::NAN, |(_, at)| at.as_secs_f64());
        writeln!(
            out,
            "node {id}: done {completed:.1} s, first piece {first:.1} s, sent {} KiB, received {} KiB, lost {} connections, banned {:?}",
            node.sent_bytes / 1_024,
            node.received_bytes / 1_024,
            node.lost_connections,
            node.banned,
        )?;
    }
    Ok(())
}

//! Distributes a large content to a large swarm: `distribution [--peers N] [--mix homes|fibre|steep] [--policy shoal|libtorrent]
//! [--mib N] [--scale N] [--connections N] [--burst-ms N] [--seed N] [--churn] [--json]`. Without a mix or a policy, each of them.

use shoal_sim::distribution::{MIXES, Mix, Plan, Result as Distributed};
use shoal_sim::{Choking, World};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const POLICIES: [(&str, Choking); 2] = [
    ("shoal", Choking::Ours),
    ("libtorrent", Choking::Libtorrent),
];

struct Arguments {
    plan: Plan,
    mixes: Vec<Mix>,
    policies: Vec<(&'static str, Choking)>,
    json: bool,
}

fn arguments() -> Option<Arguments> {
    let mut given = std::env::args().skip(1);
    let mut arguments = Arguments {
        plan: Plan {
            seed: 1,
            peers: 500,
            mix: MIXES[0],
            total_bytes: 1 << 30,
            scale: 1,
            connections: 50,
            burst: Duration::from_millis(10),
            choking: Choking::Ours,
            churn: false,
        },
        mixes: MIXES.to_vec(),
        policies: POLICIES.to_vec(),
        json: false,
    };
    let plan = &mut arguments.plan;
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--churn" => plan.churn = true,
            "--json" => arguments.json = true,
            "--peers" => plan.peers = given.next()?.parse().ok()?,
            "--seed" => plan.seed = given.next()?.parse().ok()?,
            "--connections" => plan.connections = given.next()?.parse().ok()?,
            "--burst-ms" => plan.burst = Duration::from_millis(given.next()?.parse().ok()?),
            "--scale" => plan.scale = given.next()?.parse().ok().filter(|&scale| scale > 0)?,
            "--mib" => {
                plan.total_bytes = given.next()?.parse::<u64>().ok()?.checked_mul(1 << 20)?;
            }
            "--mix" => {
                let name = given.next()?;
                arguments.mixes.retain(|mix| mix.name == name);
            }
            "--policy" => {
                let name = given.next()?;
                arguments.policies.retain(|(policy, _)| *policy == name);
            }
            _ => return None,
        }
    }
    let sound = !arguments.mixes.is_empty() && !arguments.policies.is_empty();
    sound.then_some(arguments)
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout();
    let Some(arguments) = arguments() else {
        writeln!(
            out,
            "distribution [--peers N] [--mix homes|fibre|steep] [--policy shoal|libtorrent] \
             [--mib N] [--scale N] [--connections N] [--burst-ms N] [--seed N] [--churn] [--json]"
        )?;
        return Ok(ExitCode::from(2));
    };
    let mut failed = false;
    for &mix in &arguments.mixes {
        for &(policy, choking) in &arguments.policies {
            let plan = Plan {
                mix,
                choking,
                ..arguments.plan
            };
            let setup = plan.setup();
            let started = Instant::now();
            match World::new(setup.clone()).run() {
                Ok(outcome) => {
                    let result = Distributed::of(&plan, &setup, &outcome);
                    let took_s = started.elapsed().as_secs_f64();
                    let text = if arguments.json {
                        json(&plan, policy, &result, took_s)
                    } else {
                        table(&plan, policy, &result, took_s)
                    };
                    out.write_all(text.as_bytes())?;
                }
                Err(failure) => {
                    failed = true;
                    writeln!(out, "{failure:?}")?;
                }
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn table(plan: &Plan, policy: &str, result: &Distributed, took_s: f64) -> String {
    let mut text = format!(
        "{} peers, {}{}, {policy}, seed {}: last completion {:.1} s, bound {:.1} s, ratio {:.3}; each piece at a peer after \
         {:.1} s; {:.2} % in vain; took {took_s:.0} s\n",
        plan.peers,
        plan.mix.name,
        if plan.churn { " with churn" } else { "" },
        plan.seed,
        result.last_s,
        result.bound_s,
        result.ratio(),
        result.copied_s,
        100.0 * result.vain,
    );
    for class in &result.classes {
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "  {:>4}/{:<4} Mbit/s, {:>4} peers: median {:.3}, last {:.3}; busy by tenths: up {}, down {}",
            class.link.down,
            class.link.up,
            class.peers,
            class.median,
            class.last,
            percents(&class.up_busy),
            percents(&class.down_busy),
        );
    }
    text
}

fn percents(shares: &[f64]) -> String {
    let percents = shares.iter().map(|share| format!("{:3.0}", 100.0 * share));
    percents.collect::<Vec<_>>().join(" ")
}

fn json(plan: &Plan, policy: &str, result: &Distributed, took_s: f64) -> String {
    let classes: Vec<String> = (result.classes.iter())
        .map(|class| {
            format!(
                r#"{{"down_mbit_per_s":{},"up_mbit_per_s":{},"peers":{},"median_ratio":{:.4},"last_ratio":{:.4},"up_busy":{:.3?},"down_busy":{:.3?}}}"#,
                class.link.down,
                class.link.up,
                class.peers,
                class.median,
                class.last,
                class.up_busy,
                class.down_busy
            )
        })
        .collect();
    format!(
        concat!(
            r#"{{"peers":{},"mix":"{}","policy":"{}","seed":{},"content_bytes":{},"scale":{},"churn":{},"#,
            r#""last_completion_s":{:.3},"fluid_bound_s":{:.3},"ratio":{:.4},"first_copies_s":{:.3},"vain":{:.5},"took_s":{:.1},"#,
            r#""links":[{}]}}"#,
            "\n"
        ),
        plan.peers,
        plan.mix.name,
        policy,
        plan.seed,
        plan.total_bytes,
        plan.scale,
        plan.churn,
        result.last_s,
        result.bound_s,
        result.ratio(),
        result.copied_s,
        result.vain,
        took_s,
        classes.join(",")
    )
}

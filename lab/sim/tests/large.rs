//! Swarms of the size that the fluid bound is reported for: 256 MiB in 1,024 pieces, one seed.
//!
//! The bound of each test is what was measured, rounded up: it fails when the engine gets worse.

mod common;

use common::{overhead, run};
use shoal_sim::scenario::{self, fluid_bound_s};
use shoal_sim::{NodeConfig, Setup};
use std::io::{self, Write};

/// Runs one figure, prints it, and returns the last completion over the fluid bound.
fn ratio(name: &str, setup: Setup) -> f64 {
    let outcome = run(setup.clone());
    let (last, bound) = (outcome.last_completion.as_secs_f64(), fluid_bound_s(&setup));
    let ratio = last / bound;
    let vain = 100.0 * (overhead(&setup, &outcome) - 1.0);
    writeln!(
        io::stdout(),
        "{name}: last completion {last:.1} s, fluid bound {bound:.1} s, ratio {ratio:.3}, {vain:.2} % received in vain"
    )
    .unwrap();
    ratio
}

fn figure(peers: u32, mix: fn(&mut fastrand::Rng) -> NodeConfig) -> Setup {
    scenario::figure(1, peers, mix)
}

#[test]
fn large_fifty_even_peers_finish_near_the_fluid_bound() {
    assert!(ratio("even, 50 peers", figure(50, scenario::even)) < 1.25);
}

#[test]
fn large_fifty_mixed_peers_finish_near_the_fluid_bound() {
    assert!(ratio("mixed, 50 peers", figure(50, scenario::mixed)) < 1.6);
}

#[test]
fn large_five_hundred_even_peers_finish_near_the_fluid_bound() {
    assert!(ratio("even, 500 peers", figure(500, scenario::even)) < 1.25);
}

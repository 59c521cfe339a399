//! Swarms of the size that the fluid bound is reported for: 256 MiB in 1,024 pieces, one seed.
//!
//! The bound of each test is what was measured, rounded up: it fails when the engine gets worse.

use core::time::Duration;
use shoal_sim::distribution::{FIBRE, HOMES, Mix, Plan};
use shoal_sim::scenario::{self, fluid_bound_s};
use shoal_sim::{Choking, NodeConfig, Outcome, Setup, World};

/// Runs a swarm in which everything is to go well.
fn run(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run();
    outcome.expect("every check holds, and everybody finishes in time")
}

/// Runs one figure, prints it, and returns the last completion over the fluid bound.
#[allow(clippy::print_stdout)]
fn ratio(name: &str, setup: &Setup) -> f64 {
    let outcome = run(setup.clone());
    let (last, bound) = (outcome.last_completion.as_secs_f64(), fluid_bound_s(setup));
    let ratio = last / bound;
    let vain = 100.0 * (outcome.overhead(setup) - 1.0);
    println!(
        "{name}: last completion {last:.1} s, fluid bound {bound:.1} s, ratio {ratio:.3}, {vain:.2} % in vain"
    );
    ratio
}

fn figure(peers: u32, mix: fn(&mut fastrand::Rng) -> NodeConfig) -> Setup {
    scenario::figure(1, peers, mix)
}

#[test]
fn large_fifty_even_peers_finish_near_the_fluid_bound() {
    assert!(ratio("even, 50 peers", &figure(50, scenario::even)) < 1.15);
}

#[test]
fn large_fifty_mixed_peers_finish_near_the_fluid_bound() {
    assert!(ratio("mixed, 50 peers", &figure(50, scenario::mixed)) < 1.6);
}

fn distribution(mix: Mix) -> Setup {
    let plan = Plan {
        seed: 1,
        peers: 50,
        mix,
        total_bytes: 1 << 30,
        scale: 1,
        connections: 50,
        burst: Duration::from_millis(10),
        choking: Choking::Ours,
        churn: false,
    };
    plan.setup()
}

#[test]
fn large_fifty_peers_on_the_links_of_homes_finish_near_the_fluid_bound() {
    assert!(ratio("homes, 50 peers", &distribution(HOMES)) < 1.15);
}

#[test]
fn large_fifty_peers_with_some_fibre_finish_near_the_fluid_bound() {
    assert!(ratio("fibre, 50 peers", &distribution(FIBRE)) < 1.15);
}

#[test]
fn large_five_hundred_even_peers_finish_near_the_fluid_bound() {
    assert!(ratio("even, 500 peers", &figure(500, scenario::even)) < 1.2);
}

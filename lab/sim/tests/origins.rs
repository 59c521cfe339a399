//! Peers and HTTP origins race for the same blocks.

use shoal_sim::scenario;
use shoal_sim::{NodeConfig, Outcome, Setup, World, mbit};

fn run(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run();
    outcome.expect("every check holds, and everybody finishes in time")
}

/// Bytes a second of a download, from first to last.
#[allow(clippy::cast_precision_loss)]
fn rate(setup: &Setup) -> f64 {
    let outcome = run(setup.clone());
    setup.total_bytes as f64 / outcome.last_completion.as_secs_f64()
}

#[test]
fn a_peer_and_an_origin_give_at_least_95_percent_of_their_sum() {
    for seed in 1..4 {
        let both = scenario::origin(seed, mbit(50));
        let (mut peer, mut origin) = (both.clone(), both.clone());
        peer.nodes.pop();
        origin.nodes.remove(0);
        let (peer, origin) = (rate(&peer), rate(&origin));
        let both = rate(&both);
        let share = both / (peer + origin);
        assert!(share >= 0.95, "seed {seed}: {share:.3}");
    }
}

#[test]
fn a_very_slow_origin_costs_at_most_one_percent() {
    for (seed, origin_up) in [(1, 20_000), (2, 2_000), (3, 200_000)] {
        let with = scenario::origin(seed, origin_up);
        let mut without = with.clone();
        without.nodes.pop();
        let share = rate(&with) / rate(&without);
        assert!(share >= 0.99, "{origin_up} bytes/s: {share:.4}");
    }
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn a_very_slow_peer_costs_a_fast_origin_at_most_one_percent() {
    let mut with = scenario::origin(5, mbit(50));
    with.nodes[0].up_bytes_per_s = 20_000;
    let mut without = with.clone();
    without.nodes[0] = NodeConfig {
        up_bytes_per_s: 1,
        nat: true,
        ..without.nodes[0].clone()
    };
    let share = rate(&with) / rate(&without);
    assert!(share >= 0.99, "{share:.4}");
}

#[test]
fn an_origin_alone_serves_a_swarm_and_the_peers_serve_each_other() {
    let mut setup = scenario::small(7, 10);
    setup.total_bytes = 32 * 1024 * 1024;
    setup.nodes[0] = NodeConfig::origin(mbit(20));
    let outcome = run(setup.clone());
    let from_origin = setup.total_bytes as f64 / mbit(20) as f64;
    // Ten downloads from the origin alone would take ten times that.
    let ratio = outcome.last_completion.as_secs_f64() / from_origin;
    assert!(ratio < 5.0, "{ratio:.2}");
}

#[test]
fn an_origin_that_lies_is_left_alone_and_nobody_else_is_blamed() {
    for seed in 1..6 {
        // That no honest peer is banned is checked in every run.
        let setup = scenario::lying_origin(seed);
        let outcome = run(setup.clone());
        let overhead = outcome.overhead(&setup);
        assert!(overhead < 1.2, "seed {seed}: {overhead:.3}");
    }
}

#[test]
fn what_is_left_at_a_slow_origin_is_fetched_again_elsewhere_at_the_end() {
    let mut setup = scenario::origin(9, 1_000);
    setup.total_bytes = 4 * 1024 * 1024;
    // A block takes the origin 16 s; the peer needs less than a second for everything.
    let outcome = run(setup);
    assert!(outcome.last_completion.as_secs_f64() < 4.0, "{outcome:?}");
}

//! What a person asks of a session: queues, pauses, checks, filters.

use shoal_machine::Moment;
use shoal_session::queue::Then;
use shoal_sim::scenario::session::{self, late};
use shoal_sim::{Action, NodeId, Outcome, Setup, World};
use std::time::Duration;

const LATE: Duration = Duration::from_millis(300);

/// Seeds that are the same each time, and some that nobody has tried. A failure names its seed.
fn seeds(fixed: u64) -> impl Iterator<Item = u64> {
    let mut dice = fastrand::Rng::new();
    (0..fixed).chain((0..3).map(move |_| dice.u64(..)))
}

/// Runs a swarm in which everything is to go well.
fn run(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run();
    outcome.expect("every check holds, and everybody finishes in time")
}

/// The same, until its bound.
fn run_to_bound(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run_to_bound();
    outcome.expect("every check holds, and everybody finishes in time")
}

/// That nobody says or dials anything after its stop is checked in every run.
#[test]
fn who_is_paused_is_silent_and_goes_on_without_having_lost_a_piece() {
    for seed in seeds(6) {
        let setup = session::pauses(seed);
        let stops = |action: &&(Moment, Action)| matches!(action.1, Action::Stop(_));
        let stops = setup.actions.iter().filter(stops).count() as u64;
        for setup in [setup.clone(), late(setup, LATE)] {
            let outcome = run(setup.clone());
            for node in &outcome.nodes[1..] {
                assert_eq!(node.verified.len(), 64, "seed {seed}: each piece once");
                let again = node.received_bytes - setup.total_bytes;
                let most = (1 + stops) * 2 * 1024 * 1024;
                assert!(again < most, "seed {seed}: {again} bytes again");
            }
        }
    }
}

/// That it says nothing to them is checked in every run.
#[test]
fn who_shuns_some_is_done_with_the_help_of_the_others() {
    for seed in seeds(6) {
        for setup in [session::shunned(seed), late(session::shunned(seed), LATE)] {
            let outcome = run(setup);
            let lost = outcome.nodes[1].lost_connections;
            assert!(lost > 0, "seed {seed}: it was connected to the seed");
            let last = outcome.last_completion;
            assert!(last < Moment::from_secs(120), "seed {seed}: {last:?}");
        }
    }
}

/// That it says nothing meanwhile is checked in every run. It is done 13 to 20 s after its return; without a word of that, after 80.
#[test]
fn whose_interface_was_gone_goes_on_at_once_when_it_is_back() {
    for seed in seeds(6) {
        let setup = session::adrift(seed);
        let back = setup.actions.iter().find_map(|(at, action)| match action {
            Action::InterfaceReturns(NodeId(1)) => Some(at.as_secs_f64()),
            _ => None,
        });
        for setup in [setup.clone(), late(setup, LATE)] {
            let outcome = run(setup);
            for node in &outcome.nodes {
                assert!(node.banned.is_empty(), "seed {seed}: nobody is to blame");
            }
            let node = &outcome.nodes[1];
            assert!(node.lost_connections > 0, "seed {seed}");
            assert_eq!(node.verified.len(), 256, "seed {seed}: each piece once");
            // Whom it knows it tries now and then, as its network may be back without a word.
            assert!(
                node.dials_adrift <= 6 * 4,
                "seed {seed}: {}",
                node.dials_adrift
            );
            let took = node.done_s() - back.unwrap();
            assert!(took < 30.0, "seed {seed}: {took} s after its return");
        }
    }
}

/// That nothing is said meanwhile, and nothing offered afterwards but what was found right, is checked in every run.
#[test]
fn whose_disk_is_read_again_has_what_was_found_right_and_fetches_the_rest() {
    for seed in seeds(6) {
        let setup = session::rechecked(seed);
        let rotten = setup.actions.iter().find_map(|(_, action)| match action {
            Action::Rot(NodeId(0), pieces) => Some(pieces.len()),
            _ => None,
        });
        for setup in [setup.clone(), late(setup, LATE)] {
            let outcome = run(setup);
            let fetched = outcome.nodes[0].verified.len();
            assert_eq!(Some(fetched), rotten, "seed {seed}: the seed's");
        }
    }
}

#[test]
fn a_node_that_dies_while_its_disk_is_read_goes_on_with_its_journal() {
    for seed in seeds(3) {
        for half_s in 4..20 {
            let mut setup = session::rechecked(seed);
            let at = Moment::ZERO + Duration::from_millis(500 * half_s + 250);
            for (at, action) in [
                (at, Action::Crash(NodeId(0))),
                (at + LATE, Action::Restart(NodeId(0))),
            ] {
                setup.actions.push((at, action));
            }
            run(setup);
        }
    }
}

/// That no more run than may, nobody waits beside a free place or for too long, and nobody starts again and again is checked in
/// every run.
#[test]
fn the_downloads_of_a_session_run_in_turn_and_the_slow_and_the_forced_beside_them() {
    for seed in seeds(4) {
        for setup in [
            session::queue_of_downloads(seed),
            late(session::queue_of_downloads(seed), LATE),
        ] {
            let torrents = setup.hosts[0].torrents.clone();
            let outcome = run(setup);
            let done = |number: usize| outcome.nodes[torrents[number].0 as usize].done_s();
            // The queue passes those by that find nobody, and who is forced is done before those it came after.
            assert!(done(1) < 60.0 && done(4) < 90.0, "seed {seed}");
            assert!(done(7) < done(6), "seed {seed}: forced");
            assert!(done(2) > 60.0, "seed {seed}: paused for a minute");
            assert!(done(0) > 90.0 && done(3) > 90.0, "seed {seed}");
        }
    }
}

#[test]
fn the_seeds_of_a_session_take_turns_until_each_has_given_enough() {
    for seed in seeds(4) {
        let setup = session::queue_of_seeds(seed, Then::Pause);
        let torrents = setup.hosts[0].torrents.clone();
        let outcome = run_to_bound(setup.clone());
        for node in torrents {
            let sent = outcome.nodes[node.0 as usize].sent_bytes;
            let copies = sent as f64 / setup.total_bytes as f64;
            assert!((2.0..2.2).contains(&copies), "seed {seed}: {copies}");
        }
    }
}

#[test]
fn seeds_that_have_given_enough_go_on_as_super_seeds_where_they_are_told_to() {
    for seed in seeds(4) {
        let setup = session::queue_of_seeds(seed, Then::SuperSeed);
        let torrents = setup.hosts[0].torrents.clone();
        let outcome = run(setup);
        for node in torrents {
            let became_one = outcome.nodes[node.0 as usize].super_seeded;
            assert!(became_one, "seed {seed}: {node:?}");
        }
    }
}

#[test]
fn the_disks_of_a_session_are_read_one_after_the_other_before_anybody_hears_of_it() {
    for seed in seeds(6) {
        for setup in [session::unread(seed), late(session::unread(seed), LATE)] {
            let torrents = setup.hosts[0].torrents.clone();
            let outcome = run(setup);
            // What was right is not fetched again.
            let first = &outcome.nodes[torrents[0].0 as usize];
            assert_eq!(first.received_bytes, 0, "seed {seed}");
        }
    }
}

//! Whole swarms that are small enough to be run in a moment.

use shoal_machine::Moment;
use shoal_metainfo::PieceIndex;
use shoal_sim::scenario::{self, fluid_bound_s, small};
use shoal_sim::{Action, Behaviour, NodeConfig, NodeId, Outcome, Setup, World, mbit};
use shoal_swarm::message::DeadlineLease;
use shoal_swarm::torrent::Priority;
use std::time::Duration;

/// Runs a swarm in which everything is to go well.
fn run(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run();
    outcome.expect("every check holds, and everybody finishes in time")
}

#[test]
fn one_seed_serves_one_peer_at_nearly_the_rate_of_its_link() {
    let setup = scenario::figure(1, 1, scenario::even);
    let outcome = run(setup.clone());
    let ratio = outcome.last_completion.as_secs_f64() / fluid_bound_s(&setup);
    assert!(ratio < 1.1, "{ratio}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| run(scenario::permuted(seed)).trace;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
    let trace = |seed| run(scenario::odd_company(seed)).trace;
    assert_eq!(trace(3), trace(3));
}

#[test]
fn machines_that_hear_of_each_other_late_and_out_of_order_still_finish_over_200_seeds() {
    for seed in 0..200 {
        run(scenario::permuted(seed));
    }
}

#[test]
fn late_news_between_machines_hurts_nobody_among_liars_and_odd_company() {
    for seed in 0..20 {
        run(scenario::late_liars(seed, shoal_sim::Proof::Pieces));
        run(scenario::late_liars(seed, shoal_sim::Proof::Blocks));
        run(scenario::late_company(seed));
    }
}

#[test]
fn a_liar_is_banned_and_honest_peers_finish() {
    for seed in 1..6 {
        let setup = scenario::liars(seed, 1, shoal_sim::Proof::Pieces);
        let outcome = run(setup.clone());
        let liar = NodeId(9);
        let bans = outcome
            .honest(&setup)
            .filter(|node| node.banned.contains(&liar));
        assert!(
            bans.count() >= 6,
            "seed {seed}: most who downloaded from it ban it"
        );
    }
}

#[test]
fn two_liars_who_share_pieces_with_honest_peers_are_told_from_them() {
    for seed in 1..6 {
        // That nobody else is banned is checked in every run.
        let setup = scenario::liars(seed, 2, shoal_sim::Proof::Pieces);
        let outcome = run(setup.clone());
        for liar in [NodeId(9), NodeId(10)] {
            let bans = outcome
                .honest(&setup)
                .filter(|node| node.banned.contains(&liar));
            assert!(bans.count() >= 4, "seed {seed}");
        }
    }
}

#[test]
fn block_hashes_convict_a_liar_sooner_than_piece_hashes() {
    let wasted = |proof| {
        let setup = scenario::liars(3, 2, proof);
        let outcome = run(setup.clone());
        outcome.overhead(&setup)
    };
    let (pieces, blocks) = (
        wasted(shoal_sim::Proof::Pieces),
        wasted(shoal_sim::Proof::Blocks),
    );
    assert!(blocks < pieces, "{blocks} against {pieces}");
}

/// After 80 seconds of each seed's swarm: the pieces of a peer that never uploads over those of an honest one, on average.
#[allow(clippy::print_stdout)]
fn share_of_free_riders(seeds: u64, seed_up_mbit_per_s: u64) -> f64 {
    let (mut honest, mut riders) = (0, 0);
    for seed in 1..=seeds {
        let mut setup = scenario::free_riders(seed);
        setup.nodes[0].up_bytes_per_s = mbit(seed_up_mbit_per_s);
        let outcome = run(setup);
        let received = |nodes: &[shoal_sim::NodeOutcome]| {
            let pieces = nodes.iter().flat_map(|node| &node.verified);
            let early = pieces.filter(|(_, at)| *at < Moment::from_secs(80));
            early.count()
        };
        honest += received(&outcome.nodes[1..11]);
        riders += received(&outcome.nodes[11..]);
    }
    let share = (riders as f64 / 2.0) / (honest as f64 / 10.0);
    println!("{seeds} swarms, a seed with {seed_up_mbit_per_s} Mbit/s up: {share:.3}");
    share
}

#[test]
fn a_peer_that_never_uploads_is_served_after_those_who_do() {
    assert!(share_of_free_riders(20, 20) < 0.9);
}

#[test]
fn peers_that_never_upload_gain_little_where_the_seed_is_what_all_wait_for() {
    // Reciprocation decides little where nobody has anything to give but what came from the seed a moment ago.
    assert!(share_of_free_riders(20, 5) < 1.1);
}

#[test]
fn peers_that_reject_flap_or_stop_in_the_middle_of_a_block_delay_nobody_for_long() {
    for seed in 1..6 {
        let outcome = run(scenario::odd_company(seed));
        let last = outcome.last_completion;
        assert!(last < Moment::from_secs(60), "seed {seed}: {last:?}");
    }
}

#[test]
fn while_peers_come_and_go_those_who_stay_finish() {
    // In the sixth a peer leaves while the end of one of its streams still waits to be sent.
    for seed in [2, 6] {
        run(scenario::churn(seed));
    }
}

#[test]
fn partial_seeds_that_have_everything_together_are_enough() {
    let outcome = run(scenario::partial_seeds(1));
    assert!(outcome.nodes.iter().all(|node| node.completed.is_some()));
}

#[test]
fn a_late_joiner_is_served_by_a_swarm_that_is_done() {
    let mut setup = small(4, 4);
    setup.nodes.push(NodeConfig {
        arrives: Moment::from_secs(120),
        ..NodeConfig::default()
    });
    let outcome = run(setup);
    let took = outcome.nodes[5].done_s() - 120.0;
    assert!(took < 15.0, "{took}");
}

#[test]
fn peers_behind_nat_finish_through_those_who_are_not() {
    let mut setup = small(5, 6);
    for node in &mut setup.nodes[2..] {
        node.nat = true;
    }
    run(setup);
}

#[test]
fn an_isolated_node_dials_whom_it_was_told_and_nobody_else() {
    let mut setup = small(6, 5);
    // That it dials nobody else is checked in every run.
    setup.nodes[3].isolated = Some(vec![NodeId(0), NodeId(1)]);
    run(setup);
}

#[test]
fn a_swarm_that_falls_apart_and_comes_together_again_finishes() {
    let mut setup = small(7, 6);
    setup.total_bytes = 16 * 1024 * 1024;
    for node in 4..7 {
        let node = NodeId(node);
        setup
            .actions
            .push((Moment::from_secs(3), Action::Part(node, 1)));
        setup
            .actions
            .push((Moment::from_secs(63), Action::Part(node, 0)));
    }
    let outcome = run(setup);
    assert!(outcome.last_completion > Moment::from_secs(63));
}

#[test]
fn few_slots_and_connections_are_enough() {
    let mut setup = small(8, 12);
    for node in &mut setup.nodes {
        *node = scenario::tight(node.clone());
    }
    run(setup);
}

#[test]
fn endgame_wastes_less_than_150_blocks_for_each_peer() {
    for seed in 1..4 {
        let mut setup = small(seed, 8);
        setup.total_bytes = 32 * 1024 * 1024;
        let outcome = run(setup.clone());
        for node in &outcome.nodes[1..] {
            let vain = (node.received_bytes - setup.total_bytes) / 16_384;
            assert!(vain < 150, "seed {seed}: {vain} blocks");
        }
    }
}

#[test]
fn pieces_come_in_order_where_that_is_wanted() {
    // Of peers that have only what is rare, no order could be had.
    let mut setup = small(9, 1);
    setup.total_bytes = 16 * 1024 * 1024;
    setup.nodes[1].sequential = true;
    let outcome = run(setup);
    let order: Vec<u32> = outcome.nodes[1]
        .verified
        .iter()
        .map(|(piece, _)| piece.0)
        .collect();
    let displaced = (0u32..)
        .zip(&order)
        .map(|(at, piece)| piece.abs_diff(at))
        .max();
    assert!(displaced < Some(4), "{order:?}");
}

/// A film of 2 Mbit/s on a link of 50.
fn film(seed: u64) -> (Setup, DeadlineLease) {
    let mut setup = small(seed, 6);
    setup.total_bytes = 32 * 1024 * 1024;
    let lease = DeadlineLease {
        id: 1,
        first: PieceIndex(0),
        last: PieceIndex(127),
        deadline: Moment::from_secs(10),
        rate_bytes_per_s: mbit(2),
    };
    let act = Action::Deadline(NodeId(1), lease);
    setup.actions.push((Moment::from_secs(1), act));
    (setup, lease)
}

#[test]
fn pieces_with_deadlines_come_in_time_where_the_links_allow() {
    for seed in 1..4 {
        let (setup, lease) = film(seed);
        let outcome = run(setup.clone());
        for &(piece, at) in &outcome.nodes[1].verified {
            let start = u64::from(piece.0) * u64::from(setup.piece_length);
            let due = lease.deadline + Duration::from_secs(start / lease.rate_bytes_per_s);
            assert!(
                at <= due,
                "seed {seed}: piece {piece} at {at:?}, due {due:?}"
            );
        }
    }
}

#[test]
fn a_selection_that_changes_on_the_way_is_followed() {
    let mut setup = small(10, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    let select = |first: usize| {
        let wanted = |at: usize| (first..first + 16).contains(&at);
        (0..64)
            .map(|at| {
                if wanted(at) {
                    Priority::Normal
                } else {
                    Priority::Skip
                }
            })
            .collect::<Vec<_>>()
    };
    setup.nodes[1].priorities = select(0);
    let act = |second, first| {
        let action = Action::Priorities(NodeId(1), select(first));
        (Moment::from_secs(second), action)
    };
    setup.actions = vec![act(2, 32), act(60, 8)];
    let mut at_last = setup.clone();
    at_last.bound = Moment::from_secs(200);
    let outcome = World::new(at_last).run_to_bound().unwrap();
    let pieces: Vec<u32> = outcome.nodes[1]
        .verified
        .iter()
        .map(|(piece, _)| piece.0)
        .collect();
    assert!(
        (8..24).chain(32..48).all(|piece| pieces.contains(&piece)),
        "{pieces:?}"
    );
    assert!(pieces.iter().all(|piece| *piece < 48), "{pieces:?}");
}

#[test]
fn a_flapping_choker_costs_a_swarm_little() {
    let mut setup = small(11, 5);
    setup.total_bytes = 32 * 1024 * 1024;
    setup.nodes.push(NodeConfig {
        behaviour: Behaviour::Flapper {
            period: Duration::from_millis(400),
        },
        start: shoal_sim::Start::Full,
        ..NodeConfig::default()
    });
    let outcome = run(setup.clone());
    let overhead = outcome.overhead(&setup);
    assert!(overhead < 1.06, "{overhead}");
}

/// Without peer exchange the seed would have to send all of it 20 times.
#[test]
fn peers_that_the_tracker_does_not_name_find_each_other_by_peer_exchange() {
    for seed in 1..4 {
        let setup = scenario::word_of_mouth(seed);
        let outcome = run(setup.clone());
        let copies = outcome.nodes[0].sent_bytes / setup.total_bytes;
        assert!(copies < 6, "seed {seed}: the seed sent {copies} copies");
    }
}

/// Copies of the content that the first seed had sent when the others had all of it between them.
#[allow(clippy::cast_precision_loss, clippy::print_stdout)]
fn copies_sent(setup: Setup) -> f64 {
    let total = setup.total_bytes as f64;
    let outcome = run(setup);
    let out = outcome.last_first_copy().as_secs_f64();
    // What was sent between two samples was sent evenly.
    let samples = [0].into_iter();
    let samples = samples.chain(outcome.nodes[0].samples.iter().map(|&(sent, _)| sent));
    let samples: Vec<u64> = samples.chain([outcome.nodes[0].sent_bytes]).collect();
    let steps = out / Outcome::SAMPLE.as_secs_f64();
    let sent = samples.windows(2).zip(0_u32..).map(|(step, at)| {
        let share = (steps - f64::from(at)).clamp(0.0, 1.0);
        (step[1] - step[0]) as f64 * share
    });
    let copies = sent.sum::<f64>() / total;
    println!(
        "{copies:.3} copies sent when all was out after {out:.0} s, done after {:.0} s",
        outcome.last_completion.as_secs_f64()
    );
    copies
}

#[test]
fn a_super_seed_sends_hardly_a_piece_twice_before_others_have_all_of_them() {
    for seed in 1..4 {
        let plain = copies_sent(scenario::first_seed(seed, false));
        let hidden = copies_sent(scenario::first_seed(seed, true));
        assert!(hidden < 1.05, "seed {seed}: {hidden} copies");
        assert!(hidden < plain, "seed {seed}: {hidden} against {plain}");
    }
}

#[test]
fn a_super_seed_serves_odd_company_single_peers_and_late_machines() {
    let mut single = small(1, 1);
    single.nodes[0].super_seed = true;
    run(single);
    for seed in 0..5 {
        for mut setup in [
            scenario::permuted(seed),
            scenario::odd_company(seed),
            scenario::word_of_mouth(seed),
        ] {
            setup.nodes[0].super_seed = true;
            run(setup);
        }
    }
}

#[test]
fn peers_of_a_super_seed_that_cannot_reach_each_other_are_served_all_the_same() {
    let mut setup = small(1, 3);
    setup.nodes[0].super_seed = true;
    for node in &mut setup.nodes[1..] {
        node.isolated = Some(vec![NodeId(0)]);
        node.nat = true;
    }
    run(setup);
}

/// Who is behind a router has the seed alone, unless the seed brings it together with others (BEP 55).
#[test]
fn peers_that_nobody_can_dial_are_brought_together_by_the_seed() {
    for seed in 1..4 {
        let mut setup = scenario::word_of_mouth(seed);
        for node in &mut setup.nodes[1..] {
            node.nat = true;
        }
        let outcome = run(setup.clone());
        let copies = outcome.nodes[0].sent_bytes / setup.total_bytes;
        assert!(copies < 8, "seed {seed}: the seed sent {copies} copies");
    }
}

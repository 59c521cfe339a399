//! Disks that fail, connections that break, processes that die.

use shoal_machine::Moment;
use shoal_metainfo::PieceIndex;
use shoal_sim::scenario::{self, small};
use shoal_sim::{Action, Delivery, NodeId, Outcome, Setup, World};
use std::time::Duration;

/// Runs a swarm in which everything is to go well.
fn run(setup: Setup) -> Outcome {
    let outcome = World::new(setup).run();
    outcome.expect("every check holds, and everybody finishes in time")
}

/// One seed, two peers, 8 pieces of 2 blocks.
fn tiny(seed: u64) -> Setup {
    let mut setup = small(seed, 2);
    setup.total_bytes = 8 * 32 * 1024 - 1_000;
    setup.piece_length = 32 * 1024;
    setup
}

#[test]
fn a_full_disk_pauses_a_download_which_goes_on_when_there_is_room() {
    let outcome = run(scenario::disk_full(1));
    assert_eq!(outcome.nodes[1].suspensions, 1);
    let done = outcome.nodes[1].done_s();
    assert!((63.0..100.0).contains(&done), "{done}");
    assert!(outcome.nodes[2].done_s() < 40.0, "the others do not wait");
}

#[test]
fn whichever_disk_operation_fails_the_transfer_is_completed() {
    let operations = run(tiny(1)).nodes[1].disk_operations;
    assert!(operations >= 8);
    for operation in 1..=operations {
        let mut setup = tiny(1);
        setup.nodes[1].disk.fail_operation = Some(operation);
        let outcome = run(setup);
        assert!(outcome.nodes[1].disk_operations > operations);
    }
}

#[test]
fn whichever_disk_operation_fails_under_late_news_the_transfer_is_completed() {
    for seed in 0..10 {
        for operation in 1..=12 {
            let mut setup = tiny(seed);
            setup.nodes[1].disk.fail_operation = Some(operation);
            setup.nodes[1].disk.cache_bytes = 64 * 1024;
            setup.delivery = Delivery::Permuted {
                longest: Duration::from_millis(200),
            };
            run(setup);
        }
    }
}

#[test]
fn whichever_message_a_connection_breaks_after_the_transfer_is_completed() {
    let messages = run(tiny(2)).messages;
    assert!(messages > 50);
    for message in 1..=messages {
        let mut setup = tiny(2);
        setup.drop_after_message = Some(message);
        run(setup);
    }
}

#[test]
fn a_process_that_dies_fetches_again_only_what_its_journal_did_not_record() {
    for second in 2..12 {
        let mut setup = small(3, 3);
        setup.total_bytes = 16 * 1024 * 1024;
        let (node, at) = (NodeId(1), Moment::from_secs(second));
        setup.actions = vec![
            (at, Action::Crash(node)),
            (at + Duration::from_secs(3), Action::Restart(node)),
        ];
        let outcome = run(setup.clone());
        // Each piece is verified once, in whichever life.
        assert_eq!(outcome.nodes[1].verified.len(), 64);
        let again = outcome.nodes[1].received_bytes - setup.total_bytes;
        assert!(
            again < 6 * 1024 * 1024,
            "second {second}: {again} bytes again"
        );
    }
}

#[test]
fn a_seed_that_stops_and_comes_back_completes_the_swarm() {
    let mut setup = small(4, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    setup.actions = vec![
        (Moment::from_secs(2), Action::Stop(NodeId(0))),
        (Moment::from_secs(90), Action::Restart(NodeId(0))),
    ];
    let outcome = run(setup);
    assert!(outcome.last_completion > Moment::from_secs(90));
}

#[test]
fn a_piece_that_rots_is_fetched_again() {
    let mut setup = small(5, 3);
    for second in 1..6 {
        for piece in 0..16 {
            let action = Action::Lose(NodeId(1), PieceIndex(piece));
            setup.actions.push((Moment::from_secs(second), action));
        }
    }
    run(setup);
}

#[test]
fn a_slow_disk_makes_its_peers_wait_and_loses_none_of_them() {
    let setup = scenario::slow_disk(1);
    let outcome = run(setup.clone());
    // That the cache keeps its bound is checked in every run.
    let done = outcome.nodes[1].done_s();
    let least = setup.total_bytes as f64 / 500_000.0;
    assert!((least..1.15 * least).contains(&done), "{done} of {least}");
    assert!(outcome.nodes[2].done_s() < 40.0, "the others do not wait");
    // That no honest peer is dropped for silence is checked in every run.
}

#[test]
fn connections_that_break_all_the_time_cost_time_and_nothing_else() {
    let mut setup = small(6, 4);
    for second in 1..20 {
        setup.actions.push(scenario::drop_at(second, 1));
    }
    run(setup);
}

#[test]
fn drives_that_go_and_come_back_cost_what_was_not_synced_and_nothing_else() {
    for seed in 0..8 {
        let setup = scenario::missing_volume(seed);
        let outcome = run(setup.clone());
        assert!(outcome.nodes[0].unreadable > 0, "it was asked");
        // Who asks in vain does not go on asking.
        let asked = outcome.nodes[0].unreadable + outcome.nodes[1].unreadable;
        assert!(asked < 1_200, "seed {seed}: {asked} requests");
        assert!(outcome.nodes[1].suspensions >= 1);
        let again = outcome.nodes[1].received_bytes - setup.total_bytes;
        assert!(again < 6 * 1024 * 1024, "seed {seed}: {again} bytes again");
        assert!(outcome.last_completion > Moment::from_secs(40));
    }
}

#[test]
fn files_that_are_moved_while_they_are_downloaded_are_completed() {
    for seed in 0..8 {
        let setup = scenario::moved(seed);
        let outcome = run(setup.clone());
        assert!(outcome.nodes[1].suspensions > 1);
        assert_eq!(outcome.nodes[1].unreadable, 0, "what is there is served");
        assert_eq!(outcome.nodes[1].verified.len(), 64, "nothing twice");
        assert_eq!(
            outcome.nodes[0].suspensions, 0,
            "a seed has nothing to write"
        );
    }
}

#[test]
fn killed_while_its_drive_is_away_or_its_files_move_a_node_goes_on_with_its_journal() {
    for (name, outages) in [
        ("moved", scenario::moved(1)),
        ("away", scenario::missing_volume(1)),
    ] {
        for half_s in 2..24 {
            let mut setup = outages.clone();
            let at = Moment::ZERO + Duration::from_millis(500 * half_s);
            let node = NodeId(1);
            setup.actions.push((at, Action::Crash(node)));
            setup
                .actions
                .push((at + Duration::from_secs(2), Action::Restart(node)));
            setup.actions.sort_by_key(|(at, _)| *at);
            let outcome = run(setup);
            let verified = outcome.nodes[1].verified.len();
            assert!(verified >= 64, "{name}, {at:?}: {verified}");
        }
    }
}

//! A DHT with churn and liars: who announced itself is found, and without the rules against liars it is not.

use core::time::Duration;
use shoal_sim::dht::{DhtOutcome, DhtSetup, DhtWorld, Lies};

/// A fifth of the size, in which a search is a step shorter.
fn small(lies: Lies) -> DhtSetup {
    DhtSetup {
        contacts: 2_000,
        sybil_networks: 100,
        time: Duration::from_secs(10 * 60),
        searches: 300,
        ..DhtSetup::large(1, lies)
    }
}

/// Runs a DHT and prints what came of it.
#[allow(clippy::print_stdout)]
fn run(name: &str, setup: DhtSetup) -> DhtOutcome {
    let outcome = DhtWorld::new(setup).run();
    println!(
        "{name}: {:.2} % found every peer, {:.2} % one, of {} searches; {} datagrams",
        100.0 * outcome.found_all(),
        100.0 * outcome.found_one(),
        outcome.figures.searches,
        outcome.datagrams,
    );
    outcome
}

#[test]
fn peers_are_found_among_liars_that_name_each_other() {
    let outcome = run("crowd", small(Lies::Crowd));
    assert!(outcome.figures.searches > 250);
    assert!(outcome.found_all() >= 0.99);
}

#[test]
fn peers_are_found_among_liars_that_make_up_ids() {
    assert!(run("made-up ids", small(Lies::MadeUpIds)).found_all() >= 0.99);
}

#[test]
fn a_search_over_one_path_ends_among_liars() {
    let mut setup = small(Lies::Crowd);
    setup.settings.paths = 1;
    assert!(run("crowd, one path", setup).found_all() < 0.95);
}

#[test]
fn liars_of_few_networks_win_where_networks_do_not_count() {
    let mut setup = small(Lies::MadeUpIds);
    setup.sybil_networks = 10;
    setup.settings.one_per_network = false;
    setup.settings.prefer_secure = false;
    assert!(run("made-up ids, no rules", setup.clone()).found_all() < 0.5);
    setup.settings.one_per_network = true;
    assert!(run("made-up ids, rule of networks alone", setup).found_all() >= 0.95);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let setup = DhtSetup {
            contacts: 300,
            searches: 50,
            ..small(Lies::Crowd)
        };
        DhtWorld::new(setup).run()
    };
    assert_eq!(run(), run());
}

#[test]
fn large_ten_thousand_contacts_with_churn_and_liars_that_name_each_other() {
    let outcome = run("10,000, crowd", DhtSetup::large(1, Lies::Crowd));
    assert!(outcome.figures.searches > 450);
    assert!(outcome.found_all() >= 0.99);
}

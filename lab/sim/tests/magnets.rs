//! Metadata from several peers, of which some lie, dawdle, reject and leave; of torrents of every kind, by every hash.

use Manner::{Honest, KnowsV1, LeavesAfter, Rejects, Silent, WrongHashes, WrongPiece, WrongSize};
use shoal_sim::magnet::{Kind, MagnetOutcome, MagnetSetup, MagnetWorld, Manner};

const SEEDS: u64 = 20;

const BOTH: (bool, bool) = (true, true);

/// Metadata of 5 pieces, and 4,000 hashes in the piece layer of v2.
fn setup(seed: u64, kind: Kind, remotes: &[Manner]) -> MagnetSetup {
    MagnetSetup {
        seed,
        kind,
        pieces: 4_000,
        named: BOTH,
        remotes: remotes.to_vec(),
    }
}

fn run(setup: &MagnetSetup) -> MagnetOutcome {
    let outcome = MagnetWorld::new(setup.clone()).run();
    for &remote in &outcome.banned {
        let manner = setup.remotes[remote];
        let lies = matches!(manner, WrongPiece(_) | WrongSize(_) | WrongHashes);
        assert!(lies, "{manner:?} was banned, seed {}", setup.seed);
    }
    outcome
}

/// Everything is found by every seed, within so many seconds; gives the outcomes.
fn all_find(kind: Kind, remotes: &[Manner], within_s: f64) -> Vec<MagnetOutcome> {
    let outcomes = (0..SEEDS).map(|seed| run(&setup(seed, kind, remotes)));
    let outcomes: Vec<MagnetOutcome> = outcomes.collect();
    for (seed, outcome) in outcomes.iter().enumerate() {
        let found_s = outcome.found_s();
        assert!(
            found_s <= within_s,
            "{found_s} s by seed {seed} of {remotes:?}"
        );
    }
    outcomes
}

#[test]
fn several_peers_give_metadata_together_and_each_piece_once() {
    for outcome in all_find(Kind::V1, &[Honest; 5], 3.0) {
        let (found, _) = outcome.found.unwrap();
        assert_eq!(outcome.metadata_bytes, found.info.len() as u64);
        assert_eq!(outcome.banned.len(), 0);
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let remotes = [
        Honest,
        WrongPiece(1),
        WrongSize(9_000),
        LeavesAfter(1),
        Silent,
    ];
    let one = |seed| run(&setup(seed, Kind::Hybrid, &remotes));
    assert_eq!(one(5), one(5));
    assert_ne!(one(5).trace, one(6).trace);
}

#[test]
fn liars_about_bytes_are_found_out_among_few_honest_peers() {
    let remotes: Vec<Manner> = (0..12)
        .map(|at| WrongPiece(at % 5))
        .chain([Honest])
        .collect();
    let outcomes = all_find(Kind::V1, &remotes, 30.0);
    // Who happens to be asked for other pieces than the one that it lies about is not found out.
    assert!(outcomes.iter().any(|outcome| outcome.banned.len() > 1));
}

#[test]
fn liars_about_size_cost_only_what_they_send_themselves() {
    let sizes = [1, 16_384, 80_000, 1_000_000, 10 * 1024 * 1024];
    let remotes: Vec<Manner> = sizes.map(WrongSize).into_iter().chain([Honest]).collect();
    all_find(Kind::V1, &remotes, 60.0);
    // With more honest peers than liars, their size comes first.
    let remotes = [&remotes[..], &[Honest; 5]].concat();
    all_find(Kind::V1, &remotes, 10.0);
}

#[test]
fn peers_that_leave_are_silent_or_reject_are_replaced() {
    all_find(Kind::V1, &[LeavesAfter(0), LeavesAfter(2), Honest], 15.0);
    all_find(Kind::V1, &[Silent, Silent, Honest], 15.0);
    all_find(Kind::V1, &[Rejects, Rejects, Honest], 15.0);
    // What those leave behind who give a part each is put together.
    all_find(Kind::V1, &[LeavesAfter(3), LeavesAfter(3)], 60.0);
}

#[test]
fn nobody_who_tells_the_truth_is_no_end() {
    let outcome = run(&setup(
        1,
        Kind::V1,
        &[WrongPiece(0), WrongSize(100), Silent],
    ));
    assert_eq!(outcome.found, None);
}

#[test]
fn a_v2_torrent_is_found_with_its_piece_layer() {
    for outcome in all_find(Kind::V2, &[Honest; 3], 5.0) {
        let (found, _) = outcome.found.unwrap();
        assert!(!found.v1_only);
        assert_eq!(found.layers.values().map(Vec::len).sum::<usize>(), 4_000);
    }
}

#[test]
fn a_liar_about_hashes_is_banned_and_the_others_give_them() {
    for outcome in all_find(Kind::V2, &[WrongHashes, Honest, WrongHashes], 15.0) {
        assert!(!outcome.found.unwrap().0.v1_only);
    }
}

#[test]
fn a_hybrid_is_found_by_either_hash_with_what_verifies_both_parts() {
    for named in [(true, true), (true, false), (false, true)] {
        for seed in 0..SEEDS {
            let outcome = run(&MagnetSetup {
                named,
                ..setup(seed, Kind::Hybrid, &[Honest, Honest])
            });
            assert!(outcome.found_s() < 10.0, "{named:?}");
            let (found, _) = outcome.found.unwrap();
            assert!(!found.v1_only, "{named:?}");
            assert_eq!(found.layers.len(), 1);
        }
    }
}

#[test]
fn a_hybrid_among_peers_that_know_v1_alone_is_a_v1_torrent_by_its_v1_hash() {
    for seed in 0..SEEDS {
        let outcome = run(&MagnetSetup {
            named: (true, false),
            ..setup(seed, Kind::Hybrid, &[KnowsV1, KnowsV1])
        });
        assert!(outcome.found_s() < 15.0, "{}", outcome.found_s());
        assert!(outcome.found.unwrap().0.v1_only);
    }
}

//! uTP on one link: alone, with its own kind, beside TCP, and on links that spoil what they carry. Every test prints its figures;
//! docs/simulation.md lists them.

#![allow(
    clippy::print_stdout,
    reason = "figures are printed for docs/simulation.md"
)]

use shoal_sim::bottleneck::{Control, Flow, Kind, Outcome, Path, Setup, run};
use std::time::Duration;

const RENO: Kind = Kind::Tcp(Control::Reno);
const CUBIC: Kind = Kind::Tcp(Control::Cubic);

/// Payload of a packet of ordinary length.
const PAYLOAD_BYTES: f64 = 1_452.0;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Flows with the milliseconds at which they start.
fn watch(path: Path, flows: &[(Kind, u64)], seconds: u64, seed: u64) -> Outcome {
    let flow = |(kind, start_ms): &(Kind, u64)| Flow {
        kind: *kind,
        start: ms(*start_ms),
    };
    run(&Setup {
        path,
        flows: flows.iter().map(flow).collect(),
        time: Duration::from_secs(seconds),
        seed,
    })
}

/// 100 Mbit/s with a round trip of 100 ms, and a queue of 200 ms.
fn long_and_fast() -> Path {
    Path::new(100, ms(100), ms(200))
}

#[test]
fn alone_it_fills_a_long_and_fast_path_and_keeps_the_queue_short() {
    let outcome = watch(long_and_fast(), &[(Kind::Utp, 0)], 60, 1);
    let (all, last) = (outcome.share(0, 0..60), outcome.share(0, 30..60));
    let queue = outcome.longest_queue(0..60);
    println!("alone: {all:.3} of the link, {last:.3} from 30 s on, queue {queue:?}");
    assert!(all >= 0.9 && last >= 0.94);
    assert!(queue <= ms(100));
    assert_eq!(outcome.dropped, 0);
}

#[test]
fn alone_it_fills_other_paths_too() {
    for (mbit, round_trip, least) in [
        (10, 20, 0.9),
        (10, 100, 0.9),
        (50, 50, 0.9),
        (100, 200, 0.8),
    ] {
        let path = Path::new(mbit, ms(round_trip), ms(200));
        let outcome = watch(path, &[(Kind::Utp, 0)], 120, 1);
        let (share, queue) = (outcome.share(0, 0..120), outcome.longest_queue(0..120));
        println!("alone, {mbit} Mbit/s, {round_trip} ms: {share:.3}, queue {queue:?}");
        assert!(share >= least && queue <= ms(100));
    }
}

#[test]
fn random_loss_leaves_it_the_rate_of_mathis() {
    for round_trip in [20, 50, 100, 200] {
        for seed in 1..=3 {
            let path = Path {
                lost_per_million: 10_000,
                ..Path::new(100, ms(round_trip), ms(200))
            };
            let outcome = watch(path, &[(Kind::Utp, 0)], 120, seed);
            let rate = outcome.goodput_bytes_per_s(0, 0..120);
            let mathis = PAYLOAD_BYTES / ms(round_trip).as_secs_f64() * 1.22 / 0.01_f64.sqrt();
            let ratio = rate / mathis;
            println!("1 % loss, {round_trip} ms, seed {seed}: {ratio:.2} of Mathis' rate");
            assert!(ratio >= 1.0);
        }
    }
}

#[test]
fn beside_tcp_it_takes_a_tenth_at_most() {
    for (mbit, round_trip, queue) in [
        (20, 50, 200),
        (20, 20, 100),
        (100, 100, 100),
        (100, 100, 200),
        (100, 20, 100),
    ] {
        for (name, control) in [("Reno", RENO), ("Cubic", CUBIC)] {
            let path = Path::new(mbit, ms(round_trip), ms(queue));
            let outcome = watch(path, &[(control, 0), (Kind::Utp, 5_000)], 180, 1);
            let (early, late) = (outcome.share(1, 5..60), outcome.share(1, 60..180));
            let tcp = outcome.share(0, 60..180);
            println!(
                "beside {name}, {mbit} Mbit/s, {round_trip} ms, queue {queue} ms: {early:.3} in the first minute, {late:.3} in the next two, TCP {tcp:.3}"
            );
            assert!(late <= 0.1);
        }
    }
}

#[test]
fn beside_tcp_with_a_buffer_shorter_than_the_target_it_yields_too() {
    for (name, control) in [("Reno", RENO), ("Cubic", CUBIC)] {
        let path = Path::new(10, ms(50), ms(20));
        let outcome = watch(path, &[(control, 0), (Kind::Utp, 5_000)], 180, 1);
        let (utp, tcp) = (outcome.share(1, 60..180), outcome.share(0, 60..180));
        println!("beside {name} with a buffer of 20 ms: {utp:.3}, TCP {tcp:.3}");
        assert!(utp < 0.15);
    }
}

#[test]
fn flows_that_start_together_are_within_a_fifth_of_each_other_after_a_minute() {
    for count in [2, 4] {
        for seed in 1..=3 {
            let flows: Vec<_> = (0..count).map(|at| (Kind::Utp, at * 130 * seed)).collect();
            let outcome = watch(long_and_fast(), &flows, 90, seed);
            let shares = (0..flows.len()).map(|flow| outcome.share(flow, 60..90));
            let (least, most) = shares.fold((1.0_f64, 0.0_f64), |(least, most), share| {
                (least.min(share), most.max(share))
            });
            println!("{count} flows, seed {seed}: {least:.3} to {most:.3}");
            assert!(least / most >= 0.8);
            assert!(least * count as f64 > 0.7);
        }
    }
}

#[test]
fn who_comes_late_neither_starves_nor_starves_others() {
    for start_ms in [20_000, 27_000, 33_000] {
        let flows = [(Kind::Utp, 0), (Kind::Utp, start_ms)];
        let outcome = watch(long_and_fast(), &flows, 150, 1);
        let shares = [0, 1].map(|flow| outcome.share(flow, 60..150));
        let queue = outcome.longest_queue(60..150);
        println!("late by {start_ms} ms: {shares:.3?} from 60 s on, queue {queue:?}");
        assert!(shares.iter().all(|share| *share > 0.3));
    }
}

#[test]
fn faults_of_every_kind_cost_time_and_no_bytes() {
    let base = Path::new(20, ms(50), ms(200));
    let cases = [
        (
            "2 % come up to 30 ms late",
            0.5,
            Path {
                late_per_million: 20_000,
                late_by: ms(30),
                ..base
            },
        ),
        (
            "all come up to 10 ms late",
            0.3,
            Path {
                late_per_million: 1_000_000,
                late_by: ms(10),
                ..base
            },
        ),
        (
            "5 % come twice",
            0.85,
            Path {
                doubled_per_million: 50_000,
                ..base
            },
        ),
        (
            "1 % are damaged",
            0.05,
            Path {
                damaged_per_million: 10_000,
                ..base
            },
        ),
        (
            "all of it",
            0.02,
            Path {
                lost_per_million: 20_000,
                late_per_million: 100_000,
                late_by: ms(30),
                doubled_per_million: 20_000,
                damaged_per_million: 10_000,
                ..base
            },
        ),
    ];
    for (name, least, path) in cases {
        for seed in 1..=3 {
            let outcome = watch(path, &[(Kind::Utp, 0)], 60, seed);
            let share = outcome.share(0, 0..60);
            println!("{name}, seed {seed}: {share:.3}");
            assert!(share >= least);
        }
    }
}

#[test]
fn tiny_buffers_are_lived_with() {
    for (mbit, round_trip, packets, least) in
        [(10, 50, 5, 0.6), (10, 50, 20, 0.7), (1, 100, 3, 0.5)]
    {
        let path = Path {
            queue_bytes: packets * 1_500,
            ..Path::new(mbit, ms(round_trip), ms(1))
        };
        let outcome = watch(path, &[(Kind::Utp, 0)], 120, 1);
        let share = outcome.share(0, 0..120);
        println!("{mbit} Mbit/s, {round_trip} ms, {packets} packets of buffer: {share:.3}");
        assert!(share >= least);
    }
}

#[test]
fn what_is_too_long_for_a_path_is_found_out_and_costs_little() {
    for longest_bytes in [1_280, 1_400, 1_492, 1_500] {
        let path = Path {
            longest_bytes,
            ..Path::new(20, ms(50), ms(200))
        };
        let outcome = watch(path, &[(Kind::Utp, 0)], 60, 1);
        let (share, found) = (outcome.share(0, 0..60), outcome.longest_packet_bytes);
        println!("packets of at most {longest_bytes} bytes: {share:.3}, the longest had {found}");
        assert!(share >= 0.9);
        // The search ends where less than 8 bytes are to be gained.
        assert!((longest_bytes - 7..=longest_bytes).contains(&found));
    }
}

#[test]
fn a_run_of_a_seed_is_the_same_run() {
    let path = Path {
        lost_per_million: 10_000,
        late_per_million: 10_000,
        late_by: ms(10),
        ..Path::new(10, ms(30), ms(100))
    };
    let flows = [(Kind::Utp, 0), (CUBIC, 100), (Kind::Utp, 500)];
    let runs = [1, 1, 2].map(|seed| format!("{:?}", watch(path, &flows, 10, seed)));
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

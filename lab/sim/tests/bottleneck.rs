//! uTP on one link, alone, with itself and with TCP: what issue and draft promise, with bounds. docs/simulation.md has the figures.
use shoal_sim::bottleneck::*;
use std::time::Duration;
fn ms(x: u64) -> Duration { Duration::from_millis(x) }
fn go(path: Path, flows: &[(Kind, u64)], secs: u64, seed: u64) -> Outcome {
    let flows = flows.iter().map(|(k, s)| Flow { kind: *k, start: ms(*s) }).collect();
    run(&Setup { path, flows, time: Duration::from_secs(secs), seed })
}
#[test]
fn explore() {
    let u = Kind::Utp;
    let r = Kind::Tcp(Control::Reno);
    let c = Kind::Tcp(Control::Cubic);
    let p = Path::new(100, ms(100), ms(200));
    let show = |name: &str, o: &Outcome, n: usize| {
        for f in 0..o.carried_bytes.len() {
            println!("{name} flow {f}: all {:.3} last20 {:.3} goodput {:.0} q {:?} q20 {:?} drops {}", o.share(f, 0..n), o.share(f, n-20..n), o.goodput_bytes_per_s(f, 0..n), o.longest_queue(0..n), o.longest_queue(n-20..n), o.dropped);
        }
    };
    let o = go(p, &[(u, 0)], 60, 1);
    show("alone", &o, 60);
    println!("{:?}", o.carried_bytes[0].iter().map(|b| b * 100 / o.rate_bytes_per_s).collect::<Vec<_>>());
    println!("{:?}", o.queue.iter().map(|b| b.as_millis()).collect::<Vec<_>>());
    show("alone reno", &go(p, &[(r, 0)], 60, 1), 60);
    show("alone cubic", &go(p, &[(c, 0)], 60, 1), 60);
    for rtt in [20, 100, 200] {
        let mut l = Path::new(100, ms(rtt), ms(200));
        l.lost_per_million = 10_000;
        let mathis = 1452.0 / (rtt as f64 / 1000.0) * 1.22 / 0.1;
        println!("mathis {rtt}: {mathis:.0}");
        show("loss", &go(l, &[(u, 0)], 60, 1), 60);
        show("loss reno", &go(l, &[(r, 0)], 60, 1), 60);
    }
    for (m, rtt, q) in [(20, 50, 200), (100, 100, 100), (100, 100, 200), (100, 20, 100), (10, 50, 20)] {
        let p = Path::new(m, ms(rtt), ms(q));
        for k in [r, c] {
            let o = go(p, &[(k, 0), (u, 5_000)], 120, 1);
            show(&format!("beside {k:?} {m} {rtt} {q}"), &o, 120);
            println!("{:?}", o.carried_bytes[1].iter().map(|b| b * 100 / o.rate_bytes_per_s).collect::<Vec<_>>());
        }
    }
    for n in [2, 4] {
        let o = go(p, &(0..n).map(|i| (u, i * 130)).collect::<Vec<_>>(), 120, 1);
        show(&format!("together {n}"), &o, 80);
        show(&format!("together {n}"), &o, 120);
    }
    let o = go(p, &[(u, 0), (u, 20_000)], 140, 1);
    show("late", &o, 80);
    show("late", &o, 140);
    println!("{:?}", o.carried_bytes[0].iter().map(|b| b * 100 / o.rate_bytes_per_s).collect::<Vec<_>>());
    println!("{:?}", o.carried_bytes[1].iter().map(|b| b * 100 / o.rate_bytes_per_s).collect::<Vec<_>>());
}

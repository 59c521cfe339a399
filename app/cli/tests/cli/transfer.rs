//! `get` from `seed` over loopback: whole, in part, interrupted, killed and told to go on.

use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Running, World, assert_same, text};

/// The arguments of a `get` into `target` from the peer at `address`.
fn get<'a>(torrent: &'a str, target: &'a str, address: &'a str) -> Vec<&'a str> {
    let usual = ["--json", "get", torrent, "-o", target, "--peer", address];
    [&usual[..], &["--listen", "127.0.0.1:0"]].concat()
}

fn number(event: &Value, field: &str) -> u64 {
    event[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {field}: {event}"))
}

#[test]
fn every_kind_of_torrent_arrives_whole() {
    for kind in ["--v1", "--v2", "--hybrid"] {
        let world = World::new();
        let album = world.album();
        let torrent = world.torrent(&album, kind);
        let seed = world.seed(&torrent, &world.path("source"), &[]);
        let target = text(&world.folder("target"));
        let said = world.run(&get(&torrent, &target, &seed.address)).expect(0);
        assert_same(&album, &world.path("target/album"));
        let complete = said.event("complete");
        assert_eq!(number(&complete, "failed_pieces"), 0, "{kind}");
        assert_eq!(said.events()[0]["event"], "listening");
        world.run(&["check", &torrent, "--data", &target]).expect(0);

        // Again: all is known, and nothing is fetched or read.
        let again = world.run(&get(&torrent, &target, &seed.address)).expect(0);
        let complete = again.event("complete");
        assert_eq!(
            complete["resumed_pieces"], complete["verified_pieces"],
            "{kind}"
        );
        assert_eq!(number(&complete, "downloaded_bytes"), 0);
        assert!(
            again
                .events()
                .iter()
                .all(|event| event["event"] != "checking")
        );
    }
}

#[test]
fn a_single_file_arrives_as_a_file() {
    let world = World::new();
    let file = world.file("source/one.bin", 250_000);
    let torrent = world.torrent(&file, "--hybrid");
    let seed = world.seed(&torrent, &world.path("source"), &["--trust"]);
    let target = text(&world.folder("target"));
    let more = ["--sequential", "--preallocate"];
    let arguments = [&get(&torrent, &target, &seed.address)[..], &more].concat();
    world.run(&arguments).expect(0);
    assert_same(&file, &world.path("target/one.bin"));
}

#[test]
fn only_what_is_selected_arrives() {
    for kind in ["--v1", "--v2", "--hybrid"] {
        let world = World::new();
        let album = world.album();
        let torrent = world.torrent(&album, kind);
        let seed = world.seed(&torrent, &world.path("source"), &[]);
        let target = text(&world.folder("target"));
        let some = [
            &get(&torrent, &target, &seed.address)[..],
            &["--select", "2-3"],
        ]
        .concat();
        world.run(&some).expect(0);
        assert_same(&album.join("sub"), &world.path("target/album/sub"));
        assert!(world.path("target/album/empty").exists());
        assert!(!world.path("target/album/a.bin").exists(), "{kind}");
        world.run(&get(&torrent, &target, &seed.address)).expect(0);
        assert_same(&album, &world.path("target/album"));
    }
}

/// A download that is slow enough to be caught, of 8 MiB in pieces of 32 KiB.
fn slow(world: &World) -> (String, Running) {
    let file = world.file("source/big.bin", 8 << 20);
    let torrent = world.torrent(&file, "--hybrid");
    let seed = world.seed(&torrent, &world.path("source"), &["--trust"]);
    (torrent, seed)
}

fn start_slowly(world: &World, torrent: &str, target: &str, seed: &Running) -> (Running, u64) {
    let limited = ["--download-limit", "1M"];
    let arguments = [&get(torrent, target, &seed.address)[..], &limited].concat();
    let mut download = Running::start(&mut world.command(&arguments));
    let enough = |event: &Value| event["verified_bytes"].as_u64() >= Some(512 * 1024);
    let progress = download.wait_for(|event| event["event"] == "progress" && enough(event));
    (download, number(&progress, "verified_bytes") / (32 * 1024))
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let world = World::new();
    let (torrent, seed) = slow(&world);
    let target = text(&world.folder("target"));
    let (mut download, verified) = start_slowly(&world, &torrent, &target, &seed);
    download.kill();

    let said = world.run(&get(&torrent, &target, &seed.address)).expect(0);
    let started = said.event("started");
    let resumed = number(&started, "resumed_pieces");
    assert!(resumed >= verified, "{resumed} of {verified}");
    assert!(resumed < number(&started, "piece_count"));
    assert_same(&world.path("source/big.bin"), &world.path("target/big.bin"));
}

#[test]
fn a_signal_ends_a_download_in_time_and_loses_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new();
        let (torrent, seed) = slow(&world);
        let target = text(&world.folder("target"));
        let (download, verified) = start_slowly(&world, &torrent, &target, &seed);
        let asked = Instant::now();
        download.signal(signal);
        let said = download.end().expect(130);
        // The promise of the command, not a measure of this machine.
        assert!(
            asked.elapsed() < Duration::from_secs(4),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(said.event("stopped")["reason"], "interrupted");
        assert_eq!(said.event("error")["exit_code"], 130);

        let again = world.run(&get(&torrent, &target, &seed.address)).expect(0);
        assert!(number(&again.event("started"), "resumed_pieces") >= verified);
        assert_same(&world.path("source/big.bin"), &world.path("target/big.bin"));
    }
}

#[test]
fn a_seed_ends_well_when_it_is_told_to() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let mut seed = world.seed(&torrent, &world.path("source"), &[]);
    seed.wait_for(|event| event["event"] == "started");
    seed.signal(Signal::TERM);
    let said = seed.end().expect(0);
    assert_eq!(said.event("stopped")["reason"], "interrupted");
    assert!(said.stderr.is_empty(), "{said:?}");
}

#[test]
fn a_seed_can_be_started_again_and_again() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    for trust in [&["--trust"][..], &[], &[], &["--trust"]] {
        let mut seed = world.seed(&torrent, &world.path("source"), trust);
        let started = seed.wait_for(|event| event["event"] == "started");
        assert_eq!(
            started["verified_pieces"], started["piece_count"],
            "{trust:?}"
        );
    }
}

#[test]
fn what_was_downloaded_is_seeded_without_reading_it() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v2");
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    let target = text(&world.folder("target"));
    world.run(&get(&torrent, &target, &seed.address)).expect(0);
    let arguments = [
        "--json",
        "seed",
        &torrent,
        "--data",
        &target,
        "--listen",
        "127.0.0.1:0",
    ];
    let mut second = Running::start(&mut world.command(&arguments));
    let started = second.wait_for(|event| event["event"] != "progress");
    assert_eq!(started["event"], "started");
    assert_eq!(started["resumed_pieces"], started["piece_count"]);
}

#[test]
fn a_dead_tracker_neither_delays_nor_fails_a_download() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    let target = text(&world.folder("target"));
    // Discarded by the kernel: nobody answers on a port without a listener.
    let dead = [
        "--tracker",
        "http://127.0.0.1:1/announce",
        "--tracker",
        "udp://127.0.0.1:1",
    ];
    world
        .run(&[&get(&torrent, &target, &seed.address)[..], &dead].concat())
        .expect(0);
    assert_same(&album, &world.path("target/album"));
}

#[test]
fn a_download_told_to_seed_seeds_until_its_time_is_over() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v2");
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    let target = text(&world.folder("target"));
    let arguments = [
        &get(&torrent, &target, &seed.address)[..],
        &["--seed-time", "1s"],
    ]
    .concat();
    let said = world.run(&arguments).expect(0);
    said.event("complete");
    let stopped = said.event("stopped");
    assert_eq!(stopped["reason"], "goal_reached");
    assert_eq!(stopped["complete"], true);
}

#[test]
fn a_download_passes_on_what_it_has_until_its_ratio() {
    let world = World::new();
    let (torrent, seed) = slow(&world);
    let (first, second) = (text(&world.folder("first")), text(&world.folder("second")));
    let ratio = [
        &get(&torrent, &first, &seed.address)[..],
        &["--seed-ratio", "0.1"],
    ]
    .concat();
    let mut middle = Running::start(&mut world.command(&ratio));
    middle.wait_for(|event| event["event"] == "complete");
    // Only the first download is left to fetch from.
    let _last = start_slowly(&world, &torrent, &second, &middle);
    let stopped = middle.end().expect(0).event("stopped");
    assert_eq!(stopped["reason"], "goal_reached");
    assert!(number(&stopped, "uploaded_bytes") >= (8 << 20) / 10);
}

#[test]
fn one_download_at_a_time_uses_a_target() {
    let world = World::new();
    let (torrent, seed) = slow(&world);
    let target = text(&world.folder("target"));
    let (_download, _) = start_slowly(&world, &torrent, &target, &seed);
    let second = world.run(&get(&torrent, &target, &seed.address)).expect(5);
    assert!(second.stderr.contains("another process"), "{second:?}");
}

#[test]
fn a_partial_seed_says_so_and_serves_what_it_has() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v2");
    let data = world.folder("part");
    fs::create_dir_all(data.join("album/sub")).unwrap();
    fs::copy(album.join("sub/b.bin"), data.join("album/sub/b.bin")).unwrap();
    let mut seed = world.seed(&torrent, &data, &[]);
    let warning = seed.wait_for(|event| event["event"] == "warning");
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .starts_with("only 7 of 17 pieces"),
        "{warning}"
    );
    let target = text(&world.folder("target"));
    let some = [
        &get(&torrent, &target, &seed.address)[..],
        &["--select", "3"],
    ]
    .concat();
    world.run(&some).expect(0);
    assert_same(&album.join("sub"), &world.path("target/album/sub"));
}

#[test]
fn a_seed_whose_files_were_touched_says_so_and_goes_on() {
    let world = World::new();
    let file = world.file("source/one.bin", 3_000_000);
    let torrent = world.torrent(&file, "--v1");
    let mut seed = world.seed(&torrent, &world.path("source"), &[]);
    seed.wait_for(|event| event["event"] == "started");
    let later = SystemTime::now() + Duration::from_secs(100);
    File::open(&file).unwrap().set_modified(later).unwrap();
    // A file is looked at once a second at most.
    std::thread::sleep(Duration::from_millis(1_100));
    let target = text(&world.folder("target"));
    world.run(&get(&torrent, &target, &seed.address)).expect(0);
    assert_same(&file, &world.path("target/one.bin"));
    let warning = seed.wait_for(|event| event["event"] == "warning");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("verified again"), "{message}");
    seed.wait_for(|event| event["verified_bytes"] == 3_000_000);
}

#[test]
fn a_seed_whose_files_are_gone_says_so_and_ends() {
    let world = World::new();
    let file = world.file("source/one.bin", 3_000_000);
    let torrent = world.torrent(&file, "--v1");
    let mut seed = world.seed(&torrent, &world.path("source"), &[]);
    seed.wait_for(|event| event["event"] == "started");
    fs::remove_file(&file).unwrap();
    std::thread::sleep(Duration::from_millis(1_100));
    let target = text(&world.folder("target"));
    let _waits = Running::start(&mut world.command(&get(&torrent, &target, &seed.address)));
    let said = seed.end().expect(4);
    let error = said.event("error");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("nothing to seed"), "{message}");
}

#[test]
fn as_many_descriptors_as_the_system_allows_may_be_open() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let data = text(&world.path("source"));
    // A shell lowers what the binary is to raise.
    let script = "ulimit -S -n 200; exec \"$@\"";
    let shell = ["-c", script, "sh", env!("CARGO_BIN_EXE_shoal")];
    let seed = ["--json", "seed", &torrent, "--data", &data];
    let arguments = [&shell[..], &seed, &["--listen", "127.0.0.1:0"]].concat();
    let seed = Running::start(&mut world.program("/bin/sh", &arguments));
    let limits = fs::read_to_string(format!("/proc/{}/limits", seed.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
}

//! Runs every target over its corpus and over 10,000 inputs made from it, the same ones each time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot read its corpus fails, and says which input broke a target"
)]

use shoal_fuzz::{TARGETS, mutate};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Inputs per target beside its corpus.
const INPUTS: u64 = 10_000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files of a target's corpus, by name so that their order is the same everywhere.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let listing = fs::read_dir(folder("corpus").join(target)).unwrap();
    let mut files: Vec<_> = listing
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
}

/// Runs one input; where the target panics, says how to get the input again.
fn run(target: fn(&[u8]), input: &[u8], origin: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!(
            "panicked on {origin}, which is b\"{}\"",
            input.escape_ascii()
        );
        resume_unwind(panic);
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(name);
    for (file, input) in &corpus {
        run(target.run, input, file);
    }
    let seeds: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    for number in 0..INPUTS {
        let mut random = fastrand::Rng::with_seed(number);
        let input = mutate::input(&mut random, &seeds, target.words);
        run(target.run, &input, &format!("input {number}"));
    }
}

macro_rules! replay {
    ($($target:ident),* $(,)?) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
    };
}

replay!(
    address_list,
    bencode,
    dht,
    dht_krpc,
    extended_handshake,
    handshake,
    import,
    local_announce,
    magnet,
    metadata,
    metainfo,
    metalink,
    mse,
    names,
    peer_session,
    session,
    torrent,
    tracker_http,
    tracker_schedule,
    tracker_udp,
    utp_connections,
    utp_packet,
    wire
);

/// The names of what is in a folder, without the endings.
fn stems(path: &Path) -> BTreeSet<String> {
    let listing = fs::read_dir(path).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    listing.map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_target_is_replayed_and_has_a_corpus_and_a_libfuzzer_entry() {
    let listed: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(replayed, listed);
    assert_eq!(stems(&folder("corpus")), listed);
    assert_eq!(stems(&folder("libfuzzer/fuzz_targets")), listed);
}

#[test]
fn the_torrents_of_the_corpus_get_past_the_parser() {
    for (file, input) in corpus("metainfo") {
        let read = shoal_metainfo::Metainfo::parse(&input, shoal_metainfo::bencode::Limits::REMOTE);
        assert_eq!(read.is_ok(), file != "climbing", "{file}: {read:?}");
    }
}

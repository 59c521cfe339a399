//! `get` of magnet links: from peers, from before, in vain.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::node::{ask, until, up};
use crate::support::{Said, World, assert_same, text};

fn link(world: &World, torrent: &str) -> String {
    let shown = world.run(&["--json", "show", torrent]).expect(0);
    shown.event("torrent")["magnet"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// As `link`, with one of its hashes only.
fn by(link: &str, kind: &str) -> String {
    let (scheme, query) = link.split_once('?').unwrap();
    let wanted = |part: &&str| !part.starts_with("xt=") || part.contains(kind);
    let parts: Vec<&str> = query.split('&').filter(wanted).collect();
    format!("{scheme}?{}", parts.join("&"))
}

fn get(world: &World, link: &str, more: &[&str]) -> Said {
    let target = text(&world.folder("target"));
    let usual = ["--json", "get", link, "-o", &target];
    world.run(&[&usual[..], &["--listen", "127.0.0.1:0"], more].concat())
}

#[test]
fn every_kind_arrives_by_every_hash_and_shows_its_files_before() {
    for (kind, hashes) in [
        ("--v1", &["bt"][..]),
        ("--v2", &["bt"]),
        ("--hybrid", &["bt", "btih", "btmh"]),
    ] {
        let world = World::new();
        let album = world.album();
        let torrent = world.torrent(&album, kind);
        let seed = world.seed(&torrent, &world.path("source"), &[]);
        for hash in hashes {
            let link = by(&link(&world, &torrent), hash);
            let state = text(&world.path(&format!("state-{hash}")));
            let more = ["--peer", &seed.address, "--state-dir", &state];
            let said = get(&world, &link, &more).expect(0);
            assert_eq!(said.event("torrent")["kind"], kind[2..], "{hash}");
            let names: Vec<Value> = said
                .events()
                .iter()
                .map(|event| event["event"].clone())
                .collect();
            let at = |name: &str| names.iter().position(|event| event == name).unwrap();
            assert!(at("torrent") < at("started"), "{names:?}");
            assert_same(&album, &world.path("target/album"));
            fs::remove_dir_all(world.path("target")).unwrap();
        }
    }
}

#[test]
fn a_node_takes_a_link_of_every_kind() {
    for (kind, hashes) in [
        ("--v1", &["bt"][..]),
        ("--v2", &["bt"]),
        ("--hybrid", &["bt", "btih", "btmh"]),
    ] {
        let world = World::new();
        let album = world.album();
        let torrent = world.torrent(&album, kind);
        let seed = world.seed(&torrent, &world.path("source"), &[]);
        for hash in hashes {
            let link = by(&link(&world, &torrent), hash);
            let node = up(&world, hash, &[]);
            let target = text(&world.folder("target"));
            let add = ["add", &link, "-o", &target, "--peer", &seed.address];
            ask(&world, hash, &add).expect(0);
            until(&world, hash, "seeding");
            assert_same(&album, &world.path("target/album"));
            drop(node);
            fs::remove_dir_all(world.path("target")).unwrap();
        }
    }
}

#[test]
fn what_a_link_led_to_is_remembered() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    let link = link(&world, &torrent);
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    get(&world, &link, &["--peer", &seed.address]).expect(0);
    drop(seed);
    // Nobody is there any more, whom the link by one of its hashes would have to ask.
    let peer = ["--peer", "127.0.0.1:1"];
    for hash in ["btih", "btmh"] {
        let said = get(&world, &by(&link, hash), &peer).expect(0);
        let complete = said.event("complete");
        assert_eq!(complete["resumed_pieces"], complete["verified_pieces"]);
    }
    // What was written there by others is not believed.
    let folder = world.path("state/shoal/torrents");
    let other = world.torrent(&world.file("other", 50_000), "--v1");
    for stored in fs::read_dir(folder).unwrap() {
        fs::copy(&other, stored.unwrap().path()).unwrap();
    }
    let more = [&peer[..], &["--metadata-timeout", "1s"]].concat();
    get(&world, &link, &more).expect(1);
}

#[test]
fn a_link_selects_files_and_a_person_does_before_it() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    let peer = ["--peer", &seed.address];
    let selecting = |so: &str| format!("{}&so={so}", link(&world, &torrent));
    let there = |name: &str| world.path("target/album").join(name).is_file();
    get(&world, &selecting("2"), &peer).expect(0);
    assert!(!there("a.bin") && there("sub/b.bin"));
    let chosen = [&peer[..], &["--select", "1"]].concat();
    get(&world, &selecting("2"), &chosen).expect(0);
    assert!(there("a.bin"));
    let said = get(&world, &selecting("7-9"), &peer).expect(2);
    assert!(said.stderr.contains("--select"), "{said:?}");
}

#[test]
fn a_search_in_vain_says_what_was_tried() {
    let world = World::new();
    let link = "magnet:?xt=urn:btih:cbf070995e2c5ea1bde417e9062ba3e6ca6fde89";
    let said = get(&world, link, &[]).expect(2);
    assert!(said.stderr.contains("no tracker and no peer"), "{said:?}");
    let said = get(&world, "magnet:?xt=urn:btih:zz", &[]).expect(3);
    assert!(said.stderr.contains("magnet link refused"), "{said:?}");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    let tracker = format!("http://{address}/announce");
    let more = [
        "--peer",
        &address,
        "--tracker",
        &tracker,
        "--metadata-timeout",
        "2s",
    ];
    let said = get(&world, link, &more).expect(1);
    for words in ["no metadata within 2 s", "1 known peers", "0 of 1 trackers"] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    assert_eq!(said.event("tracker")["working"], false);
    assert_eq!(fs::read_dir(world.path("target")).unwrap().count(), 0);
}

#[test]
fn a_torrent_that_is_not_the_links_is_never_taken() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let mut seed = world.seed(&torrent, &world.path("source"), &[]);
    // Whoever comes while it still looks at its files is sent away, and comes again too late for this test.
    seed.wait_for(|event| event["event"] == "started");
    // The v1 hash is right, so that the seed answers; but the link wants a v2 hash besides, which nothing of it has.
    let right = link(&world, &torrent);
    let wrong = format!("{right}&xt=urn:btmh:1220{}", "ab".repeat(32));
    let more = ["--peer", &seed.address, "--metadata-timeout", "6s"];
    let said = get(&world, &wrong, &more).expect(1);
    assert!(said.stderr.contains("1 gave a wrong one"), "{said:?}");
    assert_eq!(fs::read_dir(world.path("target")).unwrap().count(), 0);
}

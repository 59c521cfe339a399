//! `shoal peer`.

use rustix::process::Signal;
use serde_json::json;

use crate::node::{ask, until, up};
use crate::support::{World, text};

#[test]
fn peers_are_shown_and_named_and_bans_are_made_seen_and_lifted() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let seed = up(&world, "seed", &[]);
    let source = text(&world.path("source"));
    ask(&world, "seed", &["add", &torrent, "-o", &source]).expect(0);
    until(&world, "seed", "seeding");
    let leech = up(&world, "leech", &[]);
    let target = text(&world.folder("target"));
    let slow = ["--download-limit", "1K"];
    ask(
        &world,
        "leech",
        &[&["add", &torrent, "-o", &target][..], &slow].concat(),
    )
    .expect(0);
    until(&world, "leech", "downloading");
    ask(&world, "leech", &["peer", "add", "album", &seed.address]).expect(0);
    let connected = (0..3_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let peers = ask(&world, "leech", &["peer", "list", "album"]).expect(0);
        peers.events().pop()
    });
    let peer = connected.unwrap();
    assert_eq!(
        (&peer["event"], &peer["address"]),
        (&json!("peer"), &json!(seed.address))
    );
    let state = text(&world.path("leech"));
    let shown = world
        .run(&["peer", "list", "1", "--state-dir", &state])
        .expect(0);
    assert!(shown.stdout.contains(&seed.address), "{shown:?}");
    let addresses = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let said = ask(&world, "leech", arguments).expect(0).events();
        said.iter().map(|event| event["address"].clone()).collect()
    };
    let both = [json!("127.0.0.1"), json!("2001:db8::1")];
    assert_eq!(
        addresses(&["peer", "ban", "2001:db8::1", "127.0.0.1"]),
        both
    );
    assert_eq!(addresses(&["peer", "list", "--banned"]), both);
    assert_eq!(addresses(&["peer", "unban", "127.0.0.1"]), both[1..]);
    for (arguments, words) in [
        (vec!["peer", "list"], "<TORRENT>"),
        (vec!["peer", "list", "absent"], "no torrent here"),
        (vec!["peer", "add", "album", "127.0.0.1"], "ADDR:PORT"),
        (vec!["peer", "ban", "127.0.0.1:80"], "<ADDR>"),
        (vec!["peer", "unban", "127.0.0.1"], "--banned"),
    ] {
        let said = ask(&world, "leech", &arguments);
        assert_ne!(said.code, Some(0), "{arguments:?}");
        let message = said.event("error")["message"].to_string();
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    for node in [seed, leech] {
        node.signal(Signal::TERM);
        node.end().expect(0);
    }
}

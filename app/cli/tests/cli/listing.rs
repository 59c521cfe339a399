//! What `shoal list` makes of many torrents.

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{ask, up};
use crate::support::{World, text};

/// The names of what is listed, in its order.
fn names(world: &World, arguments: &[&str]) -> Vec<String> {
    let listed = ask(world, "node", &[&["list"], arguments].concat()).expect(0);
    let lines = listed.stdout.lines();
    let name = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["name"].as_str().unwrap().to_owned()
    };
    lines.map(name).collect()
}

#[test]
fn torrents_are_listed_by_tracker_sorted_turned_round_and_in_parts() {
    let world = World::new();
    let node = up(&world, "node", &[]);
    let target = text(&world.folder("target"));
    for (name, length, host) in [
        ("beta", 30_000, "one.example"),
        ("gamma", 10_000, "two.example"),
        ("alpha", 20_000, "one.example"),
    ] {
        world.file(name, length);
        let torrent = format!("{name}.torrent");
        let tracker = format!("http://{host}:6969/announce");
        let create = ["create", name, "--tracker", &tracker, "-o", &torrent];
        world.run(&create).expect(0);
        let add = ["add", &torrent, "-o", &target, "--paused"];
        ask(&world, "node", &add).expect(0);
    }
    assert_eq!(names(&world, &[]), ["beta", "gamma", "alpha"]);
    assert_eq!(names(&world, &["tracker:one.example"]), ["beta", "alpha"]);
    assert_eq!(
        names(&world, &["--sort", "name"]),
        ["alpha", "beta", "gamma"]
    );
    let turned = ["--sort", "size", "--reverse"];
    assert_eq!(names(&world, &turned), ["beta", "alpha", "gamma"]);
    let part = ["--sort", "size", "--offset", "1", "--limit", "1"];
    assert_eq!(names(&world, &part), ["alpha"]);
    assert!(names(&world, &["tracker:three.example"]).is_empty());

    let remark = ["rename", "gamma", "--comment", "of the second site"];
    ask(&world, "node", &remark).expect(0);
    let shown = ask(&world, "node", &["show", "2"]).expect(0);
    let shown = shown.event("session_torrent_details");
    assert_eq!(shown["comment"], "of the second site");
    node.signal(Signal::TERM);
    node.end().expect(0);
}

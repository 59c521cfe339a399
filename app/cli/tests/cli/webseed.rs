//! `shoal webseed`, and a node that downloads from one that it was told of.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{ask, until, up};
use crate::support::{World, text};
use crate::web::{part, serve};

#[test]
fn web_seeds_are_added_changed_removed_and_asked_also_after_the_next_start() {
    let world = World::new();
    let content = world.file("source/large", 300_000);
    let bytes = fs::read(&content).unwrap();
    let server = serve(move |asked| part(&bytes, asked, ""));
    let torrent = text(&world.path("large.torrent"));
    let own = "http://127.0.0.1:9/own?key=secret";
    let create = ["create", &text(&content), "--web-seed", own, "-o", &torrent];
    world.run(&create).expect(0);
    let target = text(&world.folder("target"));
    let more = ["--allow-net", "127.0.0.0/8"];
    let node = up(&world, "state", &more);
    ask(
        &world,
        "state",
        &["add", &torrent, "-o", &target, "--paused"],
    )
    .expect(0);
    let seeds = |arguments: &[&str]| -> Vec<Value> {
        let said = ask(&world, "state", arguments).expect(0).events();
        said.into_iter().map(|event| event["url"].clone()).collect()
    };
    let right = format!("http://{}/large", server.address);
    let wrong = "http://127.0.0.1:9/wrong";
    assert_eq!(seeds(&["webseed", "list", "large"]), [own]);
    assert_eq!(seeds(&["webseed", "add", "large", wrong]), [own, wrong]);
    assert_eq!(seeds(&["webseed", "rm", "large", own]), [wrong]);
    node.signal(Signal::TERM);
    node.end().expect(0);
    let node = up(&world, "state", &more);
    assert_eq!(seeds(&["webseed", "list", "large"]), [wrong]);
    ask(&world, "state", &["resume", "large"]).expect(0);
    until(&world, "state", "downloading");
    let set = ["webseed", "set", "large", wrong, "--url", &right];
    assert_eq!(seeds(&set), [right.as_str()]);
    until(&world, "state", "seeding");
    for (arguments, words) in [
        (vec!["webseed", "add", "large"], "<URL>"),
        (
            vec!["webseed", "add", "large", "udp://secret.example:1"],
            "https://mirror.example",
        ),
        (vec!["webseed", "rm", "large", own], "shoal webseed list"),
        (vec!["webseed", "set", "large", wrong], "--url"),
        (vec!["webseed", "list", "absent"], "no torrent here"),
    ] {
        let said = ask(&world, "state", &arguments);
        assert_ne!(said.code, Some(0), "{arguments:?}");
        let message = said.event("error")["message"].to_string();
        assert!(
            message.contains(words) && !message.contains("secret"),
            "{arguments:?}: {message}"
        );
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

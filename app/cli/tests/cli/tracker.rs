//! `shoal tracker` and `shoal announce`.

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{ask, up};
use crate::support::{World, text};

#[test]
fn trackers_are_shown_added_changed_and_removed() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let node = up(&world, "state", &[]);
    let target = text(&world.folder("target"));
    ask(
        &world,
        "state",
        &["add", &torrent, "-o", &target, "--paused"],
    )
    .expect(0);
    let (a, b) = ("udp://127.0.0.1:9/a?key=secret", "udp://127.0.0.1:9/b");
    let trackers = |arguments: &[&str]| -> Vec<(Value, Value)> {
        let said = ask(&world, "state", arguments).expect(0).events();
        let tracker = |event: Value| {
            assert_eq!(
                (&event["event"], &event["state"]),
                (&"torrent_tracker".into(), &"idle".into())
            );
            (event["tier"].clone(), event["url"].clone())
        };
        said.into_iter().map(tracker).collect()
    };
    let pair = |tier: u64, url: &str| (Value::from(tier), Value::from(url));
    assert_eq!(trackers(&["tracker", "list", "album"]), []);
    assert_eq!(
        trackers(&["tracker", "add", "album", a, b]),
        [pair(1, a), pair(2, b)]
    );
    let moved = trackers(&["tracker", "set", "album", b, "--tier", "1"]);
    assert_eq!(moved, [pair(1, a), pair(1, b)]);
    let c = "http://127.0.0.1:9/c";
    let other = trackers(&["tracker", "set", "album", b, "--url", c]);
    assert_eq!(other, [pair(1, a), pair(1, c)]);
    ask(&world, "state", &["announce", "album", "--tracker", c]).expect(0);
    let state = text(&world.path("state"));
    let shown = world
        .run(&["tracker", "list", "1", "--state-dir", &state])
        .expect(0);
    assert!(
        shown.stdout.contains(a) && shown.stdout.contains("idle"),
        "{shown:?}"
    );
    assert_eq!(trackers(&["tracker", "rm", "album", a]), [pair(1, c)]);
    for (arguments, words) in [
        (vec!["tracker"], "list"),
        (vec!["tracker", "add", "album"], "<URL>"),
        (
            vec!["tracker", "add", "album", "secret"],
            "https://tracker.example",
        ),
        (vec!["tracker", "add", "absent", a], "no torrent here"),
        (vec!["tracker", "set", "album", c], "--url"),
        (vec!["tracker", "set", "album", c, "--tier", "0"], "from 1"),
        (vec!["tracker", "rm", "album", a], "shoal tracker list"),
        (
            vec!["announce", "album", "--tracker", a],
            "shoal tracker list",
        ),
    ] {
        let said = ask(&world, "state", &arguments);
        assert_ne!(said.code, Some(0), "{arguments:?}");
        let message = format!("{}{}", said.stdout, said.stderr);
        assert!(
            message.contains(words) && !message.contains("secret"),
            "{arguments:?}: {message}"
        );
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

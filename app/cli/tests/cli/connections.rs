//! Connections, slots and super-seeds, told over the binary.

use rustix::process::Signal;
use serde_json::json;

use crate::node::{ask, up};
use crate::support::{World, text};

#[test]
fn connections_and_slots_are_told_of_a_torrent_and_of_the_session() {
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
    let rules = |arguments: &[&str], event: &str| {
        let said = ask(&world, "state", arguments).expect(0);
        let mut rules = said.event(event)["rules"].clone();
        rules.as_object_mut().unwrap().remove("folder");
        rules
    };
    let own = ["limit", "album", "--peers", "20", "--slots", "3"];
    assert_eq!(
        rules(&own, "session_torrent"),
        json!({"peers": "20", "slots": "3"})
    );
    let seed = rules(&["share", "album", "--super-seed", "on"], "session_torrent");
    assert_eq!(seed["super_seed"], "on");
    let all = [
        "limit",
        "session",
        "--peers",
        "300",
        "--peers-per-torrent",
        "90",
    ];
    let slots = ["--slots", "auto", "--slots-per-torrent", "4", "--up", "1M"];
    let said = json!({
        "peers": "300", "peers_per_torrent": "90", "slots": "auto", "slots_per_torrent": "4",
        "up": "1MiB",
    });
    assert_eq!(rules(&[&all[..], &slots].concat(), "rules"), said);
    assert_eq!(rules(&["limit", "session"], "rules"), said);
    let to = rules(&["share", "session", "--slots-to", "fastest"], "rules");
    assert_eq!(to["slots_to"], "fastest");
    rules(&["share", "session", "--slots-to", "inherit"], "rules");
    assert_eq!(rules(&["limit", "session"], "rules"), said);
    for (arguments, words) in [
        (vec!["limit", "album", "--peers", "0"], "from 1"),
        (vec!["limit", "album", "--slots", "auto"], "from 1"),
        (
            vec!["limit", "album", "--peers-per-torrent", "3"],
            "nothing is called that",
        ),
        (vec!["limit", "session", "--slots", "many"], "from 1"),
        (vec!["share", "album", "--super-seed", "yes"], "on, off"),
        (
            vec!["share", "session", "--super-seed", "on"],
            "nothing is called that",
        ),
    ] {
        let said = ask(&world, "state", &arguments).expect(2);
        let message = said.event("error")["message"].to_string();
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

//! What a node does by itself, as commands say it.

use std::fs;

use serde_json::Value;

use crate::node::{ask, up};
use crate::support::{Running, Said, World, text};

fn refused(said: &Said, code: i32, words: &str) {
    assert_eq!(said.code, Some(code), "{said:?}");
    let message = said.event("error")["message"].to_string();
    assert!(message.contains(words), "{message}");
}

#[test]
fn address_lists_are_added_shown_tested_read_again_and_removed() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let list = text(&world.path("level1.p2p"));
    fs::write(&list, "Bad:1.2.3.0-1.2.3.255\nBad:1.2.3.9-1.2.3.1\n").unwrap();
    let said = |arguments: &[&str]| ask(&world, "state", arguments);
    let added = said(&["filter", "add", "level1.p2p"]).expect(0);
    let shown = added.event("address_list");
    assert_eq!(shown["path"], *list);
    assert_eq!((&shown["ranges"], &shown["bad"]), (&1.into(), &1.into()));
    assert_eq!(shown["first_bad"][0]["line"], 2);
    let tested = said(&["filter", "test", "1.2.3.4"])
        .expect(0)
        .event("address");
    assert_eq!(
        (&tested["allowed"], &tested["line"]),
        (&false.into(), &1.into())
    );
    let tested = said(&["filter", "test", "1.2.4.4"])
        .expect(0)
        .event("address");
    assert_eq!(tested["allowed"], true);
    fs::write(&list, "1.2.4.0/24\n").unwrap();
    said(&["filter", "reload"]).expect(0);
    let state = text(&world.path("state"));
    let human = world.run(&["filter", "test", "1.2.4.4", "--state-dir", &state]);
    assert!(human.stdout.contains("line 1 of"), "{human:?}");
    refused(&said(&["filter", "add", "absent"]), 3, "cannot read");
    refused(&said(&["filter", "test", "nowhere"]), 2, "ADDR");
    refused(&said(&["filter", "rm", "absent"]), 1, "no list");
    let left = said(&["filter", "rm", "level1.p2p"]).expect(0);
    assert_eq!(left.events(), Vec::<Value>::new());
    said(&["down"]).expect(0);
    node.end().expect(0);
}

#[test]
fn spans_of_the_week_are_added_shown_set_aside_and_removed() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let said = |arguments: &[&str]| ask(&world, "state", arguments);
    let rates = ["--down", "10MiB", "--alternative-down", "1MiB"];
    let session = said(&[&["limit", "session"][..], &rates].concat()).expect(0);
    assert_eq!(session.event("rules")["rules"]["alternative_down"], "1MiB");
    said(&["schedule", "add", "mon-fri", "08:00-18:00"]).expect(0);
    said(&[
        "schedule",
        "add",
        "sat,sun",
        "20:00-02:00",
        "--down",
        "500K",
    ])
    .expect(0);
    let added = said(&["schedule", "add", "18:00-20:00", "--pause"]).expect(0);
    let spans = added.events();
    let shown: Vec<(String, String)> = spans[..3]
        .iter()
        .map(|span| (span["times"].to_string(), span["holds"].to_string()))
        .collect();
    let expected = [
        ("mon-fri 08:00-18:00", "alternative"),
        ("sat,sun 20:00-02:00", "rates"),
        ("18:00-20:00", "pause"),
    ];
    let expected = expected.map(|(times, holds)| (format!("{times:?}"), format!("{holds:?}")));
    assert_eq!(shown, expected);
    let now = said(&["schedule", "now", "alternative"]).expect(0);
    assert_eq!(now.event("schedule")["down_bytes_per_s"], 1 << 20);
    let now = said(&["schedule", "now", "normal"]).expect(0);
    assert_eq!(now.event("schedule")["down_bytes_per_s"], 10 << 20);
    let state = text(&world.path("state"));
    let human = world.run(&["schedule", "--state-dir", &state]).expect(0);
    assert!(human.stdout.contains("until told otherwise"), "{human:?}");
    refused(&said(&["schedule", "add", "8-18"]), 2, "time of day");
    refused(&said(&["schedule", "rm", "4"]), 1, "no span 4");
    refused(&said(&["schedule", "now", "sometimes"]), 2, "alternative");
    refused(
        &said(&["schedule", "add", "08:00-18:00", "--pause", "--up", "1M"]),
        2,
        "--pause",
    );
    said(&["schedule", "rm", "1", "3"]).expect(0);
    let left = said(&["schedule", "now", "auto"]).expect(0);
    assert_eq!(left.event("span")["times"], "sat,sun 20:00-02:00");
    said(&["down"]).expect(0);
    node.end().expect(0);
}

#[test]
fn a_watched_folder_is_added_shown_and_removed() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let said = |arguments: &[&str]| ask(&world, "state", arguments);
    said(&["category", "set", "films"]).expect(0);
    let (inbox, target) = (text(&world.folder("in")), text(&world.folder("target")));
    let add = ["watch", "add", "in", "-o", &target, "--category", "films"];
    let added = said(&[&add[..], &["--recursive", "--then", "delete"]].concat()).expect(0);
    let folder = added.event("watch");
    assert_eq!(
        (&folder["path"], &folder["then"]),
        (&inbox.into(), &"delete".into())
    );
    let torrent = world.torrent(&world.album(), "--v1");
    fs::rename(&torrent, world.path("in/album.torrent")).unwrap();
    for _ in 0..1_000 {
        if said(&["watch"]).expect(0).event("watch")["added"] == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let listed = said(&["list"]).expect(0).event("session_torrent");
    assert_eq!(
        (&listed["name"], &listed["category"]),
        (&"album".into(), &"films".into())
    );
    let state = text(&world.path("state"));
    let human = world.run(&["watch", "--state-dir", &state]).expect(0);
    assert!(human.stdout.contains("and below  then delete"), "{human:?}");
    refused(&said(&["watch", "add", "absent"]), 5, "no such folder");
    refused(
        &said(&["watch", "add", "in", "--select", "1"]),
        2,
        "--select",
    );
    refused(
        &said(&["watch", "add", "in", "--then", "burn"]),
        2,
        "rename",
    );
    refused(
        &said(&["watch", "add", "in", "--category", "songs"]),
        1,
        "shoal category set",
    );
    refused(&said(&["watch", "rm", "absent"]), 1, "not watched");
    fs::remove_dir_all(world.path("in")).unwrap();
    let left = said(&["watch", "rm", "in"]).expect(0);
    assert_eq!(left.events(), Vec::<Value>::new());
    said(&["down"]).expect(0);
    node.end().expect(0);
}

#[test]
fn hooks_are_set_shown_and_removed() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let said = |arguments: &[&str]| ask(&world, "state", arguments);
    let program = ["sh", "-c", "exit 3", "--json", "{name}"];
    let state = text(&world.path("state"));
    // What stands behind the two dashes is the program's.
    let set = |on: &str, program: &[&str]| {
        let before = ["hook", "--json", "--state-dir", &state, "set", on, "--"];
        world.run(&[&before[..], program].concat())
    };
    let set_up = set("complete", &program).expect(0);
    let hook = set_up.event("hook");
    assert_eq!(
        (&hook["on"], &hook["program"]),
        (&"complete".into(), &program.to_vec().into())
    );
    let human = world.run(&["hook", "--state-dir", &state]).expect(0);
    assert!(
        human.stdout.contains("complete  \"sh\" \"-c\" \"exit 3\""),
        "{human:?}"
    );
    for (program, about) in [
        (&["./notify"][..], "from the root"),
        (&["notify", "{nmae}"], "{name}"),
        (&["/absent/notify"], "no program"),
    ] {
        refused(&set("added", program), 2, about);
    }
    refused(&said(&["hook", "set", "added"]), 2, "PROGRAM");
    refused(&set("never", &["true"]), 2, "complete");
    let left = said(&["hook", "rm", "complete", "added"]).expect(0);
    assert_eq!(left.events(), Vec::<Value>::new());
    said(&["down"]).expect(0);
    node.end().expect(0);
}

#[test]
fn a_node_listens_where_its_settings_say_unless_its_command_does() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let said = |arguments: &[&str]| ask(&world, "state", arguments);
    // One that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let set = said(&["settings", "set", &format!("listen.port={port}")]).expect(0);
    let told = set
        .events()
        .into_iter()
        .find(|setting| setting["key"] == "listen.port")
        .unwrap();
    assert!(told["help"].to_string().contains("next start"), "{told}");
    refused(&said(&["settings", "set", "listen.port=0"]), 2, "51413");
    refused(
        &said(&["settings", "set", "peers.encryption=on"]),
        2,
        "forced",
    );
    refused(
        &said(&["settings", "set", "dht.routers=nowhere"]),
        2,
        "dht.example:6881",
    );
    said(&["down"]).expect(0);
    node.end().expect(0);
    let state = text(&world.path("state"));
    let up = [
        "--json",
        "up",
        "--headless",
        "--isolated",
        "--state-dir",
        &state,
    ];
    let own = ["--bind", "127.0.0.1", "--no-port-mapping"];
    let node = Running::start(&mut world.command(&[&up[..], &own].concat()));
    assert_eq!(node.address, format!("127.0.0.1:{port}"));
    said(&["down"]).expect(0);
    node.end().expect(0);
    let node = self::up(&world, "state", &[]);
    assert_ne!(node.address, format!("127.0.0.1:{port}"));
}

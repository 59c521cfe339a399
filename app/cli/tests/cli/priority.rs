//! `shoal priority`, and what `shoal add` says of files.

use rustix::process::Signal;
use serde_json::json;

use crate::node::{ask, until, up};
use crate::support::{World, assert_same, text};

#[test]
fn files_are_skipped_and_wanted_by_their_numbers_while_a_node_runs() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--hybrid");
    let seed = up(&world, "seed", &[]);
    let source = text(&world.path("source"));
    ask(&world, "seed", &["add", &torrent, "-o", &source]).expect(0);
    until(&world, "seed", "seeding");

    let leech = up(&world, "leech", &[]);
    let target = text(&world.folder("target"));
    let add = ["add", &torrent, "-o", &target, "--peer", &seed.address];
    let wanted = [
        "--priority",
        "3=skip",
        "--priority",
        "1,2=high",
        "--first-last",
    ];
    let added = ask(&world, "leech", &[&add[..], &wanted].concat()).expect(0);
    let added = added.event("session_torrent");
    assert_eq!(added["priorities"], json!({"skip": "3", "high": "1-2"}));
    assert_eq!(added["first_last"], true);
    until(&world, "leech", "seeding");
    assert!(world.path("target/album/a.bin").exists());
    assert!(!world.path("target/album/sub/b.bin").exists());
    let said = ask(&world, "leech", &["priority", "album", "1,3", "normal"]).expect(0);
    assert_eq!(
        said.event("session_torrent")["priorities"],
        json!({"high": "2"})
    );
    let came = (0..3_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        world.path("target/album/sub/b.bin").exists()
    });
    assert!(came);
    until(&world, "leech", "seeding");
    assert_same(&album, &world.path("target/album"));
    let order = ["priority", "1", "--sequential", "on", "--first-last", "off"];
    let said = ask(&world, "leech", &order)
        .expect(0)
        .event("session_torrent");
    assert_eq!(
        (&said["sequential"], &said["first_last"]),
        (&json!(true), &json!(false))
    );
    let state = text(&world.path("leech"));
    let shown = world.run(&["list", "--state-dir", &state]).expect(0).stdout;
    assert!(
        shown.contains("sequential") && shown.contains("high=2"),
        "{shown}"
    );

    for (arguments, words) in [
        (vec!["priority", "album"], "<FILES>"),
        (vec!["priority", "album", "1"], "<PRIORITY>"),
        (vec!["priority", "album", "1", "urgent"], "highest"),
        (vec!["priority", "album", "first", "high"], "1,3-5"),
        (vec!["priority", "album", "4", "high"], "no file 4"),
        (
            vec!["priority", "album", "--sequential", "maybe"],
            "on, off",
        ),
        (vec!["priority", "absent", "1", "high"], "no torrent here"),
        (vec!["add", &torrent, "--priority", "3"], "1,3-5=high"),
        (vec!["add", &torrent, "--priority", "9=skip"], "no file 9"),
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

//! `shoal show` of what a running node has, and beside it of files.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::node::{ask, until, up};
use crate::support::{World, text};

#[test]
fn a_torrent_of_the_node_is_shown_with_its_files_and_pieces_and_saved() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--hybrid");
    let node = up(&world, "state", &[]);
    let source = text(&world.path("source").canonicalize().unwrap());
    ask(&world, "state", &["add", &torrent, "-o", &source]).expect(0);
    until(&world, "state", "seeding");
    let show = |arguments: &[&str]| {
        let all = [&["show"], arguments].concat();
        ask(&world, "state", &all).expect(0)
    };

    let session = show(&[]).event("session");
    assert_eq!(session["torrents"], 1);
    assert_eq!(session["states"], json!([{"state": "seeding", "count": 1}]));
    assert_eq!(session["listening"], json!([node.address]));
    let version = session["version"].as_str().unwrap();
    assert!(world.run(&["--version"]).stdout.contains(version));

    let shown = show(&["album"]).event("session_torrent_details");
    assert_eq!(
        (&shown["id"], &shown["state"]),
        (&json!(1), &json!("seeding"))
    );
    assert_eq!(
        (&shown["size_bytes"], &shown["file_count"]),
        (&json!(500_001), &json!(3))
    );
    assert_eq!(shown["content_path"], text(&album.canonicalize().unwrap()));
    // By any word that means it.
    let hash = shown["info_hash_v2"].as_str().unwrap();
    for id in ["1", "all", "1-9", "state:seeding", &hash[..8], hash] {
        let again = show(&[id]).event("session_torrent_details");
        assert_eq!(again["info_hash_v1"], shown["info_hash_v1"], "{id}");
    }

    let files = show(&["1", "--files"]).events();
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    let paths: Vec<String> = files.iter().map(path).collect();
    assert_eq!(paths, ["a.bin", "empty", "sub/b.bin"]);
    for file in &files {
        assert_eq!(file["verified_bytes"], file["size_bytes"]);
        let there = fs::metadata(file["location"].as_str().unwrap()).unwrap();
        assert_eq!(file["size_bytes"], there.len());
    }
    let pieces = show(&["1", "--pieces"]).event("session_pieces");
    let last = pieces["piece_count"].as_u64().unwrap() - 1;
    assert_eq!(pieces["verified"], json!([[0, last]]));
    assert_eq!(pieces["in_progress"], json!([]));

    let hashes = show(&["1", "--hashes"]).events();
    assert_eq!(hashes.len() as u64, last + 1);
    assert_eq!(hashes[0]["sha1"].as_str().unwrap().len(), 40);
    assert_eq!(hashes[0]["root"].as_str().unwrap().len(), 64);

    let state = text(&world.path("state"));
    let people = |arguments: &[&str]| {
        let all = [&["show", "--state-dir", &state], arguments].concat();
        world.run(&all).expect(0).stdout
    };
    for (arguments, words) in [
        (&[][..], "1, 1 seeding"),
        (&["1"], "100%: "),
        (&["1", "--files"], "100%  normal"),
        (&["1", "--pieces"], "under way     none"),
    ] {
        let said = people(arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }

    // Its file is given back as it was, also while it rests.
    ask(&world, "state", &["pause", "1"]).expect(0);
    until(&world, "state", "paused");
    let saved = text(&world.path("saved.torrent"));
    let said = show(&["1", "--save", &saved]).event("saved");
    assert_eq!(fs::read(&saved).unwrap(), fs::read(&torrent).unwrap());
    assert_eq!(said["size_bytes"], fs::metadata(&saved).unwrap().len());
    show(&["1", "--save", &saved, "--force"]);
    let unknown = &show(&["1", "--files"]).events()[0];
    assert_eq!(unknown["verified_bytes"], Value::Null);

    for (arguments, code, words) in [
        (vec!["1", "--save", &saved], 5, "--force"),
        (vec!["2"], 1, "shoal list"),
        (vec!["nobody"], 1, "there is no such file, and no torrent"),
        (vec!["tag:none,2", "--files"], 1, "shoal list"),
        (vec!["1", "--files", "--pieces"], 2, "--pieces"),
        (vec!["--files"], 2, "ID|FILE|MAGNET"),
        (vec!["1", "--scrape"], 2, "./1"),
        (vec![&torrent, "--files"], 2, "shoal list"),
    ] {
        let said = ask(&world, "state", &[&["show"], &arguments[..]].concat());
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        let words_of = format!("{}{}", said.stdout, said.stderr);
        assert!(words_of.contains(words), "{arguments:?}: {words_of}");
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

#[test]
fn files_are_shown_with_a_node_and_without_one_whatever_they_are_called() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    for name in ["3", "deadbeef", "all", "album"] {
        fs::copy(&torrent, world.path(name)).unwrap();
    }
    let is_file = |arguments: &[&str]| {
        let shown = ask(&world, "state", &[&["show"], arguments].concat()).expect(0);
        assert_eq!(shown.event("torrent")["name"], "album", "{arguments:?}");
    };
    // What could only be a file is one; what reads as an ID is none, and whoever means the file hears how to say so.
    let files = ["./3", "./deadbeef", "album", &torrent];
    for name in files {
        is_file(&[name]);
    }
    for name in ["3", "deadbeef", "all"] {
        let said = ask(&world, "state", &["show", name]).expect(1);
        let message = said.event("error")["message"].to_string();
        assert!(message.contains("no node runs"), "{message}");
        assert!(message.contains(&format!("./{name}")), "{message}");
    }
    let said = ask(&world, "state", &["show", "nobody"]).expect(1);
    assert!(said.stdout.contains("no such file"), "{said:?}");
    let said = ask(&world, "state", &["show"]).expect(1);
    assert!(said.stdout.contains("no node runs"), "{said:?}");

    let node = up(&world, "state", &[]);
    let target = text(&world.folder("target"));
    let add = ["add", &torrent, "-o", &target, "--paused"];
    ask(&world, "state", &add).expect(0);
    for name in files {
        is_file(&[name]);
    }
    let said = ask(&world, "state", &["show", "all"]).expect(0);
    assert_eq!(said.event("session_torrent_details")["state"], "paused");
    // A name that no file has.
    fs::remove_file(world.path("album")).unwrap();
    let said = ask(&world, "state", &["show", "album"]).expect(0);
    assert_eq!(said.event("session_torrent_details")["id"], 1);
    node.signal(Signal::TERM);
    node.end().expect(0);
}

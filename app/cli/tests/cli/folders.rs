//! Where the data of a node's torrents lies, by the commands that say so.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::node::{ask, until, up};
use crate::support::{World, assert_same, text};

/// Real kills while data moves from one volume to another and back.
const KILLS: u32 = 30;

/// Waits until the only torrent lies in this folder and seeds there.
fn until_in(world: &World, folder: &Path) -> Value {
    let folder = text(&folder.canonicalize().unwrap());
    for _ in 0..3_000 {
        let torrent = ask(world, "state", &["list"])
            .expect(0)
            .event("session_torrent");
        // What is known to be good is not read again.
        assert_ne!(torrent["state"], "checking", "{torrent}");
        let rests = torrent["moving_to"].is_null() && torrent["state"] == "seeding";
        if rests && torrent["directory"] == folder {
            return torrent;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never was there");
}

#[test]
fn data_is_moved_and_renamed_by_its_commands() {
    let world = World::new();
    let album = world.album();
    let kept = world.path("kept");
    fs::create_dir(&kept).unwrap();
    copy(&album, &kept.join("album"));
    let torrent = world.torrent(&album, "--v1");
    let node = up(&world, "state", &[]);
    let said = |arguments: &[&str]| ask(&world, "state", arguments).expect(0);
    said(&["add", &torrent, "-o", &text(&world.path("source"))]);
    until(&world, "state", "seeding");
    let target = world.folder("target");
    said(&["move", "album", &text(&target)]);
    until_in(&world, &target);
    assert_same(&kept.join("album"), &target.join("album"));
    assert!(!album.exists());

    said(&["rename", "album", "--folder", "album/sub", "album/other"]);
    said(&[
        "rename",
        "album",
        "--file",
        "album/a.bin",
        "album/first.bin",
    ]);
    let renamed = (0..500).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        let renamed = until_in(&world, &target)["renamed"].clone();
        (renamed["album/a.bin"] == "album/first.bin").then_some(renamed)
    });
    assert_eq!(renamed.unwrap()["album/sub/b.bin"], "album/other/b.bin");
    assert!(target.join("album/other/b.bin").exists());

    let music = text(&world.folder("music").canonicalize().unwrap());
    said(&[
        "category",
        "set",
        "music",
        "--folder",
        &music,
        "--incomplete",
        "none",
    ]);
    said(&["category", "put", "album", "music"]);
    said(&["move", "album", "--inherit"]);
    let there = until_in(&world, Path::new(&music));
    assert_eq!(there["rules"], serde_json::json!({}));
    let stays = said(&["move", "album", "--stay"]).event("session_torrent");
    assert_eq!(stays["rules"]["folder"], music);
    let told = said(&["move", "album", "--incomplete", "none"]).event("session_torrent");
    assert_eq!(told["rules"]["incomplete"], "none");
    for (arguments, code, words) in [
        (vec!["move", "album"], 2, "--inherit"),
        (vec!["move", "album", "absent"], 5, "no such folder"),
        (
            vec!["move", "album", &music, "--stay"],
            2,
            "cannot be used with",
        ),
        (vec!["move", "films", &music], 1, "no torrent here"),
        (
            vec!["rename", "album", "--file", "album/a.bin", "b"],
            2,
            "no such file",
        ),
        (
            vec!["rename", "album", "--file", "album/first.bin"],
            2,
            "2 values",
        ),
        (
            vec!["rename", "album", "--file", "album/first.bin", "../b"],
            2,
            "plain relative path",
        ),
        (
            vec!["rename", "album", "--folder", "album/other", "album/empty"],
            2,
            "not a regular file",
        ),
        (
            vec!["settings", "set", "folder.follow=often"],
            2,
            "always, once, never",
        ),
        (
            vec!["settings", "set", "folder.incomplete=here"],
            2,
            "from the root",
        ),
    ] {
        let said = ask(&world, "state", &arguments).expect(code);
        let message = said.event("error")["message"].to_string();
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    said(&["rm", "album"]);
    let until_then = text(&world.folder("until").canonicalize().unwrap());
    let add = ["add", &torrent, "-o", &text(&target), "--paused"];
    let more = ["--incomplete", &until_then, "--layout", "none"];
    let added = said(&[&add[..], &more].concat()).event("session_torrent");
    let home = text(&target.canonicalize().unwrap());
    assert_eq!(
        (&added["directory"], &added["home"]),
        (&until_then.into(), &home.into())
    );
    assert_eq!(added["renamed"]["album/a.bin"], "a.bin");
    node.signal(Signal::TERM);
    node.end().expect(0);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

#[test]
fn kills_while_data_moves_lose_nothing_of_it() {
    let world = World::new();
    let content = world.file("source/large", 20_000_000);
    let bytes = fs::read(&content).unwrap();
    let torrent = world.torrent(&content, "--v1");
    // Another volume, where there is one.
    let memory = Path::new("/dev/shm");
    let other = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let places = [world.path("source"), other.path().to_owned()];
    let mut node = up(&world, "state", &[]);
    let add = ["add", &torrent, "-o", &text(&places[0])];
    ask(&world, "state", &add).expect(0);
    until(&world, "state", "seeding");
    let mut dice = fastrand::Rng::with_seed(11);
    for round in 0..KILLS {
        let (from, to) = match round % 2 {
            0 => (&places[0], &places[1]),
            _ => (&places[1], &places[0]),
        };
        until_in(&world, from);
        ask(&world, "state", &["move", "large", &text(to)]).expect(0);
        thread::sleep(Duration::from_millis(dice.u64(0..40)));
        let pid = Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        node.kill();
        node = up(&world, "state", &[]);
        let there = until_in(&world, to);
        assert_eq!(there["verified_bytes"], 20_000_000);
        assert!(
            fs::read(to.join("large")).unwrap() == bytes,
            "round {round}"
        );
        assert!(!from.join("large").exists(), "round {round}");
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

//! Wrong input of every kind: each gets its exit code and one line that says what, where and what to do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Said, World, text};

/// Runs a command that must fail with `code` and a line with all of `words`, for people and in JSON.
fn assert_fails(world: &World, arguments: &[&str], code: i32, words: &[&str]) {
    let plain = world.run(arguments).expect(code);
    assert_one_line(&plain, words);
    let json = world.run(&[&["--json"], arguments].concat()).expect(code);
    assert_one_line(&json, words);
    let events = json.events();
    let last = events.last().unwrap();
    assert_eq!(last["event"], "error", "{json:?}");
    assert_eq!(last["exit_code"], code);
    assert!(
        plain.stderr.contains(last["message"].as_str().unwrap()),
        "{plain:?}"
    );
}

fn assert_one_line(said: &Said, words: &[&str]) {
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(said.stderr.starts_with("error: "), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "no {word:?} in {said:?}");
    }
}

/// Whether permissions mean anything to whoever runs the tests.
fn permissions_bind(world: &World) -> bool {
    let folder = world.folder("probe");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(folder.join("file"), b"").is_err()
}

#[test]
fn a_torrent_that_cannot_be_read_is_a_failure() {
    let world = World::new();
    let folder = text(&world.folder("folder"));
    for command in [
        vec!["show"],
        vec!["get"],
        vec!["seed", "--data", "."],
        vec!["check", "--data", "."],
    ] {
        let with = |path| [&command[..], &[path]].concat();
        assert_fails(
            &world,
            &with("missing.torrent"),
            1,
            &["missing.torrent", "no such file"],
        );
        assert_fails(&world, &with(&folder), 1, &[&folder, "it is a folder"]);
    }
}

#[test]
fn what_is_no_torrent_is_refused() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    let good = fs::read(&torrent).unwrap();
    let hostile: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("text", b"hello"),
        ("cut", &good[..good.len() / 2]),
        (
            "climbs",
            b"d4:infod6:lengthi1e4:name2:..12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        ),
        (
            "huge",
            b"d4:infod6:lengthi9223372036854775807e4:name1:a12:piece lengthi1e6:pieces0:ee",
        ),
        ("deep", &[b'l'; 5_000]),
    ];
    for (name, bytes) in hostile {
        fs::write(world.path(name), bytes).unwrap();
        assert_fails(&world, &["show", name], 3, &["torrent refused", name]);
        assert_fails(
            &world,
            &["check", name, "--data", "."],
            3,
            &["torrent refused", name],
        );
    }
}

#[test]
fn magnet_links_that_name_no_torrent_are_refused() {
    let world = World::new();
    assert_fails(
        &world,
        &["show", "magnet:?dn=x"],
        3,
        &["magnet link refused", "info hash"],
    );
    assert_fails(
        &world,
        &["show", "magnet:?xt=urn:btih:zz"],
        3,
        &["magnet link refused"],
    );
}

#[test]
fn a_command_line_that_cannot_be_meant_is_a_usage_error() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let wrong = [
        vec!["get", &torrent, "--allow-net", "10.0.0.0/99"],
        vec!["get", &torrent, "--select", "x"],
        vec!["get", &torrent, "--listen", "somewhere"],
        vec!["create", "source/album", "--v1", "--v2"],
        vec!["create", "source/album", "--tracker", "nonsense"],
        vec!["frobnicate"],
    ];
    for arguments in wrong {
        let said = world.run(&arguments).expect(2);
        assert!(said.stderr.starts_with("error: "), "{said:?}");
        let said = world.run(&[&["--json"], &arguments[..]].concat()).expect(2);
        assert_eq!(said.event("error")["kind"], "usage");
    }
    let select = ["get", &torrent, "--select", "1,4"];
    assert_fails(&world, &select, 2, &["--select", "no file 4", "has 3"]);
    let pieces = ["create", "source/album", "--v2", "--piece-size", "10000"];
    assert_fails(
        &world,
        &pieces,
        2,
        &["piece length of 10000", "power of two"],
    );
}

#[test]
fn what_cannot_be_published_is_a_failure() {
    let world = World::new();
    assert_fails(
        &world,
        &["create", "missing"],
        1,
        &["missing", "no such file or folder"],
    );
    world.folder("nothing");
    assert_fails(&world, &["create", "nothing"], 1, &["nothing"]);
    assert!(!world.path("nothing.torrent").exists());
}

#[test]
fn a_torrent_file_is_not_overwritten_unless_forced() {
    let world = World::new();
    let album = text(&world.album());
    fs::write(world.path("album.torrent"), b"precious").unwrap();
    assert_fails(
        &world,
        &["create", &album],
        5,
        &["album.torrent", "--force"],
    );
    assert_eq!(fs::read(world.path("album.torrent")).unwrap(), b"precious");
    world.run(&["create", &album, "--force"]).expect(0);
    world.run(&["show", "album.torrent"]).expect(0);
    let missing = ["create", &album, "-o", "no/where.torrent"];
    assert_fails(&world, &missing, 5, &["no/where.torrent", "no such folder"]);
    assert_fails(
        &world,
        &["create", &album, "-o", "source"],
        5,
        &["source", "folder"],
    );
    let left: Vec<_> = fs::read_dir(world.path("")).unwrap().collect();
    let names = left.into_iter().map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_str().unwrap().contains("tmp"))
    );
}

#[test]
fn an_interrupted_create_leaves_nothing() {
    let world = World::new();
    let sparse = fs::File::create(world.path("sparse")).unwrap();
    sparse.set_len(64 << 30).unwrap();
    let mut command = world.command(&["--json", "create", "sparse"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("hashing"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(lines.last().unwrap().unwrap().contains("interrupted"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 1);
}

#[test]
fn a_target_that_cannot_be_used_is_refused_before_the_first_byte() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let file = text(&world.file("file", 1));
    let listen = ["--listen", "127.0.0.1:0"];
    let get = |target| [&["get", &torrent, "-o", target], &listen[..]].concat();
    assert_fails(&world, &get("missing"), 5, &["missing", "no such folder"]);
    assert_fails(&world, &get(&file), 5, &[&file, "not a folder"]);
    let check = ["check", &torrent, "--data", "missing"];
    assert_fails(&world, &check, 5, &["missing", "no such directory"]);
    let seed = [&["seed", &torrent, "--data", "missing"], &listen[..]].concat();
    assert_fails(&world, &seed, 5, &["missing", "no such folder"]);
    // A folder where a file belongs.
    fs::create_dir_all(world.path("taken/album/a.bin")).unwrap();
    assert_fails(&world, &get("taken"), 5, &["a.bin", "not a regular file"]);
    if permissions_bind(&world) {
        let folder = world.folder("readonly");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
        assert_fails(
            &world,
            &get("readonly"),
            5,
            &["readonly", "cannot be written"],
        );
    }
    let state = [&get("source")[..], &["--state-dir", &file]].concat();
    assert_fails(&world, &state, 5, &["state folder", "--state-dir"]);
}

#[test]
fn an_address_that_is_not_ours_cannot_be_listened_on() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let target = text(&world.folder("target"));
    // TEST-NET-1 (RFC 5737) is on no machine.
    let get = [
        "get",
        &torrent,
        "-o",
        &target,
        "--isolated",
        "--listen",
        "192.0.2.1:0",
    ];
    assert_fails(&world, &get, 1, &["192.0.2.1", "no such address"]);
    let bind = ["--listen", "127.0.0.1:0", "--bind", "no-such-if0"];
    let get = [&["get", &torrent, "-o", &target], &bind[..]].concat();
    assert_fails(&world, &get, 1, &["no-such-if0"]);
}

#[test]
fn routers_of_the_dht_that_may_not_be_asked_are_wrong() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let router = ["--listen", "127.0.0.1:0", "--dht-router", "127.0.0.1:9"];
    let seed = ["seed", &torrent, "--data", "source"];
    let seed = [&seed[..], &router, &["--allow-net", "10.0.0.0/8"]].concat();
    assert_fails(&world, &seed, 2, &["--dht-router", "--allow-net"]);
}

#[test]
fn a_url_that_leads_nowhere_is_a_failure() {
    let world = World::new();
    let target = text(&world.folder("target"));
    let url = "http://127.0.0.1:1/secret/x.torrent";
    let get = ["get", url, "-o", &target, "--listen", "127.0.0.1:0"];
    assert_fails(
        &world,
        &get,
        1,
        &["cannot fetch the torrent", "http://127.0.0.1:1"],
    );
    assert!(!world.run(&get).stderr.contains("secret"));
}

#[test]
fn a_url_that_is_not_of_the_web_is_a_usage_error() {
    let world = World::new();
    for (url, words) in [
        ("ftp://127.0.0.1/a.iso", "only http and https can"),
        ("http://", "is no URL"),
    ] {
        assert_fails(&world, &["get", url], 2, &[words]);
    }
}

#[test]
fn seeding_where_nothing_is_right_fails() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    let nothing = text(&world.folder("nothing"));
    let seed = [
        "seed",
        &torrent,
        "--data",
        &nothing,
        "--listen",
        "127.0.0.1:0",
    ];
    assert_fails(&world, &seed, 4, &["nothing to seed", "album"]);
}

#[test]
fn text_of_strangers_cannot_reach_a_terminal() {
    let world = World::new();
    world.file("one.bin", 1);
    let comment = "\u{1b}[2J\u{202e}boo\u{9b}";
    world
        .run(&["create", "one.bin", "--comment", comment])
        .expect(0);
    let plain = world.run(&["show", "one.bin.torrent"]).expect(0);
    for c in ['\u{1b}', '\u{202e}', '\u{9b}'] {
        assert!(!plain.stdout.contains(c), "{plain:?}");
    }
    let json = world.run(&["--json", "show", "one.bin.torrent"]).expect(0);
    assert!(!json.stdout.contains('\u{1b}') && !json.stdout.contains('\u{202e}'));
    assert_eq!(json.event("torrent")["comment"], comment);
    let missing = world.run(&["show", "a\u{1b}[2Jb"]).expect(1);
    assert!(!missing.stderr.contains('\u{1b}'), "{missing:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let world = World::new();
    for number in 0..5_000 {
        world.file(&format!("many/a-file-with-a-rather-long-name-{number}"), 1);
    }
    world.run(&["create", "many", "--v1"]).expect(0);
    let mut command = world.command(&["show", "many.torrent"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty(), "{output:?}");
}

//! `shoal import` over the binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Running, Said, World, text};

/// More torrents than are taken over before the node is killed.
const TORRENTS: usize = 120;

fn up(world: &World, state: &str) -> Running {
    let state = text(&world.path(state));
    let usual = ["--json", "up", "--headless", "--state-dir", &state];
    let listen = ["--listen", "127.0.0.1:0", "--isolated"];
    Running::start(&mut world.command(&[&usual[..], &listen].concat()))
}

fn ask(world: &World, state: &str, arguments: &[&str]) -> Said {
    let state = text(&world.path(state));
    world.run(&[arguments, &["--json", "--state-dir", &state]].concat())
}

/// A session of rTorrent in which each of so many torrents is whole.
fn session(world: &World, count: usize) -> PathBuf {
    let session = world.folder("session");
    for number in 0..count {
        let file = world.file(&format!("data/file-{number}"), 20_000 + number);
        let made = text(&world.path("made.torrent"));
        let create = [
            "create",
            &text(&file),
            "--v1",
            "--piece-size",
            "16K",
            "-o",
            &made,
        ];
        let created = world.run(&[&create[..], &["--json"]].concat()).expect(0);
        let hash = created.event("created")["info_hash_v1"].clone();
        let name = session.join(format!("{}.torrent", hash.as_str().unwrap().to_uppercase()));
        fs::rename(&made, &name).unwrap();
        remember(&name, &world.path("data"));
    }
    session
}

/// Writes what rTorrent remembers of a torrent of two pieces in one file.
fn remember(torrent: &Path, folder: &Path) {
    let with = |suffix: &str| format!("{}{suffix}", torrent.display());
    let folder = text(folder);
    let length = folder.len();
    let settings = format!("d9:directory{length}:{folder}5:statei1e14:total_uploadedi7ee");
    fs::write(with(".rtorrent"), settings).unwrap();
    let file = "d5:mtimei-4e8:priorityi1ee";
    let resume = format!("d8:bitfieldi2e5:filesl{file}ee");
    fs::write(with(".libtorrent_resume"), resume).unwrap();
}

#[test]
fn a_session_is_shown_then_imported_and_not_twice() {
    let world = World::new();
    let session = text(&session(&world, 3));
    let node = up(&world, "state");
    let import = ["import", "--from", "rtorrent", &session];
    let dry = ask(&world, "state", &[&import[..], &["--dry-run"]].concat()).expect(0);
    assert_eq!(dry.event("import_begun")["torrents"], 3);
    assert_eq!(dry.event("import_done")["imported"], 3);
    assert!(
        ask(&world, "state", &["list"])
            .expect(0)
            .events()
            .is_empty()
    );

    let only = [&import[..], &["--only", "file-1", "--paused"]].concat();
    let one = ask(&world, "state", &only).expect(0);
    let torrent = one.event("import_torrent");
    assert_eq!(torrent["outcome"], "imported");
    assert_eq!(torrent["verified_pieces"], torrent["pieces"]);
    assert_eq!(one.event("import_done")["left_out"], 2);
    let listed = ask(&world, "state", &["list"]).expect(0);
    let listed = listed.event("session_torrent");
    assert_eq!(
        (&listed["state"], &listed["id"]),
        (&"paused".into(), &torrent["id"])
    );
    assert_eq!(listed["uploaded_bytes"], 7);

    let rest = ask(&world, "state", &import).expect(0).event("import_done");
    assert_eq!(
        (&rest["imported"], &rest["already"]),
        (&2.into(), &1.into())
    );
    let state = text(&world.path("state"));
    let people = world
        .run(&[&import[..], &["--state-dir", &state]].concat())
        .expect(0);
    assert!(
        people.stdout.contains("0 imported, 3 here before"),
        "{people:?}"
    );
    node.signal(Signal::INT);
    node.end().expect(0);
}

#[test]
fn what_cannot_be_imported_is_said_with_what_to_do() {
    let world = World::new();
    let session = session(&world, 1);
    let empty = text(&world.folder("empty"));
    let none = ask(&world, "state", &["import", "--from", "rtorrent", &empty]).expect(1);
    assert!(none.stderr.contains("shoal up"), "{none:?}");
    let _node = up(&world, "state");
    let there = text(&session);
    for (arguments, code, words) in [
        (vec!["import", &there], 2, "--from"),
        (vec!["import", "--from", "winamp"], 2, "qbittorrent"),
        (
            vec!["import", "--from", "deluge", &empty],
            3,
            "torrents.state",
        ),
        (vec!["import", "--from", "rtorrent", "absent"], 5, "absent"),
        (
            vec!["import", "--from", "rtorrent", &there, "--map", "/a"],
            2,
            "OLD=NEW",
        ),
        // The binary has no home here.
        (
            vec!["import", "--from", "transmission"],
            3,
            "name its folder",
        ),
    ] {
        let said = ask(&world, "state", &arguments).expect(code);
        assert!(
            said.stderr.contains(words),
            "{arguments:?}: {}",
            said.stderr
        );
    }
    fs::rename(world.path("data"), world.path("elsewhere")).unwrap();
    let import = ["import", "--from", "rtorrent", &there];
    let refused = ask(&world, "state", &import).expect(3);
    let why = refused.event("import_torrent")["message"].clone();
    assert!(why.as_str().unwrap().contains("where it is"), "{why}");
    let map = format!("{}=elsewhere", text(&world.path("data")));
    let found = ask(&world, "state", &[&import[..], &["--map", &map]].concat());
    assert_eq!(found.expect(0).event("import_done")["imported"], 1);
}

#[test]
fn a_kill_in_the_middle_of_an_import_costs_nothing() {
    let world = World::new();
    let session = text(&session(&world, TORRENTS));
    let mut node = up(&world, "state");
    let state = text(&world.path("state"));
    let import = ["import", "--from", "rtorrent", &session, "--paused"];
    let usual = ["--json", "--state-dir", &state];
    let mut importing = world
        .command(&[&import[..], &usual].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(importing.stdout.take().unwrap()).lines();
    let told = lines.take(20).filter(Result::is_ok).count();
    assert_eq!(told, 20);
    node.kill();
    assert!(!importing.wait().unwrap().success());

    let _node = up(&world, "state");
    let done = ask(&world, "state", &import).expect(0).event("import_done");
    let count = |key: &str| done[key].as_u64().unwrap();
    assert_eq!(count("imported") + count("already"), TORRENTS as u64);
    assert!(count("already") >= 19 && count("refused") == 0, "{done}");
    let listed = ask(&world, "state", &["list"]).expect(0).events();
    assert_eq!(listed.len(), TORRENTS);
    assert!(listed.iter().all(|torrent| torrent["uploaded_bytes"] == 7));
    ask(&world, "state", &["start", "all"]).expect(0);
    for _ in 0..3_000 {
        let listed = ask(&world, "state", &["list", "state:seeding"]).expect(0);
        let events = listed.events();
        if events.len() == TORRENTS {
            let is_whole =
                |torrent: &serde_json::Value| torrent["verified_bytes"] == torrent["wanted_bytes"];
            assert!(events.iter().all(is_whole));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("they never seeded");
}

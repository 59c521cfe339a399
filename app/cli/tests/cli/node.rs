//! A node and the commands that speak to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Running, Said, World, assert_same, text};
use crate::web::{part, serve};

/// Real kills, each at a moment of its own.
const KILLS: usize = 200;

/// The longest that a node lives before it is killed.
const LONGEST_LIFE: Duration = Duration::from_millis(150);

/// Starts a node whose state is in the folder `state` and waits until it takes requests.
pub(crate) fn up(world: &World, state: &str, more: &[&str]) -> Running {
    let state = text(&world.path(state));
    let usual = ["--json", "up", "--headless", "--state-dir", &state];
    let listen = ["--listen", "127.0.0.1:0"];
    Running::start(&mut world.command(&[&usual[..], &listen, more].concat()))
}

/// Asks the node whose state is in the folder `state`.
pub(crate) fn ask(world: &World, state: &str, arguments: &[&str]) -> Said {
    let state = text(&world.path(state));
    world.run(&[arguments, &["--json", "--state-dir", &state]].concat())
}

/// Waits until the only torrent is in this state.
pub(crate) fn until(world: &World, state: &str, wanted: &str) -> Value {
    for _ in 0..3_000 {
        let listed = ask(world, state, &["list"]).expect(0);
        let torrent = listed.event("session_torrent");
        if torrent["state"] == wanted {
            return torrent;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never was {wanted}");
}

#[test]
fn a_torrent_is_added_listed_paused_resumed_and_removed() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--hybrid");
    let seed = up(&world, "seed", &[]);
    let source = text(&world.path("source"));
    let add = ["add", &torrent, "-o", &source];
    ask(&world, "seed", &add).expect(0);
    until(&world, "seed", "seeding");

    let leech = up(&world, "leech", &[]);
    let target = text(&world.folder("target"));
    let add = ["add", &torrent, "-o", &target, "--peer", &seed.address];
    let added = ask(&world, "leech", &add).expect(0);
    let id = added.event("session_torrent")["id"].to_string();
    let seeding = until(&world, "leech", "seeding");
    assert_eq!(seeding["verified_bytes"], seeding["wanted_bytes"]);
    assert_same(&album, &world.path("target/album"));
    let again = ask(&world, "leech", &add).expect(1);
    assert!(
        again.event("error")["message"]
            .as_str()
            .unwrap()
            .contains("already")
    );

    ask(&world, "leech", &["pause", &id]).expect(0);
    let paused = until(&world, "leech", "paused");
    leech.signal(Signal::TERM);
    leech.end().expect(0);
    let none = ask(&world, "leech", &["list"]).expect(1);
    assert!(
        none.event("error")["message"]
            .as_str()
            .unwrap()
            .contains("shoal up")
    );
    let leech = up(&world, "leech", &[]);
    let kept = until(&world, "leech", "paused");
    assert_eq!(kept, paused);
    ask(&world, "leech", &["resume", "album"]).expect(0);
    until(&world, "leech", "seeding");
    ask(&world, "leech", &["rm", "all"]).expect(0);
    let gone = ask(&world, "leech", &["list"]).expect(0);
    assert_eq!(gone.events(), Vec::<Value>::new());
    assert_same(&album, &world.path("target/album"));
    leech.signal(Signal::INT);
    leech.end().expect(0);
}

#[test]
fn what_is_created_is_seeded_at_once_where_it_is_and_not_read_again() {
    let world = World::new();
    let album = text(&world.album());
    let create = ["create", &album, "--add", "-o", "album.torrent"];
    let said = ask(&world, "seed", &create).expect(1);
    let error = said.event("error")["message"].to_string();
    assert!(error.contains("shoal up"), "{error}");
    assert!(!world.path("album.torrent").exists(), "nothing was hashed");

    let seed = up(&world, "seed", &[]);
    let said = ask(&world, "seed", &create).expect(0);
    assert_eq!(said.event("created")["file_count"], 3);
    let id = said.event("session_torrent")["id"].to_string();
    let seeding = until(&world, "seed", "seeding");
    assert_eq!(seeding["verified_bytes"], seeding["wanted_bytes"]);
    let read = fs::read_to_string(format!("/proc/{}/io", seed.id())).unwrap();
    let read: u64 = (read.lines())
        .find_map(|line| line.strip_prefix("rchar: "))
        .and_then(|count| count.parse().ok())
        .unwrap();
    let shown = ask(&world, "seed", &["show", &id]).expect(0);
    assert_eq!(
        shown.event("session_torrent_details")["directory"],
        text(&world.path("source"))
    );
    // The album has half a million bytes; what a node reads besides is its database.
    assert!(read < 400_000, "{read} bytes read");

    let link = world.path("link");
    std::os::unix::fs::symlink(&album, &link).unwrap();
    let create = ["create", &text(&link), "--add", "--force"];
    let error = ask(&world, "seed", &create).expect(2).event("error");
    let error = error["message"].as_str().unwrap();
    assert!(error.contains("of another name"), "{error}");
}

#[test]
fn what_is_removed_with_its_data_goes_into_the_trash_where_that_is_asked_for() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--v1");
    world.file("source/album/mine", 10);
    let state = text(&world.path("state"));
    let usual = ["--json", "up", "--headless", "--state-dir", &state];
    let listen = ["--listen", "127.0.0.1:0"];
    let mut command = world.command(&[&usual[..], &listen].concat());
    command.env("XDG_DATA_HOME", world.path("share"));
    let _node = Running::start(&mut command);
    let source = text(&world.path("source"));
    ask(&world, "state", &["add", &torrent, "-o", &source]).expect(0);
    until(&world, "state", "seeding");
    let remove = ["rm", "album", "--data", "--trash"];
    ask(&world, "state", &remove).expect(0);
    let trashed = world.path("share/Trash/files/album/a.bin");
    for _ in 0..3_000 {
        if trashed.exists() && !world.path("source/album/a.bin").exists() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(trashed.exists(), "it can be put back");
    let note = world.path("share/Trash/info/album.trashinfo");
    assert!(fs::read_to_string(note).unwrap().contains("source/album"));
    assert!(
        world.path("source/album/mine").exists(),
        "a file of its own stays"
    );
    assert!(!world.path("source/album/a.bin").exists());
}

#[test]
fn several_are_added_at_once_and_of_each_it_is_said_what_came_of_it() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    let other = world.torrent(&world.file("source/one.bin", 40_000), "--v1");
    fs::write(world.path("none.torrent"), "no torrent").unwrap();
    let _node = up(&world, "state", &[]);
    let magnet = format!("magnet:?xt=urn:btih:{}&dn=far", "5a".repeat(20));
    let source = text(&world.path("source"));
    let add = [
        "add",
        "none.torrent",
        &torrent,
        "absent",
        &magnet,
        &other,
        &torrent,
        "-o",
        &source,
    ];
    let said = ask(&world, "state", &add).expect(1);
    let outcomes: Vec<(Value, Value)> = said
        .events()
        .iter()
        .map(|event| (event["event"].clone(), event["name"].clone()))
        .collect();
    let names = |name: &str| outcomes.iter().position(|(_, known)| known == name);
    assert_eq!(
        (names("album"), names("far"), names("one.bin")),
        (Some(1), Some(3), Some(4))
    );
    let events = said.events();
    for (at, kind, words) in [
        (0, "torrent_refused", "none.torrent"),
        (2, "failure", "no such file"),
        (5, "failure", "already"),
    ] {
        assert_eq!(events[at]["event"], "not_added", "{said:?}");
        assert_eq!(events[at]["kind"], kind, "{said:?}");
        let message = events[at]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    let error = said.event("error")["message"].to_string();
    assert!(error.contains("3 of 6"), "{error}");
    let listed = ask(&world, "state", &["list"]).expect(0);
    assert_eq!(listed.events().len(), 3);
    // What has one meaning for one torrent has none for two.
    let add = ["add", &torrent, &other, "--name", "both"];
    let refused = ask(&world, "state", &add).expect(2).event("error");
    assert!(refused["message"].as_str().unwrap().contains("--name"));
    let said = ask(&world, "state", &["add", "none.torrent", "none.torrent"]).expect(3);
    assert_eq!(said.events().len(), 3);
}

#[test]
fn a_second_node_and_wrong_requests_are_refused_with_what_to_do() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let node = up(&world, "state", &[]);
    let state = text(&world.path("state"));
    let second = [
        "up",
        "--headless",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        &state,
    ];
    let refused = world.run(&second).expect(5);
    assert!(
        refused.stderr.contains("a node runs there already"),
        "{refused:?}"
    );
    let target = text(&world.folder("target"));
    let magnet = "magnet:?xt=urn:btih:00";
    for (arguments, code, words) in [
        (vec!["pause", "album"], 1, "no torrent here is called"),
        (vec!["pause"], 2, "<TORRENT>"),
        (vec!["add", "absent.torrent"], 1, "no such file"),
        (vec!["add", &torrent, "-o", "absent"], 5, "no such folder"),
        (vec!["add", &torrent, "--select", "9"], 2, "9"),
        (vec!["add", magnet, "-o", &target], 3, "magnet link refused"),
        (vec!["add", magnet, "--select", "1"], 2, "--select"),
        (vec!["up"], 2, "--headless"),
        (
            vec!["up", "--headless", "--peer", "127.0.0.1:1"],
            2,
            "shoal add --peer",
        ),
    ] {
        let said = ask(&world, "state", &arguments).expect(code);
        let error = said.event("error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
    assert!(!world.path("state/node.sock").exists());
}

/// A torrent of one small file, which nobody has.
fn small_torrent(world: &World, number: usize) -> String {
    let name = format!("small-{number}");
    let mut file = format!("d4:infod6:lengthi5e4:name{}:{name}", name.len()).into_bytes();
    file.extend(b"12:piece lengthi16384e6:pieces20:");
    file.extend([0x5a; 20]);
    file.extend(b"ee");
    let path = world.path(&format!("{name}.torrent"));
    fs::write(&path, file).unwrap();
    text(&path)
}

/// What a node may never forget.
#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    verified_bytes: u64,
}

impl Known {
    /// Looks at the session: everything known is there, and no verified piece is lost.
    fn check(&mut self, said: &Said) {
        let events = said.events();
        let name = |event: &Value| event["name"].as_str().unwrap().to_owned();
        let listed: BTreeSet<String> = events.iter().map(name).collect();
        let lost: Vec<_> = self.names.difference(&listed).collect();
        assert!(lost.is_empty(), "{lost:?} are lost");
        self.names.extend(listed);
        for event in events {
            let looked_at = event["state"] == "downloading" || event["state"] == "seeding";
            if event["name"] == "large" && looked_at {
                let verified = event["verified_bytes"].as_u64().unwrap();
                let before = self.verified_bytes;
                assert!(verified >= before, "{verified} of {before} bytes are left");
                self.verified_bytes = verified;
            }
        }
    }
}

/// Waits until what is verified of the download is known, and looks.
fn look(world: &World, known: &mut Known) {
    for _ in 0..3_000 {
        let said = ask(world, "state", &["list"]).expect(0);
        let large = said
            .events()
            .into_iter()
            .find(|event| event["name"] == "large");
        let state = large.map(|event| event["state"].clone());
        known.check(&said);
        // What is known to be good is not read again.
        assert_ne!(state, Some("checking".into()), "{said:?}");
        if state.is_none_or(|state| state == "downloading" || state == "seeding") {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("the download never went on");
}

#[test]
fn two_hundred_kills_lose_no_torrent_and_no_verified_piece() {
    let world = World::new();
    let content = world.file("source/large", 30_000_000);
    let bytes = fs::read(&content).unwrap();
    let server = serve(move |asked| part(&bytes, asked, ""));
    let torrent = text(&world.path("large.torrent"));
    let url = format!("http://{}/large", server.address);
    let create = [
        "create",
        &text(&content),
        "--web-seed",
        &url,
        "-o",
        &torrent,
    ];
    world
        .run(&[&create[..], &["--piece-size", "16K"]].concat())
        .expect(0);
    let target = text(&world.folder("target"));
    let more = ["--allow-net", "127.0.0.0/8", "--download-limit", "600K"];
    let mut dice = fastrand::Rng::with_seed(7);
    let mut known = Known::default();
    for round in 0..KILLS {
        let mut node = up(&world, "state", &more);
        look(&world, &mut known);
        let pid = Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
        let life = LONGEST_LIFE.mul_f64(dice.f64());
        let killer = thread::spawn(move || {
            thread::sleep(life);
            kill_process(pid, Signal::KILL).unwrap();
        });
        live(&world, round, &torrent, &target, &mut known);
        killer.join().unwrap();
        node.kill();
    }
    assert!(known.names.len() > KILLS / 2, "{}", known.names.len());
    assert!(known.verified_bytes > 1_000_000, "{}", known.verified_bytes);
    let node = up(&world, "state", &more[..2]);
    look(&world, &mut known);
    node.signal(Signal::TERM);
    node.end().expect(0);
}

/// Asks this and that until nobody answers any more. What was said to be done is known from there on.
fn live(world: &World, round: usize, torrent: &str, target: &str, known: &mut Known) {
    let small = small_torrent(world, round);
    let name = Path::new(&small).file_stem().unwrap().to_str().unwrap();
    if !known.names.contains("large") {
        let added = ask(world, "state", &["add", torrent, "-o", target]);
        if added.code == Some(0) {
            known.names.insert("large".to_owned());
        }
    }
    let added = ask(world, "state", &["add", &small, "-o", target, "--paused"]);
    if added.code == Some(0) {
        known.names.insert(name.to_owned());
    }
    loop {
        let listed = ask(world, "state", &["list"]);
        if listed.code != Some(0) {
            return;
        }
        known.check(&listed);
    }
}

#[test]
fn get_and_seed_hand_over_to_a_node_that_runs_and_work_alone_without_one() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let seeding = up(&world, "seed", &[]);
    let source = text(&world.path("source"));
    let seed = ["seed", &torrent, "--data", &source];
    let served = ask(&world, "seed", &seed).expect(0);
    let last = served.events().pop().unwrap();
    assert_eq!(
        (&last["event"], &last["state"]),
        (&"session_torrent".into(), &"seeding".into())
    );

    let leech = up(&world, "leech", &[]);
    let target = text(&world.folder("target"));
    let get = ["get", &torrent, "-o", &target, "--peer", &seeding.address];
    let got = ask(&world, "leech", &get).expect(0);
    let last = got.events().pop().unwrap();
    assert_eq!(last["verified_bytes"], 500_001);
    assert_same(&album, &world.path("target/album"));
    // It is there, and whoever asks again hears so.
    ask(&world, "leech", &["pause", "all"]).expect(0);
    ask(&world, "leech", &get).expect(0);
    until(&world, "leech", "seeding");

    let own = [&get[..], &["--listen", "127.0.0.1:0"]].concat();
    let refused = ask(&world, "leech", &own).expect(2).event("error");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("--listen") && message.contains("--alone"),
        "{message}"
    );
    let other = text(&world.folder("other"));
    let alone = ["get", &torrent, "-o", &other, "--peer", &seeding.address];
    let alone = [&alone[..], &["--alone", "--listen", "127.0.0.1:0"]].concat();
    ask(&world, "leech", &alone).expect(0).event("complete");
    assert_same(&album, &world.path("other/album"));
    let listed = ask(&world, "leech", &["list"]).expect(0);
    assert_eq!(listed.events().len(), 1);

    // What is not there is not served, and not kept.
    let empty = text(&world.folder("empty"));
    ask(&world, "leech", &["rm", "all"]).expect(0);
    let seed = ["seed", &torrent, "--data", &empty];
    let nothing = ask(&world, "leech", &seed).expect(4).event("error");
    assert!(
        nothing["message"]
            .as_str()
            .unwrap()
            .contains("nothing to seed")
    );
    assert_eq!(
        ask(&world, "leech", &["list"]).expect(0).events(),
        Vec::<Value>::new()
    );
    for node in [seeding, leech] {
        node.signal(Signal::TERM);
        node.end().expect(0);
    }
}

#[test]
fn a_download_that_was_handed_over_goes_on_when_its_command_ends() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let node = up(&world, "state", &[]);
    let (target, state) = (text(&world.folder("target")), text(&world.path("state")));
    let mut get = world.command(&[
        "--json",
        "get",
        &torrent,
        "-o",
        &target,
        "--state-dir",
        &state,
        "--download-limit",
        "1M",
    ]);
    let mut get = get.stdout(std::process::Stdio::null()).spawn().unwrap();
    // It has to have told the node before it can be told to end.
    while ask(&world, "state", &["list"])
        .expect(0)
        .events()
        .is_empty()
    {
        thread::sleep(Duration::from_millis(10));
    }
    let downloading = until(&world, "state", "downloading");
    assert_eq!(downloading["rules"]["down"], "1MiB");
    let pid = Pid::from_raw(i32::try_from(get.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let code = get.wait().unwrap().code();
    assert!(matches!(code, Some(130) | None), "{code:?}");
    until(&world, "state", "downloading");
    node.signal(Signal::TERM);
    node.end().expect(0);
}

#[test]
fn what_a_node_is_told_is_shown_and_lasts() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let node = up(&world, "state", &[]);
    let target = text(&world.folder("target"));
    let said = |arguments: &[&str]| ask(&world, "state", arguments).expect(0);
    said(&[
        "settings",
        "set",
        "queue.downloads=0",
        "add.trackers+=udp://127.0.0.1:9/",
    ]);
    said(&[
        "category", "set", "music", "--folder", &target, "--up", "1M",
    ]);
    said(&["tag", "set", "new"]);
    said(&[
        "add",
        &torrent,
        "--category",
        "music",
        "--tag",
        "new",
        "--seed-ratio",
        "2",
    ]);
    said(&["limit", "album", "--down", "2M"]);
    said(&["share", "all", "--time", "10d", "--then", "rm"]);
    said(&["share", "session", "--ratio", "1.5"]);
    said(&["rename", "album", "songs"]);
    node.signal(Signal::TERM);
    node.end().expect(0);
    let node = up(&world, "state", &["--max-seeds", "4"]);
    let torrent = said(&["list", "category:music"]).event("session_torrent");
    assert_eq!(
        (&torrent["state"], &torrent["name"]),
        (&"queued".into(), &"songs".into())
    );
    assert_eq!(
        torrent["directory"],
        text(&world.path("target").canonicalize().unwrap())
    );
    let rules = serde_json::json!({"down": "2MiB", "ratio": "2", "time": "10d", "then": "rm"});
    assert_eq!(torrent["rules"], rules);
    let settings = said(&["settings"]).events();
    let value = |key: &str| {
        let found = settings.iter().find(|setting| setting["key"] == key);
        found.unwrap()["value"].clone()
    };
    assert_eq!(value("queue.downloads"), "0");
    assert_eq!(value("queue.seeds"), "4");
    assert_eq!(value("add.trackers"), "udp://127.0.0.1:9/");
    assert_eq!(
        said(&["share", "session"]).event("rules")["rules"]["ratio"],
        "1.5"
    );
    assert_eq!(said(&["category"]).event("rules")["torrents"], 1);
    said(&["settings", "reset", "queue.downloads"]);
    until(&world, "state", "downloading");
    said(&["queue", "songs", "top"]);
    said(&["category", "put", "songs", "none"]);
    said(&["tag", "take", "songs", "new"]);
    assert_eq!(
        said(&["list", "tag:none"]).event("session_torrent")["category"],
        Value::Null
    );
    let sorted = said(&[
        "list",
        "--sort",
        "name",
        "--reverse",
        "--limit",
        "1",
        "--offset",
        "1",
    ]);
    assert_eq!(sorted.events(), Vec::<Value>::new());
    for (arguments, words) in [
        (
            vec!["settings", "set", "queue.downloads=many"],
            "queue.downloads",
        ),
        (vec!["settings", "set", "queue.downloads"], "KEY=VALUE"),
        (vec!["limit", "songs", "--down", "0"], "stop everything"),
        (vec!["share", "songs", "--then", "dance"], "rm-data"),
        (
            vec!["category", "put", "songs", "films"],
            "shoal category set",
        ),
        (vec!["category", "set", "a//b"], "films/short"),
        (vec!["tag", "rm", "old"], "no tag"),
        (vec!["list", "state:happy"], "downloading"),
    ] {
        let said = ask(&world, "state", &arguments);
        let message = said.event("error")["message"].to_string();
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    node.signal(Signal::TERM);
    node.end().expect(0);
}

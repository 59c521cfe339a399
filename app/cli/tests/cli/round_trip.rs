//! What `create` makes, `show` shows and `check` finds right, until something is wrong.

use std::fs;

use serde_json::json;

use crate::support::{World, text};

#[test]
fn what_is_created_is_shown_and_found_right() {
    for kind in ["--v1", "--v2", "--hybrid"] {
        let world = World::new();
        let album = world.album();
        let torrent = world.torrent(&album, kind);
        let shown = world
            .run(&["--json", "show", &torrent])
            .expect(0)
            .event("torrent");
        assert_eq!(shown["kind"], kind[2..]);
        assert_eq!(shown["name"], "album");
        assert_eq!(shown["size_bytes"], 500_001);
        assert_eq!(shown["piece_length_bytes"], 32_768);
        assert_eq!(shown["info_hash_v1"].is_string(), kind != "--v2");
        assert_eq!(shown["info_hash_v2"].is_string(), kind != "--v1");
        let files: Vec<_> = shown["files"].as_array().unwrap().iter().collect();
        let paths: Vec<_> = files
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["a.bin", "empty", "sub/b.bin"], "{kind}");
        assert_eq!(files[2]["number"], 3);
        let data = text(&world.path("source"));
        let checked = world
            .run(&["--json", "check", &torrent, "--data", &data])
            .expect(0);
        let checked = checked.event("checked");
        assert_eq!(checked["right"], true);
        assert_eq!(checked["right_files"], 3);
        assert_eq!(checked["right_pieces"], shown["piece_count"]);
    }
}

#[test]
fn hybrid_is_the_default_and_a_single_file_needs_no_folder() {
    let world = World::new();
    world.file("one.bin", 100_000);
    let created = world
        .run(&["--json", "create", "one.bin"])
        .expect(0)
        .event("created");
    assert_eq!(created["kind"], "hybrid");
    assert_eq!(created["path"], "one.bin.torrent");
    world
        .run(&["check", "one.bin.torrent", "--data", "."])
        .expect(0);
}

#[test]
fn every_option_of_create_is_in_the_torrent() {
    let world = World::new();
    world.file("one.bin", 1);
    let arguments = "--json create one.bin --v1 --tracker https://a.example/announce --tracker udp://b.example:6969+http://c.example/announce \
         --web-seed https://c.example/ --private --comment hello --source site --no-date --piece-size 64KiB -o x.torrent";
    let arguments: Vec<String> = arguments
        .split_whitespace()
        .map(|word| word.replace('+', " "))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let created = world.run(&arguments).expect(0).event("created");
    let shown = world
        .run(&["--json", "show", "x.torrent"])
        .expect(0)
        .event("torrent");
    assert_eq!(
        shown["trackers"],
        json!([
            ["https://a.example/announce"],
            ["udp://b.example:6969", "http://c.example/announce"]
        ])
    );
    assert_eq!(shown["web_seeds"], json!(["https://c.example/"]));
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "hello");
    assert_eq!(shown["source"], "site");
    assert_eq!(shown["creation_date_unix_s"], json!(null));
    assert_eq!(shown["piece_length_bytes"], 65_536);
    assert_eq!(shown["info_hash_v1"], created["info_hash_v1"]);
    let magnet = created["magnet"].as_str().unwrap();
    let linked = world
        .run(&["--json", "show", magnet])
        .expect(0)
        .event("magnet");
    assert_eq!(linked["info_hash_v1"], created["info_hash_v1"]);
    assert_eq!(linked["name"], "one.bin");
    let first = fs::read(world.path("x.torrent")).unwrap();
    world
        .run(&[&arguments[..], &["--force"]].concat())
        .expect(0);
    assert_eq!(first, fs::read(world.path("x.torrent")).unwrap());
}

#[test]
fn padding_is_hidden_unless_asked_for() {
    let world = World::new();
    let torrent = world.torrent(&world.album(), "--hybrid");
    let plain = world.run(&["show", &torrent]).expect(0);
    assert!(!plain.stdout.contains("padding"), "{}", plain.stdout);
    assert!(plain.stdout.contains("sub/\n"), "{}", plain.stdout);
    let all = world.run(&["show", &torrent, "--all"]).expect(0);
    assert!(all.stdout.contains("(padding)"), "{}", all.stdout);
}

#[test]
fn hidden_files_are_left_out_where_that_is_asked_for() {
    let world = World::new();
    let album = world.album();
    world.file("source/album/.cover.xcf", 70_000);
    world.file("source/album/.git/objects/1", 10);
    let album = text(&album);
    for (option, files) in [("--no-date", 5), ("--skip-hidden", 3)] {
        let create = ["--json", "create", &album, option, "--force"];
        let created = world.run(&create).expect(0).event("created");
        assert_eq!(created["file_count"], files, "{option}");
    }
}

#[test]
fn links_are_left_out_with_a_warning() {
    let world = World::new();
    let album = world.album();
    std::os::unix::fs::symlink("a.bin", album.join("link")).unwrap();
    let said = world.run(&["--json", "create", &text(&album)]).expect(0);
    let warning = said.event("warning");
    assert!(warning["message"].as_str().unwrap().ends_with("album/link"));
    assert_eq!(said.event("created")["file_count"], 3);
}

#[test]
fn each_wrong_file_is_named_with_what_is_wrong() {
    let world = World::new();
    let album = world.album();
    world.file("source/album/c.bin", 70_000);
    let torrent = world.torrent(&album, "--v2");
    let data = text(&world.path("source"));

    fs::remove_file(album.join("empty")).unwrap();
    let mut bytes = fs::read(album.join("a.bin")).unwrap();
    bytes[40_000] ^= 1;
    fs::write(album.join("a.bin"), &bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(album.join("c.bin"))
        .unwrap()
        .set_len(69_999)
        .unwrap();
    fs::remove_dir_all(album.join("sub")).unwrap();

    let said = world
        .run(&["--json", "check", &torrent, "--data", &data])
        .expect(4);
    let files: Vec<_> = said
        .events()
        .into_iter()
        .filter(|event| event["event"] == "file")
        .collect();
    let of = |path: &str| {
        files
            .iter()
            .find(|file| file["path"] == path)
            .unwrap()
            .clone()
    };
    assert_eq!(of("album/a.bin")["state"], "wrong");
    assert_eq!(of("album/a.bin")["wrong_pieces"], json!([[1, 1]]));
    assert_eq!(of("album/c.bin")["state"], "short");
    assert_eq!(of("album/c.bin")["found_bytes"], 69_999);
    assert_eq!(of("album/empty")["state"], "missing");
    assert_eq!(of("album/sub/b.bin")["state"], "missing");
    assert_eq!(
        of("album/sub/b.bin")["wrong_pieces"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let checked = said.event("checked");
    assert_eq!(checked["right"], false);
    assert_eq!(checked["wrong_files"], 4);

    let plain = world.run(&["check", &torrent, "--data", &data]).expect(4);
    assert!(
        plain.stdout.contains("missing: album/empty"),
        "{}",
        plain.stdout
    );
    assert!(plain.stderr.is_empty(), "{}", plain.stderr);
}

#[test]
fn data_that_is_not_there_at_all_is_wrong_and_no_error() {
    for kind in ["--v1", "--v2", "--hybrid"] {
        let world = World::new();
        let torrent = world.torrent(&world.album(), kind);
        let nothing = text(&world.folder("nothing"));
        let said = world
            .run(&["--json", "check", &torrent, "--data", &nothing])
            .expect(4);
        assert_eq!(said.event("checked")["right_pieces"], 0);
        assert!(said.stderr.is_empty(), "{}", said.stderr);
    }
}

//! The page about JSON against the events: every field of one of each, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shoal_node::message::{HeldRule, Priority, State, StateCount};

use super::*;
use crate::exit::Exit;

const PAGE: &str = include_str!("../../../../../docs/json.md");

fn samples() -> Vec<Event> {
    let hash = || Some("7a9b6f24f9b31b9cb5cbc9a0e76b4f3c2f0f9d11".to_owned());
    let file = TorrentFile {
        number: Some(1),
        path: "a.flac".into(),
        size_bytes: 20_000,
        padding: false,
        executable: false,
        symlink: None,
    };
    vec![
        Event::Listening(Listening {
            addresses: vec!["127.0.0.1:6881".parse().unwrap()],
        }),
        Event::Torrent(Box::new(TorrentEvent {
            name: "album".into(),
            kind: "hybrid",
            info_hash_v1: hash(),
            info_hash_v2: hash(),
            size_bytes: 20_000,
            piece_length_bytes: 16_384,
            piece_count: 2,
            files: vec![file],
            trackers: vec![vec!["https://tracker.example/announce".into()]],
            web_seeds: Vec::new(),
            private: false,
            source: None,
            comment: None,
            created_by: None,
            creation_date_unix_s: Some(1_735_689_599),
            magnet: "magnet:?".into(),
            warnings: Vec::new(),
        })),
        Event::Magnet(Box::new(MagnetEvent {
            name: None,
            kind: "v1",
            info_hash_v1: hash(),
            info_hash_v2: None,
            size_bytes: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            selected: None,
            warnings: Vec::new(),
        })),
        Event::Scrape(Scrape {
            tracker: "udp://tracker.example:6969/announce".into(),
            error: None,
            swarms: vec![SwarmFigures {
                kind: "v1",
                seeds: Some(5),
                leeches: Some(2),
                completed: Some(100),
            }],
        }),
        Event::Metadata(Metadata {
            candidates: 12,
            failed_dials: 3,
            peers: 2,
            offers: 1,
            liars: 0,
            received_bytes: 16_384,
            total_bytes: Some(20_000),
            wants_hashes: false,
        }),
        Event::Hashing(Hashing {
            done_bytes: 1,
            total_bytes: 4,
            rate_bytes_per_s: 1,
            time_left_s: Some(3),
        }),
        Event::Created(Created {
            path: "album.torrent".into(),
            name: "album".into(),
            kind: "v1",
            info_hash_v1: hash(),
            info_hash_v2: None,
            size_bytes: 20_000,
            piece_length_bytes: 16_384,
            piece_count: 2,
            file_count: 1,
            magnet: "magnet:?".into(),
        }),
        Event::Checking(Checking {
            checked_pieces: 1,
            total_pieces: 4,
            time_left_s: None,
        }),
        Event::Started(Started {
            name: "album".into(),
            info_hash_v1: hash(),
            info_hash_v2: None,
            directory: "/music".into(),
            wanted_bytes: 20_000,
            verified_bytes: 16_384,
            verified_pieces: 1,
            resumed_pieces: 1,
            piece_count: 2,
        }),
        Event::Progress(Progress {
            phase: "downloading",
            wanted_bytes: 20_000,
            verified_bytes: 16_384,
            downloaded_bytes: 16_384,
            uploaded_bytes: 0,
            wasted_bytes: 0,
            failed_pieces: 0,
            download_rate_bytes_per_s: 16_384,
            upload_rate_bytes_per_s: 0,
            peers: 3,
            seeds: 1,
            time_left_s: Some(0),
        }),
        Event::WebSeed(WebSeed {
            host: "https://mirror.example".to_owned(),
            working: false,
            message: Some("it is busy (status 503)".to_owned()),
        }),
        Event::Tracker(Tracker {
            host: "https://tracker.example:443".into(),
            working: true,
            message: None,
            seeds: Some(5),
            leeches: Some(2),
            completed: None,
        }),
        Event::Suspended(Suspended {
            reason: "full".into(),
            path: "a".into(),
        }),
        Event::Continued(Continued {}),
        Event::Complete(Complete {
            name: "album".into(),
            path: "/music/album".into(),
            wanted_bytes: 20_000,
            verified_pieces: 2,
            resumed_pieces: 1,
            downloaded_bytes: 3_616,
            wasted_bytes: 0,
            failed_pieces: 0,
            time_s: 0.5,
        }),
        Event::Stopped(Stopped {
            reason: "interrupted",
            complete: true,
            verified_pieces: 2,
            downloaded_bytes: 20_000,
            uploaded_bytes: 40_000,
        }),
        Event::File(FileEvent {
            number: 1,
            path: "album/a.flac".into(),
            state: "short",
            size_bytes: 20_000,
            found_bytes: Some(18_000),
            wrong_pieces: vec![[1, 1]],
        }),
        Event::Checked(Checked {
            name: "album".into(),
            right: false,
            right_pieces: 1,
            wrong_pieces: 1,
            right_files: 0,
            wrong_files: 1,
            time_s: 0.5,
        }),
        Event::NotAdded(NotAdded {
            source: "film.torrent".to_owned(),
            kind: "torrent_refused",
            message: "film.torrent: this is no torrent; name a torrent file".to_owned(),
        }),
        Event::SessionTorrent(Box::new(SessionTorrent {
            id: 3,
            info_hash: "0a".repeat(20),
            name: "album".to_owned(),
            state: "suspended",
            message: Some("the disk is full".to_owned()),
            directory: "/home/ada/incomplete".to_owned(),
            home: Some("/home/ada/music".to_owned()),
            moving_to: None,
            renamed: BTreeMap::from([("album/a".to_owned(), "album/b".to_owned())]),
            category: Some("music".to_owned()),
            tags: BTreeSet::from(["new".to_owned()]),
            position: Some(1),
            forced: false,
            rules: words(),
            sequential: false,
            first_last: true,
            priorities: words(),
            wanted_bytes: 20_000,
            verified_bytes: 16_384,
            downloaded_bytes: 16_384,
            uploaded_bytes: 100,
            download_rate_bytes_per_s: 0,
            upload_rate_bytes_per_s: 5,
            peers: 2,
            added_unix_s: 1_700_000_000,
            completed_unix_s: None,
        })),
        Event::TorrentTracker(TorrentTracker {
            torrent: 3,
            url: "https://tracker.example/announce".to_owned(),
            tier: 1,
            swarm: Some("0a".repeat(20)),
            state: "working",
            message: None,
            seeds: Some(5),
            leeches: Some(2),
            completed: None,
            next_announce_s: Some(1_800),
        }),
        Event::Peer(Box::new(Peer {
            torrent: 3,
            address: "192.0.2.1:6881".parse().unwrap(),
            client: Some("Shoal 0.1.0".to_owned()),
            origin: "tracker".to_owned(),
            transport: "tcp".to_owned(),
            encrypted: false,
            connected_s: 60,
            seed: true,
            pieces: 2,
            we_are_interested: true,
            chokes_us: false,
            interested: false,
            choked: true,
            snubs_us: false,
            downloaded_bytes: 16_384,
            uploaded_bytes: 0,
            download_rate_bytes_per_s: 1_024,
            upload_rate_bytes_per_s: 0,
        })),
        Event::Banned(Banned {
            address: "192.0.2.9".parse().unwrap(),
        }),
        Event::TorrentWebSeed(TorrentWebSeed {
            torrent: 3,
            url: "https://mirror.example/files/".to_owned(),
        }),
        Event::Setting(Setting {
            key: "queue.downloads".to_owned(),
            value: "5".to_owned(),
            default: "3".to_owned(),
            help: "downloads that run at a time: a number or all".to_owned(),
        }),
        Event::Rules(Rules {
            name: "music".to_owned(),
            rules: words(),
            torrents: 1,
        }),
        Event::Session(Box::new(session())),
        Event::SessionTorrentDetails(Box::new(details())),
        Event::SessionFile(Box::new(ShownFile {
            number: 1,
            path: "a.flac".to_owned(),
            location: "/home/ada/music/album/a.flac".to_owned(),
            size_bytes: 20_000,
            verified_bytes: Some(16_384),
            priority: Priority::Normal,
            pieces: Some([0, 1]),
            available_pieces: Some(2),
        })),
        Event::SessionPieces(Box::new(ShownPieces {
            id: 3,
            piece_count: 2,
            piece_length_bytes: 16_384,
            verified: Some(vec![[0, 0]]),
            in_progress: Some(vec![[1, 1]]),
            availability: Some(vec![[0, 1, 2]]),
        })),
        Event::SessionPieceHash(ShownHash {
            piece: 0,
            sha1: Some("0b".repeat(20)),
            root: None,
        }),
        Event::Saved(Saved {
            path: "album.torrent".to_owned(),
            size_bytes: 170,
        }),
        Event::Route(Route {
            name: "vpn".to_owned(),
            state: "shut",
            message: Some("the interface wg0 is gone, and nothing goes another way".to_owned()),
            proxy: None,
            password_file: None,
            bind: Some("wg0".to_owned()),
            dns: vec!["10.8.0.1:53".parse().unwrap()],
            listening: vec!["0.0.0.0:6881".parse().unwrap()],
            torrents: 1,
        }),
        Event::Interface(Interface {
            name: "wg0".to_owned(),
            addresses: vec!["10.8.0.2".parse().unwrap()],
        }),
        Event::ImportBegun(ImportBegun {
            client: "qBittorrent".into(),
            folder: "/home/ada/.local/share/qBittorrent".into(),
            torrents: 40,
            dry_run: false,
        }),
        Event::ImportTorrent(Box::new(ImportTorrent {
            number: 1,
            info_hash: hash(),
            name: "album".into(),
            directory: Some("/home/ada/music".into()),
            outcome: "imported",
            id: Some(3),
            message: None,
            pieces: 2,
            verified_pieces: 1,
            suspect_pieces: 1,
            lost_pieces: 0,
            changed_files: 1,
            missing_files: 0,
            files: vec!["album/a.flac".into()],
            notes: Vec::new(),
        })),
        Event::ImportDone(ImportDone {
            imported: 38,
            already: 1,
            refused: 1,
            left_out: 0,
        }),
        Event::AddressList(AddressList {
            path: "/level1.p2p".to_owned(),
            ranges: 2,
            let_pass: 0,
            bad: 1,
            first_bad: vec![BadLine {
                line: 7,
                why: "the range ends before it begins".to_owned(),
            }],
            left_out: 0,
            read_unix_s: Some(1_700_000_000),
            message: None,
        }),
        Event::Address(Address {
            address: [192, 0, 2, 7].into(),
            allowed: true,
            path: None,
            line: None,
            first: None,
            last: None,
        }),
        Event::Span(Span {
            number: 1,
            times: "08:00-18:00".to_owned(),
            holds: Holds::Alternative,
            down: None,
            up: None,
        }),
        Event::Schedule(Schedule {
            now: Now::Auto,
            holds: Holds::Normal,
            down_bytes_per_s: None,
            up_bytes_per_s: Some(1),
            until: None,
        }),
        Event::Watch(Box::new(Watch {
            path: "/in".to_owned(),
            recursive: false,
            then: Afterwards::Keep,
            directory: None,
            category: None,
            tags: BTreeSet::new(),
            rules: words(),
            added: 0,
            message: None,
            refused: vec![RefusedFile {
                path: "a.torrent".to_owned(),
                why: "odd".to_owned(),
            }],
        })),
        Event::Hook(Hook {
            on: Occasion::Added,
            program: vec!["notify".to_owned()],
        }),
        Event::Warning(Warning {
            message: "odd".into(),
        }),
        Event::Error(ErrorEvent::from(&Failure::new(Exit::Failure, "bad"))),
    ]
}

fn session() -> ShownSession {
    ShownSession {
        version: "0.1.0".to_owned(),
        started_unix_s: 1_700_000_000,
        listening: vec!["192.0.2.1:6881".parse().unwrap()],
        mapped: None,
        download_rate_bytes_per_s: 16_384,
        upload_rate_bytes_per_s: 5,
        download_limit_bytes_per_s: Some(1 << 20),
        upload_limit_bytes_per_s: None,
        holds: Holds::Alternative,
        downloaded_bytes: 20_000,
        uploaded_bytes: 30_000,
        ratio_permille: Some(1_500),
        started_downloaded_bytes: 20_000,
        started_uploaded_bytes: 100,
        wasted_bytes: 0,
        peers: 2,
        seeds: 1,
        torrents: 1,
        states: vec![StateCount {
            state: State::Downloading,
            count: 1,
        }],
    }
}

fn details() -> ShownTorrent {
    ShownTorrent {
        id: 3,
        name: "album".to_owned(),
        info_hash_v1: Some("0a".repeat(20)),
        info_hash_v2: None,
        magnet: "magnet:?".to_owned(),
        has_metadata: true,
        private: Some(false),
        comment: None,
        source: None,
        created_by: None,
        created_unix_s: None,
        state: State::Downloading,
        message: None,
        size_bytes: Some(20_000),
        wanted_bytes: 20_000,
        verified_bytes: 16_384,
        left_bytes: 3_616,
        piece_length_bytes: Some(16_384),
        piece_count: Some(2),
        verified_pieces: Some(1),
        file_count: Some(1),
        time_left_s: Some(1),
        downloaded_bytes: 16_384,
        uploaded_bytes: 100,
        ratio_permille: Some(6),
        started_downloaded_bytes: 16_384,
        started_uploaded_bytes: 100,
        wasted_bytes: 0,
        failed_pieces: 0,
        download_rate_bytes_per_s: 3_000,
        upload_rate_bytes_per_s: 5,
        average_download_bytes_per_s: Some(2_000),
        average_upload_bytes_per_s: Some(5),
        peers: 2,
        seeds: 1,
        max_peers: None,
        known_seeds: Some(5),
        known_leeches: Some(2),
        availability_permille: Some(2_500),
        trackers: Some(1),
        working_trackers: Some(1),
        tracker_message: None,
        next_announce_s: Some(1_700),
        web_seeds: Some(0),
        added_unix_s: 1_700_000_000,
        completed_unix_s: None,
        run_s: Some(8),
        seeding_s: 0,
        idle_s: 0,
        directory: "/home/ada/music".to_owned(),
        home: None,
        moving_to: None,
        content_path: Some("/home/ada/music/album".to_owned()),
        position: Some(1),
        forced: false,
        category: Some("music".to_owned()),
        tags: BTreeSet::from(["new".to_owned()]),
        sequential: false,
        first_last: false,
        super_seed: false,
        seed_only: false,
        preallocate: false,
        rules: words(),
        held: vec![HeldRule {
            rule: "ratio".to_owned(),
            value: "2".to_owned(),
            from: Some("category".to_owned()),
            name: Some("music".to_owned()),
        }],
    }
}

/// What is said of rates.
fn words() -> BTreeMap<String, String> {
    BTreeMap::from([("up".to_owned(), "1MiB".to_owned())])
}

/// The names of all fields, those of objects in lists included.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                // What is in there has words, paths and numbers for names, not fields.
                if !["rules", "renamed", "priorities"].contains(&name.as_str()) {
                    fields(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

fn fields_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    fields(value, &mut found);
    found.remove("event");
    found
}

/// A section of the page by its heading.
fn section(event: &str) -> &'static str {
    let heading = format!("\n## {event}\n");
    let (_, section) = PAGE.split_once(&heading).expect(event);
    section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section)
}

#[test]
fn the_page_has_every_field_of_every_event_and_no_other() {
    for event in samples() {
        let value = serde_json::to_value(&event).unwrap();
        let name = value["event"].as_str().unwrap();
        let named: BTreeSet<String> = section(name)
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(field, _)| field.to_owned())
            .collect();
        assert_eq!(named, fields_of(&value), "{name}");
    }
}

#[test]
fn the_examples_of_the_page_are_what_the_program_would_say() {
    for event in samples() {
        let value = serde_json::to_value(&event).unwrap();
        let name = value["event"].as_str().unwrap();
        let (_, rest) = section(name).split_once("```json\n").expect(name);
        let example: Value = serde_json::from_str(rest.split('\n').next().unwrap()).unwrap();
        assert_eq!(example["event"], name);
        assert_eq!(fields_of(&example), fields_of(&value), "{name}");
    }
}

#[test]
fn the_page_has_no_section_without_an_event() {
    let events: BTreeSet<String> = samples()
        .iter()
        .map(|event| {
            serde_json::to_value(event).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let sections: BTreeSet<String> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    assert_eq!(sections, events);
    // A new variant belongs into the samples: this match does not compile without it.
    for event in samples() {
        match event {
            Event::Listening(_)
            | Event::Torrent(_)
            | Event::Magnet(_)
            | Event::Scrape(_)
            | Event::Metadata(_)
            | Event::Hashing(_)
            | Event::Created(_)
            | Event::Checking(_)
            | Event::Started(_)
            | Event::Progress(_)
            | Event::Tracker(_)
            | Event::WebSeed(_)
            | Event::Suspended(_)
            | Event::Continued(_)
            | Event::Complete(_)
            | Event::Stopped(_)
            | Event::File(_)
            | Event::Checked(_)
            | Event::SessionTorrent(_)
            | Event::NotAdded(_)
            | Event::TorrentTracker(_)
            | Event::Peer(_)
            | Event::Banned(_)
            | Event::TorrentWebSeed(_)
            | Event::Setting(_)
            | Event::Rules(_)
            | Event::Session(_)
            | Event::SessionTorrentDetails(_)
            | Event::SessionFile(_)
            | Event::SessionPieces(_)
            | Event::SessionPieceHash(_)
            | Event::Saved(_)
            | Event::Route(_)
            | Event::Interface(_)
            | Event::ImportBegun(_)
            | Event::ImportTorrent(_)
            | Event::ImportDone(_)
            | Event::AddressList(_)
            | Event::Address(_)
            | Event::Span(_)
            | Event::Schedule(_)
            | Event::Watch(_)
            | Event::Hook(_)
            | Event::Warning(_)
            | Event::Error(_) => {}
        }
    }
}

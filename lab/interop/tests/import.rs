//! Leaving another client: what it knows of its torrents is taken over, and nothing that it verified is read or fetched again.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use shoal_interop::{Client, Content, Job, Kind, Lab, Maker, Process, Program, Protocol, Recipe};
use shoal_interop::{Running, Shape, Tracker, TrackerKind, eventually, isolated, output_of, shoal};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

const PIECE_BYTES: u32 = 64 * 1024;
const BYTES: u64 = 24 * 1024 * 1024 + 77;
/// So slow that a client can be ended in the middle.
const SEED_BYTES_PER_S: u64 = 2 * 1024 * 1024;
/// What must have been sent before it is.
const ENOUGH_BYTES: u64 = 6 * 1024 * 1024;
/// What was on its way, in a cache, or in pieces of which only a part was there.
const IN_FLIGHT_BYTES: u64 = 4 * 1024 * 1024;
/// What a node reads that is not content: its database, the other client's session.
const OTHER_READS_BYTES: u64 = 3 * 1024 * 1024;
const SOON: Duration = Duration::from_secs(30);
/// Transmission takes its time to begin.
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);

/// Content, its torrent, and where its tracker is.
struct World<'a> {
    lab: &'a Lab,
    content: Content,
    source: PathBuf,
    torrent: PathBuf,
    tracker: Tracker,
}

impl World<'_> {
    fn new(lab: &Lab, kind: Kind) -> Result<World<'_>> {
        let source = lab.folder("source")?;
        let content = Content::generate(&source, "content", Shape::Folder(BYTES), 5)?;
        let (torrent, address) = (lab.path("content.torrent"), lab.address());
        let recipe = Recipe::new(kind).pieces(PIECE_BYTES);
        let recipe = recipe.tracker(&Protocol::Http.url(address));
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let tracker = Tracker::start(lab, TrackerKind::OpenTracker, address, &[&torrent])?;
        Ok(World {
            lab,
            content,
            source,
            torrent,
            tracker,
        })
    }

    /// A session of this client in which everything is there and checked.
    fn whole(&self, client: Client) -> Result<Left> {
        let job = Job::seed(&self.torrent, &self.source, self.lab.address());
        let running = client.start(self.lab, &job)?;
        let session = self.session(client, "seed", job.address)?;
        Ok(Left::new(client.name(), session, running))
    }

    /// A session of this client that fetches everything into `target`.
    fn leech(&self, client: Client, target: &Path) -> Result<Left> {
        let job = Job::leech(&self.torrent, target, self.lab.address());
        let running = client.start(self.lab, &job)?;
        let session = self.session(client, "leech", job.address)?;
        Ok(Left::new(client.name(), session, running))
    }

    /// The same of Deluge, of what is in `folder` or is to come there.
    fn deluge(&self, folder: &Path, state: &str) -> Result<Left> {
        let config = self.lab.folder("deluge")?;
        let (address, daemon) = (self.lab.address(), self.lab.address().port());
        let settings = json!({
            "listen_ports": [address.port(), address.port()],
            "random_port": false,
            "listen_interface": address.ip().to_string(),
            "outgoing_ports": [0, 0],
            "daemon_port": daemon,
            "download_location": folder,
            "dht": false,
            "lsd": false,
            "upnp": false,
            "natpmp": false,
            "new_release_check": false,
        });
        let version = json!({ "file": 1, "format": 1 });
        fs::write(config.join("core.conf"), format!("{version}{settings}"))?;
        let mut command = Command::new(Program::Deluge.find()?);
        command
            .arg("--do-not-daemonize")
            .arg("--config")
            .arg(&config);
        let process = Process::start(self.lab, "deluge", &mut command)?;
        let console = |words: &str| -> Result<String> {
            let mut console = Command::new("deluge-console");
            console.arg("--config").arg(&config);
            console.arg(format!("connect 127.0.0.1:{daemon}; {words}"));
            output_of(&mut console)
        };
        eventually(SOON, "Deluge to answer", || {
            Ok(console("info").is_ok_and(|said| !said.contains("Failed")))
        })?;
        let (to, torrent) = (folder.display(), self.torrent.display());
        console(&format!("add -p {to} {torrent}"))?;
        eventually(SOON, &format!("Deluge to be {state}"), || {
            Ok(console("info -v")?.contains(&format!("State: {state}")))
        })?;
        Ok(Left {
            from: "deluge",
            session: config,
            address,
            process,
        })
    }

    /// Where the session of the client is that has this address.
    fn session(&self, client: Client, role: &str, address: SocketAddr) -> Result<PathBuf> {
        let begins = format!("{client}-{role}-{}-", address.port());
        let mut folders = fs::read_dir(self.lab.path(""))?.filter_map(Result::ok);
        let is_its =
            |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&begins);
        let folder = folders.find(is_its).context("it has a folder")?.path();
        Ok(match client {
            Client::QBittorrent => folder.join("qBittorrent/data"),
            Client::RTorrent => folder.join("session"),
            _ => folder,
        })
    }
}

/// A client that is to be left.
struct Left {
    from: &'static str,
    session: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Left {
    fn new(from: &'static str, session: PathBuf, running: Running) -> Left {
        Left {
            from,
            session,
            address: running.address,
            process: running.process,
        }
    }

    /// Asks it to end, and waits until it has written everything down. rTorrent takes SIGTERM for haste, and says then that it is not sure of
    /// pieces that it has just received.
    fn end(&mut self) -> Result<()> {
        let signal = match self.from {
            "rtorrent" => Signal::INT,
            _ => Signal::TERM,
        };
        self.process.signal(signal);
        self.process.wait(SOON)?;
        Ok(())
    }
}

/// A node.
struct Node {
    process: Process,
    state: PathBuf,
}

impl Node {
    fn start(lab: &Lab, name: &str) -> Result<Node> {
        let state = lab.folder(name)?;
        let mut command = shoal::command(&["up", "--headless", "--no-dht", "--isolated"])?;
        command.arg("--listen").arg(lab.address().to_string());
        command.arg("--allow-net").arg(lab.network());
        command.arg("--state-dir").arg(&state);
        let process = Process::start(lab, name, &mut command)?;
        eventually(SOON, "the node to listen", || {
            Ok(process.said().contains("listening"))
        })?;
        Ok(Node { process, state })
    }

    fn ask(&self, words: &[&str]) -> Result<Vec<Value>> {
        let mut command = shoal::command(words)?;
        command.arg("--state-dir").arg(&self.state);
        Ok(shoal::events(&output_of(&mut command)?))
    }

    /// Imports the only torrent of a session, and gives what came of it.
    fn import(&self, left: &Left, more: &[&str]) -> Result<Value> {
        let session = left.session.to_str().context("a path")?;
        let words = ["import", "--from", left.from, session];
        let events = self.ask(&[&words[..], more].concat())?;
        let mut torrents = events.into_iter();
        torrents
            .find(|event| event["event"] == "import_torrent")
            .context("it is told of")
    }

    fn torrent(&self) -> Result<Value> {
        let events = self.ask(&["list"])?;
        events.into_iter().next().context("it has a torrent")
    }

    fn wait_state(&self, state: &str) -> Result<Value> {
        let mut torrent = Value::Null;
        let waited = eventually(
            COMPLETE_WITHIN,
            &format!("the torrent to be {state}"),
            || {
                torrent = self.torrent()?;
                Ok(torrent["state"] == state)
            },
        );
        waited.with_context(|| torrent.to_string())?;
        Ok(torrent)
    }

    /// All bytes that it has read, of whatever.
    fn read_bytes(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.process.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        Ok(line.context("rchar")?.trim().parse()?)
    }
}

/// Payload that the seed has sent, as it last said.
fn sent(seed: &Running) -> u64 {
    let events = shoal::events(&seed.process.said());
    let mut events = events.iter().rev();
    let last = events.find(|event| event["event"] == "progress");
    last.and_then(|event| event["sent"].as_u64()).unwrap_or(0)
}

/// A client that has checked everything is left: nothing of it is read.
fn whole_goes_on(world: &World<'_>, left: &mut Left) -> Result<Value> {
    left.end()?;
    let node = Node::start(world.lab, "whole")?;
    let read = node.read_bytes()?;
    let dry = node.import(left, &["--dry-run"])?;
    ensure!(dry["outcome"] == "importable", "{dry}");
    let imported = node.import(left, &[])?;
    ensure!(imported["outcome"] == "imported", "{imported}");
    ensure!(
        imported["verified_pieces"] == imported["pieces"],
        "{imported}"
    );
    let torrent = node.wait_state("seeding")?;
    ensure!(
        torrent["verified_bytes"] == torrent["wanted_bytes"],
        "{torrent}"
    );
    ensure!(
        torrent["completed_unix_s"].as_i64() > Some(1_000_000_000),
        "{torrent}"
    );
    let read = node.read_bytes()? - read;
    ensure!(read < OTHER_READS_BYTES, "{read} bytes were read");
    let again = node.import(left, &[])?;
    ensure!(again["outcome"] == "already", "{again}");
    node.process.stop();
    Ok(torrent)
}

/// A client that has a part is left: no piece that it had is read or fetched again.
fn a_part_goes_on(
    world: &World<'_>,
    start: impl FnOnce(&World<'_>, &Path) -> Result<Left>,
) -> Result<()> {
    let lab = world.lab;
    let job = Job::seed(&world.torrent, &world.source, lab.address()).at_most(SEED_BYTES_PER_S);
    let seed = Client::Libtorrent.start(lab, &job)?;
    world.tracker.wait_seed(&world.torrent, SOON)?;
    let target = lab.folder("target")?;
    let mut left = start(world, &target)?;
    eventually(COMPLETE_WITHIN, "a part to arrive", || {
        Ok(sent(&seed) > ENOUGH_BYTES)
    })?;
    left.end()?;

    let node = Node::start(lab, "part")?;
    let read = node.read_bytes()?;
    let imported = node.import(&left, &["--paused"])?;
    ensure!(imported["outcome"] == "imported", "{imported}");
    let verified = imported["verified_pieces"].as_u64().context("a number")?;
    let suspect = imported["suspect_pieces"].as_u64().context("a number")?;
    // What rTorrent received in its last quarter of an hour, it would verify itself.
    ensure!(suspect == 0 || left.from == "rtorrent", "{imported}");
    let known_bytes = (verified + suspect) * u64::from(PIECE_BYTES);
    ensure!(known_bytes + IN_FLIGHT_BYTES > ENOUGH_BYTES, "{imported}");
    ensure!(imported["changed_files"] == 0, "{imported}");
    let torrent = node.torrent()?;
    let before = torrent["downloaded_bytes"].as_u64().context("a number")?;
    ensure!(before >= known_bytes / 2, "{torrent}");
    node.ask(&["resume", "all"])?;
    let torrent = node.wait_state("seeding")?;
    let read = node.read_bytes()? - read;
    // What comes over sockets is read, too.
    let fetched = torrent["downloaded_bytes"].as_u64().context("a number")? - before;
    let missing = BYTES - known_bytes + IN_FLIGHT_BYTES;
    ensure!(
        fetched <= missing,
        "{fetched} bytes were fetched, {imported}"
    );
    let doubted = suspect * u64::from(PIECE_BYTES);
    ensure!(
        read <= fetched + fetched / 4 + doubted + OTHER_READS_BYTES,
        "{read} bytes were read, and {fetched} fetched, {imported}"
    );
    world.content.check(&target)
}

/// One request to qBittorrent's interface.
fn tell_qbittorrent(address: SocketAddr, path: &str, body: &str) -> Result<()> {
    let interface = SocketAddr::from(([127, 0, 0, 1], address.port() + 1000));
    let mut stream = TcpStream::connect(interface)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {interface}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    ensure!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    Ok(())
}

#[test]
fn a_seed_of_qbittorrent_is_taken_over_unread_and_a_changed_file_alone_is_verified() -> Result<()> {
    isolated(&[Program::QBittorrent, Program::OpenTracker], |lab| {
        let world = World::new(lab, Kind::Hybrid)?;
        let mut left = world.whole(Client::QBittorrent)?;
        let tell = |path: &str, body| {
            tell_qbittorrent(left.address, &format!("/api/v2/torrents/{path}"), body)
        };
        tell("createCategory", "category=films")?;
        tell("setCategory", "hashes=all&category=films")?;
        tell("addTags", "hashes=all&tags=hd%2Cnew")?;
        tell("setUploadLimit", "hashes=all&limit=1048576")?;
        let limits = "hashes=all&ratioLimit=2.5&seedingTimeLimit=60&inactiveSeedingTimeLimit=-2";
        tell("setShareLimits", limits)?;
        let torrent = whole_goes_on(&world, &mut left)?;
        ensure!(torrent["category"] == "films", "{torrent}");
        ensure!(torrent["tags"] == json!(["hd", "new"]), "{torrent}");
        let rules = &torrent["rules"];
        ensure!(
            rules["up"] == "1MiB" && rules["ratio"] == "2.5",
            "{torrent}"
        );

        let first = "content/a first.bin";
        // Times are compared in seconds.
        thread::sleep(Duration::from_millis(1_100));
        let file = File::options().write(true).open(world.source.join(first))?;
        file.write_all_at(b"changed", 100)?;
        let node = Node::start(lab, "changed")?;
        let read = node.read_bytes()?;
        let imported = node.import(&left, &[])?;
        ensure!(imported["changed_files"] == 1, "{imported}");
        ensure!(imported["files"][0] == first, "{imported}");
        ensure!(imported["suspect_pieces"] == 1, "{imported}");
        node.wait_state("downloading")?;
        let torrent = node.torrent()?;
        let missing = |key: &str| torrent[key].as_u64().unwrap_or(0);
        let missing = missing("wanted_bytes") - missing("verified_bytes");
        ensure!(
            missing > 0 && missing <= u64::from(PIECE_BYTES),
            "{torrent}"
        );
        let read = node.read_bytes()? - read;
        ensure!(read < OTHER_READS_BYTES, "{read} bytes were read");
        Ok(())
    })
}

#[test]
fn a_download_of_qbittorrent_goes_on_where_it_was() -> Result<()> {
    let needs = [
        Program::QBittorrent,
        Program::Libtorrent,
        Program::OpenTracker,
    ];
    isolated(&needs, |lab| {
        let world = World::new(lab, Kind::V2)?;
        a_part_goes_on(&world, |world, target| {
            world.leech(Client::QBittorrent, target)
        })
    })
}

#[test]
fn a_seed_of_transmission_is_taken_over_unread() -> Result<()> {
    isolated(&[Program::Transmission, Program::OpenTracker], |lab| {
        let world = World::new(lab, Kind::V1)?;
        whole_goes_on(&world, &mut world.whole(Client::Transmission)?).map(drop)
    })
}

#[test]
fn a_download_of_transmission_goes_on_where_it_was() -> Result<()> {
    let needs = [
        Program::Transmission,
        Program::Libtorrent,
        Program::OpenTracker,
    ];
    isolated(&needs, |lab| {
        let world = World::new(lab, Kind::V1)?;
        a_part_goes_on(&world, |world, target| {
            world.leech(Client::Transmission, target)
        })
    })
}

#[test]
fn a_seed_of_rtorrent_is_taken_over_unread() -> Result<()> {
    isolated(&[Program::RTorrent, Program::OpenTracker], |lab| {
        let world = World::new(lab, Kind::V1)?;
        whole_goes_on(&world, &mut world.whole(Client::RTorrent)?).map(drop)
    })
}

#[test]
fn a_download_of_rtorrent_goes_on_where_it_was() -> Result<()> {
    let needs = [Program::RTorrent, Program::Libtorrent, Program::OpenTracker];
    isolated(&needs, |lab| {
        let world = World::new(lab, Kind::V1)?;
        a_part_goes_on(&world, |world, target| {
            world.leech(Client::RTorrent, target)
        })
    })
}

#[test]
fn a_seed_of_deluge_is_taken_over_unread() -> Result<()> {
    isolated(&[Program::Deluge, Program::OpenTracker], |lab| {
        let world = World::new(lab, Kind::V1)?;
        let mut left = world.deluge(&world.source, "Seeding")?;
        whole_goes_on(&world, &mut left).map(drop)
    })
}

#[test]
fn a_download_of_deluge_goes_on_where_it_was() -> Result<()> {
    let needs = [Program::Deluge, Program::Libtorrent, Program::OpenTracker];
    isolated(&needs, |lab| {
        let world = World::new(lab, Kind::V1)?;
        a_part_goes_on(&world, |world, target| world.deluge(target, "Downloading"))
    })
}

#[test]
fn a_client_that_runs_is_not_imported_from() -> Result<()> {
    let needs = [
        Program::QBittorrent,
        Program::RTorrent,
        Program::OpenTracker,
    ];
    isolated(&needs, |lab| {
        let world = World::new(lab, Kind::V1)?;
        let node = Node::start(lab, "node")?;
        for client in [Client::QBittorrent, Client::RTorrent] {
            let mut left = world.whole(client)?;
            let refused = node.import(&left, &[]).err();
            let refused = format!("{:#}", refused.context("it is refused")?);
            ensure!(refused.contains("is running"), "{refused}");
            left.end()?;
            node.import(&left, &["--dry-run"])?;
        }
        Ok(())
    })
}

//! `get` of files from the web: plain URLs, Metalinks, and torrents that are offered beside them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::{Said, World, text};

/// More than one request of a download covers, in pieces of 256 KiB.
const LENGTH: usize = 3_000_001;

pub(crate) struct Asked {
    path: String,
    range: Option<(usize, usize)>,
    head: String,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// Answers each request, on a connection of its own. Ends with the test process.
pub(crate) fn serve(respond: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (respond, heard) = (Arc::new(respond), Arc::clone(&heads));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (respond, heard) = (Arc::clone(&respond), Arc::clone(&heard));
            thread::spawn(move || {
                let asked = hear(&mut stream);
                heard.lock().unwrap().push(asked.head.clone());
                // Who has had enough closes in the middle.
                drop(stream.write_all(&respond(&asked)));
            });
        }
    });
    Server { address, heads }
}

fn hear(stream: &mut TcpStream) -> Asked {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let range = head.lines().find_map(|line| {
        let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1))
    });
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Asked { path, range, head }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A range of `bytes`, or all of it.
pub(crate) fn part(bytes: &[u8], asked: &Asked, headers: &str) -> Vec<u8> {
    match asked.range {
        Some((first, end)) => {
            let end = end.min(bytes.len());
            let range = format!(
                "Content-Range: bytes {first}-{}/{}\r\n",
                end - 1,
                bytes.len()
            );
            answer(
                "206 Partial Content",
                &(range + headers),
                &bytes[first..end],
            )
        }
        None => answer("200 OK", headers, bytes),
    }
}

fn content(world: &World) -> Vec<u8> {
    fs::read(world.file("source/a.iso", LENGTH)).unwrap()
}

fn get(world: &World, source: &str) -> Said {
    let target = text(&world.folder("target"));
    let usual = ["--json", "get", source, "-o", &target];
    let net = ["--listen", "127.0.0.1:0", "--allow-net", "127.0.0.0/8"];
    world.run(&[&usual[..], &net].concat())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(name)
        .map(|name| text(Path::new(&name)))
        .collect()
}

#[test]
fn a_file_from_a_url_arrives_in_ranges_under_the_name_that_the_server_gives_it() {
    let world = World::new();
    let bytes = content(&world);
    let served = bytes.clone();
    let server = serve(move |asked| match asked.path.as_str() {
        "/named" => {
            let name = "Content-Disposition: attachment; filename=\"../../b.iso\"\r\n";
            part(&served, asked, name)
        }
        _ => part(&served, asked, "ETag: \"1\"\r\n"),
    });
    let said = get(
        &world,
        &format!("http://{}/pub/a%20b.iso?key=secret", server.address),
    )
    .expect(0);
    assert_eq!(fs::read(world.path("target/a b.iso")).unwrap(), bytes);
    assert!(said.event("started")["info_hash_v1"].is_null());
    assert!(!said.stdout.contains("secret"));
    let heads = server.heads.lock().unwrap().clone();
    assert!(heads.len() > 2, "{}", heads.len());
    assert!(heads.iter().all(|head| head.contains("range: bytes=")));
    assert!(
        heads[1..]
            .iter()
            .all(|head| head.contains("if-range: \"1\""))
    );
    get(&world, &format!("http://{}/named", server.address)).expect(0);
    assert_eq!(fs::read(world.path("target/b.iso")).unwrap(), bytes);
    // It is there, and nothing is fetched again.
    let before = server.heads.lock().unwrap().len();
    let said = get(&world, &format!("http://{}/named", server.address)).expect(0);
    let complete = said.event("complete");
    assert_eq!(complete["resumed_pieces"], complete["verified_pieces"]);
    assert_eq!(server.heads.lock().unwrap().len(), before + 1);
}

#[test]
fn a_download_goes_on_where_it_was_and_begins_anew_where_the_file_has_changed() {
    let world = World::new();
    let bytes = content(&world);
    let (served, version) = (bytes.clone(), Arc::new(Mutex::new("\"1\"")));
    let (says, half) = (Arc::clone(&version), Arc::new(Mutex::new(true)));
    let only_half = Arc::clone(&half);
    let server = serve(move |asked| {
        let beyond = asked.range.is_some_and(|(first, _)| first >= LENGTH / 2);
        if *only_half.lock().unwrap() && beyond {
            return answer("403 Forbidden", "", b"");
        }
        let etag = *says.lock().unwrap();
        part(&served, asked, &format!("ETag: {etag}\r\n"))
    });
    let url = format!("http://{}/a.iso", server.address);
    let sequential = |world: &World| {
        let target = text(&world.folder("target"));
        let usual = ["--json", "get", &url, "-o", &target, "--sequential"];
        let net = ["--listen", "127.0.0.1:0", "--allow-net", "127.0.0.0/8"];
        world.run(&[&usual[..], &net].concat())
    };
    let said = sequential(&world).expect(1);
    assert!(
        said.stderr.contains("does not give us the file"),
        "{said:?}"
    );
    *half.lock().unwrap() = false;
    let said = sequential(&world).expect(0);
    assert!(said.event("complete")["resumed_pieces"].as_u64().unwrap() > 0);
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
    // Another version is another download, and what is there is not overwritten.
    *version.lock().unwrap() = "\"2\"";
    let said = sequential(&world).expect(5);
    assert!(said.stderr.contains("it is there already"), "{said:?}");
}

#[test]
fn a_file_that_changes_while_it_is_downloaded_is_not_mixed() {
    let world = World::new();
    let bytes = content(&world);
    let server = serve(move |asked| {
        let late = asked.range.is_some_and(|(first, _)| first > 0);
        let etag = if late {
            "ETag: \"2\"\r\n"
        } else {
            "ETag: \"1\"\r\n"
        };
        part(&bytes, asked, etag)
    });
    let said = get(&world, &format!("http://{}/a.iso", server.address)).expect(1);
    assert!(said.stderr.contains("it changed while"), "{said:?}");
    assert!(said.stderr.contains("begin anew"), "{said:?}");
}

#[test]
fn all_of_a_file_in_place_of_a_range_of_the_known_version_is_another_version() {
    let world = World::new();
    let bytes = fs::read(world.file("source/a.iso", 200_000)).unwrap();
    let server = serve(move |asked| {
        if asked.head.contains("if-range: ") {
            // It does not say which version this is.
            return answer("200 OK", "", &bytes);
        }
        part(&bytes, asked, "ETag: \"1\"\r\n")
    });
    let said = get(&world, &format!("http://{}/a.iso", server.address)).expect(1);
    assert!(said.stderr.contains("it changed while"), "{said:?}");
}

#[test]
fn what_cannot_be_downloaded_from_a_url_is_said_clearly() {
    let world = World::new();
    let bytes = content(&world);
    let server = serve(move |asked| match asked.path.as_str() {
        "/whole" => answer("200 OK", "", &bytes),
        "/empty" => answer("200 OK", "", b""),
        "/zipped" => part(&bytes, asked, "Content-Encoding: gzip\r\n"),
        "/endless" => answer(
            "206 Partial Content",
            "Content-Range: bytes 0-4/*\r\n",
            b"hello",
        ),
        "/busy" => answer("503 Service Unavailable", "Retry-After: 7\r\n", b""),
        "/often" => answer("429 Too Many Requests", "", b""),
        "/locked" => answer("401 Unauthorized", "", b""),
        _ => answer("404 Not Found", "", b""),
    });
    for (path, why) in [
        ("/whole", "does not serve ranges"),
        ("/whole", "name another mirror"),
        ("/empty", "the file is empty: there is nothing to download"),
        (
            "/zipped",
            "compresses the file although it may not; name another",
        ),
        ("/endless", "does not say how long"),
        ("/busy", "status 503; it is busy: try again in 7 s"),
        ("/often", "status 429; it is busy: try again later"),
        (
            "/locked",
            "status 401; check the URL; where the file wants a name",
        ),
        ("/missing", "status 404; check the URL"),
    ] {
        let said = get(&world, &format!("http://{}{path}", server.address)).expect(1);
        assert!(said.stderr.contains(why), "{path}: {said:?}");
        assert_eq!(names_in(&world.path("target")), [""; 0], "{path}");
    }
}

#[test]
fn a_torrent_that_is_offered_beside_a_file_is_what_is_downloaded() {
    let world = World::new();
    let bytes = content(&world);
    let torrent = world.torrent(&world.path("source/a.iso"), "--hybrid");
    let torrent = fs::read(torrent).unwrap();
    let served = bytes.clone();
    let server = serve(move |asked| match asked.path.as_str() {
        "/meta/a.torrent" => answer("200 OK", "", &torrent),
        _ => {
            let link = "Link: </meta/a.torrent>; rel=describedby; \
                        type=\"application/x-bittorrent\"\r\n";
            part(&served, asked, link)
        }
    });
    let said = get(&world, &format!("http://{}/dl/a.iso", server.address)).expect(0);
    assert!(
        said.event("started")["info_hash_v2"].is_string(),
        "{said:?}"
    );
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
}

fn metalink(files: &str) -> String {
    format!("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{files}</metalink>")
}

fn file(name: &str, bytes: &[u8], digest: &[u8], urls: &[String]) -> String {
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let urls: String = urls.iter().map(|url| format!("<url>{url}</url>")).collect();
    let size = bytes.len();
    format!(
        "<file name=\"{name}\"><size>{size}</size><hash type=\"sha-256\">{digest}</hash>{urls}</file>"
    )
}

#[test]
fn a_metalink_is_downloaded_from_its_mirrors_and_checked() {
    let world = World::new();
    let bytes = content(&world);
    let small = fs::read(world.file("source/b", 100_000)).unwrap();
    let (served, other) = (bytes.clone(), small.clone());
    let server = serve(move |asked| match asked.path.as_str() {
        "/gone" => answer("404 Not Found", "", b""),
        "/b" => part(&other, asked, ""),
        _ => part(&served, asked, ""),
    });
    let url = |path: &str| format!("http://{}{path}", server.address);
    let right = Sha256::digest(&bytes);
    let mirrors = [url("/gone"), url("/a.iso"), url("/copy/a.iso")];
    let path = world.path("a.meta4");
    fs::write(&path, metalink(&file("d/a.iso", &bytes, &right, &mirrors))).unwrap();
    get(&world, &text(&path)).expect(0);
    assert_eq!(fs::read(world.path("target/d/a.iso")).unwrap(), bytes);

    let two = file("e/a.iso", &bytes, &right, &[url("/a.iso")])
        + &file("e/b", &small, &Sha256::digest(&small), &[url("/b")]);
    let path = world.path("two.meta4");
    fs::write(&path, metalink(&two)).unwrap();
    get(&world, &text(&path)).expect(0);
    assert_eq!(fs::read(world.path("target/e/a.iso")).unwrap(), bytes);
    assert_eq!(fs::read(world.path("target/e/b")).unwrap(), small);

    let wrong = file("f.iso", &bytes, &[7; 32], &[url("/a.iso")]);
    let path = world.path("wrong.meta4");
    fs::write(&path, metalink(&wrong)).unwrap();
    let said = get(&world, &text(&path)).expect(1);
    assert!(said.stderr.contains("is not what was promised"), "{said:?}");

    fs::write(&path, "<metalink/>").unwrap();
    let said = get(&world, &text(&path)).expect(3);
    assert!(said.stderr.contains("metalink refused"), "{said:?}");
}

#[test]
fn a_mirror_that_lies_is_found_out_by_the_hashes_of_pieces() {
    const PIECE: usize = 256 * 1024;
    let world = World::new();
    let bytes = content(&world);
    let served = bytes.clone();
    let server = serve(move |asked| {
        let right = asked.path == "/right";
        let sent: Vec<u8> = served.iter().map(|byte| byte ^ u8::from(!right)).collect();
        part(&sent, asked, "")
    });
    let hashes = bytes.chunks(PIECE).map(|piece| {
        let digits = Sha1::digest(piece);
        let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("<hash>{digits}</hash>")
    });
    let hashes: String = hashes.collect();
    let pieces = format!("<pieces type=\"sha-1\" length=\"{PIECE}\">{hashes}</pieces></file>");
    let url = |path: &str| format!("http://{}{path}", server.address);
    let mirrors = [url("/wrong"), url("/right")];
    let file = file("a.iso", &bytes, &Sha256::digest(&bytes), &mirrors);
    let path = world.path("a.meta4");
    fs::write(&path, metalink(&file.replace("</file>", &pieces))).unwrap();
    let said = get(&world, &text(&path)).expect(0);
    assert!(said.event("complete")["failed_pieces"].as_u64() > Some(0));
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
}

#[test]
fn what_a_server_says_of_mirrors_and_hashes_of_a_file_is_used() {
    let world = World::new();
    let bytes = content(&world);
    let right = Sha256::digest(&bytes);
    let (served, mirrored) = (bytes.clone(), bytes.clone());
    let mirror = serve(move |asked| part(&mirrored, asked, ""));
    let of_mirror = Arc::clone(&mirror.heads);
    let duplicate = format!("http://{}/copy.iso", mirror.address);
    let described = metalink(&file("a.iso", &bytes, &right, &[]));
    let server = serve(move |asked| match asked.range {
        _ if asked.path == "/a.meta4" => answer("200 OK", "", described.as_bytes()),
        // It has no more to give than what tells what it is.
        Some((first, end)) if first > 0 || end > 1024 => answer("403 Forbidden", "", b""),
        _ => {
            let links = format!(
                "Link: <{duplicate}>; rel=duplicate\r\n\
                 Link: </a.meta4>; rel=describedby; type=\"application/metalink4+xml\"\r\n"
            );
            part(&served, asked, &links)
        }
    });
    get(&world, &format!("http://{}/a.iso", server.address)).expect(0);
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
    assert!(!of_mirror.lock().unwrap().is_empty());
    let heads = server.heads.lock().unwrap();
    assert!(heads.iter().any(|head| head.contains("/a.meta4")));
}

#[test]
fn a_server_that_names_many_metalinks_has_few_of_them_asked_for() {
    let world = World::new();
    let bytes = content(&world);
    let served = bytes.clone();
    let server = serve(move |asked| {
        if asked.path.ends_with(".meta4") {
            return answer("404 Not Found", "", b"");
        }
        let link = "Link: </a.meta4>; rel=describedby; type=\"application/metalink4+xml\"\r\n";
        part(&served, asked, &link.repeat(30))
    });
    get(&world, &format!("http://{}/a.iso", server.address)).expect(0);
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
    let heads = server.heads.lock().unwrap();
    let asked = heads.iter().filter(|head| head.contains("/a.meta4"));
    assert_eq!(asked.count(), 3);
}

#[test]
fn a_metalink_behind_a_url_names_a_torrent_and_its_mirrors() {
    let world = World::new();
    let bytes = content(&world);
    let torrent = world.torrent(&world.path("source/a.iso"), "--v1");
    let torrent = fs::read(torrent).unwrap();
    let (served, right) = (bytes.clone(), Sha256::digest(&bytes));
    let server = serve(move |asked| {
        let host = asked
            .head
            .lines()
            .find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default();
        match asked.path.as_str() {
            "/x" => {
                let urls = [format!("http://{host}/a.iso")];
                let meta =
                    format!("<metaurl mediatype=\"torrent\">http://{host}/t</metaurl></file>");
                let file = file("a.iso", &served, &right, &urls).replace("</file>", &meta);
                let kind = "Content-Type: application/metalink4+xml\r\n";
                answer("200 OK", kind, metalink(&file).as_bytes())
            }
            "/t" => answer("200 OK", "", &torrent),
            _ => part(&served, asked, ""),
        }
    });
    let said = get(&world, &format!("http://{}/x", server.address)).expect(0);
    assert!(
        said.event("started")["info_hash_v1"].is_string(),
        "{said:?}"
    );
    assert_eq!(fs::read(world.path("target/a.iso")).unwrap(), bytes);
}

#[test]
fn a_torrent_of_another_file_than_the_one_that_is_promised_is_found_out() {
    let world = World::new();
    let bytes = content(&world);
    let torrent = world.torrent(&world.path("source/a.iso"), "--v1");
    let torrent = fs::read(torrent).unwrap();
    let served = bytes.clone();
    let server = serve(move |asked| match asked.path.as_str() {
        "/t" => answer("200 OK", "", &torrent),
        _ => part(&served, asked, ""),
    });
    let host = server.address;
    let meta = format!("<metaurl mediatype=\"torrent\">http://{host}/t</metaurl></file>");
    let urls = [format!("http://{host}/a.iso")];
    let file = file("a.iso", &bytes, &Sha256::digest(b"another file"), &urls);
    let path = world.path("a.meta4");
    fs::write(&path, metalink(&file.replace("</file>", &meta))).unwrap();
    let said = get(&world, &text(&path)).expect(1);
    assert!(
        said.event("started")["info_hash_v1"].is_string(),
        "{said:?}"
    );
    assert!(said.stderr.contains("is not what was promised"), "{said:?}");
}

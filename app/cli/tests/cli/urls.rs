//! `get` of a URL: a server on loopback that answers well, wrongly, too much, and with a way that has no end.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::support::{Said, World, assert_same, text};

/// Beyond what a .torrent file from a URL may have.
const TOO_LARGE: usize = (10 << 20) + 1;

/// Answers each request, on a connection of its own, with what `respond` makes of its path. Ends with the test process.
fn serve(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answer = respond(&path_asked(&mut stream));
            // Who has had enough closes in the middle.
            drop(stream.write_all(&answer));
        }
    });
    address
}

fn path_asked(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn get(world: &World, url: &str, more: &[&str]) -> Said {
    let target = text(&world.folder("target"));
    let usual = ["--json", "get", url, "-o", &target];
    let listen = ["--listen", "127.0.0.1:0"];
    world.run(&[&usual[..], &listen, more].concat())
}

/// It fails with `code` and one line that says why and names the site, but not the path, which may hold a secret; nothing
/// is written.
fn assert_refused(world: &World, address: SocketAddr, path: &str, code: i32, why: &str) {
    let url = format!("http://{address}{path}");
    let said = get(world, &url, &["--allow-net", "127.0.0.0/8"]).expect(code);
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    for word in ["error: ", &format!("http://{address}"), why] {
        assert!(said.stderr.contains(word), "no {word:?} in {said:?}");
    }
    assert!(!said.stderr.contains("secret"), "{said:?}");
    let error = said.event("error");
    assert_eq!(error["exit_code"], code);
    let kind = if code == 3 {
        "torrent_refused"
    } else {
        "failure"
    };
    assert_eq!(error["kind"], kind);
    let written = fs::read_dir(world.path("target")).unwrap().count();
    assert_eq!(written, 0, "{path}");
}

#[test]
fn a_torrent_behind_a_url_arrives() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--hybrid");
    let seed = world.seed(&torrent, &world.path("source"), &[]);
    let bytes = fs::read(&torrent).unwrap();
    let address = serve(move |path| match path {
        "/moved" => answer("302 Found", "Location: /x.torrent\r\n", b""),
        "/x.torrent" => answer("200 OK", "", &bytes),
        _ => answer("404 Not Found", "", b""),
    });
    let peer = ["--peer", &seed.address];
    let said = get(&world, &format!("http://{address}/x.torrent"), &peer).expect(0);
    said.event("complete");
    assert_same(&album, &world.path("target/album"));
    // A redirect is the server's word, not the person's: it leads to this machine only where that is allowed.
    let url = format!("http://{address}/moved");
    let said = get(&world, &url, &peer).expect(1);
    assert!(said.stderr.contains("127.0.0.1"), "{said:?}");
    let allowed = [&peer[..], &["--allow-net", "127.0.0.0/8"]].concat();
    let said = get(&world, &url, &allowed).expect(0);
    let complete = said.event("complete");
    assert_eq!(complete["resumed_pieces"], complete["verified_pieces"]);
}

#[test]
fn what_a_url_leads_to_is_refused_where_it_is_no_torrent() {
    let world = World::new();
    let address = serve(|path| match path {
        "/secret/page.torrent" => answer(
            "200 OK",
            "Content-Type: text/html\r\n",
            b"<html>Hello!</html>",
        ),
        "/secret/nothing.torrent" => answer("200 OK", "", b""),
        "/secret/large.torrent" => answer("200 OK", "", &vec![b'd'; TOO_LARGE]),
        // Without a length, so that only counting can tell.
        "/secret/endless.torrent" => {
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            [&head[..], &vec![b'd'; TOO_LARGE]].concat()
        }
        "/secret/loop.torrent" => answer("302 Found", "Location: /secret/loop.torrent\r\n", b""),
        "/secret/astray.torrent" => answer("302 Found", "", b""),
        "/secret/away.torrent" => answer("302 Found", "Location: ftp://127.0.0.1/x\r\n", b""),
        "/secret/broken.torrent" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd".to_vec(),
        "/secret/mute.torrent" => Vec::new(),
        _ => answer("404 Not Found", "", b"nothing here"),
    });
    for (path, code, why) in [
        ("/secret/missing.torrent", 1, "status 404; check the URL"),
        ("/secret/page.torrent", 3, "torrent refused"),
        ("/secret/nothing.torrent", 3, "torrent refused"),
        ("/secret/large.torrent", 1, "larger than 10485760 bytes"),
        ("/secret/endless.torrent", 1, "larger than 10485760 bytes"),
        ("/secret/loop.torrent", 1, "redirects more than 5 times"),
        ("/secret/astray.torrent", 1, "redirects to nowhere"),
        ("/secret/away.torrent", 1, "only http and https are"),
        ("/secret/broken.torrent", 1, "cannot fetch the torrent"),
        ("/secret/mute.torrent", 1, "cannot fetch the torrent"),
    ] {
        assert_refused(&world, address, path, code, why);
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody listens there from here on.
    drop(listener);
    assert_refused(&world, address, "/secret/x.torrent", 1, "refused");
}

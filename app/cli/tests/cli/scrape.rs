//! `show --scrape` against trackers that are made here by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::World;

/// An HTTP tracker that answers every request with this body.
fn http_tracker(body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    address
}

/// A UDP tracker that has 4 seeds, 6 completed downloads and 5 leeches in every swarm.
fn udp_tracker() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut request = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut request) {
            let mut reply = request[8..16].to_vec();
            if reply[3] == 0 {
                reply.extend([7; 8]);
            } else {
                let swarms = (length - 16) / 20;
                for figure in [4_u32, 6, 5].repeat(swarms) {
                    reply.extend(figure.to_be_bytes());
                }
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    address
}

/// A link to a hybrid torrent with these trackers.
fn magnet(trackers: &[String]) -> String {
    let v1 = "61".repeat(20);
    let v2 = format!("1220{}", "62".repeat(32));
    let trackers = trackers.iter().map(|url| format!("&tr={url}"));
    let trackers: String = trackers.collect();
    format!("magnet:?xt=urn:btih:{v1}&xt=urn:btmh:{v2}{trackers}")
}

fn scrape_of(events: &[Value], tracker: &str) -> Value {
    let is_it = |event: &&Value| event["event"] == "scrape" && event["tracker"] == tracker;
    let mut found = events.iter().filter(is_it);
    let event = found.next().unwrap().clone();
    assert!(found.next().is_none());
    event
}

#[test]
fn trackers_are_asked_for_both_swarms_and_each_answer_is_shown() {
    let world = World::new();
    let known = [&b"d5:filesd20:"[..], &[b'b'; 20], b"d8:completei1eeee"].concat();
    let http = format!("http://{}/x/announce?passkey=1", http_tracker(known));
    let udp = format!("udp://{}", udp_tracker());
    let refusing = http_tracker(b"d14:failure reason9:not todaye".to_vec());
    let refusing = format!("http://{refusing}/announce");
    let without = format!("http://{}/a", http_tracker(Vec::new()));
    let urls = [http, udp, refusing, without];
    let link = magnet(&urls);
    let arguments = ["show", &link, "--scrape", "--allow-net", "127.0.0.0/8"];

    let said = world.run(&[&["--json"][..], &arguments].concat()).expect(0);
    let events = said.events();
    assert_eq!(
        (events[0]["event"].as_str(), events.len()),
        (Some("magnet"), 5)
    );
    let figures = |kind, [seeds, leeches, completed]: [Option<u32>; 3]| json!({"kind": kind, "seeds": seeds, "leeches": leeches, "completed": completed});
    let http = scrape_of(&events, &urls[0]);
    assert!(http["error"].is_null(), "{http}");
    let unknown = figures("v1", [None; 3]);
    let known = figures("v2", [Some(1), None, None]);
    assert_eq!(http["swarms"], json!([unknown, known]));
    let udp = scrape_of(&events, &urls[1]);
    let [v1, v2] = ["v1", "v2"].map(|kind| figures(kind, [Some(4), Some(5), Some(6)]));
    assert_eq!(udp["swarms"], json!([v1, v2]));
    for (url, why) in [(&urls[2], "not today"), (&urls[3], "no scrape")] {
        let failed = scrape_of(&events, url);
        assert!(failed["error"].as_str().unwrap().contains(why), "{failed}");
        assert_eq!(failed["swarms"], json!([]));
    }

    let plain = world.run(&arguments).expect(0).stdout;
    let both = "4 seeds, 5 leeches, 6 completed";
    for line in [
        format!("{}: v1: unknown to the tracker; v2: 1 seed\n", urls[0]),
        format!("{}: v1: {both}; v2: {both}\n", urls[1]),
        format!("{}: the tracker refused: not today\n", urls[2]),
    ] {
        assert!(
            plain.contains(&format!("\nscrape        {line}")),
            "{plain}"
        );
    }
}

#[test]
fn a_torrent_may_not_have_us_ask_local_addresses() {
    let world = World::new();
    let url = format!("udp://{}", udp_tracker());
    let said = world.run(&["--json", "show", &magnet(&[url]), "--scrape"]);
    let error = said.expect(0).event("scrape")["error"].clone();
    let refused = "the tracker cannot be reached: 127.0.0.1 (loopback), which the torrent named, \
        is refused as a UDP tracker";
    let error = error.as_str().unwrap();
    assert!(
        error.starts_with(refused) && error.contains("--allow-net"),
        "{error}"
    );
}

#[test]
fn nobody_is_asked_without_being_told_to() {
    let world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    world.run(&["show", &magnet(&[url])]).expect(0);
    assert!(socket.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn a_torrent_without_trackers_is_shown_with_a_warning() {
    let world = World::new();
    let said = world.run(&["--json", "show", &magnet(&[]), "--scrape"]);
    let message = said.expect(0).event("warning")["message"].clone();
    assert_eq!(message, "there is no tracker to ask");
}

#[test]
fn a_route_that_cannot_be_used_is_refused_before_anything_is_shown() {
    let world = World::new();
    // TEST-NET-1 (RFC 5737) is nobody's address.
    let said = world.run(&["show", &magnet(&[]), "--scrape", "--bind", "192.0.2.1"]);
    let said = said.expect(1);
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("no such address"), "{said:?}");
}

#[test]
fn an_interrupt_ends_the_wait_for_trackers() {
    let world = World::new();
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = magnet(&[format!("udp://{}", mute.local_addr().unwrap())]);
    let arguments = [
        "--json",
        "show",
        &link,
        "--scrape",
        "--allow-net",
        "127.0.0.0/8",
    ];
    let mut command = world.command(&arguments);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap();
    // It asks, so it waits.
    mute.recv_from(&mut [0; 16]).unwrap();
    let id = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["kind"]),
        (&json!("error"), &json!("interrupted"))
    );
}

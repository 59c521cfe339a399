//! Routes of a node, as commands tell of them.

use std::fs;

use crate::node::{ask, until, up};
use crate::support::{World, text};

#[test]
fn routes_are_made_shown_taken_and_removed() {
    let world = World::new();
    let album = world.album();
    let torrent = world.torrent(&album, "--v1");
    let node = up(&world, "state", &[]);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        ask(&world, "state", &words)
    };
    let own = run("route").expect(0).event("route");
    assert_eq!(
        (&own["name"], &own["state"]),
        (&"default".into(), &"open".into())
    );
    assert_eq!(own["listening"][0], node.address.as_str());
    let made = run("route set vpn --bind 127.0.0.2").expect(0);
    let vpn = &made.events()[1];
    assert_eq!(
        (&vpn["name"], &vpn["bind"]),
        (&"vpn".into(), &"127.0.0.2".into())
    );
    assert_eq!((&vpn["state"], &vpn["proxy"]), (&"open".into(), &().into()));

    let source = text(&world.path("source"));
    run("category set films --route vpn").expect(0);
    run(&format!("add {torrent} -o {source} --category films")).expect(0);
    until(&world, "state", "seeding");
    let listed = run("route list").expect(0).events();
    let torrents = listed.iter().map(|route| &route["torrents"]);
    assert_eq!(torrents.collect::<Vec<_>>(), [0, 1]);
    run("route rm vpn").expect(0);
    let waits = until(&world, "state", "no_route");
    assert!(
        waits["message"]
            .as_str()
            .unwrap()
            .contains("shoal route set vpn")
    );
    let told = run("route use album none").expect(0);
    assert_eq!(told.event("session_torrent")["rules"]["route"], "default");
    until(&world, "state", "seeding");
    run("route use album inherit").expect(0);
    until(&world, "state", "no_route");
    run("route set vpn --bind no-such-device").expect(0);
    let waits = until(&world, "state", "no_route");
    assert!(
        waits["message"]
            .as_str()
            .unwrap()
            .contains("no-such-device")
    );
    run("route set vpn --bind any").expect(0);
    until(&world, "state", "seeding");
    run("route use session vpn").expect(0);

    let interfaces = run("route interfaces").expect(0).events();
    let mut names = interfaces.iter().map(|interface| &interface["name"]);
    assert!(names.any(|name| name == "lo"), "{interfaces:?}");
    let state = text(&world.path("state"));
    let shown = world.run(&["route", "--state-dir", &state]).expect(0);
    assert!(
        shown.stdout.contains("vpn  open  1 torrent"),
        "{}",
        shown.stdout
    );
    assert!(!shown.stdout.contains("bind="), "{}", shown.stdout);
}

#[test]
fn a_node_begins_by_the_default_route_that_was_set_and_a_person_at_its_start_decides_for_once() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    let bind = ["route", "set", "default", "--bind", "127.0.0.2"];
    ask(&world, "state", &bind).expect(0);
    node.signal(rustix::process::Signal::TERM);
    node.end().expect(0);
    let state = text(&world.path("state"));
    let isolated = [
        "--json",
        "up",
        "--headless",
        "--isolated",
        "--no-dht",
        "--no-port-mapping",
    ];
    let again = |more: &[&str]| {
        let more = [&isolated[..], &["--state-dir", &state], more].concat();
        crate::support::Running::start(&mut world.command(&more))
    };
    let stored = again(&[]);
    assert!(
        stored.address.starts_with("127.0.0.2:"),
        "{}",
        stored.address
    );
    stored.signal(rustix::process::Signal::TERM);
    stored.end().expect(0);
    let said = again(&["--bind", "127.0.0.3"]);
    assert!(said.address.starts_with("127.0.0.3:"), "{}", said.address);
    let own = ask(&world, "state", &["route"]).expect(0).event("route");
    assert_eq!(own["bind"], "127.0.0.3");
}

#[test]
fn what_is_wrong_with_a_route_is_said_and_no_password_is() {
    let world = World::new();
    let _node = up(&world, "state", &[]);
    let password = world.path("password");
    fs::write(&password, "a word\n").unwrap();
    for (line, code, about) in [
        ("route set vpn", 2, "--bind"),
        ("route set a/b --bind any", 2, "letters"),
        ("route set none --bind any", 2, "none"),
        (
            "route set vpn --proxy socks5://me:word@10.0.0.1:1080",
            2,
            "in a file",
        ),
        (
            "route set vpn --proxy socks5://proxy.example:1080",
            2,
            "address",
        ),
        ("route set vpn --password-file password", 2, "proxy"),
        ("route set vpn --dns dns.example", 2, "10.8.0.1"),
        (
            "route set vpn --proxy http://10.0.0.1:1 --dns 10.8.0.1",
            2,
            "by the proxy",
        ),
        ("route rm vpn", 1, "shoal route set"),
        ("route rm default", 2, "default"),
        ("route use session vpn", 1, "shoal route set"),
        ("category set films --route vpn", 1, "shoal route set"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = ask(&world, "state", &words);
        let message = said.event("error")["message"].to_string();
        assert!(message.contains(about), "{line}: {message}");
        assert!(!message.contains("word@"), "{line}: {message}");
        assert_eq!(said.code, Some(code), "{line}: {message}");
    }
    // The file is found from where the command is given.
    let line = "route set vpn --proxy socks5://me@127.0.0.1:9 --password-file password";
    let words: Vec<&str> = line.split(' ').collect();
    let said = ask(&world, "state", &words).expect(0);
    let vpn = &said.events()[1];
    assert_eq!(vpn["password_file"], text(&password));
    assert_eq!(vpn["proxy"], "socks5://127.0.0.1:9");
    assert_eq!(vpn["state"], "open");
    assert!(!said.stdout.contains("a word"));
}

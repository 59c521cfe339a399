//! The same of a node, whose torrents' routes change, go and come back while they run and between its lives.

use crate::{
    BARE, DONE_WITHIN, NEEDS, ORIGIN, PROXY, READY_WITHIN, ROUTER, SECOND_PROXY, SECOND_WITNESS,
    SEED, Stage, TRACKER, WATCHED_FOR,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shoal_interop::proxy::{Door, Proxy, Wish};
use shoal_interop::{Lab, Process, eventually, isolated, output_of, shoal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A node in the home, and where it keeps what it knows.
struct Node {
    _process: Process,
    state: PathBuf,
}

impl Node {
    fn start(lab: &Lab, stage: &Stage, state: &Path, name: &str) -> Result<Node> {
        let mut command = shoal::command(&["up", "--headless"])?;
        command.args(["--dht-router", &ROUTER.to_string()]);
        command.args(["--dht-router", &format!("router.example:{}", SEED.port())]);
        command.arg("--state-dir").arg(state);
        command.env("SHOAL_LOG", "shoal_node=debug,shoal_transport=debug");
        let process = Process::start(lab, name, &mut stage.home.on_host(&command))?;
        eventually(READY_WITHIN, "the node", || {
            let mut events = shoal::events(&process.said()).into_iter();
            Ok(events.any(|event| event["event"] == "listening"))
        })?;
        Ok(Node {
            _process: process,
            state: state.to_path_buf(),
        })
    }

    /// Asks it, with spaces between the words.
    fn ask(&self, line: &str) -> Result<Vec<Value>> {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = shoal::command(&words)?;
        command.arg("--state-dir").arg(&self.state);
        Ok(shoal::events(&output_of(&mut command)?))
    }

    fn torrent(&self) -> Result<Value> {
        let mut torrents = self.ask("list")?;
        torrents.pop().context("no torrent")
    }

    /// Waits until its only torrent has received more than it has now.
    fn moves(&self) -> Result<()> {
        let received = |torrent: &Value| torrent["downloaded_bytes"].as_u64().unwrap_or(0);
        let before = received(&self.torrent()?);
        eventually(READY_WITHIN, "the torrent to move", || {
            Ok(received(&self.torrent()?) > before)
        })
    }

    fn waits(&self, about: &str) -> Result<()> {
        eventually(READY_WITHIN, "the torrent to wait for its route", || {
            Ok(self.torrent()?["state"] == "no_route")
        })?;
        let torrent = self.torrent()?;
        let message = torrent["message"].as_str().unwrap_or_default();
        ensure!(message.contains(about), "it says {message:?}");
        Ok(())
    }

    fn wait_seeding(&self) -> Result<()> {
        eventually(DONE_WITHIN, "the content", || {
            Ok(self.torrent()?["state"] == "seeding")
        })
    }
}

#[test]
fn while_a_category_changes_its_route_nothing_leaves_but_by_what_holds() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        let arranged = format!("address add {}/24 dev net", SECOND_PROXY.ip());
        output_of(Command::new("ip").args(arranged.split(' ')))?;
        let names = [
            ("tracker.example", TRACKER),
            ("origin.example", ORIGIN),
            ("router.example", SEED),
        ];
        let names = names.map(|(name, address)| (name.to_owned(), address.ip()));
        let second = Door {
            login: None,
            names: names.into(),
        };
        let second = Proxy::start(SECOND_PROXY, second)?;
        let count = |proxy: &Proxy| proxy.asked().values().sum::<usize>();
        let only_proxies = || -> Result<()> {
            let astray = stage.astray()?;
            let to_second = |one: &String| one.contains(&SECOND_PROXY.ip().to_string());
            ensure!(
                astray.iter().all(to_second),
                "another way went: {astray:#?}"
            );
            Ok(())
        };
        let node = Node::start(lab, &stage, &lab.folder("state")?, "node")?;
        // By default, nothing leaves: this device is not there.
        node.ask("route set default --bind nowhere")?;
        node.ask(&format!("route set one --proxy socks5://{PROXY}"))?;
        node.ask(&format!("route set two --proxy socks5://{SECOND_PROXY}"))?;
        node.ask("category set films --route one")?;
        let (torrent, folder) = (stage.torrent.display(), lab.folder("target")?);
        let options = format!("--category films --download-limit 100K --peer {SEED}");
        node.ask(&format!("add {torrent} -o {} {options}", folder.display()))?;
        node.moves()?;
        stage.nothing_went_astray()?;

        // Told of its category: when the second proxy is asked for anything, the first is for nothing any more. Its route stands.
        node.ask("category set films --route two")?;
        let connections = || {
            let asked = stage.proxy.asked().into_iter();
            let connections = asked.filter(|((wish, _), _)| *wish == Wish::Connect);
            connections.map(|(_, times)| times).sum::<usize>()
        };
        eventually(READY_WITHIN, "the second proxy to be asked", || {
            Ok(count(&second) > 0)
        })?;
        let before = connections();
        node.moves()?;
        ensure!(connections() == before, "{:#?}", stage.proxy.asked());
        only_proxies()?;
        node.ask("route rm one")?;
        ensure!(
            stage.proxy.is_idle(),
            "the first proxy still has connections"
        );

        // The route becomes something else: nothing of what it was is left when that is answered.
        node.ask(&format!("route set two --proxy socks5://{PROXY}"))?;
        ensure!(second.is_idle(), "the second proxy still has connections");
        let before = count(&second);
        node.moves()?;
        ensure!(count(&second) == before, "{:#?}", second.asked());

        // It is removed.
        node.ask("route rm two")?;
        ensure!(
            stage.proxy.is_idle(),
            "the first proxy still has connections"
        );
        node.waits("two")?;
        let before = (count(&stage.proxy), count(&second));
        thread::sleep(WATCHED_FOR);
        ensure!(
            before == (count(&stage.proxy), count(&second)),
            "it was asked"
        );
        only_proxies()?;

        // It is there again.
        node.ask(&format!("route set two --proxy socks5://{PROXY}"))?;
        node.moves()?;
        node.ask("limit all --down none")?;
        node.wait_seeding()?;
        stage.content.check(&folder)?;
        only_proxies()?;
        ensure!(stage.proxy.was_asked(Wish::Connect, &SEED.to_string()));

        // Where a person says so, it leaves by any way, and is seen.
        node.ask("route use all none")?;
        node.waits("nowhere")?;
        thread::sleep(WATCHED_FOR);
        only_proxies()?;
        node.ask("route set default --bind any")?;
        stage.wait_astray(&[
            format!("udp . {} . {}", TRACKER.ip(), TRACKER.port()),
            "udp . 239.192.152.143 . 6771".to_owned(),
        ])
    })
}

#[test]
fn a_node_that_begins_without_its_interface_sends_nothing_until_it_is_there() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        stage.home.add_second_way()?;
        stage.rules(lab, SECOND_WITNESS)?;
        let state = lab.folder("state")?;
        let node = Node::start(lab, &stage, &state, "node")?;
        node.ask("route set default --bind nowhere")?;
        let server = ROUTER.ip();
        node.ask(&format!("route set vpn --bind eth --dns {server}"))?;
        node.ask("category set films --route vpn")?;
        let (torrent, folder) = (stage.torrent.display(), lab.folder("target")?);
        let options = format!("--category films --download-limit 100K --peer {BARE}");
        node.ask(&format!("add {torrent} -o {} {options}", folder.display()))?;
        node.moves()?;
        ensure!(!stage.has_leaked()?, "it left by the other interface");
        // While it runs.
        stage.home.unplug()?;
        node.waits("eth")?;
        thread::sleep(WATCHED_FOR);
        ensure!(!stage.has_leaked()?, "it left by the other interface");
        stage.home.plug_in()?;
        node.moves()?;
        // Between two lives.
        drop(node);
        stage.home.unplug()?;
        let node = Node::start(lab, &stage, &state, "node-again")?;
        node.waits("eth")?;
        thread::sleep(WATCHED_FOR * 2);
        ensure!(!stage.has_leaked()?, "it left by the other interface");
        stage.home.plug_in()?;
        node.moves()?;
        node.ask("limit all --down none")?;
        node.wait_seeding()?;
        stage.content.check(&folder)?;
        ensure!(!stage.has_leaked()?, "it left by the other interface");
        // Bound to nothing, it is seen there.
        stage.home.unplug()?;
        node.ask("route set vpn --bind any --dns none")?;
        eventually(READY_WITHIN, "what leaves unbound", || stage.has_leaked())
    })
}

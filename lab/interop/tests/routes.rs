//! Nothing leaves by another way than the route: a home whose every packet is looked at, and a proxy that says what it was asked for.
//!
//! The home's host counts what it sends anywhere but to the proxy. Each scenario that finds nothing there has a counterpart without the
//! proxy, in which the same programs do the same and are seen.

use anyhow::{Result, ensure};
use shoal_interop::nat::{Home, Internet, Nat};
use shoal_interop::proxy::{Door, Proxy, Wish};
use shoal_interop::{
    Content, Kind, Lab, Maker, Origin, Process, Program, Recipe, Shape, Tracker, TrackerKind,
    eventually, isolated, output_of, shoal,
};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 101)), 1080);
const SEED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 102)), 7000);
const TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 103)), 8000);
const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 104)), 8081);
/// A contact of the DHT that nobody is.
const ROUTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 105)), 6881);
const NEEDS: &[Program] = &[Program::Nft, Program::BittorrentTracker, Program::Nginx];

const READY_WITHIN: Duration = Duration::from_secs(30);
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// As long as anything that goes astray would take to be seen: dials, repeated announces, look-ups.
const WATCHED_FOR: Duration = Duration::from_secs(4);
const BYTES: u64 = 4_000_000;

/// What the host sends elsewhere, by protocol, address and port; and what it sends to groups or over IPv6.
const WITNESS: &str = "table inet witness {
    set astray { type inet_proto . ipv4_addr . inet_service; flags dynamic; }
    counter others { }
    chain out { type filter hook output priority 0;
        oifname lo accept
        ip daddr 44.1.1.101 accept
        ip protocol { tcp, udp } update @astray { meta l4proto . ip daddr . th dport }
        ip protocol igmp counter name others
        meta nfproto ipv6 meta l4proto { tcp, udp } counter name others
    }
}";

struct Stage {
    home: Home,
    proxy: Proxy,
    torrent: PathBuf,
    content: Content,
    _tracker: Tracker,
    origin: Origin,
    seed: Process,
    _internet: Internet,
}

impl Stage {
    fn build(lab: &Lab, login: Option<(String, String)>) -> Result<Stage> {
        let mut internet = Internet::build()?;
        for address in [PROXY, SEED, TRACKER, ORIGIN, ROUTER] {
            let arranged = format!("address add {}/24 dev net", address.ip());
            output_of(Command::new("ip").args(arranged.split(' ')))?;
        }
        let home = internet.home(lab, Nat::PortRestricted)?;
        let rules = lab.path("witness.nft");
        fs::write(&rules, WITNESS)?;
        let mut nft = Command::new(Program::Nft.find()?);
        output_of(&mut home.on_host(nft.arg("-f").arg(&rules)))?;
        let names = [("tracker.example", TRACKER), ("origin.example", ORIGIN)];
        let names = names.map(|(name, address)| (name.to_owned(), address.ip()));
        let door = Door {
            login,
            names: names.into(),
        };
        let content = Content::generate(&lab.folder("source")?, "word", Shape::File(BYTES), 5)?;
        let torrent = lab.path("route.torrent");
        let recipe = Recipe::new(Kind::Hybrid)
            .tracker("http://tracker.example:8000/announce")
            .tracker("udp://tracker.example:8000/announce")
            .tracker("https://tracker.example:8443/announce")
            .tracker(&format!("udp://{TRACKER}/announce"))
            .web_seed(&format!("http://origin.example:{}/", ORIGIN.port()));
        recipe.make(Maker::Shoal, &content, &torrent)?;
        let tracker = Tracker::start(lab, TrackerKind::BittorrentTracker, TRACKER, &[&torrent])?;
        let origin = Origin::start(lab, ORIGIN, &content.parent)?;
        let mut command = shoal::command(&["seed", "--trust"])?;
        command.arg(&torrent).arg("--data").arg(&content.parent);
        command.args(["--listen", &SEED.to_string(), "--upload-limit", "400K"]);
        command.args(["--dht-router", &ROUTER.to_string()]);
        command.arg("--state-dir").arg(lab.folder("state")?);
        let seed = Process::start(lab, "seed", &mut command)?;
        ready(&seed)?;
        Ok(Stage {
            home,
            proxy: Proxy::start(PROXY, door)?,
            torrent,
            content,
            _tracker: tracker,
            origin,
            seed,
            _internet: internet,
        })
    }

    /// A leech in the home.
    fn leech(&self, lab: &Lab, options: &[&str]) -> Result<(Process, PathBuf)> {
        let folder = lab.folder("target")?;
        let mut command = shoal::command(&["get", "--seed-time", "1h"])?;
        command.arg(&self.torrent).arg("-o").arg(&folder);
        command.args(["--dht-router", &ROUTER.to_string()]);
        command.arg("--state-dir").arg(lab.folder("state")?);
        command.args(options);
        command.env("SHOAL_LOG", "shoal_engine=debug,shoal_transport=debug");
        let name = format!("leech-{}", folder.file_name().unwrap_or_default().display());
        let process = Process::start(lab, &name, &mut self.home.on_host(&command))?;
        Ok((process, folder))
    }

    /// What left the home another way than to the proxy.
    fn astray(&self) -> Result<BTreeSet<String>> {
        let mut nft = Command::new(Program::Nft.find()?);
        nft.args(["list", "table", "inet", "witness"]);
        let listed = output_of(&mut self.home.on_host(&nft))?;
        let mut astray = BTreeSet::new();
        let elements = listed.split_once("elements = {");
        let elements = elements.and_then(|(_, rest)| rest.split_once('}'));
        for element in elements.map_or("", |(list, _)| list).split(',') {
            let element = element.trim();
            if !element.is_empty() {
                astray.insert(element.to_owned());
            }
        }
        if !listed.contains("packets 0 bytes 0") {
            astray.insert("groups or IPv6".to_owned());
        }
        Ok(astray)
    }

    fn nothing_went_astray(&self) -> Result<()> {
        let astray = self.astray()?;
        ensure!(astray.is_empty(), "another way went: {astray:#?}");
        Ok(())
    }
}

fn ready(process: &Process) -> Result<()> {
    eventually(READY_WITHIN, "a client to be ready", || {
        let mut events = shoal::events(&process.said()).into_iter();
        Ok(events.any(|event| event["event"] == "started" || event["event"] == "progress"))
    })
}

fn is_complete(process: &Process) -> bool {
    let mut events = shoal::events(&process.said()).into_iter();
    events.any(|event| event["event"] == "complete")
}

fn wait_complete(process: &Process) -> Result<()> {
    eventually(DONE_WITHIN, "the content", || Ok(is_complete(process)))
}

#[test]
fn everything_of_a_torrent_goes_through_its_socks5_proxy() -> Result<()> {
    isolated(NEEDS, |lab| {
        let login = ("me".to_owned(), "a word".to_owned());
        let stage = Stage::build(lab, Some(login))?;
        let password = lab.path("password");
        fs::write(&password, "a word\n")?;
        let password = password.display().to_string();
        let proxy = format!("socks5://me@{PROXY}");
        let options = ["--proxy", &proxy, "--proxy-password-file", &password];
        for transport in ["both", "utp"] {
            let options = [&options[..], &["--transport", transport]].concat();
            let (leech, folder) = stage.leech(lab, &options)?;
            wait_complete(&leech)?;
            stage.content.check(&folder)?;
            std::thread::sleep(WATCHED_FOR);
            ensure!(!leech.said().contains("a word"), "the password is shown");
            leech.stop();
        }
        stage.nothing_went_astray()?;
        for (wish, target) in [
            (Wish::Connect, SEED.to_string()),
            (Wish::Connect, "tracker.example:8000".to_owned()),
            (Wish::Connect, "tracker.example:8443".to_owned()),
            (Wish::Connect, "origin.example:8081".to_owned()),
            (Wish::Associate, String::new()),
            (Wish::Datagram, "tracker.example:8000".to_owned()),
            (Wish::Datagram, TRACKER.to_string()),
            (Wish::Datagram, SEED.to_string()),
            (Wish::Datagram, ROUTER.to_string()),
        ] {
            let asked = stage.proxy.asked();
            ensure!(
                stage.proxy.was_asked(wish, &target),
                "{wish:?} {target} is not among {asked:#?}"
            );
        }
        ensure!(stage.origin.served()? > 0, "the web seed served nothing");
        Ok(())
    })
}

//! Nothing leaves by another way than the route: a home whose every packet is looked at, and a proxy that says what it was asked for.
//!
//! The home's host counts what it sends anywhere but to the proxy. Each scenario that finds nothing there has a counterpart without the
//! proxy, in which the same programs do the same and are seen.

mod node;
mod others;

use anyhow::{Result, anyhow, ensure};
use shoal_engine::{
    AddTorrent, DhtConfig, Engine, EngineConfig, OWN_ROUTE, RouteConfig, TorrentHandle,
};
use shoal_interop::nat::{Home, Internet, Nat};
use shoal_interop::proxy::{Door, Proxy, Wish};
use shoal_interop::{
    Content, Kind, Lab, Maker, Origin, Process, Program, Recipe, Shape, Tracker, TrackerKind,
    eventually, isolated, output_of, shoal,
};
use shoal_metainfo::Metainfo;
use shoal_metainfo::bencode::Limits;
use shoal_transport::{RateLimits, TransportConfig};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 101)), 1080);
const SEED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 102)), 7000);
const BARE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 102)), 7001);
const TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 103)), 8000);
const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 104)), 8081);
/// A contact of the DHT that nobody is.
const ROUTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 105)), 6881);
const NEEDS: &[Program] = &[Program::Nft, Program::BittorrentTracker, Program::Nginx];

const SECOND_PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(44, 1, 1, 106)), 1080);

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

/// What the host sends by its second interface.
const SECOND_WITNESS: &str = "table inet second {
    counter leaked { }
    chain out { type filter hook output priority 0;
        oifname alt meta l4proto { tcp, udp, igmp } counter name leaked
    }
}";

struct Stage {
    home: Home,
    proxy: Proxy,
    torrent: PathBuf,
    content: Content,
    _tracker: Tracker,
    origin: Origin,
    /// The same content, known to nobody but whom is told of the seed.
    bare: PathBuf,
    _seeds: [Process; 2],
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
        // Whoever looks a name up by the system asks there, in vain.
        let resolver = lab.path("resolv.conf");
        fs::write(&resolver, format!("nameserver {}\n", ROUTER.ip()))?;
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(&resolver).arg("/etc/resolv.conf");
        output_of(&mut mount)?;
        let rules = lab.path("witness.nft");
        fs::write(&rules, WITNESS)?;
        let mut nft = Command::new(Program::Nft.find()?);
        output_of(&mut home.on_host(nft.arg("-f").arg(&rules)))?;
        let names = [
            ("tracker.example", TRACKER),
            ("origin.example", ORIGIN),
            // The seed takes part.
            ("router.example", SEED),
        ];
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
        let bare = lab.path("bare.torrent");
        Recipe::new(Kind::V1).make(Maker::Shoal, &content, &bare)?;
        let start = |name: &str, torrent: &PathBuf, listen: SocketAddr| {
            let mut command = shoal::command(&["seed", "--trust"])?;
            command.arg(torrent).arg("--data").arg(&content.parent);
            command.args(["--listen", &listen.to_string()]);
            command.args(["--dht-router", &ROUTER.to_string()]);
            command.arg("--state-dir").arg(lab.folder("state")?);
            let seed = Process::start(lab, name, &mut command)?;
            ready(&seed).map(|()| seed)
        };
        let seeds = [start("seed", &torrent, SEED)?, start("bare", &bare, BARE)?];
        Ok(Stage {
            home,
            proxy: Proxy::start(PROXY, door)?,
            torrent,
            content,
            _tracker: tracker,
            origin,
            bare,
            _seeds: seeds,
            _internet: internet,
        })
    }

    /// A leech in the home.
    fn leech(&self, lab: &Lab, options: &[&str]) -> Result<(Process, PathBuf)> {
        self.leech_of(lab, &self.torrent, options)
    }

    /// A leech of what is known to nobody, told of the seed.
    fn bare_leech(&self, lab: &Lab, options: &[&str]) -> Result<(Process, PathBuf)> {
        let seed = BARE.to_string();
        let options = [options, &["--peer", &seed]].concat();
        self.leech_of(lab, &self.bare, &options)
    }

    fn leech_of(
        &self,
        lab: &Lab,
        torrent: &PathBuf,
        options: &[&str],
    ) -> Result<(Process, PathBuf)> {
        let folder = lab.folder("target")?;
        let mut command = shoal::command(&["get", "--seed-time", "1h"])?;
        command.arg(torrent).arg("-o").arg(&folder);
        command.args(["--dht-router", &ROUTER.to_string()]);
        command.args(["--dht-router", &format!("router.example:{}", SEED.port())]);
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

    fn rules(&self, lab: &Lab, rules: &str) -> Result<()> {
        let file = lab.path("more.nft");
        fs::write(&file, rules)?;
        let mut nft = Command::new(Program::Nft.find()?);
        output_of(&mut self.home.on_host(nft.arg("-f").arg(&file)))?;
        Ok(())
    }

    /// Whether anything left by the second interface.
    fn has_leaked(&self) -> Result<bool> {
        let mut nft = Command::new(Program::Nft.find()?);
        nft.args(["list", "counter", "inet", "second", "leaked"]);
        let listed = output_of(&mut self.home.on_host(&nft))?;
        Ok(!listed.contains("packets 0 bytes 0"))
    }

    /// Waits until all these were seen.
    fn wait_astray(&self, expected: &[String]) -> Result<()> {
        let mut seen = BTreeSet::new();
        let all = eventually(READY_WITHIN, "what leaves without a proxy", || {
            seen = self.astray()?;
            Ok(expected.iter().all(|one| seen.contains(one)))
        });
        ensure!(all.is_ok(), "expected {expected:#?}, seen {seen:#?}");
        Ok(())
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
            thread::sleep(WATCHED_FOR);
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
            (Wish::Datagram, format!("router.example:{}", SEED.port())),
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

#[test]
fn without_a_proxy_all_of_it_is_seen() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        let seed = SEED.to_string();
        for transport in ["tcp", "utp"] {
            let options = ["--transport", transport, "--peer", &seed];
            let (leech, _) = stage.leech(lab, &options)?;
            let protocol = if transport == "tcp" { "tcp" } else { "udp" };
            let to = |protocol: &str, address: SocketAddr| {
                format!("{protocol} . {} . {}", address.ip(), address.port())
            };
            let at = |protocol: &str, place: &str| format!("{protocol} . {place}");
            stage.wait_astray(&[
                to(protocol, SEED),
                to("udp", TRACKER),
                to("udp", ROUTER),
                at("udp", &format!("{} . 53", ROUTER.ip())),
                at("udp", "239.192.152.143 . 6771"),
                at("udp", "10.1.0.1 . 5351"),
                at("udp", "239.255.255.250 . 1900"),
                "groups or IPv6".to_owned(),
            ])?;
            leech.stop();
        }
        ensure!(stage.proxy.asked().is_empty(), "the proxy was asked");
        Ok(())
    })
}

#[test]
fn peers_come_over_tcp_through_every_proxy_and_over_utp_through_socks5() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        for (scheme, transport) in [
            ("socks4", "tcp"),
            ("socks4a", "tcp"),
            ("http", "both"),
            ("socks5", "tcp"),
            ("socks5", "utp"),
        ] {
            let proxy = format!("{scheme}://{PROXY}");
            let options = ["--proxy", &proxy, "--transport", transport];
            let (leech, folder) = stage.bare_leech(lab, &options)?;
            wait_complete(&leech)?;
            stage.content.check(&folder)?;
            leech.stop();
            let asked = stage.proxy.asked();
            let (tcp, utp) = (Wish::Connect, Wish::Datagram);
            let wish = if transport == "utp" { utp } else { tcp };
            ensure!(
                stage.proxy.was_asked(wish, &BARE.to_string()),
                "{scheme}: {asked:#?}"
            );
        }
        // Those without datagrams get none another way, and what a proxy cannot look up nobody does.
        for scheme in ["socks4", "http"] {
            let proxy = format!("{scheme}://{PROXY}");
            let options = ["--proxy", &proxy, "--transport", "utp"];
            let (leech, _) = stage.leech(lab, &options)?;
            thread::sleep(WATCHED_FOR);
            ensure!(
                scheme != "socks4" || !is_complete(&leech),
                "SOCKS4 knows no names"
            );
            leech.stop();
        }
        stage.nothing_went_astray()
    })
}

#[test]
fn while_its_proxy_is_dead_nothing_leaves_and_when_it_returns_all_goes_on() -> Result<()> {
    isolated(NEEDS, |lab| {
        let mut stage = Stage::build(lab, None)?;
        let proxy = format!("socks5://{PROXY}");
        let seed = SEED.to_string();
        let mut leeches = Vec::new();
        for transport in ["tcp", "utp"] {
            let slowly = ["--download-limit", "150K", "--transport", transport];
            let options = [&slowly[..], &["--proxy", &proxy, "--peer", &seed]].concat();
            leeches.push(stage.leech(lab, &options)?);
        }
        for (leech, _) in &leeches {
            ready(leech)?;
        }
        eventually(READY_WITHIN, "the proxy to be asked", || {
            let proxy = &stage.proxy;
            Ok(proxy.was_asked(Wish::Connect, &seed) && proxy.was_asked(Wish::Datagram, &seed))
        })?;
        stage.proxy.kill();
        let before = stage.proxy.asked();
        thread::sleep(WATCHED_FOR * 2);
        stage.nothing_went_astray()?;
        for (leech, _) in &leeches {
            ensure!(!is_complete(leech), "too fast for a test");
        }
        ensure!(stage.proxy.asked() == before, "who is dead was asked");
        stage.proxy.revive()?;
        for (leech, folder) in leeches {
            wait_complete(&leech)?;
            stage.content.check(&folder)?;
        }
        stage.nothing_went_astray()
    })
}

#[test]
fn who_is_not_let_in_by_the_proxy_does_not_go_around_it() -> Result<()> {
    isolated(NEEDS, |lab| {
        let login = ("me".to_owned(), "a word".to_owned());
        let stage = Stage::build(lab, Some(login))?;
        let seed = SEED.to_string();
        let mut leeches = Vec::new();
        for scheme in ["socks5", "http"] {
            let proxy = format!("{scheme}://{PROXY}");
            leeches.push(stage.leech(lab, &["--proxy", &proxy, "--peer", &seed])?);
        }
        thread::sleep(WATCHED_FOR);
        stage.nothing_went_astray()?;
        ensure!(leeches.iter().all(|(leech, _)| !is_complete(leech)));
        ensure!(stage.proxy.asked().is_empty(), "{:#?}", stage.proxy.asked());
        Ok(())
    })
}

#[test]
fn when_its_interface_goes_nothing_leaves_by_another_and_when_it_is_back_all_goes_on() -> Result<()>
{
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        stage.home.add_second_way()?;
        stage.rules(lab, SECOND_WITNESS)?;
        let tracker = format!("udp://{TRACKER}/announce");
        let slowly = ["--download-limit", "250K", "--tracker", &tracker];
        let start = |options: &[&str]| stage.bare_leech(lab, &[&slowly[..], options].concat());
        let mut leeches = Vec::new();
        for transport in ["tcp", "utp"] {
            leeches.push(start(&["--bind", "eth", "--transport", transport])?);
        }
        let begun = |leeches: &[(Process, PathBuf)]| {
            eventually(READY_WITHIN, "some of the content", || {
                Ok(leeches
                    .iter()
                    .all(|(leech, _)| leech.said().contains("progress")))
            })
        };
        begun(&leeches)?;
        thread::sleep(WATCHED_FOR / 2);
        stage.home.unplug()?;
        thread::sleep(WATCHED_FOR * 2);
        ensure!(
            !stage.has_leaked()?,
            "something left by the other interface"
        );
        for (leech, _) in &leeches {
            ensure!(!is_complete(leech), "too fast for a test");
        }
        stage.home.plug_in()?;
        for (leech, folder) in leeches {
            wait_complete(&leech)?;
            stage.content.check(&folder)?;
            leech.stop();
        }
        ensure!(
            !stage.has_leaked()?,
            "something left by the other interface"
        );
        // Whoever is bound to nothing goes by whatever there is.
        let (_free, _) = start(&[])?;
        stage.home.unplug()?;
        eventually(READY_WITHIN, "what leaves unbound", || stage.has_leaked())
    })
}

#[test]
fn names_are_asked_for_over_the_interface_where_a_server_is_named() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        stage.home.add_second_way()?;
        stage.rules(lab, SECOND_WITNESS)?;
        // The system's resolver is where only the second interface leads.
        fs::write(lab.path("resolv.conf"), "nameserver 10.1.1.1\n")?;
        let server = ROUTER.ip().to_string();
        let bound = ["--bind", "eth"];
        let named = [&bound[..], &["--dns", &server]].concat();
        let (leech, _) = stage.leech(lab, &named)?;
        stage.wait_astray(&[format!("udp . {server} . 53")])?;
        thread::sleep(WATCHED_FOR);
        ensure!(
            !stage.has_leaked()?,
            "something left by the other interface"
        );
        leech.stop();
        // Where none is named, the system asks whom it asks.
        let (_leech, _) = stage.leech(lab, &bound)?;
        eventually(READY_WITHIN, "what the system asks", || stage.has_leaked())
    })
}

/// What an engine on the host does with its routes while a torrent runs.
async fn change_routes(
    torrent: &Path,
    folder: &Path,
    log: &Mutex<Vec<&'static str>>,
    proxies: [SocketAddr; 2],
) -> Result<()> {
    let metainfo = Metainfo::parse(&fs::read(torrent)?, Limits::LOCAL)?;
    let metainfo = Arc::new(metainfo);
    let through = |proxy: SocketAddr| -> Result<RouteConfig> {
        let proxy = format!("socks5://{proxy}").parse()?;
        Ok(RouteConfig {
            transport: TransportConfig {
                proxy: Some(proxy),
                ..TransportConfig::default()
            },
            dht: Some(DhtConfig::default()),
            ..RouteConfig::default()
        })
    };
    let own = through(proxies[0])?;
    let engine = Engine::start(EngineConfig {
        transport: own.transport,
        dht: own.dht,
        workers: 2,
        ..EngineConfig::default()
    });
    let engine = engine.await?;
    let slowly = RateLimits {
        down_bytes_per_s: NonZeroU64::new(100_000),
        ..RateLimits::default()
    };
    let add = || {
        let mut add = AddTorrent::new(Arc::clone(&metainfo), folder.to_path_buf());
        add.peers = vec![SEED];
        add.limits = slowly;
        add
    };
    let moves = |torrent: TorrentHandle| async move {
        let mut watch = torrent.watch();
        let moved = watch.wait_for(|state| state.downloaded_bytes > 0);
        tokio::time::timeout(READY_WITHIN, moved).await??;
        anyhow::Ok(())
    };
    let mark = |what| {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    };
    moves(engine.add(add()).await?).await?;
    mark("over the first");
    engine
        .handle()
        .set_route(OWN_ROUTE, through(proxies[1])?)
        .await?;
    mark("changed");
    tokio::time::sleep(WATCHED_FOR).await;
    moves(engine.add(add()).await?).await?;
    mark("over the second");
    engine.handle().remove_route(OWN_ROUTE).await?;
    ensure!(engine.add(add()).await.is_err(), "it runs without a route");
    mark("removed");
    tokio::time::sleep(WATCHED_FOR).await;
    engine.stop(Duration::from_secs(5)).await;
    Ok(())
}

#[test]
fn while_settings_change_nothing_leaves_but_by_what_holds() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        let arranged = format!("address add {}/24 dev net", SECOND_PROXY.ip());
        output_of(Command::new("ip").args(arranged.split(' ')))?;
        let names = [
            ("tracker.example", TRACKER),
            ("origin.example", ORIGIN),
            // The seed takes part.
            ("router.example", SEED),
        ];
        let names = names.map(|(name, address)| (name.to_owned(), address.ip()));
        let second = Proxy::start(
            SECOND_PROXY,
            Door {
                login: None,
                names: names.into(),
            },
        )?;
        let (folder, log) = (lab.folder("target")?, Mutex::new(Vec::new()));
        let count = |proxy: &Proxy| proxy.asked().values().sum::<usize>();
        let to_second = |one: &String| one.contains(&SECOND_PROXY.ip().to_string());
        thread::scope(|scope| -> Result<()> {
            let running = scope.spawn(|| -> Result<()> {
                stage.home.enter()?;
                let runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = { runtime }.worker_threads(1).enable_all().build()?;
                runtime.block_on(change_routes(
                    &stage.torrent,
                    &folder,
                    &log,
                    [PROXY, SECOND_PROXY],
                ))
            });
            let wait = |what: &'static str| {
                eventually(DONE_WITHIN, what, || {
                    ensure!(
                        !running.is_finished() || log_has(&log, what),
                        "it has ended"
                    );
                    Ok(log_has(&log, what))
                })
            };
            wait("over the first")?;
            stage.nothing_went_astray()?;
            wait("changed")?;
            // No connection over the first is left, and none over the second has begun.
            ensure!(
                stage.proxy.is_idle(),
                "the first proxy still has connections"
            );
            let before = count(&stage.proxy);
            thread::sleep(WATCHED_FOR / 4);
            stage.nothing_went_astray()?;
            wait("over the second")?;
            ensure!(count(&stage.proxy) == before, "{:#?}", stage.proxy.asked());
            ensure!(count(&second) > 0, "the second proxy was asked for nothing");
            wait("removed")?;
            ensure!(second.is_idle(), "the second proxy still has connections");
            let (before, astray) = (count(&second), stage.astray()?);
            ensure!(
                astray.iter().all(to_second),
                "another way went: {astray:#?}"
            );
            running.join().map_err(|_| anyhow!("it panicked"))??;
            ensure!(count(&second) == before, "{:#?}", second.asked());
            let astray = stage.astray()?;
            ensure!(
                astray.iter().all(to_second),
                "another way went: {astray:#?}"
            );
            Ok(())
        })
    })
}

fn log_has(log: &Mutex<Vec<&'static str>>, what: &str) -> bool {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.contains(&what)
}

//! Proxies of third parties, and hole punching over a route.

use crate::{NEEDS, PROXY, READY_WITHIN, SECOND_WITNESS, Stage, WATCHED_FOR, ready, wait_complete};
use anyhow::{Result, ensure};
use shoal_interop::introducer::Introducer;
use shoal_interop::proxy::Wish;
use shoal_interop::{Lab, Process, Program, eventually, isolated, output_of};
use shoal_metainfo::Metainfo;
use shoal_metainfo::bencode::Limits;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::thread;

const DANTED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(44, 1, 1, 101), 1081);
const TINYPROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(44, 1, 1, 101), 3128);
const INTRODUCER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(44, 1, 1, 108), 7100);
/// Whom nobody is at: one of these is named as a peer, and the other one is to be dialled at once.
const NAMED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(44, 1, 1, 107), 9001);
const WANTED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(44, 1, 1, 107), 9002);

/// Starts a proxy that somebody else wrote.
fn third_party(
    lab: &Lab,
    program: Program,
    option: &str,
    settings: &str,
    at: SocketAddrV4,
) -> Result<Process> {
    let file = lab.path(&format!("{program:?}.conf"));
    fs::write(&file, settings)?;
    let mut command = Command::new(program.find()?);
    command.args(option.split_whitespace()).arg(&file);
    let name = format!("{program:?}").to_lowercase();
    let process = Process::start(lab, &name, &mut command)?;
    eventually(READY_WITHIN, "the proxy", || {
        Ok(TcpStream::connect(at).is_ok())
    })?;
    Ok(process)
}

#[test]
fn proxies_of_third_parties_bring_the_content() -> Result<()> {
    let needs = [NEEDS, &[Program::Danted, Program::Tinyproxy]].concat();
    isolated(&needs, |lab| {
        let stage = Stage::build(lab, None)?;
        let (ip, port) = (DANTED.ip(), DANTED.port());
        let settings = format!(
            "logoutput: stderr\ninternal: {ip} port = {port}\nexternal: {ip}\nclientmethod: none\nsocksmethod: none\n\
             user.unprivileged: nobody\nclient pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp udp }}\n"
        );
        let _danted = third_party(lab, Program::Danted, "-f", &settings, DANTED)?;
        let settings = format!(
            "Listen {}\nPort {}\nTimeout 60\nMaxClients 50\n",
            TINYPROXY.ip(),
            TINYPROXY.port()
        );
        let _tinyproxy = third_party(lab, Program::Tinyproxy, "-d -c", &settings, TINYPROXY)?;
        for (proxy, transport) in [
            (format!("socks4://{DANTED}"), "tcp"),
            (format!("socks5://{DANTED}"), "tcp"),
            (format!("socks5://{DANTED}"), "utp"),
            (format!("http://{TINYPROXY}"), "tcp"),
        ] {
            let options = ["--proxy", &proxy, "--transport", transport];
            let (leech, folder) = stage.bare_leech(lab, &options)?;
            wait_complete(&leech)?;
            stage.content.check(&folder)?;
            leech.stop();
        }
        stage.nothing_went_astray()
    })
}

#[test]
fn who_is_told_to_punch_a_hole_does_so_by_the_route_alone() -> Result<()> {
    isolated(NEEDS, |lab| {
        let stage = Stage::build(lab, None)?;
        let arranged = format!("address add {}/24 dev net", INTRODUCER.ip());
        output_of(Command::new("ip").args(arranged.split(' ')))?;
        let metainfo = Metainfo::parse(&fs::read(&stage.bare)?, Limits::LOCAL)?;
        let name = metainfo.info_hashes().primary();
        let introducer = Introducer::start(INTRODUCER, name.0, NAMED, WANTED)?;
        let start = |options: &[&str]| {
            let peer = INTRODUCER.to_string();
            // So slow that it wants more peers as long as it is looked at.
            let usual = ["--encryption", "disabled", "--download-limit", "50K"];
            let options = [&usual[..], &["--peer", &peer], options].concat();
            let (leech, _) = stage.bare_leech(lab, &options)?;
            ready(&leech).map(|()| leech)
        };
        // Through a proxy that takes datagrams, by it alone.
        let leech = start(&["--proxy", &format!("socks5://{PROXY}")])?;
        let dialled = eventually(READY_WITHIN, "both to be dialled through the proxy", || {
            let asked = |wish, who: SocketAddrV4| stage.proxy.was_asked(wish, &who.to_string());
            let named = asked(Wish::Connect, NAMED) && asked(Wish::Datagram, NAMED);
            Ok(named && asked(Wish::Datagram, WANTED) && introducer.asked() > 0)
        });
        ensure!(
            dialled.is_ok(),
            "{introducer:?}, {:#?}",
            stage.proxy.asked()
        );
        thread::sleep(WATCHED_FOR);
        leech.stop();
        stage.nothing_went_astray()?;
        // Through one that takes none, not at all.
        let count = || {
            let asked = stage.proxy.asked();
            let datagrams = asked
                .iter()
                .filter(|((wish, _), _)| *wish == Wish::Datagram);
            datagrams.map(|(_, times)| times).sum::<usize>()
        };
        let (before, told) = (count(), introducer.told());
        let leech = start(&["--proxy", &format!("http://{PROXY}")])?;
        thread::sleep(WATCHED_FOR * 2);
        leech.stop();
        stage.nothing_went_astray()?;
        ensure!(count() == before, "{:#?}", stage.proxy.asked());
        // It does not say that it could.
        ensure!(introducer.told() == told, "it offers what it cannot do");
        // Bound to an interface, by that one.
        stage.home.add_second_way()?;
        stage.rules(lab, SECOND_WITNESS)?;
        let leech = start(&["--bind", "eth"])?;
        let over = |who: SocketAddrV4| format!("udp . {} . {}", who.ip(), who.port());
        stage.wait_astray(&[over(WANTED), over(NAMED)])?;
        stage.home.unplug()?;
        thread::sleep(WATCHED_FOR);
        ensure!(!stage.has_leaked()?, "it left by the other interface");
        leech.stop();
        Ok(())
    })
}

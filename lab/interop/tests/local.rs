//! Clients that are told of nobody, and find each other by local service discovery.

use anyhow::{Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use shoal_interop::matrix::{Cell, Found, found_cell};
use shoal_interop::{Client, Content, Job, Kind, Lab, Program, Shape, isolated, shoal};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn local_cell(seed: Client, leech: Client, kind: Kind) -> Cell {
    found_cell(seed, leech, kind, Found::Locally)
}

fn both_ways(lab: &Lab, peer: Client, kind: Kind) -> Result<()> {
    local_cell(Client::Shoal, peer, kind).run(lab)?;
    local_cell(peer, Client::Shoal, kind).run(lab)
}

#[test]
fn shoal_and_shoal_find_each_other_on_the_local_network() -> Result<()> {
    isolated(&[], |lab| {
        local_cell(Client::Shoal, Client::Shoal, Kind::Hybrid).run(lab)
    })
}

#[test]
fn shoal_and_libtorrent_find_each_other_on_the_local_network() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        [Kind::V1, Kind::V2, Kind::Hybrid]
            .into_iter()
            .try_for_each(|kind| both_ways(lab, Client::Libtorrent, kind))
    })
}

#[test]
fn shoal_and_qbittorrent_find_each_other_on_the_local_network() -> Result<()> {
    isolated(&[Program::QBittorrent, Program::Libtorrent], |lab| {
        both_ways(lab, Client::QBittorrent, Kind::V1)
    })
}

#[test]
fn transmission_finds_shoal_on_the_local_network() -> Result<()> {
    isolated(&[Program::Transmission], |lab| {
        local_cell(Client::Shoal, Client::Transmission, Kind::V1).run(lab)
    })
}

#[test]
fn shoal_finds_transmission_on_the_local_network() -> Result<()> {
    isolated(&[Program::Transmission, Program::Libtorrent], |lab| {
        local_cell(Client::Transmission, Client::Shoal, Kind::V1).run(lab)
    })
}

#[test]
fn shoal_and_aria2_find_each_other_on_the_local_network() -> Result<()> {
    isolated(&[Program::Aria2, Program::Libtorrent], |lab| {
        both_ways(lab, Client::Aria2, Kind::V1)
    })
}

#[test]
fn the_local_network_hears_of_a_torrent_unless_it_is_private() -> Result<()> {
    isolated(&[], |lab| {
        lab.allow_multicast()?;
        let ear = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        sockopt::set_socket_reuseaddr(&ear, true)?;
        sockopt::set_socket_reuseport(&ear, true)?;
        bind(&ear, &SocketAddr::from(([239, 192, 152, 143], 6771)))?;
        let ear = UdpSocket::from(ear);
        ear.join_multicast_v4(&[239, 192, 152, 143].into(), &[10, 99, 0, 99].into())?;
        ear.set_read_timeout(Some(Duration::from_secs(3)))?;
        let content = Content::generate(&lab.folder("source")?, "word", Shape::File(50_000), 5)?;
        for private in [false, true] {
            let torrent = lab.path(&format!("private-{private}.torrent"));
            let mut create = shoal::command(&["create", "-o"])?;
            create.arg(&torrent).arg(content.parent.join("word"));
            create.args(private.then_some("--private"));
            ensure!(create.output()?.status.success(), "no torrent was made");
            let job = Job {
                local: true,
                ..Job::seed(&torrent, &content.parent, lab.address())
            };
            let seed = Client::Shoal.start(lab, &job)?;
            let heard = ear.recv(&mut [0; 1_400]).is_ok();
            ensure!(heard != private, "private: {private}, announced: {heard}");
            seed.stop();
        }
        Ok(())
    })
}

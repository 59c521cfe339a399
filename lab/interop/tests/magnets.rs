//! Shoal and one other client, both ways, where the leech is told no more than a magnet link with a tracker: it asks the seed what
//! the torrent is, and gets it.

use anyhow::Result;
use shoal_interop::matrix::magnet_cells;
use shoal_interop::{Client, Lab, Program, isolated};

/// Runs the transfers of every kind that both can do.
fn transfer(lab: &Lab, seed: Client, leech: Client) -> Result<()> {
    magnet_cells(seed, leech)
        .iter()
        .filter(|cell| cell.unsupported().is_none())
        .try_for_each(|cell| cell.run(lab))
}

/// Runs `body` where `peer` can be had, with what makes torrents and tells peers of each other.
fn with(peer: Program, body: fn(&Lab) -> Result<()>) -> Result<()> {
    isolated(&[peer, Program::Libtorrent, Program::OpenTracker], body)
}

#[test]
fn libtorrent_gets_every_kind_by_magnet_from_shoal() -> Result<()> {
    with(Program::Libtorrent, |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn shoal_gets_every_kind_by_magnet_from_libtorrent() -> Result<()> {
    with(Program::Libtorrent, |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal)
    })
}

#[test]
fn qbittorrent_gets_every_kind_by_magnet_from_shoal() -> Result<()> {
    with(Program::QBittorrent, |lab| {
        transfer(lab, Client::Shoal, Client::QBittorrent)
    })
}

#[test]
fn shoal_gets_every_kind_by_magnet_from_qbittorrent() -> Result<()> {
    with(Program::QBittorrent, |lab| {
        transfer(lab, Client::QBittorrent, Client::Shoal)
    })
}

#[test]
fn transmission_gets_v1_by_magnet_from_shoal() -> Result<()> {
    with(Program::Transmission, |lab| {
        transfer(lab, Client::Shoal, Client::Transmission)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_transmission() -> Result<()> {
    with(Program::Transmission, |lab| {
        transfer(lab, Client::Transmission, Client::Shoal)
    })
}

#[test]
fn aria2_gets_v1_by_magnet_from_shoal() -> Result<()> {
    with(Program::Aria2, |lab| {
        transfer(lab, Client::Shoal, Client::Aria2)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_aria2() -> Result<()> {
    with(Program::Aria2, |lab| {
        transfer(lab, Client::Aria2, Client::Shoal)
    })
}

#[test]
fn rtorrent_gets_v1_by_magnet_from_shoal() -> Result<()> {
    with(Program::RTorrent, |lab| {
        transfer(lab, Client::Shoal, Client::RTorrent)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_rtorrent() -> Result<()> {
    with(Program::RTorrent, |lab| {
        transfer(lab, Client::RTorrent, Client::Shoal)
    })
}

#[test]
fn webtorrent_gets_v1_and_hybrid_by_magnet_from_shoal() -> Result<()> {
    with(Program::WebTorrent, |lab| {
        transfer(lab, Client::Shoal, Client::WebTorrent)
    })
}

#[test]
fn shoal_gets_v1_and_hybrid_by_magnet_from_webtorrent() -> Result<()> {
    with(Program::WebTorrent, |lab| {
        transfer(lab, Client::WebTorrent, Client::Shoal)
    })
}

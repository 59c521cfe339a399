//! Shoal and one other client, both ways, where the leech is told no more than a magnet link with a tracker: it asks the seed what
//! the torrent is, and gets it.

use anyhow::Result;
use shoal_interop::matrix::{Found, found_cell, magnet_cells, with_every_change};
use shoal_interop::{Client, Kind, Lab, Program, isolated};

/// Runs the transfers between the two that are run with every change.
fn transfer(lab: &Lab, seed: Client, leech: Client) -> Result<()> {
    with_every_change(magnet_cells(seed, leech))
        .iter()
        .try_for_each(|cell| cell.run(lab))
}

/// What makes torrents, and what tells peers of each other.
const MAKER: Program = Program::Libtorrent;
const TRACKER: Program = Program::OpenTracker;

#[test]
fn libtorrent_gets_every_kind_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::Libtorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn shoal_gets_every_kind_by_magnet_from_libtorrent() -> Result<()> {
    isolated(&[Program::Libtorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal)
    })
}

// Of a hybrid torrent that it knows by magnet, qBittorrent 4.5 fetches a few blocks, now and then on a busy machine, and gives it up: its
// state is `error`, as where libtorrent 2.0 takes the hashes of both versions for inconsistent (arvidn/libtorrent#6394).
#[test]
fn qbittorrent_gets_v1_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::QBittorrent, MAKER, TRACKER], |lab| {
        let (seed, leech) = (Client::Shoal, Client::QBittorrent);
        found_cell(seed, leech, Kind::V1, Found::ByMagnet).run(lab)
    })
}

#[test]
fn shoal_gets_hybrid_by_magnet_from_qbittorrent() -> Result<()> {
    isolated(&[Program::QBittorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::QBittorrent, Client::Shoal)
    })
}

#[test]
fn transmission_gets_v1_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::Transmission, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Shoal, Client::Transmission)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_transmission() -> Result<()> {
    isolated(&[Program::Transmission, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Transmission, Client::Shoal)
    })
}

#[test]
fn aria2_gets_v1_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::Aria2, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Shoal, Client::Aria2)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_aria2() -> Result<()> {
    isolated(&[Program::Aria2, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Aria2, Client::Shoal)
    })
}

#[test]
fn rtorrent_gets_v1_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::RTorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Shoal, Client::RTorrent)
    })
}

#[test]
fn shoal_gets_v1_by_magnet_from_rtorrent() -> Result<()> {
    isolated(&[Program::RTorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::RTorrent, Client::Shoal)
    })
}

#[test]
fn webtorrent_gets_v1_and_hybrid_by_magnet_from_shoal() -> Result<()> {
    isolated(&[Program::WebTorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::Shoal, Client::WebTorrent)
    })
}

#[test]
fn shoal_gets_v1_and_hybrid_by_magnet_from_webtorrent() -> Result<()> {
    isolated(&[Program::WebTorrent, MAKER, TRACKER], |lab| {
        transfer(lab, Client::WebTorrent, Client::Shoal)
    })
}

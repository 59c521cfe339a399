//! Shoal and other clients where the content is at an HTTP server (BEP 19), and where peers are told of each other by a third one
//! (BEP 11): the part of the matrix for these that is run every time.

use anyhow::Result;
use shoal_interop::matrix::{Cell, Found, found_cell};
use shoal_interop::{Client, Kind, Lab, Program, isolated};

const KINDS: [Kind; 3] = [Kind::V1, Kind::V2, Kind::Hybrid];

/// Runs the transfers of every kind that both can do; a single file where a folder cannot be.
fn every_kind(lab: &Lab, seed: Client, leech: Client, found: Found) -> Result<()> {
    for kind in KINDS {
        let cell = found_cell(seed, leech, kind, found);
        let folder = cell.unsupported().is_none();
        Cell { folder, ..cell }.run(lab)?;
    }
    Ok(())
}

#[test]
fn libtorrent_gets_every_kind_from_the_web_seed_of_our_torrents() -> Result<()> {
    isolated(&[Program::Libtorrent, Program::Nginx], |lab| {
        every_kind(lab, Client::Shoal, Client::Libtorrent, Found::OnTheWeb)
    })
}

#[test]
fn shoal_gets_every_kind_from_libtorrent_and_the_web_seed_of_its_torrents_together() -> Result<()> {
    isolated(&[Program::Libtorrent, Program::Nginx], |lab| {
        every_kind(lab, Client::Libtorrent, Client::Shoal, Found::OnTheWeb)
    })
}

#[test]
fn aria2_gets_v1_from_the_web_seed_of_our_torrents() -> Result<()> {
    isolated(&[Program::Aria2, Program::Nginx], |lab| {
        found_cell(Client::Shoal, Client::Aria2, Kind::V1, Found::OnTheWeb).run(lab)
    })
}

#[test]
fn libtorrent_and_qbittorrent_are_told_of_a_seed_by_shoal() -> Result<()> {
    let needs = [
        Program::Libtorrent,
        Program::QBittorrent,
        Program::OpenTracker,
    ];
    isolated(&needs, |lab| {
        let told = |leech, kind| found_cell(Client::Shoal, leech, kind, Found::ByExchange).run(lab);
        told(Client::Libtorrent, Kind::V1)?;
        told(Client::QBittorrent, Kind::Hybrid)
    })
}

#[test]
fn shoal_is_told_of_a_seed_by_libtorrent() -> Result<()> {
    isolated(&[Program::Libtorrent, Program::OpenTracker], |lab| {
        found_cell(
            Client::Libtorrent,
            Client::Shoal,
            Kind::V2,
            Found::ByExchange,
        )
        .run(lab)
    })
}

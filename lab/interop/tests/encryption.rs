//! Shoal and one other client, both ways, where both speak encrypted alone (MSE with RC4): each file is checked by SHA-256.

use anyhow::Result;
use shoal_interop::matrix::{encrypted_cells, with_every_change};
use shoal_interop::{Client, Lab, Program, isolated};

/// Runs the transfers between the two that are run with every change.
fn transfer(lab: &Lab, seed: Client, leech: Client) -> Result<()> {
    with_every_change(encrypted_cells(seed, leech))
        .iter()
        .try_for_each(|cell| cell.run(lab))
}

#[test]
fn libtorrent_gets_v1_v2_and_hybrid_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn shoal_gets_v1_v2_and_hybrid_encrypted_from_libtorrent() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal)
    })
}

#[test]
fn qbittorrent_gets_hybrid_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::QBittorrent], |lab| {
        transfer(lab, Client::Shoal, Client::QBittorrent)
    })
}

#[test]
fn shoal_gets_hybrid_encrypted_from_qbittorrent() -> Result<()> {
    isolated(&[Program::QBittorrent, Program::Libtorrent], |lab| {
        transfer(lab, Client::QBittorrent, Client::Shoal)
    })
}

#[test]
fn transmission_gets_v1_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::Transmission, Program::OpenTracker], |lab| {
        transfer(lab, Client::Shoal, Client::Transmission)
    })
}

#[test]
fn shoal_gets_v1_encrypted_from_transmission() -> Result<()> {
    isolated(&[Program::Transmission, Program::Libtorrent], |lab| {
        transfer(lab, Client::Transmission, Client::Shoal)
    })
}

#[test]
fn aria2_gets_v1_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::Aria2, Program::OpenTracker], |lab| {
        transfer(lab, Client::Shoal, Client::Aria2)
    })
}

#[test]
fn shoal_gets_v1_encrypted_from_aria2() -> Result<()> {
    isolated(&[Program::Aria2, Program::Libtorrent], |lab| {
        transfer(lab, Client::Aria2, Client::Shoal)
    })
}

#[test]
fn rtorrent_gets_v1_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::RTorrent, Program::OpenTracker], |lab| {
        transfer(lab, Client::Shoal, Client::RTorrent)
    })
}

#[test]
fn shoal_gets_v1_encrypted_from_rtorrent() -> Result<()> {
    isolated(&[Program::RTorrent, Program::Libtorrent], |lab| {
        transfer(lab, Client::RTorrent, Client::Shoal)
    })
}

#[test]
fn webtorrent_gets_v1_and_hybrid_encrypted_from_shoal() -> Result<()> {
    isolated(&[Program::WebTorrent], |lab| {
        transfer(lab, Client::Shoal, Client::WebTorrent)
    })
}

#[test]
fn shoal_gets_v1_and_hybrid_encrypted_from_webtorrent() -> Result<()> {
    isolated(&[Program::WebTorrent, Program::Libtorrent], |lab| {
        transfer(lab, Client::WebTorrent, Client::Shoal)
    })
}

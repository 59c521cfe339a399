//! Shoal and one other client, both ways, over uTP alone: each file is checked by SHA-256.
//!
//! Transmission cannot be told to do without TCP. There is none all the same, as Shoal neither listens nor calls over it.

use anyhow::Result;
use shoal_interop::matrix::{utp_cells, with_every_change};
use shoal_interop::{Client, Lab, Program, isolated};

/// Runs the transfers between the two that are run with every change.
fn transfer(lab: &Lab, seed: Client, leech: Client) -> Result<()> {
    with_every_change(utp_cells(seed, leech))
        .iter()
        .try_for_each(|cell| cell.run(lab))
}

#[test]
fn shoal_gets_v1_v2_and_hybrid_over_utp_from_shoal() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Client::Shoal, Client::Shoal)
    })
}

#[test]
fn libtorrent_gets_v1_v2_and_hybrid_over_utp_from_shoal() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn shoal_gets_v1_v2_and_hybrid_over_utp_from_libtorrent() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal)
    })
}

#[test]
fn qbittorrent_gets_v1_over_utp_from_shoal() -> Result<()> {
    isolated(&[Program::QBittorrent], |lab| {
        transfer(lab, Client::Shoal, Client::QBittorrent)
    })
}

#[test]
fn shoal_gets_v1_over_utp_from_qbittorrent() -> Result<()> {
    isolated(&[Program::QBittorrent, Program::Libtorrent], |lab| {
        transfer(lab, Client::QBittorrent, Client::Shoal)
    })
}

#[test]
fn transmission_gets_v1_over_utp_from_shoal() -> Result<()> {
    isolated(&[Program::Transmission, Program::OpenTracker], |lab| {
        transfer(lab, Client::Shoal, Client::Transmission)
    })
}

#[test]
fn shoal_gets_v1_over_utp_from_transmission() -> Result<()> {
    isolated(&[Program::Transmission, Program::Libtorrent], |lab| {
        transfer(lab, Client::Transmission, Client::Shoal)
    })
}

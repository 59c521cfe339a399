//! Shoal and one other client, both ways, that know nothing but a magnet link without a tracker and a contact of the DHT, which is
//! libtorrent's: one announces, the other one finds it, asks it what the torrent is, and gets it.

use anyhow::Result;
use shoal_interop::matrix::dht_cells;
use shoal_interop::{Client, Lab, Program, isolated};

/// Runs the transfers of every kind that both can do.
fn transfer(lab: &Lab, seed: Client, leech: Client) -> Result<()> {
    dht_cells(seed, leech)
        .iter()
        .filter(|cell| cell.unsupported().is_none())
        .try_for_each(|cell| cell.run(lab))
}

/// What makes torrents, and the contact.
const CONTACT: Program = Program::Libtorrent;

#[test]
fn shoal_finds_shoal_through_a_contact_of_libtorrent() -> Result<()> {
    isolated(&[CONTACT], |lab| {
        transfer(lab, Client::Shoal, Client::Shoal)
    })
}

#[test]
fn libtorrent_finds_shoal_in_the_dht() -> Result<()> {
    isolated(&[CONTACT], |lab| {
        transfer(lab, Client::Shoal, Client::Libtorrent)
    })
}

#[test]
fn shoal_finds_libtorrent_in_the_dht() -> Result<()> {
    isolated(&[CONTACT], |lab| {
        transfer(lab, Client::Libtorrent, Client::Shoal)
    })
}

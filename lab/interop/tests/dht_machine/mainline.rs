//! `mainline` and our machine: each finds the peer that the other one announces and the items that it stores (BEP 5, 44), through a
//! third contact, which is the one or the other: so that each is asked, told and believed by both.

use super::{AGAIN, KEY, PATIENCE, hello_world, hex};
use crate::ours::Ours;
use anyhow::{Context, Result, bail, ensure};
use mainline::{Dht, Id, MutableItem, SigningKey};
use shoal_dht::item::{Item, ItemName, PublicKey, immutable_target};
use shoal_dht::{Announce, Handle, Input};
use shoal_interop::{Lab, eventually, isolated};
use shoal_metainfo::InfoHash;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// What each announces, and where its peers would connect.
const OUR_SWARM: [u8; 20] = [0x5a; 20];
const OUR_PORT: u16 = 4321;
const THEIR_SWARM: [u8; 20] = [0xa5; 20];
const THEIR_PORT: u16 = 1234;

/// What each stores: the strings, and as the items have them.
const OUR_VALUE: &[u8] = b"from Shoal";
const OUR_ITEM: &[u8] = b"10:from Shoal";
const THEIR_VALUE: &[u8] = b"from mainline";
const THEIR_ITEM: &[u8] = b"13:from mainline";
const THEIR_SALT: &[u8] = b"theirs";

fn their_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// A participant that is `mainline`, and begins with this contact.
fn start(address: SocketAddr, contact: Option<SocketAddr>) -> Result<Dht> {
    let IpAddr::V4(ip) = address.ip() else {
        bail!("mainline knows IPv4 alone");
    };
    let mut builder = Dht::builder();
    builder
        .server_mode()
        .no_bootstrap()
        .bind_address(ip)
        .port(address.port());
    if let Some(contact) = contact {
        builder.bootstrap(&[contact]);
    }
    builder.build().context("mainline does not start")
}

/// Announces and stores, and looks until it has found what we do. Where nobody is known yet, it refuses to store.
fn take_part(dht: &Dht, our_peer: SocketAddr) -> Result<()> {
    eventually(PATIENCE, "mainline to announce and to store", || {
        let signed = MutableItem::new(their_key(), THEIR_VALUE, 1, Some(THEIR_SALT));
        Ok(dht
            .announce_peer(Id::from(THEIR_SWARM), Some(THEIR_PORT))
            .is_ok()
            && dht.put_immutable(THEIR_VALUE).is_ok()
            && dht.put_mutable(signed, None).is_ok())
    })?;
    eventually(PATIENCE, "mainline to find our peer", || {
        let mut peers = dht.get_peers(Id::from(OUR_SWARM)).flatten();
        Ok(peers.any(|peer| SocketAddr::V4(peer) == our_peer))
    })?;
    eventually(PATIENCE, "mainline to find our immutable item", || {
        let value = dht.get_immutable(Id::from(immutable_target(OUR_ITEM).0));
        Ok(value.as_deref() == Some(OUR_VALUE))
    })?;
    eventually(PATIENCE, "mainline to find our mutable item", || {
        let item = dht.get_mutable_most_recent(&hex(KEY), None);
        Ok(item.is_some_and(|item| item.value() == b"Hello World!"))
    })
}

/// A round of our searches.
fn look(ours: &mut Ours, round: u64) -> Result<()> {
    let mut handles = (round..).map(Handle);
    let mut next = || handles.next().context("there are enough numbers");
    let find = |handle, info_hash, announce| Input::FindPeers {
        handle,
        info_hash: InfoHash(info_hash),
        announce,
        noseed: false,
        scrape: false,
    };
    let announce = Announce {
        port: OUR_PORT,
        implied_port: false,
        seed: true,
    };
    ours.tell(find(next()?, OUR_SWARM, Some(announce)))?;
    ours.tell(find(next()?, THEIR_SWARM, None))?;
    for item in [Item::Immutable(OUR_ITEM.to_vec()), hello_world()] {
        let (handle, cas) = (next()?, None);
        ours.tell(Input::PutItem { handle, item, cas })?;
    }
    let names = [
        ItemName::Immutable(immutable_target(THEIR_ITEM)),
        ItemName::Mutable {
            key: PublicKey(their_key().verifying_key().to_bytes()),
            salt: THEIR_SALT.to_vec(),
        },
    ];
    for name in names {
        let handle = next()?;
        ours.tell(Input::GetItem { handle, name })?;
    }
    Ok(())
}

/// What we have not found of theirs.
fn missing(ours: &Ours, their_peer: SocketAddr) -> Option<&'static str> {
    let has = |kind: fn(&Item) -> bool| {
        let mut found = ours.found.iter();
        found.any(|item| kind(item) && item.value() == THEIR_ITEM)
    };
    if !ours.peers.contains(&their_peer) {
        Some("their peer")
    } else if !has(|item| matches!(item, Item::Immutable(_))) {
        Some("their immutable item")
    } else if !has(|item| matches!(item, Item::Mutable(_))) {
        Some("their mutable item")
    } else {
        None
    }
}

/// Both sides, that know nobody but this contact.
fn meet(lab: &Lab, contact: SocketAddr) -> Result<()> {
    let (theirs, ours) = (lab.address(), lab.address());
    let (their_peer, our_peer) = (
        SocketAddr::new(theirs.ip(), THEIR_PORT),
        SocketAddr::new(ours.ip(), OUR_PORT),
    );
    let dht = start(theirs, Some(contact))?;
    let mut ours = Ours::start(ours, Some(contact))?;
    let theirs = thread::spawn(move || take_part(&dht, our_peer));
    let (begun, mut round) = (Instant::now(), 0);
    loop {
        let missing = missing(&ours, their_peer);
        if missing.is_none() && theirs.is_finished() {
            break;
        }
        // Its own patience ends four times.
        ensure!(
            begun.elapsed() < 5 * PATIENCE,
            "{} was not found",
            missing.unwrap_or("ours")
        );
        look(&mut ours, round)?;
        round += 100;
        ours.run(AGAIN)?;
    }
    theirs.join().unwrap()
}

#[test]
fn mainline_and_we_find_each_other_through_mainline() -> Result<()> {
    isolated(&[], |lab| {
        let address = lab.address();
        let _contact = start(address, None)?;
        meet(lab, address)
    })
}

#[test]
fn mainline_and_we_find_each_other_through_us() -> Result<()> {
    isolated(&[], |lab| {
        let address = lab.address();
        let mut contact = Ours::start(address, None)?;
        // Until the process ends.
        thread::spawn(move || while contact.run(Duration::from_secs(1)).is_ok() {});
        meet(lab, address)
    })
}

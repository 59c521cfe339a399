//! Items in the DHT (BEP 44): what our machine stores, libtorrent finds, and the other way round, through a third contact.

use super::{AGAIN, KEY, PATIENCE, hello_world, hex};
use crate::ours::Ours;
use anyhow::{Result, ensure};
use serde_json::json;
use shoal_dht::item::{Item, ItemName, PublicKey, immutable_target};
use shoal_dht::{Handle, Input};
use shoal_interop::{DhtContact, Lab, Process, Program, isolated, shoal};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Searches of a round: two items are stored and two looked for, in this order.
const SEARCHES: u64 = 4;

/// What the owner of the key signs with.
const SECRET: &str = "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d\
                      b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d";

fn libtorrent(lab: &Lab, contact: SocketAddr, immutable: &str) -> Result<Process> {
    let order = json!({
        "listen": lab.address().to_string(),
        "contact": contact.to_string(),
        "value": "from libtorrent",
        "key": KEY,
        "secret": SECRET,
        "salt": "theirs",
        "immutable": immutable,
        "mutable": "",
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/libtorrent_items.py");
    let mut command = Command::new(Program::Libtorrent.find()?);
    command.arg(script).arg(order.to_string());
    Process::start(lab, "libtorrent-items", &mut command)
}

#[test]
fn items_of_one_side_are_found_by_the_other() -> Result<()> {
    isolated(&[Program::Libtorrent], |lab| {
        let contact = DhtContact::start(lab)?;
        let value = b"10:from Shoal".to_vec();
        let target = immutable_target(&value);
        let target: String = target.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let theirs = libtorrent(lab, contact.address, &target)?;
        let mut ours = Ours::start(lab.address(), Some(contact.address))?;

        let key = PublicKey(hex(KEY));
        let wanted = b"15:from libtorrent".to_vec();
        let names = [
            ItemName::Immutable(immutable_target(&wanted)),
            ItemName::Mutable {
                key,
                salt: b"theirs".to_vec(),
            },
        ];
        let items = [Item::Immutable(value), hello_world()];
        let (begun, mut round) = (Instant::now(), 0);
        let says = |kind, value| {
            let events = shoal::events(&theirs.said());
            let mut found = events.iter().filter(|event| event["event"] == "found");
            found.any(|event| event["kind"] == kind && event["value"] == value)
        };
        let has = |found: &[Item], kind: fn(&Item) -> bool| {
            found
                .iter()
                .any(|item| kind(item) && item.value() == wanted)
        };
        loop {
            let missing = [
                ("our immutable item", says("immutable", "from Shoal")),
                ("our mutable item", says("mutable", "Hello World!")),
                (
                    "their immutable item",
                    has(&ours.found, |item| matches!(item, Item::Immutable(_))),
                ),
                (
                    "their mutable item",
                    has(&ours.found, |item| matches!(item, Item::Mutable(_))),
                ),
            ];
            let mut missing = missing.iter().filter(|(_, is_there)| !is_there);
            let Some((what, _)) = missing.next() else {
                break;
            };
            ensure!(begun.elapsed() < PATIENCE, "{what} was not found");
            for (item, which) in items.iter().zip(0..) {
                let mut stored = ours.stored.iter();
                if !stored.any(|handle| handle.0 % SEARCHES == which) {
                    let (handle, item) = (Handle(round + which), item.clone());
                    let cas = None;
                    ours.tell(Input::PutItem { handle, item, cas })?;
                }
            }
            for (name, handle) in names.iter().zip(round + 2..) {
                let (handle, name) = (Handle(handle), name.clone());
                ours.tell(Input::GetItem { handle, name })?;
            }
            round += SEARCHES;
            ours.run(AGAIN)?;
        }
        Ok(())
    })
}

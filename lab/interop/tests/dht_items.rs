//! Items in the DHT (BEP 44): what our machine stores, libtorrent finds, and the other way round, through a third contact.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use anyhow::{Result, ensure};
use serde_json::json;
use shoal_dht::item::{Item, ItemName, MutableItem, PublicKey, immutable_target};
use shoal_dht::{Dht, Handle, Input, Output, Saved, Settings};
use shoal_interop::{DhtContact, Lab, Process, Program, isolated, shoal};
use shoal_machine::{Machine, Moment};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often what was not found is looked for again.
const AGAIN: Duration = Duration::from_secs(3);

/// Searches of a round: two items are stored and two looked for, in this order.
const SEARCHES: u64 = 4;

/// The owner of BEP 44's vectors, and what it signed without a salt.
const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
const SECRET: &str = "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d\
                      b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d";
const SIGNATURE: &str = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                         1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";

fn hex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

/// Our machine over a socket of its own.
struct Ours {
    socket: UdpSocket,
    begun: Instant,
    machine: Dht,
    found: Vec<Item>,
    /// Which of ours are stored.
    is_stored: [bool; 2],
}

impl Ours {
    fn start(address: SocketAddr, contact: SocketAddr) -> Result<Self> {
        let settings = Settings {
            v6: false,
            ..Settings::default()
        };
        let rng = fastrand::Rng::with_seed(1);
        let machine = Dht::new(Moment::ZERO, settings, &Saved::default(), [1; 32], rng);
        let mut ours = Ours {
            socket: UdpSocket::bind(address)?,
            begun: Instant::now(),
            machine,
            found: Vec::new(),
            is_stored: [false; 2],
        };
        ours.tell(Input::Bootstrap {
            addresses: vec![contact],
            are_routers: false,
        })?;
        Ok(ours)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.begun.elapsed()
    }

    fn tell(&mut self, input: Input) -> Result<()> {
        self.machine.handle(self.now(), input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { to, bytes } => drop(self.socket.send_to(&bytes, to)?),
                Output::ItemFound { item, .. } => self.found.push(item),
                Output::Ended { handle, outcome } => {
                    let which = usize::try_from(handle.0 % SEARCHES)?;
                    if let Some(is_stored) = self.is_stored.get_mut(which) {
                        *is_stored |= outcome.stored > 0;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes part for a while.
    fn run(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut buffer = [0; 2048];
        while Instant::now() < until {
            self.socket
                .set_read_timeout(Some(Duration::from_millis(20)))?;
            let input = match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => Input::Datagram {
                    from,
                    bytes: buffer[..length].to_vec(),
                },
                Err(_) => Input::Tick,
            };
            self.tell(input)?;
        }
        Ok(())
    }
}

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
        let mut ours = Ours::start(lab.address(), contact.address)?;

        let key = PublicKey(hex(KEY));
        let signed = Item::Mutable(MutableItem {
            key,
            salt: Vec::new(),
            seq: 1,
            value: b"12:Hello World!".to_vec(),
            signature: hex(SIGNATURE),
        });
        let wanted = b"15:from libtorrent".to_vec();
        let names = [
            ItemName::Immutable(immutable_target(&wanted)),
            ItemName::Mutable {
                key,
                salt: b"theirs".to_vec(),
            },
        ];
        let items = [Item::Immutable(value), signed];
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
            for ((item, is_stored), handle) in items.iter().zip(ours.is_stored).zip(round..) {
                if !is_stored {
                    let (handle, item) = (Handle(handle), item.clone());
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

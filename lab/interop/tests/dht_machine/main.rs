//! Our machine of the DHT alone, and contacts of other people.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod libtorrent;
mod mainline;
mod ours;

use shoal_dht::item::{Item, MutableItem, PublicKey};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often what was not found is looked for again.
const AGAIN: Duration = Duration::from_secs(3);

/// The owner of BEP 44's vectors, and what it signed without a salt.
const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
const SIGNATURE: &str = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                         1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";

fn hex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

/// The vector.
fn hello_world() -> Item {
    Item::Mutable(MutableItem {
        key: PublicKey(hex(KEY)),
        salt: Vec::new(),
        seq: 1,
        value: b"12:Hello World!".to_vec(),
        signature: hex(SIGNATURE),
    })
}

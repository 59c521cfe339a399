//! The distributed hash table of BitTorrent: who has which torrent, and small items that somebody signed.

mod address;
pub mod bloom;
mod contact;
mod id;
pub mod item;
mod items;
mod job;
pub mod krpc;
mod lookup;
mod machine;
mod peers;
mod secrets;
mod secure_id;
mod sources;
mod table;
mod transactions;
mod voter;

pub use contact::{Contact, Family};
pub use id::{Distance, ID_BITS, Id};
pub use machine::{
    Announce, Dht, Handle, Input, MAX_FOLLOWED, MAX_SEARCHES, MAX_SEEDS, Outcome, Output, Saved,
    Settings, Status,
};
pub use secure_id::{is_secure, secure_id};

//! The distributed hash table of BitTorrent: who has which torrent, and small items that somebody signed.

mod address;
pub mod bloom;
mod contact;
mod id;
pub mod item;
pub mod krpc;
mod secure_id;

pub use contact::{Contact, Family};
pub use id::{Distance, ID_BITS, Id};
pub use secure_id::{is_secure, secure_id};

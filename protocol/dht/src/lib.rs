//! The distributed hash table of BitTorrent: who has which torrent, and small items that somebody signed (BEP 5, 32, 33, 42, 43, 44,
//! 46, 51).
//!
//! [`Dht`] is a machine of [`shoal_machine`]: datagrams, commands and time in, datagrams and findings out. [`krpc`] is what the
//! datagrams say, [`item`] what can be stored. Inside, a routing table and a peer store for each family (the IPv4 and the IPv6 DHT
//! share nothing but the socket), the items, and the searches, which go over several paths and count one contact of a network, so
//! that contacts that lie do not keep them from those that do not.
//!
//! # Driving it
//!
//! - One UDP socket for each family, shared with uTP: a datagram that begins with `d` is for [`Input::Datagram`], with
//!   the address it came from. [`Output::Send`] goes out on the socket of its address's family. It may be dropped.
//! - [`Input::Tick`] when [`Machine::deadline`](shoal_machine::Machine::deadline) has passed; after each input, outputs are
//!   drained and the deadline is asked again. There is always one until [`Input::Stop`].
//! - At the start, [`Dht::new`] gets what [`Output::Save`] gave last, 32 bytes of the system's randomness and a seeded generator;
//!   then one [`Input::Bootstrap`] with the saved contacts and one with the routers. Peers that say they take part (the `port`
//!   message, local service discovery) and a torrent's `nodes` are further `Bootstrap`s, at any time.
//! - [`Output::Save`] comes every quarter of an hour and upon `Stop`. Whoever stores it replaces what was stored before.
//! - A torrent that wants to be found says [`Input::FindPeers`] with an [`Announce`] for each of its info hashes every 15 to
//!   30 minutes: contacts forget after 45. Where the port outside is not known, `implied_port` says to use the one the datagram
//!   comes from, which serves uTP on the same socket. A private torrent (BEP 27) never does.
//! - Addresses in outputs are other people's words. Peers are dialled under the address policy, with the DHT as their origin;
//!   [`Output::Seen`] is where a single contact claims to see us.
//!
//! Invariant: input is data. Nothing that strangers send makes this panic, or grow beyond the limits that stand beside each store,
//! or send more than they are worth: see `machine::answer`.

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

pub use contact::{Contact, Family};
pub use id::{Distance, ID_BITS, Id};
pub use machine::{
    Announce, Dht, Handle, Input, MAX_FOLLOWED, MAX_SEARCHES, MAX_SEEDS, Outcome, Output, Saved,
    Settings, Status,
};
pub use secure_id::{is_secure, secure_id};

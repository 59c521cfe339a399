//! Shoal against other people's software: clients, trackers and a harness that runs them where they cannot reach anybody.
//!
//! Every test runs in network, process and mount namespaces of its own ([`isolated`]): no program can reach outside, every
//! port is free, and nothing that was started or mounted outlives the test. What the peers are: [`Client`]; what they move:
//! [`Content`]; where they find each other: [`Tracker`] or by address; what works with whom: [`matrix`].
//!
//! The peers are installed by `lab/interop/install-peers`. A test whose peer is missing says so and is skipped, or fails
//! where `CI=true`.

mod client;
mod content;
mod dht_contact;
mod http;
pub mod introducer;
mod lab;
pub mod matrix;
pub mod nat;
mod origin;
mod process;
mod program;
pub mod proxy;
mod torrent;
mod tracker;
pub mod wire;

pub use client::{Client, Job, Role, Running, Speech};
pub use client::{libtorrent, shoal};
pub use content::{Content, Shape, sha256_of};
pub use dht_contact::DhtContact;
pub use lab::{Lab, Outcome, isolated, run_isolated, run_isolated_by};
pub use origin::Origin;
pub use process::{Process, eventually, output_of};
pub use program::{Program, shoal as shoal_binary};
pub use torrent::{Kind, Maker, Recipe, info_of, swarms_of};
pub use tracker::{Protocol, Seen, Tracker, TrackerKind};

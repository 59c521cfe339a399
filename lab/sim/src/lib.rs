//! Whole swarms in virtual time: the machines that peers run, over links, disks and trackers that are models.
//!
//! A [`Setup`] says what a swarm is made of, a [`World`] runs it, an [`Outcome`] says what came of it; [`scenario`] names
//! swarms that are worth running again. The machines are those of the engine, unchanged. Models are chosen to be plain and a
//! little harsher than the real thing; docs/simulation.md says what they leave out.
//!
//! Invariant: the same setup, seed included, gives the same events in the same order.

pub mod bottleneck;

mod check;
pub mod dht;
mod disk;
pub mod distribution;
pub mod libtorrent;
mod link;
pub mod magnet;
mod node;
mod outcome;
mod queue;
pub mod scenario;
mod setup;
mod trace;
mod world;

pub use outcome::{Failure, NodeOutcome, Outcome};
pub use setup::{
    Action, Behaviour, Choking, Delivery, DiskConfig, HostConfig, NodeConfig, NodeId, Outage,
    OutageKind, Proof, Setup, Start, mbit,
};
pub use world::World;

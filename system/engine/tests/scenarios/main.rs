//! Engines over real loopback sockets and real files, against each other and against remotes that are made here by hand.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

mod changed;
mod commands;
mod crowd;
mod dht;
mod disk;
mod encryption;
mod exchange;
mod forgery;
mod hole_punch;
mod hostile;
mod limits;
mod looking;
mod magnets;
mod places;
mod remote;
mod rig;
mod sockets;
mod split;
mod stopping;
mod swarm;
mod trackers;
mod transfer;
mod transports;
mod web;

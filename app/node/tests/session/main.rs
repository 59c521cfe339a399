//! Nodes over real engines, databases and sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod connections;
mod control;
mod life;
mod peer;
mod priority;
mod support;
mod told;
mod tracker;

//! Nodes over real engines, databases and sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod adding;
mod connections;
mod control;
mod disk;
mod filter;
mod folders;
mod giving;
mod hook;
mod import;
mod life;
mod peer;
mod priority;
mod route;
mod schedule;
mod show;
mod support;
mod told;
mod tracker;
mod watch;

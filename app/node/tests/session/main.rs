//! Nodes over real engines, databases and sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod control;
mod giving;
mod import;
mod life;
mod route;
mod support;
mod told;

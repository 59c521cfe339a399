//! The node: a session of torrents that outlives the process, and what a person can ask of it.
//!
//! Invariant: [`Node`] alone owns the session. What it has said to be done is in the database, so that the next start finds it.

mod connections;
mod control;
mod entry;
mod error;
pub mod fetch;
mod import;
pub mod journal;
pub mod message;
mod names;
mod network;
mod places;
mod route;
mod rules_text;
mod session;
mod settings;
mod shape;
mod urls;
pub mod values;
mod wanted;

pub use control::{Client, ClientError, serve};
pub use error::NodeError;
pub use names::reads_as_id;
pub use network::{DiskSettings, ListenPort, NetworkSettings};
pub use route::{Network, PasswordError, told_password};
pub use session::{Node, NodeSettings, has_own_route};

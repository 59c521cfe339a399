//! What peers say to each other: the handshake, the messages of BEP 3 and their extensions (BEP 6, 10, 21, 52, 54).
//!
//! Invariant: the decoder never owns payload. It yields the header of a block, and whoever drives it puts the bytes that
//! follow where they belong.

pub mod message;

pub use message::{BlockHeader, ExtendedHandshake, HashRequest, Hashes, Message, Request};

//! What peers say to each other: the handshake, the messages of BEP 3 and their extensions (BEP 6, 9, 10, 11, 21, 52, 54), and how a
//! connection is disguised (MSE).
//!
//! Invariant: the decoder never owns payload. It yields the header of a block, and whoever drives it puts the bytes that
//! follow where they belong.

pub mod allowed_fast;
mod client;
pub mod codec;
pub mod extended_handshake;
pub mod extension;
pub mod handshake;
pub mod hashes;
pub mod hole_punch;
pub mod message;
pub mod metadata;
pub mod mse;
pub mod pex;

pub use allowed_fast::allowed_fast_set;
pub use codec::{DecodeError, Decoded, Decoder, Limits, encode};
pub use extension::{Extension, RemoteExtensions};
pub use handshake::{Feature, Handshake, HandshakeError, PeerId, Reserved, Version};
pub use hashes::HashesError;
pub use hole_punch::{HolePunch, HolePunchError, HolePunchKind};
pub use message::{BlockHeader, ExtendedHandshake, HashRequest, Hashes, Message, Request};
pub use metadata::Metadata;
pub use pex::{Contact, ContactFlags, PeerExchange};

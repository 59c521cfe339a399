//! Bencode (BEP 3): a borrowed, iterative decoder that keeps the source span of every value, and a canonical encoder.
//!
//! Invariant: decoding uses memory in proportion to the input it has read, never to a length or a count that the input
//! claims, and never recurses. What it accepts has one reading: integers and lengths are canonical and no dictionary has
//! a key twice.

mod decode;
mod encode;
mod error;

pub use decode::{DictIter, Document, Limits, ListIter, Value, decode, decode_canonical};
pub use encode::Bencode;
pub use error::{DecodeError, DecodeErrorKind};

#[cfg(test)]
mod tests;

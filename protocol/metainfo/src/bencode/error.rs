//! Why bytes are not bencode, and where.

/// What is wrong with the input, and at which byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid bencode at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Bytes from the beginning of the input to the place of the fault.
    pub offset: usize,
    /// The fault.
    pub kind: DecodeErrorKind,
}

/// The faults that bencode can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The input is longer than the limit; nothing of it was read.
    #[error("the input is longer than {0} bytes")]
    TooLong(usize),
    /// More values than the limit; dictionary keys count too.
    #[error("there are more than {0} values")]
    TooManyTokens(usize),
    /// Lists and dictionaries nested deeper than the limit.
    #[error("lists and dictionaries are nested more than {0} deep")]
    TooDeep(usize),
    /// The input ends within a value.
    #[error("the input ends too early")]
    UnexpectedEnd,
    /// A byte that cannot be at this place.
    #[error("the byte 0x{0:02x} cannot be here")]
    UnexpectedByte(u8),
    /// `i03e` or `03:abc`: a number has one spelling.
    #[error("a number begins with a zero that does not belong there")]
    LeadingZero,
    /// `i-0e`.
    #[error("minus zero is not a number of bencode")]
    NegativeZero,
    /// An integer outside of 64 bits, or a length beyond what a string can have.
    #[error("the number does not fit into 64 bits")]
    Overflow,
    /// A string claims more bytes than are left.
    #[error("the string is longer than what is left of the input")]
    StringTooLong,
    /// A dictionary key that is not a string.
    #[error("a dictionary key must be a string")]
    KeyNotString,
    /// A dictionary that ends after a key.
    #[error("a dictionary key has no value")]
    MissingValue,
    /// A dictionary with a key twice: which of the values counts would depend on the reader.
    #[error("a dictionary has the same key twice")]
    DuplicateKey,
    /// A key that sorts before its predecessor; only [`decode_canonical`](super::decode_canonical) refuses it.
    #[error("the keys of a dictionary are not sorted")]
    UnsortedKeys,
    /// Bytes after the value; only [`decode_canonical`](super::decode_canonical) refuses them.
    #[error("there are bytes after the end of the value")]
    TrailingBytes,
}

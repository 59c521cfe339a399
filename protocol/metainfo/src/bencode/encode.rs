//! Values to be written, and the one way to write each of them.

use std::collections::BTreeMap;

/// An owned value. Encoding it gives canonical bencode: a dictionary is kept in the order of its keys.
///
/// Encoding and dropping recurse, as deep as the value is nested: build it from data whose depth is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bencode {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Bencode>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Bencode>),
    /// One value that is encoded already, such as an info dictionary whose bytes must not change.
    Raw(Vec<u8>),
}

impl Bencode {
    /// A dictionary of these entries; of two with the same key the later one stays.
    pub fn dict<K: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (K, Bencode)>) -> Self {
        let entries = entries.into_iter();
        Bencode::Dict(entries.map(|(key, value)| (key.into(), value)).collect())
    }

    /// The bytes of the value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the bytes of the value to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Bencode::Int(value) => out.extend_from_slice(format!("i{value}e").as_bytes()),
            Bencode::Bytes(bytes) => string(bytes, out),
            Bencode::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.encode_into(out));
                out.push(b'e');
            }
            Bencode::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    string(key, out);
                    value.encode_into(out);
                }
                out.push(b'e');
            }
            Bencode::Raw(encoded) => out.extend_from_slice(encoded),
        }
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

impl From<i64> for Bencode {
    fn from(value: i64) -> Self {
        Bencode::Int(value)
    }
}

impl From<u32> for Bencode {
    fn from(value: u32) -> Self {
        Bencode::Int(value.into())
    }
}

impl From<&str> for Bencode {
    fn from(text: &str) -> Self {
        Bencode::Bytes(text.as_bytes().to_vec())
    }
}

impl From<String> for Bencode {
    fn from(text: String) -> Self {
        Bencode::Bytes(text.into_bytes())
    }
}

impl From<&[u8]> for Bencode {
    fn from(bytes: &[u8]) -> Self {
        Bencode::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Bencode {
    fn from(bytes: Vec<u8>) -> Self {
        Bencode::Bytes(bytes)
    }
}

impl From<Vec<Bencode>> for Bencode {
    fn from(items: Vec<Bencode>) -> Self {
        Bencode::List(items)
    }
}

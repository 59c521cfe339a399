//! The extension handshake (BEP 10): a bencoded dictionary of which every key is optional.
//!
//! Invariant: what a remote says about itself is bounded and clean before anyone sees it. A key of the wrong type or out
//! of range counts as absent; only what is no dictionary, too long or too deep is an error.

use crate::codec::MAX_EXTENDED_HANDSHAKE;
use crate::message::ExtendedHandshake;
use core::net::IpAddr;
use shoal_metainfo::bencode::{self, Bencode, Value};

/// How much of a handshake's bencode is read. Two levels are in use; the tokens allow for [`MAX_EXTENSIONS`] and a page of
/// keys that we do not know.
const LIMITS: bencode::Limits = bencode::Limits {
    bytes: MAX_EXTENDED_HANDSHAKE as usize,
    tokens: 1024,
    depth: 8,
};

/// How many extensions of one handshake are kept; clients have under ten.
pub const MAX_EXTENSIONS: usize = 64;

/// The longest name of an extension that is kept, in bytes; `ut_metadata` has 11.
pub const MAX_EXTENSION_NAME: usize = 32;

/// Where the name of a client is cut, in bytes; it is shown in lists and logs.
pub const MAX_CLIENT_NAME: usize = 64;

/// The largest metadata that we would fetch from peers, in bytes.
pub const MAX_METADATA_SIZE: u32 = 10 * 1024 * 1024;

/// Why an extension handshake cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendedHandshakeError {
    /// Not bencode, or beyond the limits.
    #[error(transparent)]
    Bencode(#[from] bencode::DecodeError),
    /// Bencode, but a number, a string or a list.
    #[error("it must be a dictionary")]
    NotDictionary,
}

/// Reads the payload that follows the extension message id 0. Unsorted keys and bytes after the dictionary are let pass,
/// because clients that send them are in use.
pub fn decode(payload: &[u8]) -> Result<ExtendedHandshake, ExtendedHandshakeError> {
    let document = bencode::decode(payload, LIMITS)?;
    let entries = document.root().as_dict();
    let mut handshake = ExtendedHandshake::default();
    for (key, value) in entries.ok_or(ExtendedHandshakeError::NotDictionary)? {
        match key {
            b"m" => handshake.extensions = extensions(value),
            b"metadata_size" => {
                handshake.metadata_size =
                    number(value).filter(|&size| size > 0 && size <= MAX_METADATA_SIZE);
            }
            b"p" => handshake.port = number(value).filter(|&port: &u16| port > 0),
            b"reqq" => handshake.reqq = number(value).filter(|&reqq: &u32| reqq > 0),
            b"upload_only" => handshake.upload_only = value.as_int().is_some_and(|flag| flag != 0),
            b"v" => handshake.client = value.as_bytes().and_then(client_name),
            b"yourip" => handshake.your_ip = value.as_bytes().and_then(compact_address),
            _ => {}
        }
    }
    Ok(handshake)
}

/// Writes the payload that follows the extension message id 0.
#[must_use]
pub fn encode(handshake: &ExtendedHandshake) -> Vec<u8> {
    let names = handshake.extensions.iter();
    let m = names.map(|(name, id)| (name.as_str(), Bencode::Int((*id).into())));
    let optional = [
        ("metadata_size", handshake.metadata_size.map(Bencode::from)),
        ("p", handshake.port.map(|port| u32::from(port).into())),
        ("reqq", handshake.reqq.map(Bencode::from)),
        (
            "upload_only",
            handshake.upload_only.then_some(Bencode::Int(1)),
        ),
        ("v", handshake.client.as_deref().map(Bencode::from)),
        ("yourip", handshake.your_ip.map(octets)),
    ];
    let present = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    Bencode::dict([("m", Bencode::dict(m))].into_iter().chain(present)).encode()
}

fn extensions(m: Value<'_>) -> Vec<(String, u8)> {
    let Some(entries) = m.as_dict() else {
        return Vec::new();
    };
    let usable = entries.filter_map(|(name, id)| {
        let name = core::str::from_utf8(name).ok()?;
        let short = name.len() <= MAX_EXTENSION_NAME;
        Some((short.then(|| name.to_owned())?, number(id)?))
    });
    usable.take(MAX_EXTENSIONS).collect()
}

fn number<T: TryFrom<i64>>(value: Value<'_>) -> Option<T> {
    T::try_from(value.as_int()?).ok()
}

/// The name without what could deceive whoever reads it in a list, cut to [`MAX_CLIENT_NAME`]. `None` if nothing is left.
fn client_name(bytes: &[u8]) -> Option<String> {
    // Cleaning takes away at most what is there, so that looking at a few times the bound is enough.
    let beginning = &bytes[..bytes.len().min(4 * MAX_CLIENT_NAME)];
    let mut name = String::new();
    for letter in String::from_utf8_lossy(beginning).chars() {
        if name.len() + letter.len_utf8() > MAX_CLIENT_NAME {
            break;
        }
        if !is_deceptive(letter) {
            name.push(letter);
        }
    }
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether `letter` is a control or formatting character: it ends lines, moves the cursor, turns the direction of text
/// round, or is not seen at all.
fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// 4 or 16 bytes. An IPv4 address that is wrapped as IPv6 is unwrapped.
fn compact_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::from(octets).to_canonical());
    v4.or_else(|_| v6()).ok()
}

fn octets(address: IpAddr) -> Bencode {
    match address {
        IpAddr::V4(v4) => v4.octets().as_slice().into(),
        IpAddr::V6(v6) => v6.octets().as_slice().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_bep_10() {
        let bytes = b"d1:md11:LT_metadatai1e6:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        // The BEP counts letters instead of bytes: the name has 7 bytes and the client 13.
        assert!(decode(bytes).is_err());
        let bytes = b"d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let handshake = decode(bytes).unwrap();
        let expected = ExtendedHandshake {
            extensions: vec![("LT_metadata".into(), 1), ("\u{b5}T_PEX".into(), 2)],
            client: Some("\u{b5}Torrent 1.2".into()),
            port: Some(6881),
            ..ExtendedHandshake::default()
        };
        assert_eq!(handshake, expected);
        assert_eq!(encode(&handshake), bytes);
    }

    #[test]
    fn the_example_of_bep_21() {
        let handshake = decode(b"d1:md11:ut_metadatai3ee11:upload_onlyi1ee").unwrap();
        assert!(handshake.upload_only);
        assert!(!decode(b"d11:upload_onlyi0ee").unwrap().upload_only);
    }

    #[test]
    fn a_key_of_the_wrong_type_or_out_of_range_is_absent_and_the_rest_counts() {
        for wrong in [
            "1:m3:abc",
            "1:mli1ee",
            "1:md6:ut_pex3:abce",
            "1:md6:ut_pexi256ee",
            "1:md6:ut_pexi-1ee",
            "13:metadata_sizei0e",
            "13:metadata_sizei-1e",
            "1:pi0e",
            "1:pi65536e",
            "1:pli6881ee",
            "4:reqqi0e",
            "4:reqqi4294967296e",
            "4:reqq3:250",
            "11:upload_only1:1",
            "1:vi3e",
            "1:v0:",
            "6:yourip3:abc",
            "6:youripi1e",
        ] {
            let handshake = decode(format!("d{wrong}3:zzzi1ee").as_bytes()).unwrap();
            assert_eq!(handshake, ExtendedHandshake::default(), "{wrong}");
        }
        let handshake = decode(b"d1:v3:abc4:reqqi250e1:pi1eejunk").unwrap();
        assert_eq!(
            (handshake.port, handshake.reqq, handshake.client.as_deref()),
            (Some(1), Some(250), Some("abc"))
        );
    }

    #[test]
    fn metadata_is_bounded() {
        for (size, kept) in [(MAX_METADATA_SIZE, true), (MAX_METADATA_SIZE + 1, false)] {
            let bytes = format!("d13:metadata_sizei{size}ee");
            let handshake = decode(bytes.as_bytes()).unwrap();
            assert_eq!(handshake.metadata_size.is_some(), kept);
        }
    }

    #[test]
    fn extensions_are_bounded_in_number_and_length() {
        for (count, kept) in [(MAX_EXTENSIONS, 64), (MAX_EXTENSIONS + 1, 64)] {
            let names = (0..count).map(|at| (format!("x{at}"), 9)).collect();
            let handshake = ExtendedHandshake {
                extensions: names,
                ..ExtendedHandshake::default()
            };
            assert_eq!(
                decode(&encode(&handshake)).unwrap().extensions.len(),
                kept,
                "{count}"
            );
        }
        for (length, kept) in [(MAX_EXTENSION_NAME, 1), (MAX_EXTENSION_NAME + 1, 0)] {
            let handshake = ExtendedHandshake {
                extensions: vec![("x".repeat(length), 9)],
                ..ExtendedHandshake::default()
            };
            assert_eq!(
                decode(&encode(&handshake)).unwrap().extensions.len(),
                kept,
                "{length}"
            );
        }
    }

    #[test]
    fn size_and_nesting_are_bounded() {
        for (depth, read) in [(LIMITS.depth, true), (LIMITS.depth + 1, false)] {
            let lists = depth - 1;
            let bytes = format!("d1:x{}{}e", "l".repeat(lists), "e".repeat(lists));
            assert_eq!(decode(bytes.as_bytes()).is_ok(), read);
        }
        let padded = |length: usize| format!("d1:x{}:{}e", length - 11, "y".repeat(length - 11));
        assert_eq!(padded(LIMITS.bytes).len(), LIMITS.bytes);
        assert!(decode(padded(LIMITS.bytes).as_bytes()).is_ok());
        assert!(decode(padded(LIMITS.bytes + 1).as_bytes()).is_err());
        for (items, read) in [(LIMITS.tokens - 3, true), (LIMITS.tokens - 2, false)] {
            let bytes = format!("d1:xl{}ee", "0:".repeat(items));
            assert_eq!(decode(bytes.as_bytes()).is_ok(), read);
        }
        assert_eq!(decode(b"le"), Err(ExtendedHandshakeError::NotDictionary));
        assert!(decode(b"").is_err());
    }

    #[test]
    fn a_client_name_cannot_deceive() {
        let name = |bytes: &[u8]| client_name(bytes);
        assert_eq!(
            name(b" Shoal\x1b[31m\n0.1 ").as_deref(),
            Some("Shoal[31m0.1")
        );
        assert_eq!(
            name("a\u{202e}b\u{200b}c\u{2066}".as_bytes()).as_deref(),
            Some("abc")
        );
        assert_eq!(name(b"\xff").as_deref(), Some("\u{fffd}"));
        assert_eq!(name(b"\r\n "), None);
        assert_eq!(
            name(&[b'x'; MAX_CLIENT_NAME]).unwrap().len(),
            MAX_CLIENT_NAME
        );
        assert_eq!(
            name(&[b'x'; MAX_CLIENT_NAME + 1]).unwrap().len(),
            MAX_CLIENT_NAME
        );
        let wide = "\u{20ac}".repeat(100);
        assert_eq!(name(wide.as_bytes()).unwrap().len(), 63);
    }

    #[test]
    fn our_address_is_4_or_16_bytes() {
        let v4 = decode(b"d6:yourip4:\x7f\x00\x00\x01e").unwrap();
        assert_eq!(v4.your_ip, "127.0.0.1".parse().ok());
        let v6 = decode(b"d6:yourip16:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01e").unwrap();
        assert_eq!(v6.your_ip, "2001:db8::1".parse().ok());
        let mapped = decode(b"d6:yourip16:\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01e").unwrap();
        assert_eq!(mapped.your_ip, v4.your_ip);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(
            prop_oneof![3 => proptest::sample::select(b"ilde0123456789:mpv".to_vec()), 1 => any::<u8>()], 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(&[b"d1:md", &bytes[..]].concat());
            if let Some(name) = client_name(&bytes) {
                prop_assert!(name.len() <= MAX_CLIENT_NAME && !name.contains(is_deceptive));
            }
        }
    }
}

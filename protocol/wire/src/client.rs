//! Which client a peer id names, by custom: two letters and four digits between dashes (BEP 20), or nothing that could be relied on.
//!
//! Invariant: what is given consists of printable ASCII only, and is a claim.

use crate::handshake::PeerId;

/// Those that people meet. Of others, their letters are shown.
const CLIENTS: [(&[u8; 2], &str); 16] = [
    (b"AZ", "Vuze"),
    (b"BI", "BiglyBT"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"KT", "KTorrent"),
    (b"LT", "libtorrent"),
    (b"PI", "PicoTorrent"),
    (b"SH", "Shoal"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"UT", "uTorrent"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"lt", "libTorrent (rTorrent)"),
    (b"qB", "qBittorrent"),
];

impl PeerId {
    /// The client and its version, where the id names one.
    #[must_use]
    pub fn client(&self) -> Option<String> {
        let [b'-', letters @ .., b'-'] = self.0.get(..8)? else {
            return None;
        };
        let (&letters, version) = letters.split_first_chunk::<2>()?;
        if !letters.iter().chain(version).all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let known = CLIENTS.iter().find(|(known, _)| **known == letters);
        let name = match known {
            Some((_, name)) => (*name).to_owned(),
            None => letters.map(char::from).iter().collect(),
        };
        // The last digit is often a patch level that is 0; the others always count.
        let digits: Vec<String> = version.iter().map(|&digit| number(digit)).collect();
        let shown = match digits.split_last() {
            Some((last, others)) if last == "0" => others,
            _ => &digits[..],
        };
        Some(format!("{name} {}", shown.join(".")))
    }
}

/// Beyond nine, letters go on.
fn number(digit: u8) -> String {
    char::from(digit)
        .to_digit(36)
        .map_or_else(String::new, |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(prefix: &[u8]) -> Option<String> {
        let mut id = [0xff; 20];
        id[..prefix.len()].copy_from_slice(prefix);
        PeerId(id).client()
    }

    #[test]
    fn those_that_follow_the_custom_are_named() {
        assert_eq!(client(b"-qB5110-").as_deref(), Some("qBittorrent 5.1.1"));
        assert_eq!(
            client(b"-lt0F01-").as_deref(),
            Some("libTorrent (rTorrent) 0.15.0.1")
        );
        assert_eq!(client(b"-TR4000-").as_deref(), Some("Transmission 4.0.0"));
        assert_eq!(client(b"-zZ1234-").as_deref(), Some("zZ 1.2.3.4"));
        let ours = PeerId::generate(&mut fastrand::Rng::with_seed(1));
        assert!(ours.client().is_some_and(|name| name.starts_with("Shoal ")));
    }

    #[test]
    fn nothing_is_made_of_what_follows_none() {
        assert_eq!(client(b"M7-9-2--"), None);
        assert_eq!(client(b"-q\x1b[2J\n-"), None);
        assert_eq!(client(b""), None);
    }
}

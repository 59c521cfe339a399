//! What the head of a reply says of a file besides its bytes.
//!
//! Invariant: a field that cannot be read is as if it were not there.

use base64::prelude::{BASE64_STANDARD, Engine};
use shoal_metainfo::metainfo::WholeDigest;

/// The most links of one reply that are looked at.
const MAX_LINKS: usize = 100;

/// A link to something else (RFC 8288).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) target: String,
    pub(super) relations: Vec<String>,
    pub(super) media_type: Option<String>,
}

/// The links in fields of `Link`.
pub(super) fn links<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<Link> {
    let mut links = Vec::new();
    for field in fields {
        for entry in split(field, ',') {
            let Some((target, rest)) = entry
                .trim()
                .strip_prefix('<')
                .and_then(|entry| entry.split_once('>'))
            else {
                continue;
            };
            let relations = parameter(rest, "rel").unwrap_or_default();
            links.push(Link {
                target: target.to_owned(),
                relations: relations
                    .split_ascii_whitespace()
                    .map(str::to_ascii_lowercase)
                    .collect(),
                media_type: parameter(rest, "type").map(|kind| kind.to_ascii_lowercase()),
            });
            if links.len() == MAX_LINKS {
                return links;
            }
        }
    }
    links
}

/// The file name in a `Content-Disposition` (RFC 6266), without folders. It is not safe to use on a disk.
pub(super) fn file_name(disposition: &str) -> Option<Vec<u8>> {
    let rest = disposition.split_once(';')?.1;
    let extended = parameter(rest, "filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_language, encoded) = rest.split_once('\'')?;
        charset
            .eq_ignore_ascii_case("utf-8")
            .then(|| percent_decode(encoded))
    });
    let plain = || parameter(rest, "filename").map(String::into_bytes);
    let name = extended.or_else(plain)?;
    let last = name.rsplit(|&byte| matches!(byte, b'/' | b'\\')).next()?;
    (!last.is_empty()).then(|| last.to_vec())
}

/// The SHA-256 of the whole in a `Repr-Digest` (RFC 9530) or a `Digest` (RFC 3230).
pub(super) fn digest(fields: impl IntoIterator<Item = String>) -> Option<WholeDigest> {
    fields.into_iter().find_map(|field| {
        split(&field, ',').into_iter().find_map(|entry| {
            let (kind, value) = entry.trim().split_once('=')?;
            let value = value.trim_matches(':');
            let bytes = BASE64_STANDARD.decode(value).ok();
            let bytes = bytes.filter(|_| kind.eq_ignore_ascii_case("sha-256"))?;
            bytes.try_into().ok().map(WholeDigest::Sha256)
        })
    })
}

/// Undoes percent-encoding; what is none stays as it is.
pub(super) fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3);
        let hex = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        let value = hex
            .filter(|hex| byte == b'%' && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

/// The value of a parameter, without quotes.
fn parameter(text: &str, name: &str) -> Option<String> {
    split(text, ';').into_iter().find_map(|entry| {
        let (key, value) = entry.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.trim();
        let quoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        Some(quoted.map_or_else(|| value.to_owned(), |quoted| quoted.replace('\\', "")))
    })
}

/// Splits at a separator that is neither in quotes nor in angle brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut bracketed) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            _ if character == separator && !quoted && !bracketed => {
                parts.push(&text[begin..at]);
                begin = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_relations() {
        let fields = [
            "<http://a.example/x,y.torrent>; rel=describedby; type=\"application/x-bittorrent\", \
             <http://b.example/x>; pri=1; rel=\"Duplicate other\"",
            "nonsense, <no-end",
        ];
        let links = links(fields.into_iter());
        assert_eq!(links.len(), 2);
        assert_eq!(links[0].target, "http://a.example/x,y.torrent");
        assert_eq!(links[0].relations, ["describedby"]);
        assert_eq!(
            links[0].media_type.as_deref(),
            Some("application/x-bittorrent")
        );
        assert_eq!(links[1].relations, ["duplicate", "other"]);
    }

    #[test]
    fn the_name_of_a_download_has_no_folders() {
        for (field, name) in [
            ("attachment; filename=a.iso", Some("a.iso")),
            ("attachment; filename=\"a b;c.iso\"", Some("a b;c.iso")),
            (
                "attachment; filename=x; filename*=UTF-8''%e2%82%ac%20.iso",
                Some("€ .iso"),
            ),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            (
                "attachment; filename=\"C:\\\\x\\\\y.exe\"",
                Some("C:xy.exe"),
            ),
            ("attachment; filename=\"a/\"", None),
            ("inline", None),
        ] {
            let expected = name.map(|name| name.as_bytes().to_vec());
            assert_eq!(file_name(field), expected, "{field}");
        }
    }

    #[test]
    fn a_digest_of_the_whole_is_read_in_both_spellings() {
        // SHA-256 of nothing.
        let nothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let fields = [
            format!("sha-512=:AAAA:, sha-256=:{nothing}:"),
            format!("SHA-256={nothing}"),
        ];
        for field in fields {
            let Some(WholeDigest::Sha256(digest)) = digest([field.clone()]) else {
                panic!("{field}");
            };
            assert_eq!(digest[..4], [0xe3, 0xb0, 0xc4, 0x42]);
        }
        for field in ["sha-256=:AAAA:", "sha-256=", "md5=AAAA", "sha-256=:A===:"] {
            assert_eq!(digest([field.to_owned()]), None, "{field}");
        }
    }
}

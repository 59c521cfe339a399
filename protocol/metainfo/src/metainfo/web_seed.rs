//! Where an HTTP origin has the bytes of a torrent (BEP 19, BEP 17).
//!
//! Invariant: names are those that the torrent has, byte for byte; none of them leads out of the folder that the origin's URL
//! names, and padding is nowhere.

use super::Metainfo;
use crate::geometry::{FileIndex, PieceIndex};
use crate::info_hash::InfoHash;
use core::fmt::Write;
use core::ops::Range;
use url::Url;

impl Metainfo {
    /// Where the web seed `base` has `file` (BEP 19). A torrent that is a single file is where `base` says, or below it, where
    /// it ends in a slash; other torrents are below it in any case. `None` of padding, symlinks and empty files, of which
    /// nothing is to be asked, and of what no URL can name.
    #[must_use]
    pub fn web_seed_url(&self, base: &Url, file: FileIndex) -> Option<Url> {
        let file = self.files.get(file.get())?;
        if file.padding || file.symlink.is_some() || file.length == 0 {
            return None;
        }
        let is_folder = base.path().ends_with('/');
        if self.folder().is_none() && !is_folder {
            return Some(base.clone());
        }
        let raw = file.raw_path();
        let name = self.folder().map(|_| self.raw_name());
        let mut path = base.path().trim_end_matches('/').to_owned();
        for component in name.into_iter().chain(raw) {
            if matches!(component, b"" | b"." | b"..") {
                return None;
            }
            path.push('/');
            percent_encode(component, &mut path);
        }
        let mut url = base.clone();
        url.set_path(&path);
        Some(url)
    }

    /// The name as the torrent has it. Not safe to use on a disk.
    fn raw_name(&self) -> &[u8] {
        self.raw_name.as_deref().unwrap_or(self.name.as_bytes())
    }
}

/// What asks the script `base` for a range of a piece (BEP 17); `whole` where that is all of it.
#[must_use]
pub fn http_seed_url(
    base: &Url,
    swarm: InfoHash,
    piece: PieceIndex,
    range: &Range<u32>,
    whole: bool,
) -> Url {
    let mut query = base.query().unwrap_or_default().to_owned();
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str("info_hash=");
    percent_encode(&swarm.0, &mut query);
    // Writing into a string cannot fail.
    let _infallible = write!(query, "&piece={piece}");
    if !whole {
        let _infallible = write!(query, "&ranges={}-{}", range.start, range.end - 1);
    }
    let mut url = base.clone();
    url.set_query(Some(&query));
    url
}

/// All but what no server takes for anything but itself (RFC 3986, unreserved).
fn percent_encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
}

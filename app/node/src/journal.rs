//! What the completion journal of a torrent is called.
//!
//! Invariant: one journal for each torrent and target folder.

use sha2::{Digest, Sha256};
use shoal_metainfo::InfoHash;
use std::path::Path;

/// The name of the journal of the torrent `info_hash` whose content lies in `target`, a path without links and `..`.
#[must_use]
pub fn file_name(info_hash: InfoHash, target: &Path) -> String {
    let digest = Sha256::digest(target.as_os_str().as_encoded_bytes());
    let short: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{info_hash}-{short}.journal")
}

//! Whether whole files are what was promised of them, for content whose pieces nobody vouches for.
//!
//! Invariant: what is read comes from storage, and so is what was verified or received, and nothing else.

use shoal_metainfo::metainfo::WholeHasher;
use shoal_metainfo::{FileIndex, Metainfo, PieceIndex};
use shoal_storage::Content;

/// As much as is read at a time.
const READ_BYTES: u32 = 256 * 1024;

/// Whether there is anything to check.
pub(crate) fn is_promised(metainfo: &Metainfo) -> bool {
    metainfo.files().iter().any(|file| file.digest.is_some())
}

/// Hashes every file of which something is promised. Blocks on the disk.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn check(metainfo: &Metainfo, content: &Content) -> Result<(), String> {
    for (index, file) in (0..).zip(metainfo.files()) {
        let Some(promised) = file.digest else {
            continue;
        };
        let mut hasher = WholeHasher::new(promised);
        let mut buffer = Vec::new();
        for piece in metainfo.pieces_of(FileIndex(index)) {
            let piece = PieceIndex(piece);
            let length = metainfo.layout().length_of(piece);
            let mut begin = 0;
            while begin < length {
                let count = READ_BYTES.min(length - begin);
                buffer.resize(count as usize, 0);
                let read = content.read(piece, begin, &mut buffer);
                read.map_err(|error| format!("{} cannot be checked: {error}", file.path))?;
                hasher.update(&buffer);
                begin += count;
            }
        }
        if !hasher.is_right() {
            let path = &file.path;
            let advice = match metainfo.verifier().can_tell() {
                true => {
                    "its pieces are right, so that one of those who describe it is wrong: do not use it"
                }
                false => "run the command again to fetch it anew",
            };
            return Err(format!(
                "{path} is not what was promised: its hash differs; {advice}"
            ));
        }
    }
    Ok(())
}

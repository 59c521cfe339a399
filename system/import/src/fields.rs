//! Values of other clients' files as what they mean: texts, paths, times, limits and sets of pieces.
//!
//! Invariant: a value of another type, or beyond a limit, is one that is not there.

use crate::imported::{Limit, Note, Priority};
use crate::limits::{MAX_PATH_BYTES, MAX_TAGS, MAX_TEXT_BYTES};
use shoal_metainfo::bencode::Value;
use shoal_metainfo::metainfo::{MAX_TRACKERS, MAX_URL_BYTES, MAX_WEB_SEEDS, TrackerUrl};
use shoal_metainfo::{Bitfield, FileIndex, PieceIndex};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// The value of `key`, whose words may be joined by `-` or by `_`: Transmission went from one to the other.
pub(crate) fn loose<'a>(dict: Value<'a>, key: &str) -> Option<Value<'a>> {
    let joined = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    let mut entries = dict.as_dict()?;
    entries.find_map(|(candidate, value)| {
        let same = candidate.iter().map(joined).eq(key.bytes());
        same.then_some(value)
    })
}

/// A text that is not empty.
pub(crate) fn text(value: Option<Value<'_>>) -> Option<String> {
    shown(value?.as_bytes()?)
}

/// `bytes` as a text, unless they are empty or too many.
pub(crate) fn shown(bytes: &[u8]) -> Option<String> {
    let fits = !bytes.is_empty() && bytes.len() <= MAX_TEXT_BYTES;
    fits.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The texts of a list that are not empty.
pub(crate) fn tags(value: Option<Value<'_>>) -> Vec<String> {
    let items = value.and_then(|list| list.as_list()).into_iter().flatten();
    items
        .filter_map(|item| text(Some(item)))
        .take(MAX_TAGS)
        .collect()
}

/// A folder.
pub(crate) fn folder(value: Option<Value<'_>>) -> Option<PathBuf> {
    path(value?.as_bytes()?)
}

/// `bytes` as a path of this system, unless they are empty or too many.
pub(crate) fn path(bytes: &[u8]) -> Option<PathBuf> {
    if bytes.is_empty() || bytes.len() > MAX_PATH_BYTES || bytes.contains(&0) {
        return None;
    }
    #[cfg(unix)]
    return Some(PathBuf::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes),
    ));
    #[cfg(not(unix))]
    return Some(PathBuf::from(String::from_utf8_lossy(bytes).into_owned()));
}

/// Whether `folder` is a path as Windows writes it: a drive letter, or a share.
pub(crate) fn is_windows(folder: &Path) -> bool {
    match folder.as_os_str().as_encoded_bytes() {
        [drive, b':', ..] => drive.is_ascii_alphabetic(),
        [b'\\', b'\\', ..] => true,
        _ => false,
    }
}

/// What has to be said of a folder before content is looked for there.
pub(crate) fn note_folder(folder: &Path) -> Option<Note> {
    if folder.as_os_str().is_empty() {
        return Some(Note::NoFolder);
    }
    (!folder.is_absolute()).then(|| Note::FolderElsewhere(folder.to_owned()))
}

/// A number of bytes or seconds; negative ones, which some clients write for "unknown", are none.
pub(crate) fn bytes(value: Option<Value<'_>>) -> u64 {
    let number = value.and_then(|number| number.as_int()).unwrap_or(0);
    u64::try_from(number).unwrap_or(0)
}

/// A limit of a rate in bytes per second; zero and less is none.
pub(crate) fn rate(value: Option<Value<'_>>) -> Option<u64> {
    Some(bytes(value)).filter(|&rate| rate > 0)
}

/// A time in seconds since 1970; zero and less is none.
pub(crate) fn time(value: Option<Value<'_>>) -> Option<i64> {
    value?.as_int().filter(|&seconds| seconds > 0)
}

/// Whether a number is not zero.
pub(crate) fn flag(value: Option<Value<'_>>) -> bool {
    value.and_then(|flag| flag.as_int()).unwrap_or(0) != 0
}

/// A number, written as such or as a text.
pub(crate) fn real(value: Option<Value<'_>>) -> Option<f64> {
    let value = value?;
    let number = match value.as_int() {
        // Ratios are small; that large ones lose their last digits means nothing.
        Some(number) => i32::try_from(number).ok().map(f64::from),
        None => value.as_str()?.trim().parse().ok(),
    };
    number.filter(|number| number.is_finite())
}

/// `number`, if it is at least zero, as a limit.
pub(crate) fn ratio(number: f64) -> Option<Limit<f64>> {
    (number.is_finite() && number >= 0.0).then_some(Limit::At(number))
}

/// A limit in minutes.
pub(crate) fn minutes(number: i64) -> Option<Limit<u64>> {
    let minutes = u64::try_from(number).ok()?;
    Some(Limit::At(minutes.saturating_mul(60)))
}

/// The set of `len` pieces of which the bits are `bytes`; bits to spare do not count. `None` where there are more or fewer.
pub(crate) fn bits(bytes: &[u8], len: u32) -> Option<Bitfield> {
    let count = len.div_ceil(8);
    if u32::try_from(bytes.len()) != Ok(count) {
        return None;
    }
    let mut clean = bytes.to_vec();
    if let Some(last) = clean.last_mut() {
        *last &= u8::MAX << (count * 8 - len);
    }
    Bitfield::from_wire(&clean, len)
}

/// Takes `pieces` out of `set` and returns those that were in.
pub(crate) fn take(set: &mut Bitfield, pieces: impl IntoIterator<Item = u32>) -> Vec<PieceIndex> {
    let pieces = pieces.into_iter().map(PieceIndex);
    pieces.filter(|&piece| set.remove(piece)).collect()
}

/// Those of `priorities`, one for each file, that are not normal.
pub(crate) fn unusual(
    priorities: impl IntoIterator<Item = (FileIndex, Priority)>,
) -> BTreeMap<FileIndex, Priority> {
    let priorities = priorities.into_iter();
    priorities
        .filter(|(_, priority)| *priority != Priority::Normal)
        .collect()
}

/// Collects URLs and counts those that are left out.
#[derive(Debug, Default)]
pub(crate) struct Urls {
    kept: usize,
    pub(crate) left_out: usize,
}

impl Urls {
    /// The tracker that `bytes` name, if they do and there is room for it.
    pub(crate) fn tracker(&mut self, bytes: &[u8]) -> Option<TrackerUrl> {
        let parsed = std::str::from_utf8(bytes).ok().map(TrackerUrl::parse);
        self.keep(parsed.and_then(Result::ok), MAX_TRACKERS)
    }

    /// The web seed that `bytes` name, if they do and there is room for it.
    pub(crate) fn web_seed(&mut self, bytes: &[u8]) -> Option<String> {
        let valid = |text: &&str| {
            let url = Url::parse(text).ok();
            let web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
            text.len() <= MAX_URL_BYTES && url.as_ref().is_some_and(web)
        };
        let text = std::str::from_utf8(bytes).ok().map(str::trim);
        self.keep(text.filter(valid).map(str::to_owned), MAX_WEB_SEEDS)
    }

    fn keep<T>(&mut self, url: Option<T>, limit: usize) -> Option<T> {
        let kept = url.filter(|_| self.kept < limit);
        match kept {
            Some(_) => self.kept += 1,
            None => self.left_out += 1,
        }
        kept
    }

    /// What has to be said of those that were left out.
    pub(crate) fn note(&self) -> Option<Note> {
        (self.left_out > 0).then_some(Note::UrlsLeftOut(self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::bencode::{Limits, decode};

    #[test]
    fn keys_are_found_with_either_mark_between_their_words() {
        for text in [&b"d10:added-datei7ee"[..], b"d10:added_datei7ee"] {
            let document = decode(text, Limits::LOCAL).unwrap();
            assert_eq!(time(loose(document.root(), "added-date")), Some(7));
        }
    }

    #[test]
    fn spare_bits_do_not_count_and_lengths_must_fit() {
        let two = bits(&[0b1010_1111], 3).unwrap();
        assert_eq!(two.iter().map(|piece| piece.0).collect::<Vec<_>>(), [0, 2]);
        assert!(bits(&[0xff, 0], 3).is_none() && bits(&[], 3).is_none());
        assert!(bits(&[0xff], 8).unwrap().is_full());
    }

    #[test]
    fn paths_of_windows_are_known() {
        assert!(is_windows(Path::new(r"C:\Users\me")) && is_windows(Path::new(r"\\nas\films")));
        assert!(!is_windows(Path::new("/srv/a:b")) && !is_windows(Path::new("")));
    }

    #[test]
    fn the_ratio_of_a_text_is_read_and_no_other_word() {
        let of = |bytes: &[u8]| real(Some(decode(bytes, Limits::LOCAL).unwrap().root()));
        assert_eq!(of(b"8:1.500000"), Some(1.5));
        assert_eq!(of(b"i2e"), Some(2.0));
        assert_eq!((of(b"3:inf"), of(b"3:two"), of(b"le")), (None, None, None));
    }
}

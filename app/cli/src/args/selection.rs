//! Which files of a torrent are wanted, as people write it: `1,3-5`.
//!
//! Invariant: numbers count from 1 as `shoal show` lists files, so that padding has none.

use std::ops::RangeInclusive;
use std::str::FromStr;

use shoal_metainfo::{File, Metainfo};
use shoal_node::message::{FilesPriority, Priority};

use crate::exit::{Exit, Failure};

/// More ranges than this are no selection that a person wrote.
const MAX_RANGES: usize = 10_000;

/// Ranges of numbers of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Vec<RangeInclusive<usize>>);

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges: Vec<_> = text.split(',').take(MAX_RANGES + 1).map(range).collect();
        if ranges.len() > MAX_RANGES {
            return Err(format!("more than {MAX_RANGES} ranges"));
        }
        ranges.into_iter().collect::<Result<_, _>>().map(Selection)
    }
}

fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let hint = || format!("`{text}` is no number of a file or range of them: write 1,3-5");
    let number = |text: &str| {
        let number = text.trim().parse().ok();
        number.filter(|&number: &usize| number > 0).ok_or_else(hint)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(hint());
    }
    Ok(first..=last)
}

impl Selection {
    /// As a node hears of it.
    pub(crate) fn told(&self, priority: Priority) -> Vec<FilesPriority> {
        let ranges = self.0.iter().map(|range| FilesPriority {
            first: *range.start(),
            last: *range.end(),
            priority,
        });
        ranges.collect()
    }

    /// For each file of the metainfo, padding included, whether it is wanted.
    ///
    /// # Errors
    /// Where a number is beyond the files of the torrent.
    pub(crate) fn resolve(&self, metainfo: &Metainfo) -> Result<Vec<bool>, Failure> {
        let files = metainfo.files();
        let shown = numbered(files).count();
        if let Some(range) = self.0.iter().find(|range| *range.end() > shown) {
            let message = format!(
                "--select: there is no file {}: the torrent has {shown}; `shoal show` lists them",
                range.end()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut wanted = vec![false; files.len()];
        for (number, index) in numbered(files) {
            wanted[index] = self.0.iter().any(|range| range.contains(&number));
        }
        Ok(wanted)
    }
}

/// The number and the index of each file that is not padding.
pub(crate) fn numbered(files: &[File]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let shown = files.iter().enumerate().filter(|(_, file)| !file.padding);
    (1..).zip(shown.map(|(index, _)| index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read() {
        assert_eq!("1, 3-5".parse(), Ok(Selection(vec![1..=1, 3..=5])),);
        for bad in ["", "0", "1,", "5-3", "a", "1-2-3", "-1", "1-"] {
            assert!(bad.parse::<Selection>().is_err(), "{bad}");
        }
        assert!("1,".repeat(20_000).parse::<Selection>().is_err());
    }
}

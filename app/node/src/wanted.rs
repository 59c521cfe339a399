//! How much each file of a torrent is wanted, from what is stored of it.
//!
//! Invariant: the selection alone says whether a file is wanted at all, and the priorities in the options only of files that it selects how
//! much more than as usual.

use crate::message::{FilesPriority, Priority};
use shoal_engine::FilePriority;
use shoal_metainfo::Metainfo;
use std::collections::BTreeMap;

/// More ranges of files than a person, or a program for one, names at once.
pub(crate) const MAX_RANGES: usize = 10_000;

/// As options have them.
const HIGH: u8 = 2;

/// See [`HIGH`].
const HIGHEST: u8 = 3;

/// What is stored of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// For each file of the metainfo whether it is wanted; `None` is all.
    pub(crate) selection: Option<Vec<bool>>,
    /// By the index of a file: 2 is high, 3 is highest.
    pub(crate) priorities: BTreeMap<u32, u8>,
}

impl Wanted {
    /// For each file of the metainfo; `None` is all as usual.
    pub(crate) fn of_files(&self, metainfo: &Metainfo) -> Option<Vec<FilePriority>> {
        if self.selection.is_none() && self.priorities.is_empty() {
            return None;
        }
        let selected = self.selection.clone();
        let selected = selected.unwrap_or_else(|| vec![true; metainfo.files().len()]);
        let priority = |(index, wanted): (u32, bool)| match (wanted, self.priorities.get(&index)) {
            (false, _) => FilePriority::Skip,
            (true, Some(&HIGH)) => FilePriority::High,
            (true, Some(&HIGHEST)) => FilePriority::Highest,
            (true, _) => FilePriority::Normal,
        };
        Some((0..).zip(selected).map(priority).collect())
    }

    /// Goes by all of these, or by none. Whether a file is wanted then that was not.
    ///
    /// # Errors
    /// Too many, or a number that no file has: what to do.
    pub(crate) fn tell(
        &mut self,
        metainfo: &Metainfo,
        told: &[FilesPriority],
    ) -> Result<bool, String> {
        if told.len() > MAX_RANGES {
            return Err(format!("{MAX_RANGES} ranges of files are the most at once"));
        }
        let numbered = numbered(metainfo);
        let before = self.of_files(metainfo);
        let mut files = before.clone().unwrap_or_default();
        files.resize(metainfo.files().len(), FilePriority::Normal);
        for range in told {
            let named = range.first.checked_sub(1).map(|first| first..range.last);
            let Some(named) = named.and_then(|named| numbered.get(named)) else {
                let count = numbered.len();
                return Err(format!(
                    "there is no file {}: the torrent has {count}; `shoal show` lists them",
                    range.first.max(range.last)
                ));
            };
            for &index in named {
                files[index as usize] = of(range.priority);
            }
        }
        let skipped = |file: &FilePriority| *file == FilePriority::Skip;
        let all = numbered
            .iter()
            .all(|&index| !skipped(&files[index as usize]));
        let more = |before: Vec<FilePriority>| {
            let mut pairs = before.iter().zip(&files);
            pairs.any(|(before, after)| skipped(before) && !skipped(after))
        };
        let more = before.is_some_and(more);
        self.selection = (!all).then(|| files.iter().map(|file| !skipped(file)).collect());
        let higher = (0..).zip(&files).filter_map(|(index, file)| match file {
            FilePriority::High => Some((index, HIGH)),
            FilePriority::Highest => Some((index, HIGHEST)),
            FilePriority::Skip | FilePriority::Normal => None,
        });
        self.priorities = higher.collect();
        Ok(more)
    }

    /// The numbers of files by the word for their priority, as a person writes them; none of files that are wanted as usual.
    pub(crate) fn shown(&self, metainfo: &Metainfo) -> BTreeMap<String, String> {
        let Some(files) = self.of_files(metainfo) else {
            return BTreeMap::new();
        };
        let mut ranges: BTreeMap<Priority, Vec<(usize, usize)>> = BTreeMap::new();
        for (number, index) in (1..).zip(numbered(metainfo)) {
            let priority = match files.get(index as usize) {
                Some(FilePriority::Skip) => Priority::Skip,
                Some(FilePriority::High) => Priority::High,
                Some(FilePriority::Highest) => Priority::Highest,
                Some(FilePriority::Normal) | None => continue,
            };
            let ranges = ranges.entry(priority).or_default();
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let text = |(first, last): (usize, usize)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let texts = ranges.into_iter().map(|(priority, ranges)| {
            let ranges: Vec<String> = ranges.into_iter().map(text).collect();
            (priority.name().to_owned(), ranges.join(","))
        });
        texts.collect()
    }
}

/// The index of each file that a person sees, which are numbered from 1: padding is none.
fn numbered(metainfo: &Metainfo) -> Vec<u32> {
    let files = (0..).zip(metainfo.files());
    let seen = files.filter(|(_, file)| !file.padding);
    seen.map(|(index, _)| index).collect()
}

const fn of(priority: Priority) -> FilePriority {
    match priority {
        Priority::Skip => FilePriority::Skip,
        Priority::Normal => FilePriority::Normal,
        Priority::High => FilePriority::High,
        Priority::Highest => FilePriority::Highest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shoal_metainfo::metainfo::Limits;

    /// Files of a byte each; those of whose number a bit is set are padding.
    fn metainfo(files: usize, padding: u8) -> Metainfo {
        let mut text = "d4:infod5:filesl".to_owned();
        for file in 0..files {
            let attribute = if padding >> file & 1 == 1 {
                "4:attr1:p"
            } else {
                ""
            };
            text += &format!("d{attribute}6:lengthi1e4:pathl1:{file}ee");
        }
        text += "e4:name1:x12:piece lengthi16384e6:pieces20:....................ee";
        Metainfo::parse(text.as_bytes(), Limits::LOCAL).unwrap()
    }

    fn range(first: usize, last: usize, priority: Priority) -> FilesPriority {
        FilesPriority {
            first,
            last,
            priority,
        }
    }

    #[test]
    fn numbers_pass_over_padding_and_what_is_wanted_as_usual_is_not_stored() {
        let metainfo = metainfo(4, 0b0010);
        let mut wanted = Wanted::default();
        let told = [range(1, 3, Priority::Skip), range(2, 2, Priority::High)];
        assert_eq!(wanted.tell(&metainfo, &told), Ok(false));
        assert_eq!(wanted.selection, Some(vec![false, true, true, false]));
        assert_eq!(wanted.priorities, BTreeMap::from([(2, HIGH)]));
        let shown = wanted.shown(&metainfo);
        assert_eq!(
            (shown["skip"].as_str(), shown["high"].as_str()),
            ("1,3", "2")
        );
        let told = [range(1, 3, Priority::Normal)];
        assert_eq!(wanted.tell(&metainfo, &told), Ok(true));
        assert_eq!(wanted, Wanted::default());
    }

    #[test]
    fn numbers_that_no_file_has_change_nothing() {
        let metainfo = metainfo(3, 0b0001);
        for (first, last) in [(0, 1), (3, 3), (1, 3), (2, 1), (usize::MAX, usize::MAX)] {
            let mut wanted = Wanted::default();
            let told = [
                range(1, 1, Priority::High),
                range(first, last, Priority::Skip),
            ];
            let refused = wanted.tell(&metainfo, &told);
            // An empty range names nothing.
            assert_eq!(refused.is_err(), (first, last) != (2, 1), "{first}-{last}");
            assert_eq!(refused.is_err(), wanted == Wanted::default());
        }
    }

    proptest! {
        #[test]
        fn what_is_told_last_of_a_file_holds(
            padding: u8,
            told in proptest::collection::vec((0..8usize, 0..4usize), 0..20),
        ) {
            let metainfo = metainfo(8, padding & 0x7f);
            let numbers = numbered(&metainfo);
            let mut wanted = Wanted::default();
            let mut model = [FilePriority::Normal; 8];
            for (number, priority) in told {
                let Some(&index) = numbers.get(number) else { continue };
                let priority = Priority::ALL[priority];
                let was_skipped = model[index as usize] == FilePriority::Skip;
                let more = wanted.tell(&metainfo, &[range(number + 1, number + 1, priority)]);
                prop_assert_eq!(more, Ok(was_skipped && priority != Priority::Skip));
                model[index as usize] = of(priority);
                let files = wanted.of_files(&metainfo).unwrap_or(vec![FilePriority::Normal; 8]);
                prop_assert_eq!(&files[..], &model[..]);
            }
        }
    }
}

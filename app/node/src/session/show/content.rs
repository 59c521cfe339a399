//! Files and pieces of a torrent as they are shown, and its .torrent file.
//!
//! Invariant: one that does not run, or does not answer in time, is shown as far as its metainfo tells.

use crate::entry::{Entry, Run};
use crate::error::NodeError;
use crate::message::{Priority, Reply, Shown, ShownFile, ShownHash, ShownPieces, ShownTorrent};
use crate::places;
use crate::session::Answer;
use shoal_engine::{CommandError, FileLine, FilePriority, PieceLine, PieceState, TorrentHandle};
use shoal_metainfo::{FileIndex, Metainfo, PieceIndex, Verifier};
use shoal_storage::Location;
use shoal_store::Database;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// So many files at a time: a torrent may have a million.
const FILES_AT_ONCE: usize = 4_096;

/// So many hashes at a time: a torrent may have two million.
const HASHES_AT_ONCE: u32 = 4_096;

/// So much of a .torrent file at a time: one may have a hundred megabytes.
const PART_BYTES: u32 = 1 << 20;

/// How long torrents have for an answer, all together. One that waits for a disk is shown without it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the files of a torrent are, or come to be.
pub(super) struct Place(Arc<Location>);

impl Place {
    pub(super) fn of(entry: &Entry) -> Self {
        let seen = entry.snapshot().and_then(|snapshot| snapshot.location);
        let stored = || places::location(entry.directory.clone(), &entry.options.renamed).into();
        Place(seen.unwrap_or_else(stored))
    }

    pub(super) fn folder(&self) -> String {
        self.0.directory.to_string_lossy().into_owned()
    }

    /// The torrent's own file or folder.
    pub(super) fn content(&self, metainfo: &Metainfo) -> String {
        let mut files = (0..).zip(metainfo.files());
        let path = match metainfo.folder() {
            Some(name) => self.0.directory.join(name),
            None => {
                let file = files.find(|(_, file)| !file.padding);
                match file {
                    Some((index, _)) => self.file(metainfo, index),
                    None => self.0.directory.clone(),
                }
            }
        };
        path.to_string_lossy().into_owned()
    }

    fn file(&self, metainfo: &Metainfo, index: u32) -> PathBuf {
        let mut path = self.0.directory.clone();
        match self.0.renamed.get(&FileIndex(index)) {
            Some(renamed) => path.push(renamed),
            None => {
                let file = metainfo.files().get(FileIndex(index).get());
                path.extend(metainfo.folder());
                path.extend(file.iter().flat_map(|file| file.components()));
            }
        }
        path
    }
}

pub(super) fn handle(entry: &Entry) -> Option<TorrentHandle> {
    match &entry.run {
        Run::Running(handle, _) => Some(handle.clone()),
        _ => None,
    }
}

fn deadline() -> Instant {
    Instant::now() + ANSWER_WITHIN
}

/// What a torrent answers in time.
async fn in_time<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, CommandError>>,
) -> Option<T> {
    timeout_at(deadline, answer).await.ok()?.ok()
}

/// What only the torrents themselves know is asked of them.
pub(super) async fn with_availability(
    shown: Vec<(ShownTorrent, Option<TorrentHandle>)>,
) -> Vec<ShownTorrent> {
    let deadline = deadline();
    let mut torrents = Vec::with_capacity(shown.len());
    for (mut torrent, handle) in shown {
        if let Some(handle) = handle
            && let Some(pieces) = in_time(deadline, handle.pieces()).await
        {
            torrent.availability_permille = copies(&pieces);
        }
        torrents.push(torrent);
    }
    torrents
}

/// How many copies there are, ours counted, in thousandths.
fn copies(pieces: &[PieceLine]) -> Option<u64> {
    let copies = |piece: &PieceLine| {
        u64::from(piece.availability) + u64::from(piece.state == PieceState::Verified)
    };
    let whole = pieces.iter().map(copies).min()?;
    let more = pieces.iter().filter(|piece| copies(piece) > whole).count();
    Some(whole * 1_000 + more as u64 * 1_000 / pieces.len() as u64)
}

/// What is needed to show files.
pub(super) struct FilesLook {
    metainfo: Arc<Metainfo>,
    place: Place,
    priorities: Option<Vec<FilePriority>>,
    handle: Option<TorrentHandle>,
}

impl FilesLook {
    pub(super) fn new(entry: &Entry, metainfo: Arc<Metainfo>) -> Self {
        FilesLook {
            metainfo,
            place: Place::of(entry),
            priorities: entry.file_priorities(),
            handle: handle(entry),
        }
    }

    /// Those from this number on, as many as are shown at a time.
    pub(super) async fn answer(&self, from: usize) -> Shown {
        let lines = match &self.handle {
            Some(handle) => in_time(deadline(), handle.files()).await,
            None => None,
        };
        let files = (0u32..).zip(self.metainfo.files());
        let files = (1..).zip(files.filter(|(_, file)| !file.padding));
        let mut files = files.skip(from.saturating_sub(1));
        let shown = files.by_ref().take(FILES_AT_ONCE);
        let shown = shown.map(|(number, (index, file))| {
            let line = lines
                .as_ref()
                .and_then(|lines| lines.get(FileIndex(index).get()));
            let pieces = self.metainfo.pieces_of(FileIndex(index));
            ShownFile {
                number,
                path: file.path.clone(),
                location: self
                    .place
                    .file(&self.metainfo, index)
                    .to_string_lossy()
                    .into_owned(),
                size_bytes: file.length,
                verified_bytes: line.map(|line| line.verified_bytes),
                priority: self.priority(index, line),
                pieces: (!pieces.is_empty()).then(|| [pieces.start, pieces.end - 1]),
                available_pieces: line.map(|line| line.available_pieces),
            }
        });
        Shown::Files {
            files: shown.collect(),
            next: files.next().map(|(number, _)| number),
        }
    }

    fn priority(&self, index: u32, line: Option<&FileLine>) -> Priority {
        let told = || {
            self.priorities
                .as_ref()?
                .get(FileIndex(index).get())
                .copied()
        };
        let known = line.map(|line| line.priority).or_else(told);
        match known.unwrap_or_default() {
            FilePriority::Skip => Priority::Skip,
            FilePriority::Normal => Priority::Normal,
            FilePriority::High => Priority::High,
            FilePriority::Highest => Priority::Highest,
        }
    }
}

/// Adds a number to runs of numbers with the same value.
fn add<const N: usize>(runs: &mut Vec<[u32; N]>, number: u32, value: &[u32]) {
    if let Some([_, last, rest @ ..]) = runs.last_mut().map(|run| &mut run[..])
        && *last + 1 == number
        && rest == value
    {
        *last = number;
        return;
    }
    let mut run = [number; N];
    run[2..].copy_from_slice(value);
    runs.push(run);
}

/// How far the pieces are.
pub(super) async fn pieces(
    id: i64,
    metainfo: &Metainfo,
    handle: Option<TorrentHandle>,
) -> ShownPieces {
    let lines = match handle {
        Some(handle) => in_time(deadline(), handle.pieces()).await,
        None => None,
    };
    let runs_of = |state: PieceState| {
        let lines = (0..).zip(lines.as_ref()?);
        let mut runs = Vec::new();
        for (number, _) in lines.filter(|(_, line)| line.state == state) {
            add::<2>(&mut runs, number, &[]);
        }
        Some(runs)
    };
    let availability = lines.as_ref().map(|lines| {
        let mut runs = Vec::new();
        for (number, line) in (0..).zip(lines) {
            add::<3>(&mut runs, number, &[line.availability]);
        }
        runs
    });
    ShownPieces {
        id,
        piece_count: metainfo.layout().piece_count(),
        piece_length_bytes: metainfo.layout().piece_length(),
        verified: runs_of(PieceState::Verified),
        in_progress: runs_of(PieceState::InProgress),
        availability,
    }
}

/// A part of the .torrent file.
pub(super) async fn file_part(database: &Database, id: i64, from: u64) -> Answer {
    let part = database.file_part(id, from, PART_BYTES).await?;
    let Some((total_bytes, bytes)) = part else {
        return Err(NodeError::Unknown(super::NO_METADATA.to_owned()));
    };
    let part = digits(&bytes);
    Ok(Reply::Shown(Shown::File { total_bytes, part }))
}

/// In hexadecimal digits.
fn digits(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text does not fail.
        write!(digits, "{byte:02x}").ok();
    }
    digits
}

/// What pieces from this one on hash to, as many as are shown at a time.
pub(super) fn hashes(metainfo: &Metainfo, from: u32) -> Shown {
    let (v1, v2) = match metainfo.verifier() {
        Verifier::V1(v1) => (Some(v1), None),
        Verifier::V2(v2) => (None, Some(v2)),
        Verifier::Hybrid(v1, v2) => (Some(v1), Some(v2)),
        Verifier::Unhashed(_) => (None, None),
    };
    let count = metainfo.layout().piece_count();
    let end = count.min(from.saturating_add(HASHES_AT_ONCE));
    let hashes = (from..end).map(|piece| {
        let place = PieceIndex(piece).get();
        ShownHash {
            piece,
            sha1: v1.and_then(|v1| v1.0.get(place)).map(|hash| digits(hash)),
            root: v2
                .and_then(|v2| v2.0.get(place))
                .map(|piece| digits(&piece.root)),
        }
    });
    Shown::Hashes {
        hashes: hashes.collect(),
        next: (end < count).then_some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verified: bool, availability: u32) -> PieceLine {
        PieceLine {
            state: match verified {
                true => PieceState::Verified,
                false => PieceState::Missing,
            },
            priority: FilePriority::Normal,
            availability,
        }
    }

    #[test]
    fn copies_are_those_of_the_rarest_piece_and_the_share_of_more_frequent_ones() {
        assert_eq!(copies(&[]), None);
        assert_eq!(copies(&[line(false, 0), line(true, 0)]), Some(500));
        let pieces = [
            line(true, 2),
            line(false, 2),
            line(false, 3),
            line(false, 2),
        ];
        assert_eq!(copies(&pieces), Some(2_500));
    }

    #[test]
    fn numbers_that_follow_each_other_with_the_same_value_are_one_run() {
        let mut runs = Vec::new();
        for number in [0, 1, 3] {
            add::<2>(&mut runs, number, &[]);
        }
        assert_eq!(runs, [[0, 1], [3, 3]]);
        let mut runs = Vec::new();
        for (number, value) in [(0, 5), (1, 5), (2, 6), (3, 5)] {
            add::<3>(&mut runs, number, &[value]);
        }
        assert_eq!(runs, [[0, 1, 5], [2, 2, 6], [3, 3, 5]]);
    }
}

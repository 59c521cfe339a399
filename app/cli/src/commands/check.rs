//! `shoal check`: which files and pieces of a torrent are wrong or missing.
//!
//! Invariant: only reads. Every piece is read once, by storage.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_storage::{Content, ContentSpec, Event as Stored, Mode, Storage, StorageConfig};
use tokio::sync::mpsc;

use super::Done;
use crate::args::{CheckArgs, numbered};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Checked, Checking, Event, FileEvent};
use crate::signals::Interrupt;
use crate::torrent_file;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Results that may wait to be looked at; storage waits when there are more.
const MAX_WAITING: usize = 1024;

/// Checks everything, and says what is wrong.
pub(super) fn run(args: &CheckArgs, output: &mut Output) -> Done {
    let interrupt = Interrupt::watch();
    let metainfo = torrent_file::read(&args.file)?;
    let runtime = super::transfer::runtime()?;
    let started = Instant::now();
    let storage = Storage::start(StorageConfig::default())?;
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let spec = ContentSpec {
        mode: Mode::Seed,
        ..ContentSpec::new(&metainfo, args.data.clone(), &[])
    };
    let content = storage.open(spec, sender)?;
    let verifying = verify(&content, receiver, &metainfo, interrupt, output);
    let right = runtime.block_on(verifying)?;
    let wrong_files = wrong_files(&metainfo, &args.data, &right);
    let checked = summary(&metainfo, &right, wrong_files.len(), started.elapsed());
    let exit = if checked.right { Exit::Ok } else { Exit::Wrong };
    for file in wrong_files {
        output.show(&Event::File(file))?;
    }
    output.show(&Event::Checked(checked))?;
    Ok(exit)
}

/// The pieces that are right.
async fn verify(
    content: &Content,
    mut results: mpsc::Receiver<Stored>,
    metainfo: &Metainfo,
    mut interrupt: Interrupt,
    output: &mut Output,
) -> Result<Bitfield, Failure> {
    let total_pieces = metainfo.layout().piece_count();
    let mut right_pieces = Bitfield::empty(total_pieces);
    let mut checked_pieces = 0;
    let started = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let check = content.verify(metainfo.layout().pieces().collect());
    while checked_pieces < total_pieces {
        tokio::select! {
            result = results.recv() => match result {
                Some(Stored::Checked { piece, right }) => {
                    checked_pieces += 1;
                    if right {
                        right_pieces.insert(piece);
                    }
                }
                Some(_) => {}
                None => {
                    let message = "the check ended before it was done; report it as a bug";
                    return Err(Failure::new(Exit::Failure, message));
                }
            },
            _ = tick.tick() => {
                let time_left_s = time_left_s(checked_pieces, total_pieces, started.elapsed());
                let checking = Checking { checked_pieces, total_pieces, time_left_s };
                output.show(&Event::Checking(checking)).inspect_err(|_| check.cancel())?;
            }
            () = interrupt.wait() => {
                check.cancel();
                return Err(Failure::new(Exit::Interrupted, "interrupted: the check is not complete"));
            }
        }
    }
    Ok(right_pieces)
}

/// Seconds until all is checked, if the rest takes as long as what is done.
pub(super) fn time_left_s(done: u32, total: u32, elapsed: Duration) -> Option<u64> {
    let left = elapsed.checked_mul(total.saturating_sub(done))?;
    left.checked_div(done).map(|left| left.as_secs())
}

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Missing,
    NotAFile,
    Length(u64),
}

fn look(path: &Path) -> Found {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => Found::Length(metadata.len()),
        Ok(_) => Found::NotAFile,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
        Err(_) => Found::NotAFile,
    }
}

/// Every file of which something is wrong, in the order of the torrent.
fn wrong_files(metainfo: &Metainfo, data: &Path, right: &Bitfield) -> Vec<FileEvent> {
    let top = metainfo.folder().map(|folder| data.join(folder));
    let top = top.unwrap_or_else(|| data.to_owned());
    let files = metainfo.files();
    let stored = numbered(files).filter(|(_, index)| files[*index].symlink.is_none());
    let events = stored.filter_map(|(number, index)| {
        let file = &files[index];
        let pieces = metainfo.pieces_of(FileIndex(u32::try_from(index).ok()?));
        let wrong_pieces = runs(pieces, right);
        let found = look(&top.join(&file.path));
        let state = state(file.length, found, wrong_pieces.is_empty())?;
        Some(FileEvent {
            number,
            path: match metainfo.folder() {
                Some(folder) => format!("{folder}/{}", file.path),
                None => file.path.clone(),
            },
            state,
            size_bytes: file.length,
            found_bytes: match found {
                Found::Length(length) => Some(length),
                Found::Missing | Found::NotAFile => None,
            },
            wrong_pieces,
        })
    });
    events.collect()
}

/// What is wrong with a file, if anything is.
fn state(length: u64, found: Found, pieces_right: bool) -> Option<&'static str> {
    match found {
        Found::Missing => Some("missing"),
        Found::NotAFile => Some("not_a_file"),
        Found::Length(found) if found < length => Some("short"),
        Found::Length(found) if found > length => Some("long"),
        Found::Length(_) if !pieces_right => Some("wrong"),
        Found::Length(_) => None,
    }
}

/// The first and last of each run of pieces that are not right.
fn runs(pieces: Range<u32>, right: &Bitfield) -> Vec<[u32; 2]> {
    let mut runs: Vec<[u32; 2]> = Vec::new();
    for piece in pieces.filter(|&piece| !right.get(PieceIndex(piece))) {
        match runs.last_mut() {
            Some([_, last]) if *last + 1 == piece => *last = piece,
            _ => runs.push([piece, piece]),
        }
    }
    runs
}

fn summary(
    metainfo: &Metainfo,
    right: &Bitfield,
    wrong_files: usize,
    elapsed: Duration,
) -> Checked {
    let files = metainfo.files();
    let stored = files
        .iter()
        .filter(|file| !file.padding && file.symlink.is_none());
    let right_pieces = right.count();
    Checked {
        name: metainfo.name().to_owned(),
        right: right.is_full() && wrong_files == 0,
        right_pieces,
        wrong_pieces: right.len() - right_pieces,
        right_files: stored.count() - wrong_files,
        wrong_files,
        time_s: elapsed.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_pieces_are_told_in_runs() {
        let mut right = Bitfield::full(10);
        for piece in [1, 2, 3, 5, 9] {
            right.remove(PieceIndex(piece));
        }
        assert_eq!(runs(0..10, &right), [[1, 3], [5, 5], [9, 9]]);
        assert_eq!(runs(2..5, &right), [[2, 3]]);
        assert!(runs(6..9, &right).is_empty());
    }

    #[test]
    fn a_file_is_judged_by_its_length_first() {
        assert_eq!(state(10, Found::Missing, true), Some("missing"));
        assert_eq!(state(10, Found::Length(9), true), Some("short"));
        assert_eq!(state(10, Found::Length(11), true), Some("long"));
        assert_eq!(state(10, Found::Length(10), false), Some("wrong"));
        assert_eq!(state(10, Found::Length(10), true), None);
    }

    #[test]
    fn the_time_left_follows_from_the_time_spent() {
        let spent = Duration::from_secs(10);
        assert_eq!(time_left_s(0, 100, spent), None);
        assert_eq!(time_left_s(50, 100, spent), Some(10));
        assert_eq!(time_left_s(100, 100, spent), Some(0));
    }
}

//! A torrent's readers: what each waits for is due at once, and it hears when it is there.
//!
//! Invariant: at most [`MAX_READERS`] have a claim; the claim of one that is gone ends with the next thing that happens to the torrent.

use super::TorrentTask;
use crate::command::{CommandError, Reply};
use crate::reader::{EXPECTED_RATE_BYTES_PER_S, MAX_READERS, Need, Opened};
use shoal_metainfo::{FileIndex, PieceIndex};
use shoal_swarm::message::DeadlineLease;
use shoal_swarm::torrent::{Input, Priority};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// One of them.
#[derive(Debug)]
struct Reader {
    /// Gone when the reader is.
    alive: Weak<()>,
    /// What it waits for.
    waits: Option<(PieceIndex, Reply<()>)>,
}

/// All of them, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Readers(BTreeMap<u64, Reader>);

impl Readers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TorrentTask {
    /// What it takes to read a range of a file.
    pub(super) fn open(&self, file: FileIndex, range: Range<u64>) -> Result<Opened, CommandError> {
        let all = self.parts.metainfo.files();
        let known = all.get(file.0 as usize);
        let known = known.filter(|known| range.start <= range.end && range.end <= known.length);
        let file = known.ok_or(CommandError::NoSuchRange)?;
        Ok(Opened {
            content: self.parts.on_disk.content.clone(),
            layout: Arc::clone(&self.parts.layout),
            range: file.offset + range.start..file.offset + range.end,
        })
    }

    /// A reader waits for a piece, and will want those behind it.
    pub(super) fn on_need(&mut self, need: Need) {
        let Need {
            reader,
            piece,
            last,
            alive,
            reply,
        } = need;
        let summary = self.torrent.piece(piece);
        let comes = summary.priority != Priority::Skip && !self.parts.seed_only;
        let outcome =
            if self.readers.0.len() >= MAX_READERS && !self.readers.0.contains_key(&reader) {
                Err(CommandError::TooManyReaders)
            } else if summary.have || comes {
                Ok(())
            } else {
                Err(CommandError::NotWanted)
            };
        if outcome.is_err() {
            return drop(reply.send(outcome));
        }
        let waits = Some((piece, reply));
        self.readers.0.insert(reader, Reader { alive, waits });
        self.handle(Input::Deadline(DeadlineLease {
            id: reader,
            first: piece,
            last,
            deadline: self.parts.environment.clock.now(),
            rate_bytes_per_s: EXPECTED_RATE_BYTES_PER_S,
        }));
    }

    /// Tells those for whom something came, and ends the claims of those who are gone.
    pub(super) fn review_readers(&mut self) {
        let mut gone = Vec::new();
        for (&id, reader) in &mut self.readers.0 {
            let is_there = |piece| self.torrent.have().get(piece);
            if let Some((_, reply)) = reader.waits.take_if(|(piece, _)| is_there(*piece)) {
                drop(reply.send(Ok(())));
            }
            if reader.alive.strong_count() == 0 {
                gone.push(id);
            }
        }
        for id in gone {
            self.readers.0.remove(&id);
            self.handle(Input::DeadlineEnded { id });
        }
    }
}

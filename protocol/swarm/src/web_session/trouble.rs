//! What an origin does not have, cannot do, or does wrong.
//!
//! Invariant: of what is left out nothing is leased, asked for or said to be there again.

use super::{
    FIRST_PAUSE, Failure, FetchId, FileKind, Form, MAX_BAD_FILES, MAX_MISBEHAVIOUR, MAX_PAUSE,
    MAX_RETRY_AFTER, WebFile, WebSession, plan,
};
use crate::message::{Blame, CloseReason, FromPeer, Has, ReturnReason};
use core::time::Duration;
use shoal_metainfo::{Bitfield, BlockRun, FileIndex, PieceIndex};
use std::sync::Arc;

impl WebSession {
    /// What no URL can name is not there.
    pub(super) fn leave_out_unnamed(&mut self) {
        let files = Arc::clone(&self.files);
        for file in files.iter().filter(|file| file.kind == FileKind::Unnamed) {
            self.leave_out(file);
        }
    }

    /// The pieces with bytes of this file cannot be had here.
    pub(super) fn leave_out(&mut self, file: &WebFile) {
        let (layout, length) = (&self.layout, u64::from(self.layout.piece_length()));
        let has = self
            .has
            .get_or_insert_with(|| Bitfield::full(layout.piece_count()));
        for piece in file.range.start / length..file.range.end.div_ceil(length) {
            if let Ok(piece) = u32::try_from(piece) {
                has.remove(PieceIndex(piece));
            }
        }
    }

    pub(super) fn on_ended(&mut self, id: FetchId, failure: Option<(Failure, Option<FileIndex>)>) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        self.reserve.extend(fetch.left);
        match failure {
            None => {}
            Some((Failure::Missing(why), Some(file))) => self.lose_file(file, why),
            Some((Failure::NoRanges, Some(file))) => {
                self.lose_file(file, "it does not serve ranges");
            }
            Some((Failure::Forbidden, _)) => {
                self.close(CloseReason::Protocol("it may not be asked"));
            }
            Some((failure, _)) => self.on_failure(&failure),
        }
    }

    pub(super) fn on_failure(&mut self, failure: &Failure) {
        self.failures += 1;
        self.window.on_snubbed();
        if let Failure::Misbehaved(what) = failure {
            self.misbehaved += 1;
            if self.misbehaved >= MAX_MISBEHAVIOUR {
                return self.close(CloseReason::Protocol(what));
            }
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
        // So that those who failed together do not come back together.
        let own = doubled.min(MAX_PAUSE).mul_f64(0.75 + 0.5 * self.rng.f64());
        let asked = match failure {
            Failure::Busy { retry_after } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        self.pause(own.max(asked));
    }

    pub(super) fn pause(&mut self, time: Duration) {
        let until = self.now + time;
        if self.paused_until.is_none() {
            self.tell(FromPeer::Choking(true));
        }
        self.paused_until = self.paused_until.max(Some(until));
        self.wished = 0;
        let reserve = core::mem::take(&mut self.reserve);
        let mut runs = Vec::new();
        reserve
            .into_iter()
            .for_each(|block| BlockRun::push(&mut runs, block));
        self.give_back(runs, ReturnReason::Choked);
    }

    /// The origin does not have this file as the torrent has it.
    pub(super) fn lose_file(&mut self, file: FileIndex, why: &'static str) {
        let files = Arc::clone(&self.files);
        let Some(file) = files.get(file.get()) else {
            return;
        };
        self.leave_out(file);
        if self.has.as_ref().is_some_and(Bitfield::is_clear) {
            return self.close(CloseReason::Protocol(why));
        }
        self.tell_has();
    }

    /// Says what is left of what it has, and gives back what is not among it.
    pub(super) fn tell_has(&mut self) {
        let Some(has) = self.has.clone() else { return };
        self.tell(FromPeer::HasOnly(Has::from_bitfield(has.clone())));
        self.take_back(|block| !has.get(block.piece), ReturnReason::Rejected);
    }

    /// It sent bad data. Where the piece is of one file, that file may be an older one, and the others right.
    pub(super) fn on_blamed(&mut self, piece: PieceIndex, blame: Blame) {
        let (files, range) = (Arc::clone(&self.files), self.layout.range_of(piece));
        let content = plan::overlapping(&files, range)
            .map(|(file, _)| file)
            .filter(|file| files[file.get()].kind != FileKind::Padding);
        let content: Vec<FileIndex> = content.collect();
        // What had been fetched of a bad file before that was known turns out bad piece by piece.
        if let [file] = content[..]
            && self.bad_files.contains(&file)
        {
            return;
        }
        let lies = CloseReason::Banned(blame);
        match content[..] {
            [file] if self.form == Form::Files && self.bad_files.len() + 1 < MAX_BAD_FILES => {
                self.bad_files.insert(file);
                self.leave_out(&files[file.get()]);
                if self.has.as_ref().is_some_and(Bitfield::is_clear) {
                    return self.close(lies);
                }
                self.tell_has();
            }
            _ => self.close(lies),
        }
    }
}

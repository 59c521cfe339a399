//! Who sent the bad block: blame for pieces that fail verification.
//!
//! A piece that fails names its contributors. Its block digests are kept until it passes: whoever sent a block that differs
//! from the one with which it passed, sent a bad one. Until then the contributors are on parole and get pieces of their
//! own, so that the next failure has one author.
//!
//! Invariant: at most [`MAX_RECORDS`] digests and [`MAX_SUSPECTS`] sources are kept.

use crate::message::Blame;
use crate::source::Source;
use shoal_metainfo::{BlockIndex, PieceIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most block digests kept: those of 64 failed attempts at pieces of 16 MiB. The oldest attempt is forgotten first.
pub const MAX_RECORDS: usize = 65_536;

/// The most sources under suspicion at a time. The one with the fewest suspicions is forgotten first.
pub const MAX_SUSPECTS: usize = 1_024;

/// So many suspicions, without a piece of its own that passed in between, are enough.
pub const MAX_SUSPICIONS: u32 = 7;

/// Sources found guilty, and how surely. Each is named once.
pub type Verdicts = Vec<(Source, Blame)>;

/// A piece that failed, as it was.
#[derive(Clone, Debug)]
struct Attempt {
    piece: PieceIndex,
    /// Who sent which block, and its digest.
    blocks: Vec<(BlockIndex, Source, u64)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SmartBan {
    /// The oldest first.
    attempts: VecDeque<Attempt>,
    /// The digests of all attempts.
    records: usize,
    /// How often each was a contributor to a piece that failed, since a piece of its own passed.
    suspicions: BTreeMap<Source, u32>,
}

impl SmartBan {
    /// Nobody is suspected.
    #[must_use]
    pub fn new() -> Self {
        SmartBan::default()
    }

    /// A piece failed. `sources` says who delivered each block, `bad` which blocks are known to be wrong (none where only
    /// the whole is), `digests` has one short digest for each block of the piece. Returns who is guilty beyond doubt or
    /// once too often; all other contributors are on parole, unless the bad blocks are known.
    pub fn failed(
        &mut self,
        piece: PieceIndex,
        sources: &[(BlockIndex, Source)],
        bad: &[BlockIndex],
        digests: &[u64],
    ) -> Verdicts {
        if !bad.is_empty() {
            let guilty = sources.iter().filter(|(block, _)| bad.contains(block));
            let guilty: BTreeSet<Source> = guilty.map(|&(_, source)| source).collect();
            return self.convict(guilty.into_iter().map(|source| (source, Blame::Certain)));
        }
        let contributors: BTreeSet<Source> = sources.iter().map(|&(_, source)| source).collect();
        if contributors.len() == 1 {
            return self.convict(contributors.into_iter().map(|sole| (sole, Blame::Certain)));
        }
        self.remember(piece, sources, digests);
        let suspected: Vec<Source> = contributors
            .into_iter()
            .filter(|&source| self.suspect(source) >= MAX_SUSPICIONS)
            .collect();
        self.convict(
            suspected
                .into_iter()
                .map(|source| (source, Blame::Suspected)),
        )
    }

    /// A piece passed. `contributors` delivered it, each named once; `digests` has one for each block of the piece, or is
    /// empty where nobody computed them. Returns those whose blocks differed in an earlier attempt; a source that was the
    /// only contributor is off parole.
    pub fn passed(
        &mut self,
        piece: PieceIndex,
        contributors: &[Source],
        digests: &[u64],
    ) -> Verdicts {
        if let [sole] = contributors {
            self.suspicions.remove(sole);
        }
        let mut guilty = BTreeSet::new();
        self.attempts.retain(|attempt| {
            if attempt.piece != piece {
                return true;
            }
            self.records -= attempt.blocks.len();
            let differing = attempt.blocks.iter().filter(|&&(block, _, digest)| {
                digests
                    .get(block.get())
                    .is_some_and(|&right| right != digest)
            });
            guilty.extend(differing.map(|&(_, source, _)| source));
            false
        });
        self.convict(guilty.into_iter().map(|source| (source, Blame::Differed)))
    }

    /// Whether a source is under suspicion, so that it should get pieces of its own.
    #[must_use]
    pub fn is_on_parole(&self, source: Source) -> bool {
        self.suspicions.contains_key(&source)
    }

    /// Whether digests of an earlier attempt at this piece are kept, so that those of the next one are of use.
    #[must_use]
    pub fn remembers(&self, piece: PieceIndex) -> bool {
        self.attempts.iter().any(|attempt| attempt.piece == piece)
    }

    /// Those who are found guilty are banned by the caller: nothing about them needs to be remembered.
    fn convict(&mut self, guilty: impl Iterator<Item = (Source, Blame)>) -> Verdicts {
        guilty
            .inspect(|(source, _)| {
                self.suspicions.remove(source);
            })
            .collect()
    }

    fn remember(&mut self, piece: PieceIndex, sources: &[(BlockIndex, Source)], digests: &[u64]) {
        let blocks: Vec<_> = sources
            .iter()
            .filter_map(|&(block, source)| Some((block, source, *digests.get(block.get())?)))
            .collect();
        if blocks.is_empty() || blocks.len() > MAX_RECORDS {
            return;
        }
        self.records += blocks.len();
        self.attempts.push_back(Attempt { piece, blocks });
        while self.records > MAX_RECORDS
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.records -= oldest.blocks.len();
        }
    }

    /// Counts a suspicion; returns how many there are.
    fn suspect(&mut self, source: Source) -> u32 {
        if self.suspicions.len() >= MAX_SUSPECTS && !self.suspicions.contains_key(&source) {
            let least = self.suspicions.iter().min_by_key(|&(_, &count)| count);
            if let Some((&forgotten, _)) = least {
                self.suspicions.remove(&forgotten);
            }
        }
        let count = self.suspicions.entry(source).or_default();
        *count += 1;
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const PIECE: PieceIndex = PieceIndex(3);

    fn ip(n: u32) -> Source {
        Source::Peer(Ipv4Addr::from(0x0a00_0000 + n).into())
    }

    fn by(numbers: &[u32]) -> Vec<(BlockIndex, Source)> {
        (0u32..)
            .map(BlockIndex)
            .zip(numbers.iter().map(|&n| ip(n)))
            .collect()
    }

    #[test]
    fn the_only_contributor_of_a_bad_piece_is_guilty() {
        let mut ban = SmartBan::new();
        let verdicts = ban.failed(PIECE, &by(&[1, 1, 1]), &[], &[10, 11, 12]);
        assert_eq!(verdicts, [(ip(1), Blame::Certain)]);
        assert!(!ban.remembers(PIECE));
    }

    #[test]
    fn the_sender_of_a_block_known_to_be_bad_is_guilty_and_the_others_are_not_suspected() {
        let mut ban = SmartBan::new();
        let verdicts = ban.failed(
            PIECE,
            &by(&[1, 2, 3, 2]),
            &[BlockIndex(1), BlockIndex(3)],
            &[],
        );
        assert_eq!(verdicts, [(ip(2), Blame::Certain)]);
        assert!(!ban.is_on_parole(ip(1)) && !ban.is_on_parole(ip(3)));
    }

    #[test]
    fn the_block_that_differs_from_the_one_that_passed_names_its_sender() {
        let mut ban = SmartBan::new();
        assert_eq!(ban.failed(PIECE, &by(&[1, 2, 3]), &[], &[10, 66, 12]), []);
        assert!((1..=3).all(|n| ban.is_on_parole(ip(n))) && ban.remembers(PIECE));
        // Two attempts are remembered as well as one.
        assert_eq!(ban.failed(PIECE, &by(&[4, 1, 3]), &[], &[67, 11, 12]), []);
        let verdicts = ban.passed(PIECE, &[ip(1), ip(3)], &[10, 11, 12]);
        assert_eq!(
            verdicts,
            [(ip(2), Blame::Differed), (ip(4), Blame::Differed)]
        );
        assert!(!ban.remembers(PIECE));
        assert!(!ban.is_on_parole(ip(2)), "it is banned");
    }

    #[test]
    fn parole_ends_with_a_good_piece_of_ones_own() {
        let mut ban = SmartBan::new();
        ban.failed(PIECE, &by(&[1, 2]), &[], &[10, 11]);
        assert_eq!(ban.passed(PieceIndex(9), &[ip(1), ip(2)], &[]), []);
        assert!(ban.is_on_parole(ip(1)), "a shared piece proves nothing");
        assert_eq!(ban.passed(PieceIndex(8), &[ip(1)], &[]), []);
        assert!(!ban.is_on_parole(ip(1)) && ban.is_on_parole(ip(2)));
        assert_eq!(
            ban.failed(PieceIndex(7), &by(&[2]), &[], &[1]),
            [(ip(2), Blame::Certain)]
        );
    }

    #[test]
    fn who_is_there_whenever_a_piece_fails_is_guilty_in_the_end() {
        let mut ban = SmartBan::new();
        for n in 1..MAX_SUSPICIONS {
            assert_eq!(ban.failed(PieceIndex(n), &by(&[0, n]), &[], &[]), []);
        }
        let verdicts = ban.failed(PIECE, &by(&[0, 99]), &[], &[]);
        assert_eq!(verdicts, [(ip(0), Blame::Suspected)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ban = SmartBan::new();
        let digests = vec![7; MAX_RECORDS / 4];
        for n in 0..6u32 {
            let mut sources = by(&vec![n; digests.len()]);
            sources[0].1 = ip(1000 + n);
            ban.failed(PieceIndex(n), &sources, &[], &digests);
        }
        assert_eq!(ban.records, MAX_RECORDS);
        assert!(!ban.remembers(PieceIndex(1)) && ban.remembers(PieceIndex(2)));
        for n in 0..3000 {
            ban.failed(PieceIndex(9), &by(&[n, n + 1]), &[], &[]);
        }
        assert!(ban.suspicions.len() <= MAX_SUSPECTS);
        let huge = by(&vec![1; MAX_RECORDS + 1]);
        ban.failed(PieceIndex(10), &huge, &[], &vec![0; MAX_RECORDS + 1]);
        assert!(ban.records <= MAX_RECORDS);
    }
}

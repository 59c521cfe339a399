//! Who is unchoked as libtorrent decides it by default, to compare swarms of it with ours.
//!
//! The rules are those of libtorrent 2.1, read from its `choker.cpp`, from `recalculate_unchoke_slots`,
//! `recalculate_optimistic_unchoke_slots` and `preemptive_unchoke` in `session_impl.cpp`, and from the defaults in
//! `settings_pack.cpp` (`unchoke_slots_limit` 8, a fifth of them optimistic, `unchoke_interval` 15, `optimistic_unchoke_interval`
//! 30, `seed_choking_algorithm` round robin, `seeding_piece_quota` 20).
//!
//! Invariant: at most [`SLOTS`] peers are unchoked; of them, one optimistically.

use core::cmp::Reverse;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_swarm::PeerKey;
use shoal_swarm::torrent::ChokeCandidate;
use std::collections::BTreeMap;

/// Upload slots, the optimistic one included.
pub const SLOTS: u32 = 8;

const BY_RANK: usize = SLOTS as usize - OPTIMISTIC;
const OPTIMISTIC: usize = SLOTS as usize / 5;
const ROUND: Duration = Duration::from_secs(15);
const OPTIMISTIC_TURN: Duration = Duration::from_secs(30);
const QUOTA_PIECES: u64 = 20;
const QUOTA_TIME: Duration = Duration::from_secs(60);

/// What is remembered of a peer between rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    unchoked: bool,
    /// When it was last unchoked, and what it had been sent by then.
    unchoked_at: Option<Moment>,
    uploaded_at_unchoke: u64,
    /// When it was last the optimistic one.
    optimistic_at: Option<Moment>,
    /// Totals at the last round.
    uploaded: u64,
    downloaded: u64,
}

/// The choker of one node.
#[derive(Debug, Default)]
pub(crate) struct Choker {
    turns: BTreeMap<PeerKey, Turn>,
    optimistic: Option<PeerKey>,
    next_round: Moment,
    next_optimistic: Moment,
}

impl Choker {
    /// How the peers are, about once a second. Returns whom to unchoke, where that has changed.
    pub(crate) fn peers(
        &mut self,
        now: Moment,
        seeding: bool,
        piece_length: u32,
        peers: &[ChokeCandidate],
    ) -> Option<Vec<PeerKey>> {
        let present = |key: &PeerKey| peers.iter().any(|peer| peer.key == *key);
        self.turns.retain(|key, _| present(key));
        self.optimistic = self.optimistic.filter(present);
        let before = self.unchoked();
        if now >= self.next_optimistic {
            self.next_optimistic = now + OPTIMISTIC_TURN;
            self.draw_optimistic(now, peers);
        }
        if now >= self.next_round {
            self.next_round = now + ROUND;
            self.round(now, seeding, piece_length, peers);
        }
        // Whoever becomes interested while a slot is free gets it at once.
        for peer in peers.iter().filter(|peer| peer.interested) {
            if self.unchoked().len() < SLOTS as usize {
                self.set(now, peer, true);
            }
        }
        let after = self.unchoked();
        (before != after).then_some(after)
    }

    fn unchoked(&self) -> Vec<PeerKey> {
        let unchoked = self.turns.iter().filter(|(_, turn)| turn.unchoked);
        unchoked.map(|(&key, _)| key).collect()
    }

    fn set(&mut self, now: Moment, peer: &ChokeCandidate, unchoked: bool) {
        let turn = self.turns.entry(peer.key).or_default();
        if unchoked && !turn.unchoked {
            turn.unchoked_at = Some(now);
            turn.uploaded_at_unchoke = peer.report.uploaded_bytes;
        }
        turn.unchoked = unchoked;
    }

    fn turn(&self, key: PeerKey) -> Turn {
        self.turns.get(&key).copied().unwrap_or_default()
    }

    /// The choked peer that has waited longest for the optimistic slot.
    fn draw_optimistic(&mut self, now: Moment, peers: &[ChokeCandidate]) {
        let eligible = |peer: &&ChokeCandidate| {
            peer.interested && (!self.turn(peer.key).unchoked || self.optimistic == Some(peer.key))
        };
        let waiting = |peer: &&ChokeCandidate| (self.turn(peer.key).optimistic_at, peer.key);
        let drawn = peers.iter().filter(eligible).min_by_key(waiting).copied();
        let Some(drawn) = drawn else { return };
        let previous = self.optimistic.replace(drawn.key);
        if let Some(previous) = peers.iter().find(|peer| Some(peer.key) == previous) {
            self.set(now, previous, false);
        }
        self.set(now, &drawn, true);
        self.turns.entry(drawn.key).or_default().optimistic_at = Some(now);
    }

    /// Everybody's slot is open to question, but the optimistic one's.
    fn round(&mut self, now: Moment, seeding: bool, piece_length: u32, peers: &[ChokeCandidate]) {
        let mut ranked: Vec<ChokeCandidate> = peers
            .iter()
            .filter(|peer| peer.interested)
            .copied()
            .collect();
        ranked.sort_by_cached_key(|peer| {
            let turn = self.turn(peer.key);
            let came = peer.report.downloaded_bytes.saturating_sub(turn.downloaded);
            let went = peer.report.uploaded_bytes.saturating_sub(turn.uploaded);
            let quota = QUOTA_PIECES * u64::from(piece_length);
            let since = turn.unchoked_at.unwrap_or(now);
            let sated = turn.unchoked
                && peer.report.uploaded_bytes - turn.uploaded_at_unchoke > quota
                && now.since(since) > QUOTA_TIME;
            (
                Reverse(if seeding { 0 } else { came }),
                sated,
                Reverse(if turn.unchoked { went } else { 0 }),
                turn.unchoked_at,
                peer.key,
            )
        });
        for (place, peer) in ranked.iter().enumerate() {
            if place < BY_RANK && self.optimistic == Some(peer.key) {
                // It has earned a slot, and the optimistic one is free.
                self.optimistic = None;
                self.next_optimistic = now;
            }
            let keeps = place < BY_RANK || self.optimistic == Some(peer.key);
            if !keeps {
                self.set(now, peer, false);
            }
        }
        for peer in ranked.iter().take(BY_RANK) {
            self.set(now, peer, true);
        }
        for peer in peers {
            if !peer.interested {
                self.set(now, peer, false);
            }
            let turn = self.turns.entry(peer.key).or_default();
            (turn.uploaded, turn.downloaded) =
                (peer.report.uploaded_bytes, peer.report.downloaded_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_swarm::message::Report;

    fn peer(key: u64, downloaded_bytes: u64) -> ChokeCandidate {
        ChokeCandidate {
            key: PeerKey(key),
            interested: true,
            upload_only: false,
            unchoked: false,
            since: Moment::ZERO,
            has_pieces: 0,
            report: Report {
                downloaded_bytes,
                ..Report::default()
            },
        }
    }

    #[test]
    fn who_gives_most_is_unchoked_and_one_more_in_turn() {
        let mut choker = Choker::default();
        let peers = |factor: u64| -> Vec<_> { (0..12).map(|n| peer(n, n * factor)).collect() };
        let first = choker.peers(Moment::from_secs(1), false, 1 << 20, &peers(1));
        assert_eq!(first.unwrap().len(), 8);
        let mut optimistic = Vec::new();
        for second in 2..200 {
            let now = Moment::from_secs(second);
            let Some(unchoked) = choker.peers(now, false, 1 << 20, &peers(second)) else {
                continue;
            };
            assert!(unchoked.len() <= 8);
            if second > 17 {
                assert!(
                    (5..12).all(|n| unchoked.contains(&PeerKey(n))),
                    "{unchoked:?}"
                );
                optimistic.extend(unchoked.iter().map(|key| key.0).filter(|&key| key < 5));
            }
        }
        optimistic.sort_unstable();
        optimistic.dedup();
        assert_eq!(optimistic, [0, 1, 2, 3, 4], "each has its turn");
    }

    #[test]
    fn a_seed_takes_the_slot_of_whoever_got_its_share() {
        let mut choker = Choker::default();
        let peers = |bytes: u64| -> Vec<_> {
            let sent = |n: u64| ChokeCandidate {
                report: Report {
                    uploaded_bytes: if n < 8 { bytes } else { 0 },
                    ..Report::default()
                },
                ..peer(n, 0)
            };
            (0..16).map(sent).collect()
        };
        let first = choker.peers(Moment::from_secs(1), true, 1 << 20, &peers(0));
        assert_eq!(first.unwrap(), (0..8).map(PeerKey).collect::<Vec<_>>());
        let later = choker.peers(Moment::from_secs(100), true, 1 << 20, &peers(21 << 20));
        let later = later.unwrap();
        assert!((8..15).all(|n| later.contains(&PeerKey(n))), "{later:?}");
    }
}

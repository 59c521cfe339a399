//! Who is unchoked: the ranking of peers, without a clock or a torrent.
//!
//! Reciprocation as in BEP 3 and "Incentives Build Robustness in BitTorrent" (Cohen, 2003): where we download, the peers
//! that send us most; where we seed, by one of three policies.
//!
//! Invariant: a ranking is a permutation of the interested candidates; nobody who does not want data takes a slot.

use crate::PeerId;
use core::cmp::Reverse;
use core::time::Duration;
use shoal_machine::Moment;

/// How many peers are unchoked by rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// This many.
    Fixed(u32),
    /// As many as the uplink feeds well: a further peer gets a slot while the slowest of the unchoked still receives more than a
    /// threshold that rises with each slot.
    Automatic,
}

/// How the slots of a seed are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeedingPolicy {
    /// In turn: an unchoked peer keeps its slot until it received its quota, then who waited longest is next. Spreads
    /// pieces well and cannot be starved by fast peers.
    #[default]
    RoundRobin,
    /// Whoever takes data fastest: the seed's bytes reach most hands soonest, where everybody passes on what it gets.
    Fastest,
    /// Peers that just began or have nearly finished first ("Improving BitTorrent: a simple approach", Chow et al., 2008):
    /// both ends get little from others, and a peer that only takes is in neither state for long.
    AntiLeech,
}

/// One connected peer, as its torrent last reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: PeerId,
    /// It wants data from us.
    pub interested: bool,
    /// We have all that we want of its torrent.
    pub seeding: bool,
    /// It lets requests of ours lie although it unchoked us.
    pub snubbed: bool,
    /// Bytes a second it sends us.
    pub download_rate: u64,
    /// Bytes a second we send it.
    pub upload_rate: u64,
    /// Bytes we sent it since the connection began.
    pub uploaded_bytes: u64,
    /// Bytes it sent us since the connection began.
    pub downloaded_bytes: u64,
    /// The share of the torrent it has, in thousandths.
    pub has_permille: u16,
    /// When the connection began.
    pub joined: Moment,
}

/// What the session remembers of one peer between rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Since when it is unchoked, `None` while choked.
    pub unchoked_at: Option<Moment>,
    /// `uploaded_bytes` when that began.
    pub uploaded_at_unchoke: u64,
    /// When it was last choked after a turn.
    pub choked_at: Option<Moment>,
}

/// An unchoked peer of a seed keeps its slot until it got this much (20 pieces of a MiB, the order of libtorrent's
/// `seeding_piece_quota`) ...
pub const SEEDING_QUOTA_BYTES: u64 = 20 * 1024 * 1024;
/// ... and has had it for this long, so that TCP gets up to speed.
pub const SEEDING_TURN: Duration = Duration::from_secs(60);

/// With [`Slots::Automatic`]: slots that are always there. Fewer would leave the uplink idle whenever a peer falters.
pub const MIN_AUTOMATIC_SLOTS: u32 = 4;
/// With [`Slots::Automatic`]: slots at the most, 100 MB/s of peers at 1 MB/s each.
pub const MAX_AUTOMATIC_SLOTS: u32 = 100;
/// With [`Slots::Automatic`]: each further slot wants this much more from the slowest unchoked peer, so that 20 Mbit/s feed 17
/// peers, and a Gbit/s all of [`MAX_AUTOMATIC_SLOTS`].
pub const AUTOMATIC_STEP_BYTES_PER_S: u64 = 8 * 1024;
/// The same where the swarm is young. Who has nothing yet cannot pass anything on, and a piece is whole the sooner the fewer share
/// an uplink: 20 Mbit/s feed eight.
pub const YOUNG_STEP_BYTES_PER_S: u64 = 32 * 1024;
/// A swarm is young while more than half of those who want something have less of it than this, in thousandths.
pub const YOUNG_PERMILLE: u16 = 200;

/// A peer that was sent nothing although it has been unchoked for so long asks for nothing: it finds all that it could have
/// from us with others. It takes nothing from the uplink either, and must not keep a slot from those who would.
pub const SETTLED: Duration = Duration::from_secs(3);

/// The interested candidates, most deserving first. `turn` tells what is remembered of each.
pub fn rank<'a>(
    candidates: impl IntoIterator<Item = &'a Candidate>,
    policy: SeedingPolicy,
    now: Moment,
    turn: impl Fn(PeerId) -> Turn,
) -> Vec<Candidate> {
    let mut ranked: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| candidate.interested)
        .copied()
        .collect();
    ranked.sort_by_cached_key(|candidate| {
        let turn = turn(candidate.id);
        // Those who give come before those who only take, and a torrent that we download before one that we seed: its
        // peers decide how fast we get it.
        let gives = u64::from(!candidate.seeding && !candidate.snubbed) * candidate.download_rate;
        let seeded = if candidate.seeding {
            merit(candidate, policy, &turn, now)
        } else {
            (0, 0)
        };
        // Among equals whoever waited longest, and who has a slot does not wait; the id makes the order total.
        let choked_since = turn.choked_at.unwrap_or(candidate.joined);
        let waiting = turn.unchoked_at.map_or(choked_since, |_| now);
        (
            Reverse(gives),
            Reverse(seeded.0),
            Reverse(seeded.1),
            waiting,
            candidate.id,
        )
    });
    ranked
}

/// What a seed ranks by, higher first.
fn merit(candidate: &Candidate, policy: SeedingPolicy, turn: &Turn, now: Moment) -> (u64, u64) {
    match policy {
        SeedingPolicy::RoundRobin => (u64::from(keeps_turn(candidate, turn, now)), 0),
        SeedingPolicy::Fastest => (candidate.upload_rate, 0),
        SeedingPolicy::AntiLeech => {
            let from_middle = candidate.has_permille.abs_diff(500);
            (u64::from(from_middle), candidate.upload_rate)
        }
    }
}

/// Whether an unchoked peer of a seed has not had its share yet. Who loses its slot in the middle of a piece cannot pass that on, and
/// the seed sends it again.
pub(crate) fn keeps_turn(candidate: &Candidate, turn: &Turn, now: Moment) -> bool {
    let unchoked_at = turn.unchoked_at.filter(|_| candidate.seeding);
    unchoked_at.is_some_and(|since| {
        let got = candidate
            .uploaded_bytes
            .saturating_sub(turn.uploaded_at_unchoke);
        got < SEEDING_QUOTA_BYTES || now.since(since) < SEEDING_TURN
    })
}

/// How many peers to unchoke by rank, given what the unchoked ones receive, and how many more are unchoked and ask for
/// nothing: see [`SETTLED`].
#[must_use]
pub fn slots(slots: Slots, unchoked_upload_rates: &mut [u64], idle: u32, young: bool) -> u32 {
    match slots {
        Slots::Fixed(count) => count,
        Slots::Automatic => {
            unchoked_upload_rates.sort_unstable_by_key(|&rate| Reverse(rate));
            let step = if young {
                YOUNG_STEP_BYTES_PER_S
            } else {
                AUTOMATIC_STEP_BYTES_PER_S
            };
            let mut count = 0;
            let mut threshold = step;
            for &rate in unchoked_upload_rates.iter() {
                if rate < threshold {
                    break;
                }
                count += 1;
                threshold += step;
            }
            (count + 1 + idle).clamp(MIN_AUTOMATIC_SLOTS, MAX_AUTOMATIC_SLOTS)
        }
    }
}

/// Whether most of the interested have little: see [`YOUNG_PERMILLE`].
pub fn is_young<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> bool {
    let interested = candidates
        .into_iter()
        .filter(|candidate| candidate.interested);
    let (mut all, mut young) = (0, 0);
    for candidate in interested {
        all += 1;
        young += u32::from(candidate.has_permille < YOUNG_PERMILLE);
    }
    2 * young > all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TorrentKey;
    use proptest::prelude::*;
    use shoal_swarm::PeerKey;

    fn peer(key: u64) -> Candidate {
        Candidate {
            id: PeerId {
                torrent: TorrentKey(1),
                peer: PeerKey(key),
            },
            interested: true,
            seeding: false,
            snubbed: false,
            download_rate: 0,
            upload_rate: 0,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            has_permille: 500,
            joined: Moment::from_secs(key),
        }
    }

    fn order(
        candidates: &[Candidate],
        policy: SeedingPolicy,
        now: Moment,
        turns: &[(u64, Turn)],
    ) -> Vec<u64> {
        rank(candidates, policy, now, |id| {
            turns
                .iter()
                .find(|(key, _)| *key == id.peer.0)
                .map(|(_, turn)| *turn)
                .unwrap_or_default()
        })
        .iter()
        .map(|candidate| candidate.id.peer.0)
        .collect()
    }

    #[test]
    fn while_downloading_whoever_gives_most_comes_first() {
        let peers = [
            Candidate {
                download_rate: 10,
                ..peer(1)
            },
            Candidate {
                download_rate: 30,
                ..peer(2)
            },
            Candidate {
                download_rate: 90,
                snubbed: true,
                ..peer(3)
            },
            Candidate {
                download_rate: 99,
                interested: false,
                ..peer(4)
            },
        ];
        assert_eq!(
            order(&peers, SeedingPolicy::RoundRobin, Moment::ZERO, &[]),
            [2, 1, 3]
        );
    }

    #[test]
    fn a_peer_that_gives_comes_before_any_peer_of_a_seed() {
        let peers = [
            Candidate {
                seeding: true,
                upload_rate: 1_000_000,
                ..peer(1)
            },
            Candidate {
                download_rate: 1,
                ..peer(2)
            },
        ];
        assert_eq!(
            order(&peers, SeedingPolicy::Fastest, Moment::ZERO, &[]),
            [2, 1]
        );
    }

    #[test]
    fn in_turn_a_peer_keeps_its_slot_until_its_quota_and_then_the_longest_waiting_is_next() {
        let seeding = |key| Candidate {
            seeding: true,
            ..peer(key)
        };
        let turn = Turn {
            unchoked_at: Some(Moment::from_secs(100)),
            ..Turn::default()
        };
        let peers = [
            seeding(1),
            seeding(2),
            Candidate {
                uploaded_bytes: 1 << 30,
                ..seeding(3)
            },
        ];
        let at = |s| {
            order(
                &peers,
                SeedingPolicy::RoundRobin,
                Moment::from_secs(s),
                &[(3, turn)],
            )
        };
        assert_eq!(at(130), [3, 1, 2]);
        assert_eq!(at(200), [1, 2, 3]);
    }

    #[test]
    fn who_came_first_and_had_its_turn_waits_for_those_who_came_later() {
        let seeding = |key| Candidate {
            seeding: true,
            ..peer(key)
        };
        let peers = [
            Candidate {
                uploaded_bytes: SEEDING_QUOTA_BYTES,
                ..seeding(1)
            },
            seeding(2),
            seeding(3),
        ];
        let turn = Turn {
            unchoked_at: Some(Moment::from_secs(4)),
            ..Turn::default()
        };
        let policy = SeedingPolicy::RoundRobin;
        let ranked = order(&peers, policy, Moment::from_secs(100), &[(1, turn)]);
        assert_eq!(ranked, [2, 3, 1]);
    }

    #[test]
    fn anti_leech_prefers_both_ends() {
        let peers = [
            Candidate {
                seeding: true,
                has_permille: 500,
                ..peer(1)
            },
            Candidate {
                seeding: true,
                has_permille: 20,
                ..peer(2)
            },
            Candidate {
                seeding: true,
                has_permille: 900,
                ..peer(3)
            },
        ];
        assert_eq!(
            order(&peers, SeedingPolicy::AntiLeech, Moment::ZERO, &[]),
            [2, 3, 1]
        );
    }

    #[test]
    fn slots_grow_while_the_uplink_feeds_the_peers_well() {
        assert_eq!(
            slots(Slots::Automatic, &mut [], 0, false),
            MIN_AUTOMATIC_SLOTS
        );
        assert_eq!(
            slots(Slots::Automatic, &mut [1_000; 50], 0, false),
            MIN_AUTOMATIC_SLOTS
        );
        assert_eq!(slots(Slots::Automatic, &mut [1_000_000; 20], 0, false), 21);
        assert_eq!(
            slots(Slots::Automatic, &mut [u64::MAX; 500], 0, false),
            MAX_AUTOMATIC_SLOTS
        );
        assert_eq!(slots(Slots::Fixed(7), &mut [1_000_000; 20], 9, true), 7);
    }

    #[test]
    fn a_young_swarm_gets_few_slots_so_that_pieces_are_whole_soon() {
        let shared = |young, count: usize| {
            let rates = &mut vec![2_500_000 / count as u64; count];
            slots(Slots::Automatic, rates, 0, young)
        };
        assert_eq!((shared(false, 17), shared(false, 18)), (18, 17));
        assert_eq!((shared(true, 8), shared(true, 9)), (9, 9));
        let has = |permille: &[u16]| {
            let peers: Vec<Candidate> = permille
                .iter()
                .map(|&has_permille| Candidate {
                    has_permille,
                    ..peer(1)
                })
                .collect();
            is_young(&peers)
        };
        assert!(has(&[0, 199, 999]));
        assert!(!has(&[0, 199, 200, 200]));
        let uninterested = Candidate {
            interested: false,
            has_permille: 1_000,
            ..peer(2)
        };
        assert!(is_young(&[
            uninterested,
            uninterested,
            Candidate {
                has_permille: 10,
                ..peer(1)
            }
        ]));
    }

    #[test]
    fn who_asks_for_nothing_keeps_no_slot_from_others() {
        assert_eq!(slots(Slots::Automatic, &mut [1_000_000; 5], 20, false), 26);
        assert_eq!(
            slots(Slots::Automatic, &mut [1_000_000; 5], 500, false),
            MAX_AUTOMATIC_SLOTS
        );
    }

    proptest! {
        #[test]
        fn a_ranking_is_a_permutation_of_the_interested(
            peers in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0u64..4, 0u64..4, 0u16..1000), 0..40),
        ) {
            let peers: Vec<Candidate> = (0u64..).zip(&peers).map(|(key, &(interested, seeding, snubbed, down, up, has))| {
                Candidate { interested, seeding, snubbed, download_rate: down, upload_rate: up, has_permille: has, ..peer(key) }
            }).collect();
            for policy in [SeedingPolicy::RoundRobin, SeedingPolicy::Fastest, SeedingPolicy::AntiLeech] {
                let mut got = order(&peers, policy, Moment::from_secs(1), &[]);
                got.sort_unstable();
                let want: Vec<u64> = peers.iter().filter(|peer| peer.interested).map(|peer| peer.id.peer.0).collect();
                prop_assert_eq!(got, want);
            }
        }
    }
}

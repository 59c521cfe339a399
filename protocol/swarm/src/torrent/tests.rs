//! Scenarios of one torrent, and random sequences of inputs. Whole swarms are in `swarm`.

use super::super_seed::MOST_SHOWN;
use super::*;
use crate::message::{Blame, Has, Report, ReturnReason};
use proptest::prelude::*;
use shoal_metainfo::{Block, BlockIndex};

mod commands;
mod exchange;
mod hole_punch;
mod peer_rules;
mod priority;
mod super_seed;
mod swarm;

const PIECES: u32 = 8;
const BLOCKS: u32 = 4;
const OUR_ID: [u8; 20] = [100; 20];

fn config(have: Bitfield) -> TorrentConfig {
    let length = u64::from(PIECES * BLOCKS * shoal_metainfo::BLOCK_LENGTH);
    let layout = Layout::contiguous(length, BLOCKS * shoal_metainfo::BLOCK_LENGTH).unwrap();
    TorrentConfig {
        layout: Arc::new(layout),
        have,
        priorities: Vec::new(),
        sequential: false,
        our_peer_id: OUR_ID,
        seed: 1,
        max_connections: 8,
        private: false,
        exchange: false,
        super_seed: false,
        peer_rules: PeerRules::default(),
    }
}

fn address(n: u64) -> SocketAddr {
    let last = u8::try_from(n % 250).unwrap() + 1;
    SocketAddr::from(([10, 0, 0, last], 6881))
}

/// One torrent under test: keeps the account of leases, as its sessions would see them.
struct Bench {
    torrent: Torrent,
    now: Moment,
    held: BTreeMap<PeerKey, BTreeSet<Block>>,
}

impl Bench {
    fn new(config: TorrentConfig) -> Self {
        Bench {
            torrent: Torrent::new(config),
            now: Moment::from_secs(10),
            held: BTreeMap::new(),
        }
    }

    fn leech() -> Self {
        Bench::new(config(Bitfield::empty(PIECES)))
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.torrent.handle(self.now, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        let outputs: Vec<Output> = core::iter::from_fn(|| self.torrent.poll()).collect();
        for (peer, runs) in leases(&outputs) {
            let held = self.held.entry(peer).or_default();
            for block in runs.iter().flat_map(|run| run.blocks()) {
                assert!(held.insert(block), "{block:?} is leased twice to {peer:?}");
            }
        }
        outputs
    }

    fn connect(&mut self, n: u64) -> (PeerKey, Vec<Output>) {
        let peer = self.torrent.next_key();
        let mut peer_id = [0; 20];
        peer_id[..8].copy_from_slice(&n.to_be_bytes());
        let outputs = self.handle(Input::Connected {
            peer,
            address: address(n),
            peer_id,
            origin: Origin::Incoming,
        });
        (peer, outputs)
    }

    fn says(&mut self, peer: PeerKey, message: FromPeer) -> Vec<Output> {
        if let FromPeer::Received(runs) | FromPeer::Returned { runs, .. } = &message {
            for block in runs.iter().flat_map(|run| run.blocks()) {
                self.held.entry(peer).or_default().remove(&block);
            }
        }
        self.handle(Input::Peer { peer, message })
    }

    /// A peer that has these pieces and lets us fetch.
    fn join(&mut self, n: u64, has: Has) -> PeerKey {
        let (peer, outputs) = self.connect(n);
        assert!(
            !outputs
                .iter()
                .any(|output| matches!(output, Output::Refuse { .. }))
        );
        self.says(peer, FromPeer::Joined { has, fast: true });
        self.says(peer, FromPeer::Choking(false));
        peer
    }

    fn want(&mut self, peer: PeerKey, blocks: u32) -> Vec<BlockRun> {
        let wish = FromPeer::Want {
            blocks,
            rate_bytes_per_s: 0,
        };
        let outputs = self.says(peer, wish);
        leases(&outputs).remove(&peer).unwrap_or_default()
    }

    fn receive(&mut self, peer: PeerKey, runs: Vec<BlockRun>) -> Vec<Output> {
        self.says(peer, FromPeer::Received(runs))
    }

    fn verified(&mut self, piece: u32) -> Vec<Output> {
        self.handle(Input::Verified {
            piece: PieceIndex(piece),
            blocks: Vec::new(),
        })
    }

    fn failed(&mut self, piece: PieceIndex) -> Vec<Output> {
        self.handle(Input::Failed {
            piece,
            bad: Vec::new(),
            blocks: vec![7; BLOCKS as usize],
        })
    }

    fn leave(&mut self, peer: PeerKey) -> Vec<Output> {
        self.held.remove(&peer);
        self.says(peer, FromPeer::Left(CloseReason::Remote))
    }
}

fn leases(outputs: &[Output]) -> BTreeMap<PeerKey, Vec<BlockRun>> {
    let mut leases: BTreeMap<PeerKey, Vec<BlockRun>> = BTreeMap::new();
    for output in outputs {
        if let Output::Peer {
            peer,
            message: ToPeer::Lease(runs),
        } = output
        {
            leases.entry(*peer).or_default().extend(runs);
        }
    }
    leases
}

fn to(peer: PeerKey, message: ToPeer) -> Output {
    Output::Peer { peer, message }
}

fn count(runs: &[BlockRun]) -> u32 {
    runs.iter().map(|run| run.count).sum()
}

fn whole(piece: u32) -> BlockRun {
    BlockRun {
        piece: PieceIndex(piece),
        first: BlockIndex(0),
        count: BLOCKS,
    }
}

fn some(pieces: &[u32]) -> Has {
    let mut field = Bitfield::empty(PIECES);
    for &piece in pieces {
        field.insert(PieceIndex(piece));
    }
    Has::Some(field)
}

fn refusal(outputs: &[Output]) -> Option<CloseReason> {
    outputs.iter().find_map(|output| match output {
        Output::Refuse { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

/// A seed, two peers that have nothing, and what it suggests to each when both are unchoked.
fn seed_and_offers() -> (Bench, [PeerKey; 2], [Vec<u32>; 2]) {
    let mut bench = Bench::new(config(Bitfield::full(PIECES)));
    let peers = [1, 2].map(|n| {
        let peer = bench.join(n, Has::None);
        bench.says(peer, FromPeer::Interested(true));
        peer
    });
    let outputs = bench.handle(Input::Unchoked(peers.to_vec()));
    let offers = peers.map(|peer| suggested(&outputs, peer));
    (bench, peers, offers)
}

fn suggested(outputs: &[Output], to: PeerKey) -> Vec<u32> {
    let piece = |output: &Output| match output {
        Output::Peer {
            peer,
            message: ToPeer::Suggest(piece),
        } if *peer == to => Some(piece.0),
        _ => None,
    };
    outputs.iter().filter_map(piece).collect()
}

#[test]
fn a_seed_suggests_each_piece_to_one_peer_only() {
    let (mut bench, [first, second], offers) = seed_and_offers();
    let mut all = offers.concat();
    assert_eq!(all.len(), 4, "two to each");
    let taken = FromPeer::Have(PieceIndex(offers[0][0]));
    let outputs = bench.says(first, taken);
    all.extend(suggested(&outputs, first));
    assert_eq!(all.len(), 5, "the next one for one that was taken");
    assert!(suggested(&outputs, second).is_empty());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5, "no piece twice");
}

#[test]
fn what_was_suggested_to_a_peer_that_left_is_suggested_to_another() {
    let (mut bench, [first, second], offers) = seed_and_offers();
    bench.leave(first);
    let mut given = Vec::new();
    for round in 0..PIECES {
        let outputs = bench.says(second, FromPeer::Have(PieceIndex(round)));
        given.extend(suggested(&outputs, second));
    }
    let missing = offers[0].iter().filter(|piece| !given.contains(piece));
    // By the time its turn has come the second peer has announced some pieces by itself.
    assert!(missing.count() < 2, "{given:?} of {offers:?}");
}

#[test]
fn who_downloads_suggests_nothing_and_a_piece_that_is_out_is_not_suggested() {
    let mut bench = Bench::new(config(Bitfield::full(PIECES)));
    bench.join(1, some(&[0, 1, 2, 3, 4, 5, 6]));
    let peer = bench.join(2, Has::None);
    bench.says(peer, FromPeer::Interested(true));
    let outputs = bench.handle(Input::Unchoked(vec![peer]));
    assert_eq!(suggested(&outputs, peer), [7]);
    let mut leech = Bench::leech();
    let peer = leech.join(1, Has::None);
    leech.verified(3);
    leech.says(peer, FromPeer::Interested(true));
    let outputs = leech.handle(Input::Unchoked(vec![peer]));
    assert!(suggested(&outputs, peer).is_empty());
}

#[test]
fn a_suggestion_counts_once_a_piece_of_the_peer_s_own_was_right() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::All);
    bench.says(peer, FromPeer::Suggested(PieceIndex(7)));
    let runs = bench.want(peer, BLOCKS);
    let [first] = runs.as_slice() else {
        panic!("one piece: {runs:?}");
    };
    let first = first.piece;
    assert_ne!(first, PieceIndex(7));
    bench.receive(peer, runs);
    bench.verified(first.0);
    assert_eq!(bench.want(peer, BLOCKS), [whole(7)]);
}

#[test]
fn we_are_interested_while_a_peer_has_something_we_want() {
    let mut bench = Bench::leech();
    let (peer, _) = bench.connect(1);
    let joined = FromPeer::Joined {
        has: Has::None,
        fast: true,
    };
    assert!(bench.says(peer, joined).is_empty());
    let outputs = bench.says(peer, FromPeer::Have(PieceIndex(3)));
    assert_eq!(outputs, [to(peer, ToPeer::Interested(true))]);
    let outputs = bench.verified(3);
    assert!(outputs.contains(&to(peer, ToPeer::Interested(false))));
    assert!(outputs.contains(&Output::Broadcast(ToPeer::Have(vec![PieceIndex(3)]))));
    assert!(bench.says(peer, FromPeer::Have(PieceIndex(3))).is_empty());
    bench.says(peer, FromPeer::Have(PieceIndex(4)));
    let outputs = bench.says(peer, FromPeer::DontHave(PieceIndex(4)));
    assert_eq!(outputs, [to(peer, ToPeer::Interested(false))]);
}

#[test]
fn a_wish_is_met_with_blocks_the_peer_has() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2, 5]));
    let runs = bench.want(peer, 6);
    assert_eq!(count(&runs), 6);
    assert!(runs.iter().all(|run| [2, 5].contains(&run.piece.0)));
}

#[test]
fn an_unmet_wish_is_met_when_blocks_come_back() {
    let mut bench = Bench::leech();
    let (first, second) = (bench.join(1, some(&[2])), bench.join(2, some(&[2])));
    let mut others = vec![bench.join(3, some(&[2])), bench.join(4, some(&[2]))];
    let runs = bench.want(first, 4);
    assert_eq!(count(&runs), 4);
    bench.want(second, 4);
    // Endgame is bounded: in the end somebody gets nothing.
    let hungry = others.pop().unwrap();
    bench.want(others[0], 4);
    assert_eq!(count(&bench.want(hungry, 4)), 0);
    let returned = FromPeer::Returned {
        runs: vec![whole(2)],
        reason: ReturnReason::TimedOut,
    };
    let outputs = bench.says(first, returned);
    assert_eq!(
        leases(&outputs).remove(&hungry).map(|runs| count(&runs)),
        Some(4)
    );
}

#[test]
fn a_choking_peer_gets_only_what_it_serves_while_choking() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::All);
    bench.says(peer, FromPeer::Choking(true));
    assert_eq!(count(&bench.want(peer, 4)), 0);
    bench.says(peer, FromPeer::AllowedFast(PieceIndex(6)));
    assert_eq!(bench.want(peer, 9), [whole(6)]);
}

#[test]
fn in_endgame_the_first_copy_takes_the_others_back() {
    let mut bench = Bench::leech();
    let (first, second) = (bench.join(1, some(&[2])), bench.join(2, some(&[2])));
    for piece in [0, 1, 3, 4, 5, 6, 7] {
        bench.verified(piece);
    }
    bench.want(first, 4);
    assert_eq!(count(&bench.want(second, 4)), 4);
    let outputs = bench.receive(first, vec![whole(2)]);
    assert_eq!(outputs, [to(second, ToPeer::Revoke(vec![whole(2)]))]);
    // It had crossed: the bytes count as wasted, and nothing breaks.
    bench.receive(second, vec![whole(2)]);
    assert_eq!(bench.torrent.progress().wasted_bytes, 4 * 16_384);
    assert!(bench.verified(2).contains(&Output::Complete));
}

#[test]
fn completion_is_said_once_and_again_when_more_was_wanted() {
    let mut bench = Bench::leech();
    let mut skipped = vec![Priority::Normal; PIECES as usize];
    skipped[7] = Priority::Skip;
    bench.handle(Input::Priorities(skipped));
    let is_complete = |outputs: &[Output]| outputs.contains(&Output::Complete);
    for piece in 0..6 {
        assert!(!is_complete(&bench.verified(piece)));
    }
    let outputs = bench.verified(6);
    let told = [
        Output::Broadcast(ToPeer::Have(vec![PieceIndex(6)])),
        Output::Complete,
        Output::Broadcast(ToPeer::UploadOnly(true)),
    ];
    assert!(outputs.starts_with(&told));
    assert!(!is_complete(&bench.verified(6)));
    let outputs = bench.handle(Input::Priorities(vec![Priority::Normal; PIECES as usize]));
    assert!(outputs.contains(&Output::Broadcast(ToPeer::UploadOnly(false))));
    assert!(!bench.torrent.is_complete());
    assert!(is_complete(&bench.verified(7)));
    let outputs = bench.handle(Input::Lost {
        piece: PieceIndex(1),
    });
    assert_eq!(outputs[0], Output::Broadcast(ToPeer::Lost(PieceIndex(1))));
    assert!(is_complete(&bench.verified(1)));
    assert_eq!(bench.torrent.progress().have_pieces, PIECES);
}

#[test]
fn several_pieces_verified_before_a_drain_are_told_together() {
    let mut bench = Bench::leech();
    for piece in 0..3 {
        let verified = Input::Verified {
            piece: PieceIndex(piece),
            blocks: Vec::new(),
        };
        bench.torrent.handle(bench.now, verified);
    }
    let pieces = (0..3).map(PieceIndex).collect();
    assert!(
        bench
            .drain()
            .contains(&Output::Broadcast(ToPeer::Have(pieces)))
    );
}

#[test]
fn once_complete_seeds_are_sent_away_and_leeches_are_kept() {
    let mut bench = Bench::leech();
    let seed = bench.join(1, Has::All);
    let leech = bench.join(2, some(&[1]));
    let partial_seed = bench.join(3, some(&[2]));
    bench.says(partial_seed, FromPeer::UploadOnly(true));
    let outputs: Vec<Output> = (0..PIECES)
        .flat_map(|piece| bench.verified(piece))
        .collect();
    let away = |peer| outputs.contains(&to(peer, ToPeer::Close(CloseReason::Useless)));
    assert_eq!([seed, leech, partial_seed].map(away), [true, false, true]);
    let (late, _) = bench.connect(4);
    let joined = FromPeer::Joined {
        has: Has::All,
        fast: true,
    };
    let outputs = bench.says(late, joined);
    assert!(outputs.contains(&to(late, ToPeer::Close(CloseReason::Useless))));
}

#[test]
fn a_leech_that_becomes_a_seed_counts_as_one() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::None);
    for piece in 0..PIECES {
        bench.says(peer, FromPeer::Have(PieceIndex(piece)));
    }
    assert_eq!(bench.torrent.availability().copies, 1);
    bench.says(peer, FromPeer::DontHave(PieceIndex(0)));
    let missing_one = Availability {
        copies: 0,
        pieces_beyond: PIECES - 1,
    };
    assert_eq!(bench.torrent.availability(), missing_one);
    bench.says(peer, FromPeer::Have(PieceIndex(0)));
    assert_eq!(bench.torrent.availability().copies, 1);
    bench.leave(peer);
    assert_eq!(bench.torrent.availability(), Availability::default());
}

#[test]
fn nothing_is_leased_while_storage_is_full_and_everything_goes_on_afterwards() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::All);
    bench.handle(Input::Suspended(true));
    assert_eq!(count(&bench.want(peer, 4)), 0);
    let outputs = bench.handle(Input::Suspended(false));
    assert_eq!(
        leases(&outputs).remove(&peer).map(|runs| count(&runs)),
        Some(4)
    );
}

#[test]
fn deselecting_takes_leases_back_and_forgets_what_came() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    bench.want(peer, 4);
    let first = BlockRun {
        count: 1,
        ..whole(2)
    };
    bench.receive(peer, vec![first]);
    let outputs = bench.handle(Input::Priorities(vec![Priority::Skip; PIECES as usize]));
    let rest = BlockRun {
        first: BlockIndex(1),
        count: 3,
        ..whole(2)
    };
    assert!(outputs.contains(&to(peer, ToPeer::Revoke(vec![rest]))));
    assert!(outputs.contains(&to(peer, ToPeer::Interested(false))));
    assert!(outputs.contains(&Output::Complete));
    // A block that is just arriving would be kept after it was to be forgotten.
    assert!(!outputs.contains(&Output::Forget(PieceIndex(2))));
    let returned = FromPeer::Returned {
        runs: vec![rest],
        reason: ReturnReason::Cancelled,
    };
    assert_eq!(bench.says(peer, returned), [Output::Forget(PieceIndex(2))]);
}

#[test]
fn a_failed_piece_is_fetched_again() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    let helper = bench.join(2, some(&[2]));
    bench.want(peer, 2);
    bench.want(helper, 2);
    let runs: Vec<BlockRun> = bench.held[&peer]
        .iter()
        .map(|&block| BlockRun::one(block))
        .collect();
    bench.receive(peer, runs);
    let runs = bench.held[&helper]
        .iter()
        .map(|&block| BlockRun::one(block))
        .collect();
    bench.receive(helper, runs);
    bench.failed(PieceIndex(2));
    assert_eq!(bench.torrent.progress().failed_bytes, 4 * 16_384);
    assert_eq!(
        count(&bench.want(peer, 4)) + count(&bench.want(helper, 4)),
        4
    );
}

#[test]
fn a_duplicate_is_credited_to_whoever_was_first() {
    let mut bench = Bench::leech();
    let (first, second) = (bench.join(1, some(&[2])), bench.join(2, some(&[2])));
    bench.want(first, 4);
    bench.want(second, 4);
    let duplicate = FromPeer::Returned {
        runs: vec![whole(2)],
        reason: ReturnReason::Duplicate,
    };
    bench.says(second, duplicate.clone());
    bench.receive(first, vec![whole(2)]);
    let outputs = bench.failed(PieceIndex(2));
    assert!(outputs.contains(&Output::Ban(address(1).ip())));
    assert!(!outputs.contains(&Output::Ban(address(2).ip())));
    // If nobody else can have been first, storage has it all the same, and it is not asked for again.
    bench.want(second, 4);
    bench.says(second, duplicate);
    assert_eq!(count(&bench.want(second, 4)), 0);
}

#[test]
fn a_piece_with_one_block_known_to_be_wrong_is_fetched_again_as_a_whole() {
    let mut bench = Bench::leech();
    let (liar, honest) = (bench.join(1, some(&[2])), bench.join(2, some(&[2])));
    let bad = bench.want(liar, 1);
    let good = bench.want(honest, 3);
    bench.receive(liar, bad.clone());
    bench.receive(honest, good);
    let outputs = bench.handle(Input::Failed {
        piece: PieceIndex(2),
        bad: vec![bad[0].first],
        blocks: vec![7; BLOCKS as usize],
    });
    assert!(outputs.contains(&Output::Ban(address(1).ip())));
    assert!(!outputs.contains(&Output::Ban(address(2).ip())));
    assert_eq!(bench.want(honest, 4), [whole(2)]);
}

#[test]
fn a_verdict_waits_for_the_blocks_that_are_still_being_announced() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    bench.want(peer, 4);
    // Storage has all four blocks and found them right before the session said so.
    assert!(bench.verified(2).is_empty());
    let outputs = bench.receive(peer, vec![whole(2)]);
    assert!(outputs.contains(&Output::Broadcast(ToPeer::Have(vec![PieceIndex(2)]))));
    assert_eq!(bench.torrent.progress().wasted_bytes, 0);
}

#[test]
fn a_right_piece_does_not_wait_for_ever() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    bench.want(peer, 4);
    assert!(bench.verified(2).is_empty());
    bench.now = bench.torrent.deadline().unwrap();
    let outputs = bench.handle(Input::Tick);
    assert!(outputs.contains(&to(peer, ToPeer::Revoke(vec![whole(2)]))));
    assert!(outputs.contains(&Output::Broadcast(ToPeer::Have(vec![PieceIndex(2)]))));
}

#[test]
fn blocks_announced_after_their_piece_failed_do_not_count_as_received() {
    let mut bench = Bench::leech();
    let (peer, helper) = (bench.join(1, some(&[2])), bench.join(2, some(&[2])));
    let first = bench.want(helper, 1);
    bench.receive(helper, first);
    let rest = bench.want(peer, 3);
    assert_eq!(count(&rest), 3);
    let outputs = bench.failed(PieceIndex(2));
    assert_eq!(outputs, [to(peer, ToPeer::Revoke(rest.clone()))]);
    assert_eq!(count(&bench.want(peer, 4)), 0, "the verdict is not settled");
    let outputs = bench.receive(peer, rest);
    assert_eq!(leases(&outputs).remove(&peer), Some(vec![whole(2)]));
}

#[test]
fn blocks_that_could_not_be_kept_are_fetched_again() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    bench.want(peer, 2);
    let runs: Vec<BlockRun> = bench.held[&peer]
        .iter()
        .map(|&block| BlockRun::one(block))
        .collect();
    bench.receive(peer, runs);
    bench.handle(Input::Dropped {
        piece: PieceIndex(2),
    });
    assert_eq!(count(&bench.want(peer, 9)), 4);
}

#[test]
fn leases_that_cross_a_farewell_are_open_again() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    assert_eq!(count(&bench.want(peer, 4)), 4);
    bench.leave(peer);
    let other = bench.join(2, some(&[2]));
    assert_eq!(count(&bench.want(other, 4)), 4);
    assert!(bench.says(peer, FromPeer::Have(PieceIndex(1))).is_empty());
}

#[test]
fn no_block_is_leased_again_before_its_first_lease_came_back() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[2]));
    bench.want(peer, 4);
    bench.handle(Input::Priorities(vec![Priority::Skip; PIECES as usize]));
    bench.handle(Input::Priorities(vec![Priority::Normal; PIECES as usize]));
    assert_eq!(count(&bench.want(peer, 4)), 0);
    let returned = FromPeer::Returned {
        runs: vec![whole(2)],
        reason: ReturnReason::Cancelled,
    };
    let outputs = bench.says(peer, returned);
    assert_eq!(leases(&outputs).remove(&peer), Some(vec![whole(2)]));
}

#[test]
fn a_private_torrent_meets_nobody_of_whom_others_told() {
    let config = TorrentConfig {
        private: true,
        ..config(Bitfield::empty(PIECES))
    };
    let mut torrent = Torrent::new(config);
    let mut dialled = Vec::new();
    let origins = [
        (Origin::PeerExchange, false),
        (Origin::Dht, false),
        (Origin::Local, false),
        (Origin::Tracker, true),
        (Origin::User, true),
        (Origin::Incoming, true),
    ];
    for (n, (origin, allowed)) in (1..).zip(origins) {
        let addresses = vec![address(n)];
        torrent.handle(Moment::ZERO, Input::Candidates { origin, addresses });
        // As when it was met before the torrent was known to be private.
        let peer = torrent.next_key();
        let connected = Input::Connected {
            peer,
            address: address(100 + n),
            peer_id: [u8::try_from(n).unwrap(); 20],
            origin,
        };
        torrent.handle(Moment::ZERO, connected);
        let outputs: Vec<Output> = core::iter::from_fn(|| torrent.poll()).collect();
        let expected = (!allowed).then_some(CloseReason::Private);
        assert_eq!(refusal(&outputs), expected, "{origin:?}");
        if allowed {
            dialled.push(address(n));
        }
    }
    torrent.handle(Moment::ZERO, Input::DialGranted(8));
    let mut dials: Vec<_> = core::iter::from_fn(|| torrent.poll())
        .filter_map(|output| match output {
            Output::Dial { address, .. } => Some(address),
            _ => None,
        })
        .collect();
    dials.sort_unstable();
    assert_eq!(dials, dialled);
}

#[test]
fn ourselves_duplicates_and_too_many_are_refused() {
    let mut bench = Bench::leech();
    let peer = bench.torrent.next_key();
    let ourselves = Input::Connected {
        peer,
        address: address(77),
        peer_id: OUR_ID,
        origin: Origin::Incoming,
    };
    assert_eq!(
        refusal(&bench.handle(ourselves)),
        Some(CloseReason::Ourselves)
    );
    assert_eq!(refusal(&bench.connect(1).1), None);
    assert_eq!(refusal(&bench.connect(1).1), Some(CloseReason::Duplicate));
    for n in 2..9 {
        assert_eq!(refusal(&bench.connect(n).1), None);
    }
    assert_eq!(refusal(&bench.connect(9).1), Some(CloseReason::Useless));
    // After a while of mutual indifference the oldest gives way.
    bench.now = bench.now + Duration::from_secs(61);
    let (_, outputs) = bench.connect(9);
    assert_eq!(refusal(&outputs), None);
    assert!(outputs.iter().any(|output| matches!(
        output,
        Output::Peer {
            message: ToPeer::Close(CloseReason::Useless),
            ..
        }
    )));
}

#[test]
fn stopping_ends_every_connection_and_refuses_new_ones() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::All);
    bench.want(peer, 4);
    let outputs = bench.handle(Input::Stop);
    assert_eq!(outputs, [to(peer, ToPeer::Close(CloseReason::Stopping))]);
    assert_eq!(refusal(&bench.connect(2).1), Some(CloseReason::Stopping));
    bench.leave(peer);
    assert_eq!(
        (bench.torrent.peer_count(), bench.torrent.deadline()),
        (0, None)
    );
}

#[test]
fn only_changes_of_the_unchoked_are_told() {
    let mut bench = Bench::leech();
    let (one, two) = (bench.join(1, Has::None), bench.join(2, Has::None));
    let outputs = bench.handle(Input::Unchoked(vec![one]));
    assert_eq!(outputs, [to(one, ToPeer::Choke(false))]);
    let outputs = bench.handle(Input::Unchoked(vec![two]));
    assert_eq!(
        outputs,
        [to(one, ToPeer::Choke(true)), to(two, ToPeer::Choke(false))]
    );
    assert!(bench.handle(Input::Unchoked(vec![two])).is_empty());
}

#[test]
fn the_choker_sees_what_it_needs() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, some(&[1, 2]));
    bench.says(peer, FromPeer::Interested(true));
    let report = Report {
        download_rate: 5,
        ..Report::default()
    };
    bench.says(peer, FromPeer::Report(report));
    let seen: Vec<ChokeCandidate> = bench.torrent.choke_candidates().collect();
    let expected = ChokeCandidate {
        key: peer,
        interested: true,
        upload_only: false,
        unchoked: false,
        since: bench.now,
        has_pieces: 2,
        report,
    };
    assert_eq!(seen, [expected]);
}

#[test]
fn a_liar_is_banned_after_one_bad_piece() {
    let mut bench = Bench::leech();
    let liar = bench.join(1, some(&[2]));
    bench.want(liar, 4);
    bench.receive(liar, vec![whole(2)]);
    let outputs = bench.failed(PieceIndex(2));
    let reason = CloseReason::Banned(Blame::Certain);
    assert!(outputs.contains(&to(liar, ToPeer::Close(reason))));
    assert!(outputs.contains(&Output::Ban(address(1).ip())));
    bench.leave(liar);
    let refused = refusal(&bench.connect(1).1);
    assert!(matches!(refused, Some(CloseReason::Banned(_))));
}

#[test]
fn an_address_is_not_dialled_while_a_dial_or_a_connection_to_it_exists() {
    let mut bench = Bench::leech();
    let candidate = |bench: &mut Bench| {
        bench.handle(Input::Candidates {
            origin: Origin::Tracker,
            addresses: vec![address(1)],
        })
    };
    let dials = |outputs: &[Output]| {
        let dial = |output: &&Output| matches!(output, Output::Dial { .. });
        outputs.iter().filter(dial).count()
    };
    candidate(&mut bench);
    let outputs = bench.handle(Input::DialGranted(1));
    assert_eq!(dials(&outputs), 1);
    let Some(&Output::Dial { peer: dialled, .. }) = outputs.first() else {
        panic!("{outputs:?}");
    };
    // It dials us at the same time, from where it listens, and leaves.
    let peer = bench.join(1, Has::None);
    bench.leave(peer);
    bench.now = bench.now + Duration::from_secs(3_600);
    assert_eq!(dials(&bench.handle(Input::DialGranted(5))), 0);
    // It comes back, and only then the dial fails.
    bench.join(1, Has::All);
    bench.handle(Input::DialFailed { peer: dialled });
    bench.now = bench.now + Duration::from_secs(3_600);
    assert_eq!(dials(&bench.handle(Input::DialGranted(5))), 0);
}

#[test]
fn a_liar_in_ipv6_clothing_is_cut_off_on_every_connection() {
    let mut bench = Bench::leech();
    let clothed = |last: u8| {
        let ip = core::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
        SocketAddr::new(ip.into(), 6881)
    };
    let connect = |bench: &mut Bench, peer_id| {
        let peer = bench.torrent.next_key();
        let (address, origin) = (clothed(2), Origin::Incoming);
        let outputs = bench.handle(Input::Connected {
            peer,
            address,
            peer_id: [peer_id; 20],
            origin,
        });
        (peer, outputs)
    };
    let (liar, _) = connect(&mut bench, 1);
    assert_eq!(refusal(&bench.connect(1).1), Some(CloseReason::Duplicate));
    bench.says(
        liar,
        FromPeer::Joined {
            has: some(&[2]),
            fast: true,
        },
    );
    bench.says(liar, FromPeer::Choking(false));
    bench.want(liar, 4);
    bench.receive(liar, vec![whole(2)]);
    let outputs = bench.failed(PieceIndex(2));
    assert!(outputs.contains(&Output::Ban(address(1).ip())));
    let reason = CloseReason::Banned(Blame::Certain);
    assert!(outputs.contains(&to(liar, ToPeer::Close(reason))));
    bench.leave(liar);
    let refused = refusal(&connect(&mut bench, 2).1);
    assert!(matches!(refused, Some(CloseReason::Banned(_))));
}

#[test]
fn addresses_are_dialled_as_granted_and_only_once() {
    let mut bench = Bench::leech();
    let outputs = bench.handle(Input::Candidates {
        origin: Origin::Tracker,
        addresses: (0..3).map(address).collect(),
    });
    assert!(outputs.contains(&Output::WantsDials(3)));
    let outputs = bench.handle(Input::DialGranted(2));
    let dials: Vec<(PeerKey, SocketAddr)> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Dial { peer, address, .. } => Some((*peer, *address)),
            _ => None,
        })
        .collect();
    assert_eq!(dials.len(), 2);
    assert!(outputs.contains(&Output::WantsDials(1)));
    bench.handle(Input::DialFailed { peer: dials[0].0 });
    let connected = Input::Connected {
        peer: dials[1].0,
        address: dials[1].1,
        peer_id: [9; 20],
        origin: Origin::Tracker,
    };
    assert_eq!(refusal(&bench.handle(connected)), None);
}

#[test]
fn crossing_connections_leave_one_and_both_sides_choose_the_same() {
    for (remote_id, keeps_ours) in [([1; 20], true), ([200; 20], false)] {
        let mut bench = Bench::leech();
        bench.handle(Input::Candidates {
            origin: Origin::Tracker,
            addresses: vec![address(1)],
        });
        let outputs = bench.handle(Input::DialGranted(1));
        let Some(Output::Dial { peer: ours, .. }) = outputs.first() else {
            panic!("no dial: {outputs:?}");
        };
        let ours = *ours;
        let incoming = bench.torrent.next_key();
        bench.handle(Input::Connected {
            peer: incoming,
            address: SocketAddr::from(([10, 0, 0, 2], 50_000)),
            peer_id: remote_id,
            origin: Origin::Incoming,
        });
        let outputs = bench.handle(Input::Connected {
            peer: ours,
            address: address(1),
            peer_id: remote_id,
            origin: Origin::Tracker,
        });
        let gave_way = outputs.contains(&to(incoming, ToPeer::Close(CloseReason::Duplicate)));
        let refused = refusal(&outputs) == Some(CloseReason::Duplicate);
        assert_eq!((gave_way, refused), (keeps_ours, !keeps_ours));
    }
}

#[test]
fn more_addresses_are_asked_for_while_few_are_left_but_not_all_the_time() {
    let mut bench = Bench::leech();
    let asked = |outputs: &[Output]| outputs.contains(&Output::WantsCandidates);
    assert!(asked(&bench.handle(Input::Tick)));
    assert!(!asked(&bench.handle(Input::Tick)));
    bench.now = bench.now + Duration::from_secs(60);
    assert!(asked(&bench.handle(Input::Tick)));
    let mut seed = Bench::new(config(Bitfield::full(PIECES)));
    assert!(!asked(&seed.handle(Input::Tick)));
}

#[derive(Clone, Debug)]
enum Operation {
    Connect(u64),
    Join(usize, u8),
    Say(usize, FromPeer),
    Receive(usize, usize),
    Return(usize, usize, ReturnReason),
    Leave(usize),
    Verify(u32),
    Fail(u32, bool),
    Drop(u32),
    Lose(u32),
    Prioritise(Vec<u8>),
    Suspend(bool),
    Unchoke(usize),
    Dial(u32, u64),
    Due(u32, u64),
    Recheck(bool),
    Limit(u32),
    SuperSeed(bool),
    Wait(u64),
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let peer = || 0usize..5;
    let piece = || 0u32..PIECES;
    let reason = prop_oneof![
        Just(ReturnReason::Choked),
        Just(ReturnReason::Rejected),
        Just(ReturnReason::TimedOut),
        Just(ReturnReason::Cancelled),
        Just(ReturnReason::Duplicate),
    ];
    let saying = prop_oneof![
        piece().prop_map(|p| FromPeer::Have(PieceIndex(p))),
        piece().prop_map(|p| FromPeer::DontHave(PieceIndex(p))),
        any::<bool>().prop_map(FromPeer::Choking),
        any::<bool>().prop_map(FromPeer::Interested),
        any::<bool>().prop_map(FromPeer::UploadOnly),
        piece().prop_map(|p| FromPeer::AllowedFast(PieceIndex(p))),
        piece().prop_map(|p| FromPeer::Suggested(PieceIndex(p))),
    ];
    let wish = (1u32..20, 0u64..1_000_000).prop_map(|(blocks, rate)| FromPeer::Want {
        blocks,
        rate_bytes_per_s: rate,
    });
    prop_oneof![
        2 => (0u64..6).prop_map(Operation::Connect),
        2 => (peer(), any::<u8>()).prop_map(|(p, has)| Operation::Join(p, has)),
        3 => (peer(), saying).prop_map(|(p, s)| Operation::Say(p, s)),
        4 => (peer(), wish).prop_map(|(p, w)| Operation::Say(p, w)),
        6 => (peer(), 1usize..10).prop_map(|(p, n)| Operation::Receive(p, n)),
        2 => (peer(), 1usize..10, reason).prop_map(|(p, n, r)| Operation::Return(p, n, r)),
        1 => peer().prop_map(Operation::Leave),
        2 => piece().prop_map(Operation::Verify),
        1 => (piece(), any::<bool>()).prop_map(|(p, known)| Operation::Fail(p, known)),
        1 => piece().prop_map(Operation::Drop),
        1 => piece().prop_map(Operation::Lose),
        1 => proptest::collection::vec(0u8..4, 0..10).prop_map(Operation::Prioritise),
        1 => any::<bool>().prop_map(Operation::Suspend),
        1 => peer().prop_map(Operation::Unchoke),
        1 => (0u32..4, 0u64..9).prop_map(|(n, at)| Operation::Dial(n, at)),
        1 => (piece(), 0u64..9_000).prop_map(|(p, ms)| Operation::Due(p, ms)),
        1 => any::<bool>().prop_map(Operation::Recheck),
        1 => (0u32..9).prop_map(Operation::Limit),
        1 => any::<bool>().prop_map(Operation::SuperSeed),
        2 => (0u64..90_000).prop_map(Operation::Wait),
    ]
}

impl Bench {
    fn take_held(&mut self, peer: PeerKey, blocks: usize) -> Vec<BlockRun> {
        let held = self.held.get(&peer).into_iter().flatten().take(blocks);
        held.map(|&block| BlockRun::one(block)).collect()
    }

    fn apply(&mut self, operation: Operation, peers: &mut Vec<PeerKey>) {
        let piece_of = |piece: u32| PieceIndex(piece);
        let at = |index: usize| peers.get(index % peers.len().max(1)).copied();
        match operation {
            Operation::Connect(n) => {
                let (peer, outputs) = self.connect(n);
                if refusal(&outputs).is_none() {
                    peers.push(peer);
                }
            }
            Operation::Join(index, has) => {
                let Some(peer) = at(index) else { return };
                let field = Bitfield::from_wire(&[has], PIECES).unwrap();
                let has = Has::from_bitfield(field);
                self.says(peer, FromPeer::Joined { has, fast: true });
            }
            Operation::Say(index, message) => {
                let Some(peer) = at(index) else { return };
                self.says(peer, message);
            }
            Operation::Receive(index, blocks) => {
                let Some(peer) = at(index) else { return };
                let runs = self.take_held(peer, blocks);
                self.receive(peer, runs);
            }
            Operation::Return(index, blocks, reason) => {
                let Some(peer) = at(index) else { return };
                let runs = self.take_held(peer, blocks);
                self.says(peer, FromPeer::Returned { runs, reason });
            }
            Operation::Leave(index) => {
                let Some(peer) = at(index) else { return };
                peers.retain(|&other| other != peer);
                self.leave(peer);
            }
            Operation::Verify(piece) => drop(self.verified(piece)),
            Operation::Fail(piece, known) => {
                let bad = if known {
                    vec![BlockIndex(1)]
                } else {
                    Vec::new()
                };
                self.handle(Input::Failed {
                    piece: piece_of(piece),
                    bad,
                    blocks: vec![3; BLOCKS as usize],
                });
            }
            Operation::Drop(piece) => drop(self.handle(Input::Dropped {
                piece: piece_of(piece),
            })),
            Operation::Lose(piece) => drop(self.handle(Input::Lost {
                piece: piece_of(piece),
            })),
            Operation::Prioritise(list) => {
                let levels = [
                    Priority::Skip,
                    Priority::Normal,
                    Priority::High,
                    Priority::Highest,
                ];
                let list = list
                    .into_iter()
                    .map(|level| levels[usize::from(level)])
                    .collect();
                self.handle(Input::Priorities(list));
            }
            Operation::Recheck(true) => drop(self.handle(Input::Recheck)),
            Operation::Recheck(false) => drop(self.handle(Input::Rechecked)),
            Operation::Limit(most) => drop(self.handle(Input::MaxConnections(most))),
            Operation::SuperSeed(wanted) => drop(self.handle(Input::SuperSeed(wanted))),
            Operation::Suspend(suspend) => drop(self.handle(Input::Suspended(suspend))),
            Operation::Unchoke(index) => {
                let unchoked = at(index).into_iter().collect();
                self.handle(Input::Unchoked(unchoked));
            }
            Operation::Dial(granted, n) => {
                self.handle(Input::Candidates {
                    origin: Origin::Tracker,
                    addresses: vec![address(n)],
                });
                for output in self.handle(Input::DialGranted(granted)) {
                    if let Output::Dial { peer, .. } = output {
                        self.handle(Input::DialFailed { peer });
                    }
                }
            }
            Operation::Due(piece, ms) => {
                self.handle(Input::Deadline(DeadlineLease {
                    id: u64::from(piece) % 3,
                    first: piece_of(piece),
                    last: piece_of(PIECES - 1),
                    deadline: self.now + Duration::from_millis(ms),
                    rate_bytes_per_s: 100_000,
                }));
            }
            Operation::Wait(ms) => {
                let end = self.now + Duration::from_millis(ms);
                // Each tick must move the deadline, or time would stand still.
                for _ in 0..1_000 {
                    let Some(due) = self.torrent.deadline().filter(|&due| due <= end) else {
                        self.now = end;
                        return;
                    };
                    self.now = self.now.max(due);
                    self.handle(Input::Tick);
                }
                panic!("a deadline that a tick does not move");
            }
        }
    }

    /// What must hold at any time between inputs.
    fn check(&self) {
        let torrent = &self.torrent;
        let missing = torrent.picker.wanted_missing();
        for (key, peer) in &torrent.peers {
            let mut model = 0;
            for piece in missing.iter() {
                model += u32::from(peer.has(piece));
            }
            assert_eq!(peer.interesting, model);
            assert!(peer.closing || peer.we_are_interested == (model > 0));
            let held = self.held.get(key).cloned().unwrap_or_default();
            assert_eq!(peer.leases, held);
        }
        let open = torrent.peers.values().filter(|peer| !peer.closing).count();
        assert_eq!(torrent.open as usize, open);
        assert!(open + torrent.dialing.len() <= torrent.max_connections as usize);
        assert!(torrent.rechecking || torrent.complete == torrent.picker.is_complete());
        assert!(!torrent.rechecking || open == 0);
        let progress = torrent.progress();
        assert_eq!(progress.have_pieces, torrent.have().count());
        assert_eq!(progress.missing_pieces, missing.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_lease_is_accounted_for_whatever_happens(
        operations in proptest::collection::vec(any_operation(), 0..150),
    ) {
        let mut bench = Bench::leech();
        let mut peers = Vec::new();
        for operation in operations {
            bench.apply(operation, &mut peers);
            bench.check();
        }
        for peer in peers {
            bench.leave(peer);
        }
        bench.check();
        // Nobody is left: every block that we want and have not received can be leased to a newcomer.
        for last in [Operation::Suspend(false), Operation::Recheck(false), Operation::Limit(8)] {
            bench.apply(last, &mut Vec::new());
        }
        bench.apply(Operation::Wait(1_000), &mut Vec::new());
        if !bench.torrent.is_complete() {
            let (peer, outputs) = bench.connect(100);
            prop_assert_eq!(refusal(&outputs), None);
            bench.says(peer, FromPeer::Joined { has: Has::All, fast: true });
            bench.says(peer, FromPeer::Choking(false));
            let leased = u64::from(count(&bench.want(peer, 1_000)));
            prop_assert_eq!(leased, bench.torrent.picker.remaining_blocks());
        }
    }
}

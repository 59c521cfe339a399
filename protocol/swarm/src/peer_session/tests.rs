//! Scenarios of one connection, two sessions back to back, and random sequences of inputs.

use super::*;
use crate::message::Blame;
use proptest::prelude::*;
use shoal_metainfo::BlockIndex;
use shoal_wire::{Contact, ContactFlags, HolePunch, HolePunchKind, PeerExchange};
use std::collections::BTreeMap;

/// Eight pieces of four blocks; the last block is short.
fn layout() -> Arc<Layout> {
    Arc::new(Layout::contiguous(8 * 65_536 - 1_000, 65_536).unwrap())
}

fn negotiated(fast: bool, ours: Has) -> Negotiated {
    Negotiated {
        fast,
        extended: true,
        v2: false,
        ours,
    }
}

fn run(piece: u32, first: u32, count: u32) -> BlockRun {
    BlockRun {
        piece: PieceIndex(piece),
        first: BlockIndex(first),
        count,
    }
}

fn block(piece: u32, block: u32) -> Block {
    Block {
        piece: PieceIndex(piece),
        block: BlockIndex(block),
    }
}

fn request(piece: u32, block: u32) -> Request {
    Request {
        piece: PieceIndex(piece),
        begin: block * BLOCK_LENGTH,
        length: if (piece, block) == (7, 3) {
            15_384
        } else {
            BLOCK_LENGTH
        },
    }
}

/// One session under test: keeps the account of leases.
struct Bench {
    session: PeerSession,
    now: Moment,
    leased: BTreeMap<Block, ()>,
    joined: bool,
    left: bool,
}

impl Bench {
    fn new(negotiated: Negotiated, settings: PeerSettings) -> Self {
        let now = Moment::from_secs(10);
        Bench {
            session: PeerSession::new(layout(), negotiated, settings, now),
            now,
            leased: BTreeMap::new(),
            joined: false,
            left: false,
        }
    }

    /// A leech of a remote that has everything and lets us fetch, with introductions over.
    fn downloading(fast: bool) -> Self {
        let mut bench = Bench::new(negotiated(fast, Has::None), PeerSettings::default());
        bench.hear(Message::Bitfield(vec![0xff]));
        bench.tell(ToPeer::Interested(true));
        bench.hear(Message::Unchoke);
        bench
    }

    /// A seed that has unchoked a remote without anything.
    fn uploading(fast: bool) -> Self {
        let mut bench = Bench::new(negotiated(fast, Has::All), PeerSettings::default());
        bench.hear(Message::Interested);
        bench.tell(ToPeer::Choke(false));
        bench
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        if let Input::Torrent(ToPeer::Lease(runs)) = &input {
            for block in runs.iter().flat_map(|run| run.blocks()) {
                assert!(
                    self.leased.insert(block, ()).is_none(),
                    "the test leases twice"
                );
            }
        }
        self.session.handle(self.now, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        let outputs: Vec<Output> = core::iter::from_fn(|| self.session.poll()).collect();
        for output in &outputs {
            assert!(
                !self.left || matches!(output, Output::Close(_)),
                "it spoke after leaving"
            );
            let Output::Torrent(message) = output else {
                continue;
            };
            match message {
                FromPeer::Joined { .. } => {
                    assert!(!self.joined);
                    self.joined = true;
                }
                FromPeer::Received(runs) | FromPeer::Returned { runs, .. } => {
                    for block in runs.iter().flat_map(|run| run.blocks()) {
                        assert!(
                            self.leased.remove(&block).is_some(),
                            "{block:?} came back twice"
                        );
                    }
                }
                FromPeer::Left(_) => {
                    assert!(
                        self.leased.is_empty(),
                        "leases are missing: {:?}",
                        self.leased
                    );
                    self.left = true;
                }
                _ => assert!(self.joined, "{message:?} came before Joined"),
            }
        }
        outputs
    }

    fn hear(&mut self, message: Message) -> Vec<Output> {
        self.handle(Input::Message(message))
    }

    fn tell(&mut self, message: ToPeer) -> Vec<Output> {
        self.handle(Input::Torrent(message))
    }

    fn deliver(&mut self, piece: u32, index: u32) -> Vec<Output> {
        let mut outputs = self.hear(Message::Piece(request(piece, index)));
        outputs.extend(self.handle(Input::BlockStored(block(piece, index))));
        outputs
    }

    /// Lets time pass, ticking at each deadline.
    fn wait(&mut self, seconds: u64) -> Vec<Output> {
        let end = self.now + Duration::from_secs(seconds);
        let mut outputs = Vec::new();
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            outputs.extend(self.handle(Input::Tick));
        }
        self.now = end;
        outputs
    }
}

fn sent(outputs: &[Output]) -> Vec<Message> {
    let said = outputs.iter().filter_map(|output| match output {
        Output::Send(message) => Some(message.clone()),
        _ => None,
    });
    said.collect()
}

fn told(outputs: &[Output]) -> Vec<FromPeer> {
    let told = outputs.iter().filter_map(|output| match output {
        Output::Torrent(message) => Some(message.clone()),
        _ => None,
    });
    told.collect()
}

fn returned(runs: &[BlockRun], reason: ReturnReason) -> Output {
    Output::Torrent(FromPeer::Returned {
        runs: runs.to_vec(),
        reason,
    })
}

fn closed(outputs: &[Output]) -> Option<CloseReason> {
    match outputs.last() {
        Some(Output::Close(reason)) => Some(reason.clone()),
        _ => None,
    }
}

fn breach(outputs: &[Output]) -> bool {
    matches!(closed(outputs), Some(CloseReason::Protocol(_)))
}

#[test]
fn what_we_have_is_said_first_and_who_we_are_second() {
    for (fast, ours, expected) in [
        (true, Has::All, Some(Message::HaveAll)),
        (true, Has::None, Some(Message::HaveNone)),
        (false, Has::None, None),
        (false, Has::All, Some(Message::Bitfield(vec![0xff]))),
        (true, Has::Some(Bitfield::full(8)), Some(Message::HaveAll)),
    ] {
        let settings = PeerSettings {
            upload_only: true,
            port: Some(6881),
            ..PeerSettings::default()
        };
        let mut bench = Bench::new(negotiated(fast, ours), settings);
        let mut said = sent(&bench.drain());
        let Some(Message::ExtendedHandshake(handshake)) = said.pop() else {
            panic!("no extension handshake");
        };
        assert_eq!(said.pop(), expected);
        assert_eq!(handshake.client.as_deref(), Some("Shoal 0.1.0"));
        assert_eq!((handshake.reqq, handshake.port), (Some(2_000), Some(6881)));
        assert!(handshake.upload_only);
    }
}

#[test]
fn the_torrent_hears_of_a_peer_once_it_said_what_it_has() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    assert!(told(&bench.hear(Message::KeepAlive)).is_empty());
    let handshake = ExtendedHandshake {
        upload_only: true,
        ..ExtendedHandshake::default()
    };
    assert!(told(&bench.hear(Message::ExtendedHandshake(handshake))).is_empty());
    assert!(told(&bench.hear(Message::AllowedFast(PieceIndex(3)))).is_empty());
    let joined = FromPeer::Joined {
        has: Has::All,
        fast: true,
    };
    let expected = [
        joined,
        FromPeer::UploadOnly(true),
        FromPeer::AllowedFast(PieceIndex(3)),
    ];
    assert_eq!(told(&bench.hear(Message::HaveAll)), expected);
}

#[test]
fn a_peer_that_says_nothing_of_its_pieces_has_none() {
    for silent in [true, false] {
        let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
        let outputs = if silent {
            bench.wait(30)
        } else {
            bench.hear(Message::Interested)
        };
        let first = told(&outputs).into_iter().next();
        let joined = FromPeer::Joined {
            has: Has::None,
            fast: true,
        };
        assert_eq!(first, Some(joined));
    }
}

#[test]
fn a_later_bitfield_counts_as_news_of_the_pieces_that_it_adds() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.hear(Message::Bitfield(vec![0b1100_0000]));
    let outputs = bench.hear(Message::Bitfield(vec![0b1010_0001]));
    let news = [2, 7].map(|piece| FromPeer::Have(PieceIndex(piece)));
    assert_eq!(told(&outputs), news);
    // Piece 1 was not taken back, and what is known is no news.
    let outputs = bench.hear(Message::HaveAll);
    let news = [3, 4, 5, 6].map(|piece| FromPeer::Have(PieceIndex(piece)));
    assert_eq!(told(&outputs), news);
    assert!(told(&bench.hear(Message::HaveAll)).is_empty());
}

#[test]
fn who_has_said_what_it_has_cannot_have_nothing_and_does_not_make_us_look_over_and_over() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.hear(Message::Bitfield(vec![0xff]));
    bench.hear(Message::DontHave(PieceIndex(3)));
    assert!(breach(&bench.hear(Message::HaveAll)));
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.hear(Message::Bitfield(vec![0xff]));
    assert!(breach(&bench.hear(Message::HaveNone)));
}

#[test]
fn a_bitfield_that_does_not_fit_ends_the_connection() {
    for wrong in [vec![], vec![0xff, 0], vec![0; 1 << 16]] {
        let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
        assert!(breach(&bench.hear(Message::Bitfield(wrong))));
    }
}

#[test]
fn fast_messages_need_the_fast_extension() {
    for message in [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(PieceIndex(0)),
        Message::AllowedFast(PieceIndex(0)),
        Message::Reject(request(0, 0)),
    ] {
        let mut bench = Bench::new(negotiated(false, Has::None), PeerSettings::default());
        assert!(breach(&bench.hear(message)));
    }
}

#[test]
fn nothing_is_wished_for_before_the_remote_unchokes_and_has_what_we_want() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.hear(Message::HaveAll);
    let wishes = |outputs: &[Output]| {
        let is_want = |message: &FromPeer| matches!(message, FromPeer::Want { .. });
        told(outputs)
            .iter()
            .filter(|message| is_want(message))
            .count()
    };
    assert_eq!(wishes(&bench.hear(Message::Unchoke)), 0);
    assert_eq!(wishes(&bench.tell(ToPeer::Interested(true))), 1);
    assert_eq!(wishes(&bench.hear(Message::KeepAlive)), 0);
    assert_eq!(wishes(&bench.hear(Message::Choke)), 0);
    assert_eq!(wishes(&bench.hear(Message::Unchoke)), 1);
}

#[test]
fn no_more_is_requested_than_the_window_and_the_remotes_queue_allow() {
    let mut bench = Bench::downloading(true);
    let handshake = ExtendedHandshake {
        reqq: Some(1),
        ..ExtendedHandshake::default()
    };
    bench.hear(Message::ExtendedHandshake(handshake));
    let outputs = bench.tell(ToPeer::Lease(vec![run(0, 0, 4), run(1, 0, 4)]));
    assert_eq!(sent(&outputs), [Message::Request(request(0, 0))]);
    let outputs = bench.deliver(0, 0);
    assert_eq!(sent(&outputs), [Message::Request(request(0, 1))]);
}

#[test]
fn received_blocks_reach_the_torrent_in_batches() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4), run(7, 0, 4)]));
    assert!(
        !told(&bench.deliver(0, 0))
            .iter()
            .any(|m| matches!(m, FromPeer::Received(_)))
    );
    bench.deliver(0, 1);
    bench.now = bench.now + FLUSH;
    let outputs = bench.handle(Input::Tick);
    assert!(told(&outputs).contains(&FromPeer::Received(vec![run(0, 0, 2)])));
    bench.deliver(0, 2);
    let outputs = bench.deliver(0, 3);
    assert!(told(&outputs).contains(&FromPeer::Received(vec![run(0, 2, 2)])));
    (0..3).for_each(|index| {
        bench.deliver(7, index);
    });
    bench.deliver(7, 3);
    assert!(bench.leased.is_empty());
}

#[test]
fn a_block_that_storage_had_already_comes_back_as_a_duplicate() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 1)]));
    bench.hear(Message::Piece(request(0, 0)));
    let outputs = bench.handle(Input::BlockKnown(block(0, 0)));
    assert!(outputs.contains(&returned(&[run(0, 0, 1)], ReturnReason::Duplicate)));
    assert!(bench.handle(Input::BlockStored(block(0, 0))).is_empty());
}

#[test]
fn a_block_nobody_asked_for_ends_the_connection() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 1)]));
    assert!(breach(&bench.hear(Message::Piece(request(0, 1)))));
    assert!(bench.leased.is_empty());
    let mut bench = Bench::downloading(true);
    let odd = Request {
        piece: PieceIndex(u32::MAX),
        begin: u32::MAX,
        length: u32::MAX,
    };
    assert!(breach(&bench.hear(Message::Piece(odd))));
}

#[test]
fn a_block_that_comes_twice_ends_the_connection() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 1)]));
    bench.deliver(0, 0);
    assert!(breach(&bench.hear(Message::Piece(request(0, 0)))));
}

#[test]
fn a_choke_without_fast_gives_everything_back_and_late_blocks_are_forgiven() {
    let mut bench = Bench::downloading(false);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4)]));
    let outputs = bench.hear(Message::Choke);
    assert_eq!(told(&outputs)[0], FromPeer::Choking(true));
    assert!(bench.leased.is_empty());
    let outputs = bench.hear(Message::Piece(request(0, 0)));
    assert_eq!(outputs, [Output::Discard(request(0, 0))]);
}

#[test]
fn a_choke_with_fast_waits_for_the_rejects_of_what_was_requested() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4)]));
    let outputs = bench.hear(Message::Choke);
    assert!(outputs.contains(&returned(&[run(0, 2, 2)], ReturnReason::Choked)));
    assert!(bench.hear(Message::Reject(request(0, 0))).is_empty());
    let outputs = bench.hear(Message::Reject(request(0, 1)));
    assert_eq!(outputs, [returned(&[run(0, 0, 2)], ReturnReason::Rejected)]);
}

#[test]
fn a_block_sent_before_the_choke_still_counts_with_fast() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 1)]));
    bench.hear(Message::Choke);
    let outputs = bench.deliver(0, 0);
    assert!(outputs.contains(&Output::Store(block(0, 0))));
    assert!(told(&outputs).contains(&FromPeer::Received(vec![run(0, 0, 1)])));
}

#[test]
fn a_lease_that_crosses_a_choke_comes_back_unless_it_is_allowed_fast() {
    let mut bench = Bench::downloading(true);
    bench.hear(Message::Choke);
    bench.hear(Message::AllowedFast(PieceIndex(2)));
    let outputs = bench.tell(ToPeer::Lease(vec![run(1, 0, 4), run(2, 0, 1)]));
    assert!(outputs.contains(&returned(&[run(1, 0, 4)], ReturnReason::Choked)));
    assert_eq!(sent(&outputs), [Message::Request(request(2, 0))]);
}

#[test]
fn rejected_blocks_go_back_and_the_remote_is_left_alone_for_a_while() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 3)]));
    assert!(sent(&bench.hear(Message::Reject(request(0, 0)))).is_empty());
    let outputs = bench.hear(Message::Reject(request(0, 1)));
    assert_eq!(outputs, [returned(&[run(0, 0, 2)], ReturnReason::Rejected)]);
    let outputs = bench.wait(2);
    assert!(sent(&outputs).contains(&Message::Request(request(0, 2))));
}

#[test]
fn a_remote_that_snubs_us_loses_its_leases_and_gets_one_block_at_a_time() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4)]));
    assert!(bench.wait(19).is_empty());
    let outputs = bench.wait(2);
    assert_eq!(sent(&outputs)[0], Message::Cancel(request(0, 0)));
    assert!(outputs.contains(&returned(
        &[run(0, 0, 2), run(0, 2, 2)],
        ReturnReason::TimedOut
    )));
    let wish = FromPeer::Want {
        blocks: 1,
        rate_bytes_per_s: 0,
    };
    assert!(told(&outputs).contains(&wish));
    let is_snub = |m: &FromPeer| matches!(m, FromPeer::Report(report) if report.snubbed);
    assert!(told(&outputs).iter().any(is_snub));
    // The late block is no breach, and the next one ends the snub.
    assert_eq!(
        bench.hear(Message::Piece(request(0, 1))),
        [Output::Discard(request(0, 1))]
    );
    bench.tell(ToPeer::Lease(vec![run(1, 0, 1)]));
    bench.deliver(1, 0);
    assert!(!bench.session.snubbed);
}

#[test]
fn while_storage_has_no_room_the_remote_does_not_snub_us() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4)]));
    bench.handle(Input::Backpressure(true));
    let outputs = bench.wait(305);
    assert!(
        sent(&outputs)
            .iter()
            .all(|message| *message == Message::KeepAlive)
    );
    assert!(told(&outputs).is_empty());
    assert!(bench.handle(Input::Backpressure(false)).is_empty());
    assert!(bench.wait(19).is_empty());
    assert!(!bench.wait(2).is_empty());
}

#[test]
fn a_request_that_others_overtake_for_too_long_is_given_up() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 1)]));
    for piece in 1..8 {
        bench.tell(ToPeer::Lease(vec![run(piece, 0, 1)]));
        bench.deliver(piece, 0);
        let outputs = bench.wait(10);
        if bench.leased.is_empty() {
            assert_eq!(sent(&outputs)[0], Message::Cancel(request(0, 0)));
            assert!(outputs.contains(&returned(&[run(0, 0, 1)], ReturnReason::TimedOut)));
            return;
        }
    }
    panic!("it still waits");
}

#[test]
fn a_revoked_lease_is_cancelled_and_comes_back_but_not_what_is_just_arriving() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4)]));
    bench.hear(Message::Piece(request(0, 0)));
    let outputs = bench.tell(ToPeer::Revoke(vec![run(0, 0, 4), run(5, 0, 1)]));
    assert_eq!(
        sent(&outputs)[..2],
        [
            Message::Cancel(request(0, 1)),
            Message::Cancel(request(0, 2))
        ]
    );
    assert_eq!(bench.leased.len(), 1);
    bench.handle(Input::BlockStored(block(0, 0)));
    bench.wait(1);
    assert!(bench.leased.is_empty());
}

#[test]
fn a_connection_that_breaks_gives_back_every_lease_once_and_is_deaf_afterwards() {
    let mut bench = Bench::downloading(true);
    bench.tell(ToPeer::Lease(vec![run(0, 0, 4), run(1, 0, 4)]));
    bench.deliver(0, 0);
    bench.hear(Message::Piece(request(0, 1)));
    let outputs = bench.handle(Input::Disconnected);
    let last: Vec<FromPeer> = told(&outputs);
    assert_eq!(last[0], FromPeer::Received(vec![run(0, 0, 1)]));
    let report = last.iter().rev().nth(1);
    let moved = |report: &Report| report.downloaded_bytes == u64::from(BLOCK_LENGTH);
    assert!(
        matches!(report, Some(FromPeer::Report(report)) if moved(report)),
        "{report:?}"
    );
    assert_eq!(last.last(), Some(&FromPeer::Left(CloseReason::Remote)));
    assert!(bench.leased.is_empty());
    assert!(bench.session.is_closed());
    bench
        .session
        .handle(bench.now, Input::Torrent(ToPeer::Lease(vec![run(2, 0, 4)])));
    assert_eq!(
        (bench.session.poll(), bench.session.deadline()),
        (None, None)
    );
}

#[test]
fn the_torrent_can_end_a_connection() {
    let mut bench = Bench::downloading(true);
    let reason = CloseReason::Banned(Blame::Certain);
    assert_eq!(
        closed(&bench.tell(ToPeer::Close(reason.clone()))),
        Some(reason)
    );
}

#[test]
fn a_quiet_connection_is_kept_alive_and_a_dead_one_is_ended() {
    let mut bench = Bench::downloading(true);
    let outputs = bench.wait(239);
    assert_eq!(sent(&outputs), [Message::KeepAlive, Message::KeepAlive]);
    assert_eq!(closed(&bench.wait(2)), Some(CloseReason::Idle));
    let mut bench = Bench::downloading(true);
    for _ in 0..10 {
        bench.wait(120);
        bench.hear(Message::KeepAlive);
    }
    assert!(!bench.session.is_closed());
}

/// A remote that asks for three blocks and says every minute that it lives.
fn asking() -> Bench {
    let mut bench = Bench::uploading(true);
    for index in 0..3 {
        bench.hear(Message::Request(request(0, index)));
    }
    bench
}

fn minute(bench: &mut Bench) -> Vec<Output> {
    let mut outputs = bench.wait(60);
    outputs.extend(bench.hear(Message::KeepAlive));
    outputs
}

fn uploaded(index: u32) -> Input {
    Input::Uploaded {
        request: request(0, index),
        sent: true,
    }
}

#[test]
fn a_remote_that_takes_nothing_of_what_it_asked_for_is_ended_whatever_it_says() {
    let mut bench = asking();
    for _ in 0..3 {
        assert_eq!(closed(&minute(&mut bench)), None);
    }
    assert_eq!(closed(&minute(&mut bench)), Some(CloseReason::Idle));
}

#[test]
fn a_remote_that_takes_a_block_now_and_then_is_served() {
    let mut bench = asking();
    for index in 0..3 {
        for _ in 0..3 {
            assert_eq!(closed(&minute(&mut bench)), None);
        }
        bench.handle(uploaded(index));
    }
    // It has all that it asked for, and may think about the rest as long as it likes.
    for _ in 0..10 {
        assert_eq!(closed(&minute(&mut bench)), None);
    }
    // Its time begins anew with its next wish.
    bench.hear(Message::Request(request(1, 0)));
    for _ in 0..3 {
        assert_eq!(closed(&minute(&mut bench)), None);
    }
    assert_eq!(closed(&minute(&mut bench)), Some(CloseReason::Idle));
}

#[test]
fn an_unchoked_remote_gets_any_part_of_a_piece_we_have() {
    let mut bench = Bench::uploading(true);
    let odd = Request {
        piece: PieceIndex(0),
        begin: 7,
        length: 40_000,
    };
    assert_eq!(bench.hear(Message::Request(odd)), [Output::Upload(odd)]);
    let outputs = bench.handle(Input::Uploaded {
        request: odd,
        sent: true,
    });
    assert!(outputs.is_empty());
    let report = Report {
        uploaded_bytes: 40_000,
        upload_rate: 40_000,
        ..Report::default()
    };
    assert_eq!(told(&bench.wait(1)), [FromPeer::Report(report)]);
    // The last report says that nothing moves any more.
    let last = told(&bench.wait(10)).pop();
    let quiet = Report {
        uploaded_bytes: 40_000,
        ..Report::default()
    };
    assert_eq!(last, Some(FromPeer::Report(quiet)));
}

#[test]
fn impossible_requests_are_rejected_or_end_the_connection() {
    let impossible = [
        (0, 0, 0),
        (0, 65_535, 2),
        (0, u32::MAX, u32::MAX),
        (8, 0, 1),
        (u32::MAX, 0, 1),
        (0, 0, 128 * 1024 + 1),
    ];
    for (piece, begin, length) in impossible {
        let piece = PieceIndex(piece);
        let wrong = Request {
            piece,
            begin,
            length,
        };
        let mut fast = Bench::uploading(true);
        assert_eq!(
            fast.hear(Message::Request(wrong)),
            [Output::Send(Message::Reject(wrong))]
        );
        assert!(breach(
            &Bench::uploading(false).hear(Message::Request(wrong))
        ));
    }
}

#[test]
fn whoever_keeps_asking_for_the_impossible_is_cut_off() {
    let mut bench = Bench::uploading(true);
    let asks = (0..3_000).find(|_| breach(&bench.hear(Message::Request(request(99, 0)))));
    assert_eq!(asks, Some(2_000));
}

#[test]
fn a_choked_remote_gets_rejects_and_only_so_many() {
    let mut bench = Bench::uploading(true);
    bench.tell(ToPeer::Choke(true));
    let reject = Output::Send(Message::Reject(request(0, 0)));
    assert_eq!(bench.hear(Message::Request(request(0, 0))), [reject]);
    let asks = (0..3_000).find(|_| breach(&bench.hear(Message::Request(request(0, 0)))));
    assert_eq!(asks, Some(1_999));
    let mut slow = Bench::uploading(false);
    slow.tell(ToPeer::Choke(true));
    assert!(slow.hear(Message::Request(request(0, 0))).is_empty());
}

#[test]
fn a_choke_rejects_what_is_queued_and_takes_back_what_has_not_begun() {
    let mut bench = Bench::uploading(true);
    for piece in 0..2 {
        (0..4).for_each(|index| {
            bench.hear(Message::Request(request(piece, index)));
        });
    }
    let outputs = bench.tell(ToPeer::Choke(true));
    let rejects = sent(&outputs)
        .iter()
        .filter(|m| matches!(m, Message::Reject(_)))
        .count();
    let withdrawn = outputs
        .iter()
        .filter(|o| matches!(o, Output::CancelUpload(_)))
        .count();
    assert_eq!(
        (sent(&outputs)[0].clone(), rejects, withdrawn),
        (Message::Choke, 4, 4)
    );
    let outputs = bench.handle(Input::Uploaded {
        request: request(0, 0),
        sent: false,
    });
    assert_eq!(outputs, [Output::Send(Message::Reject(request(0, 0)))]);
    // It had begun: no reject follows.
    let outputs = bench.handle(Input::Uploaded {
        request: request(0, 1),
        sent: true,
    });
    assert!(sent(&outputs).is_empty());
}

#[test]
fn a_cancelled_request_is_answered_with_a_reject() {
    let mut bench = Bench::uploading(true);
    (0..4).for_each(|index| {
        bench.hear(Message::Request(request(0, index)));
    });
    bench.hear(Message::Request(request(1, 0)));
    let reject = Output::Send(Message::Reject(request(1, 0)));
    assert_eq!(bench.hear(Message::Cancel(request(1, 0))), [reject]);
    let outputs = bench.hear(Message::Cancel(request(0, 3)));
    assert_eq!(outputs, [Output::CancelUpload(request(0, 3))]);
    assert!(bench.hear(Message::Cancel(request(5, 0))).is_empty());
}

#[test]
fn more_than_we_queue_is_rejected() {
    let mut bench = Bench::uploading(true);
    let mut with_the_driver = 0;
    let full = (0..3_000).find(|_| {
        let outputs = bench.hear(Message::Request(request(0, 0)));
        let is_upload = |output: &&Output| matches!(output, Output::Upload(_));
        with_the_driver += outputs.iter().filter(is_upload).count();
        !sent(&outputs).is_empty()
    });
    // What the driver sends may have arrived already: a remote that asks for as many as it may is never rejected.
    assert_eq!(full, Some(2_000 + with_the_driver));
    assert!((1..=4).contains(&with_the_driver), "{with_the_driver}");
}

#[test]
fn more_than_we_queue_is_passed_over_where_the_remote_cannot_be_told() {
    let mut bench = Bench::uploading(false);
    for _ in 0..2 * MAX_QUEUED_REQUESTS {
        let outputs = bench.hear(Message::Request(request(0, 0)));
        assert!(sent(&outputs).is_empty() && !breach(&outputs));
    }
    // Nor without end.
    let cut_off = (0..10).any(|_| breach(&bench.hear(Message::Request(request(0, 0)))));
    assert!(cut_off);
}

#[test]
fn a_new_remote_may_fetch_its_allowed_fast_set_once_while_choked() {
    let settings = PeerSettings {
        allowed_fast: vec![PieceIndex(1)],
        ..PeerSettings::default()
    };
    let mut bench = Bench::new(negotiated(true, Has::All), settings);
    let outputs = bench.hear(Message::HaveNone);
    assert_eq!(
        sent(&outputs).last(),
        Some(&Message::AllowedFast(PieceIndex(1)))
    );
    for index in 0..4 {
        let asked = request(1, index);
        assert_eq!(bench.hear(Message::Request(asked)), [Output::Upload(asked)]);
    }
    let again = bench.hear(Message::Request(request(1, 0)));
    assert_eq!(sent(&again), [Message::Reject(request(1, 0))]);
    let other = bench.hear(Message::Request(request(2, 0)));
    assert_eq!(sent(&other), [Message::Reject(request(2, 0))]);
}

#[test]
fn a_piece_we_lost_is_taken_back_and_not_served_again() {
    let mut bench = Bench::uploading(true);
    let handshake = ExtendedHandshake {
        extensions: vec![("lt_donthave".to_owned(), 7)],
        ..ExtendedHandshake::default()
    };
    bench.hear(Message::ExtendedHandshake(handshake));
    bench.hear(Message::Request(request(3, 0)));
    let outputs = bench.tell(ToPeer::Lost(PieceIndex(3)));
    let expected = [
        Output::Send(Message::DontHave(PieceIndex(3))),
        Output::CancelUpload(request(3, 0)),
    ];
    assert_eq!(outputs, expected);
    let reject = Output::Send(Message::Reject(request(3, 1)));
    assert_eq!(bench.hear(Message::Request(request(3, 1))), [reject]);
}

#[test]
fn new_pieces_are_told_to_those_who_lack_them_and_to_seeds() {
    let mut bench = Bench::downloading(true);
    let outputs = bench.tell(ToPeer::Have(vec![PieceIndex(0)]));
    assert_eq!(sent(&outputs), [Message::Have(PieceIndex(0))]);
    bench.hear(Message::DontHave(PieceIndex(2)));
    let outputs = bench.tell(ToPeer::Have(vec![PieceIndex(1), PieceIndex(2)]));
    assert_eq!(sent(&outputs), [Message::Have(PieceIndex(2))]);
}

#[test]
fn suggestions_go_to_those_who_understand_and_lack_the_piece() {
    for (fast, has, told) in [
        (true, Message::HaveNone, true),
        (false, Message::Have(PieceIndex(0)), false),
        (true, Message::HaveAll, false),
    ] {
        let mut bench = Bench::new(negotiated(fast, Has::All), PeerSettings::default());
        bench.hear(has);
        let outputs = bench.tell(ToPeer::Suggest(PieceIndex(3)));
        let expected: &[Message] = if told {
            &[Message::Suggest(PieceIndex(3))]
        } else {
            &[]
        };
        assert_eq!(sent(&outputs), expected);
    }
}

#[test]
fn padding_behind_a_short_piece_may_be_asked_for_where_v2_is_spoken() {
    let whole_block = Request {
        length: BLOCK_LENGTH,
        ..request(7, 3)
    };
    let beyond = Request {
        begin: 4 * BLOCK_LENGTH - 1_000,
        length: 100,
        ..whole_block
    };
    for v2 in [false, true] {
        let negotiated = Negotiated {
            v2,
            ..negotiated(true, Has::All)
        };
        let mut bench = Bench::new(negotiated, PeerSettings::default());
        bench.hear(Message::Interested);
        bench.tell(ToPeer::Choke(false));
        let served = bench.hear(Message::Request(whole_block)) == [Output::Upload(whole_block)];
        assert_eq!(served, v2);
        let reject = Output::Send(Message::Reject(beyond));
        assert_eq!(bench.hear(Message::Request(beyond)), [reject]);
    }
}

#[test]
fn hash_requests_need_v2_and_sense_and_a_budget() {
    let sound = HashRequest {
        pieces_root: [1; 32],
        base_layer: 0,
        index: 512,
        length: 512,
        proof_layers: 3,
    };
    let mut v1 = Bench::uploading(true);
    assert!(breach(&v1.hear(Message::HashRequest(sound))));

    let v2 = Negotiated {
        v2: true,
        ..negotiated(true, Has::All)
    };
    let mut bench = Bench::new(v2, PeerSettings::default());
    bench.hear(Message::HaveNone);
    assert_eq!(
        bench.hear(Message::HashRequest(sound)),
        [Output::ServeHashes(sound)]
    );
    let served = Input::HashesServed {
        request: sound,
        hashes: None,
    };
    let reject = Output::Send(Message::HashReject(sound));
    assert_eq!(bench.handle(served.clone()), [reject]);
    assert!(bench.handle(served.clone()).is_empty());
    for wrong in [
        HashRequest { length: 3, ..sound },
        HashRequest {
            length: 1024,
            index: 1024,
            ..sound
        },
        HashRequest { index: 5, ..sound },
        // Each is possible, both together reach above every root.
        HashRequest {
            base_layer: 30,
            proof_layers: 30,
            ..sound
        },
        HashRequest {
            base_layer: u32::MAX,
            ..sound
        },
        HashRequest {
            proof_layers: u32::MAX,
            ..sound
        },
    ] {
        let reject = Output::Send(Message::HashReject(wrong));
        assert_eq!(bench.hear(Message::HashRequest(wrong)), [reject]);
    }
    let served_at_once = (0..100).take_while(|_| {
        let accepted = bench.hear(Message::HashRequest(sound)) == [Output::ServeHashes(sound)];
        bench.handle(served.clone());
        accepted
    });
    assert_eq!(served_at_once.count(), 30);
}

#[test]
fn whoever_never_stops_asking_for_impossible_hashes_is_cut_off_and_nothing_follows() {
    let v2 = Negotiated {
        v2: true,
        ..negotiated(true, Has::All)
    };
    let mut bench = Bench::new(v2, PeerSettings::default());
    let impossible = HashRequest {
        pieces_root: [1; 32],
        base_layer: 0,
        index: 0,
        length: 3,
        proof_layers: 0,
    };
    bench.hear(Message::HaveNone);
    for _ in 0..MAX_QUEUED_REQUESTS {
        let outputs = bench.hear(Message::HashRequest(impossible));
        assert_eq!(sent(&outputs), [Message::HashReject(impossible)]);
    }
    let outputs = bench.hear(Message::HashRequest(impossible));
    assert!(breach(&outputs) && matches!(outputs.last(), Some(Output::Close(_))));
}

#[test]
fn that_we_are_done_is_said_by_another_extension_handshake() {
    let mut bench = Bench::downloading(true);
    let outputs = bench.tell(ToPeer::UploadOnly(true));
    assert!(matches!(&sent(&outputs)[..], [Message::ExtendedHandshake(h)] if h.upload_only));
    let other = Message::Extended {
        id: UPLOAD_ONLY.1,
        payload: vec![1],
    };
    assert_eq!(told(&bench.hear(other)), [FromPeer::UploadOnly(true)]);
    let unknown = Message::Extended {
        id: 200,
        payload: vec![1],
    };
    assert!(bench.hear(unknown).is_empty());
}

#[test]
fn hints_are_bounded() {
    let mut bench = Bench::downloading(true);
    let hints = (0..1_000).map(|_| bench.hear(Message::Suggest(PieceIndex(1))).len());
    assert_eq!(hints.sum::<usize>(), 256);
    assert!(
        bench
            .hear(Message::AllowedFast(PieceIndex(1_000)))
            .is_empty()
    );
    assert!(bench.hear(Message::Suggest(PieceIndex(1_000))).is_empty());
}

/// A seed and a leech back to back: what one says reaches the other later, in order, and everything else at any time.
fn transfer(seed: u64, fast: bool, chokes: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut benches = [Has::All, Has::None]
        .map(|ours| Bench::new(negotiated(fast, ours), PeerSettings::default()));
    let mut wires: [VecDeque<Input>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut torrents: [VecDeque<ToPeer>; 2] = [
        VecDeque::from([ToPeer::Choke(false)]),
        VecDeque::from([ToPeer::Interested(true)]),
    ];
    let mut open: VecDeque<Block> = layout()
        .pieces()
        .flat_map(|p| run(p.0, 0, 4).blocks())
        .collect();
    let mut received = 0;
    for step in 0..20_000u32 {
        let side = rng.usize(0..2);
        let outputs = match rng.u8(0..4) {
            0 => torrents[side]
                .pop_front()
                .map(|m| benches[side].tell(m))
                .unwrap_or_default(),
            1 if chokes && side == 0 && rng.u8(0..40) == 0 && step < 10_000 => {
                benches[0].tell(ToPeer::Choke(rng.bool()))
            }
            2 => benches[side].drain(),
            _ => wires[side]
                .pop_front()
                .map(|i| benches[side].handle(i))
                .unwrap_or_default(),
        };
        let now = benches[side].now + Duration::from_millis(rng.u64(0..3));
        benches[side].now = now;
        if benches[side]
            .session
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            wires[side].push_front(Input::Tick);
        }
        if step == 10_000 {
            torrents[0].push_back(ToPeer::Choke(false));
        }
        for output in outputs {
            match output {
                Output::Send(message) => wires[1 - side].push_back(Input::Message(message)),
                Output::Upload(request) => {
                    let sent = rng.u8(0..20) != 0 || !fast;
                    if sent {
                        wires[1 - side].push_back(Input::Message(Message::Piece(request)));
                    }
                    wires[side].push_front(Input::Uploaded { request, sent });
                }
                Output::Store(block) => wires[side].push_front(Input::BlockStored(block)),
                Output::Torrent(FromPeer::Want { blocks, .. }) => {
                    let count = open.len().min(blocks as usize);
                    let mut runs = Vec::new();
                    open.drain(..count)
                        .for_each(|block| BlockRun::push(&mut runs, block));
                    torrents[side].push_back(ToPeer::Lease(runs));
                }
                Output::Torrent(FromPeer::Received(runs)) => {
                    received += runs.iter().map(|run| run.count).sum::<u32>();
                }
                Output::Torrent(FromPeer::Returned { runs, .. }) => {
                    open.extend(runs.iter().flat_map(|run| run.blocks()));
                    // What the torrent remembered of the wish is met by what came back.
                    let wished = benches[side].session.wished as usize;
                    let mut runs = Vec::new();
                    let count = open.len().min(wished);
                    open.drain(..count)
                        .for_each(|block| BlockRun::push(&mut runs, block));
                    torrents[side].push_back(ToPeer::Lease(runs));
                }
                Output::Close(reason) => panic!("seed {seed}: side {side} closed: {reason:?}"),
                _ => {}
            }
        }
    }
    assert_eq!(received, 32, "seed {seed}, fast {fast}");
}

#[test]
fn a_leech_fetches_everything_from_a_seed_whatever_the_interleaving() {
    for seed in 0..20 {
        transfer(seed, seed % 2 == 0, seed % 3 == 0);
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => (0u32..8, 0u32..4).prop_map(|(piece, block)| request(piece, block)),
        1 => (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Request {
            piece: PieceIndex(piece),
            begin,
            length,
        }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    let piece = || prop_oneof![9 => 0u32..8, 1 => any::<u32>()].prop_map(PieceIndex);
    prop_oneof![
        1 => Just(Message::KeepAlive),
        1 => Just(Message::Choke),
        3 => Just(Message::Unchoke),
        1 => Just(Message::Interested),
        1 => Just(Message::NotInterested),
        1 => piece().prop_map(Message::Have),
        1 => any::<u8>().prop_map(|bits| Message::Bitfield(vec![bits])),
        3 => any_request().prop_map(Message::Request),
        6 => any_request().prop_map(Message::Piece),
        1 => any_request().prop_map(Message::Cancel),
        3 => any_request().prop_map(Message::Reject),
        1 => piece().prop_map(Message::AllowedFast),
        1 => piece().prop_map(Message::Suggest),
        1 => piece().prop_map(Message::DontHave),
        1 => any::<u32>().prop_map(|reqq| Message::ExtendedHandshake(ExtendedHandshake {
            reqq: Some(reqq),
            ..ExtendedHandshake::default()
        })),
    ]
}

fn any_run() -> impl Strategy<Value = BlockRun> {
    (0u32..8, 0u32..4, 1u32..5)
        .prop_map(|(piece, first, count)| run(piece, first, count.min(4 - first)))
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => any_message().prop_map(Input::Message),
        4 => any_run().prop_map(|run| Input::Torrent(ToPeer::Lease(vec![run]))),
        1 => any_run().prop_map(|run| Input::Torrent(ToPeer::Revoke(vec![run]))),
        1 => any::<bool>().prop_map(|choke| Input::Torrent(ToPeer::Choke(choke))),
        1 => any::<bool>().prop_map(|on| Input::Torrent(ToPeer::Interested(on))),
        1 => (0u32..8).prop_map(|piece| Input::Torrent(ToPeer::Have(vec![PieceIndex(piece)]))),
        1 => (0u32..8).prop_map(|piece| Input::Torrent(ToPeer::Lost(PieceIndex(piece)))),
        4 => (0u32..8, 0u32..4).prop_map(|(p, b)| Input::BlockStored(block(p, b))),
        1 => (0u32..8, 0u32..4).prop_map(|(p, b)| Input::BlockKnown(block(p, b))),
        1 => (any_request(), any::<bool>()).prop_map(|(request, sent)| Input::Uploaded { request, sent }),
        1 => any::<bool>().prop_map(Input::Backpressure),
        2 => Just(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// The bench counts leases; a breach of the protocol must not lose one either.
    #[test]
    fn every_leased_block_comes_back_once_whatever_happens(
        fast in any::<bool>(),
        seed in any::<bool>(),
        inputs in proptest::collection::vec((any_input(), 0u64..8_000), 0..120),
    ) {
        let ours = if seed { Has::All } else { Has::None };
        let mut bench = Bench::new(negotiated(fast, ours), PeerSettings::default());
        for (input, pause_ms) in inputs {
            let again = |block: Block| bench.leased.contains_key(&block);
            if matches!(&input, Input::Torrent(ToPeer::Lease(runs)) if bench.left || runs[0].blocks().any(again)) {
                continue;
            }
            bench.now = bench.now + Duration::from_millis(pause_ms);
            bench.handle(input);
            if let Some(deadline) = bench.session.deadline() {
                // A tick at the deadline must make progress.
                bench.now = bench.now.max(deadline.min(bench.now + Duration::from_secs(1)));
                bench.handle(Input::Tick);
            }
        }
        bench.handle(Input::Disconnected);
        prop_assert!(bench.left && bench.leased.is_empty());
    }
}

/// A session that may tell of peers, to a remote that wants to know.
fn exchanging() -> Bench {
    let settings = PeerSettings {
        exchange: true,
        your_ip: Some([10, 0, 0, 200].into()),
        ..PeerSettings::default()
    };
    let mut bench = Bench::new(negotiated(true, Has::None), settings);
    bench.drain();
    bench.hear(Message::HaveNone);
    bench.hear(Message::ExtendedHandshake(ExtendedHandshake {
        extensions: Extension::offer(),
        port: Some(7_000),
        ..ExtendedHandshake::default()
    }));
    bench
}

#[test]
fn where_a_remote_sees_us_is_told_once_and_after_it_has_joined() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.drain();
    let seen = |host| {
        Message::ExtendedHandshake(ExtendedHandshake {
            your_ip: Some([80, 1, 1, host].into()),
            ..ExtendedHandshake::default()
        })
    };
    let told = |outputs: Vec<Output>| {
        let told = outputs.into_iter().filter_map(|output| match output {
            Output::Torrent(FromPeer::SeesUsAt(ip)) => Some(ip),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(bench.hear(seen(1))), Vec::<IpAddr>::new());
    assert_eq!(
        told(bench.hear(Message::HaveNone)),
        [IpAddr::from([80, 1, 1, 1])]
    );
    assert_eq!(told(bench.hear(seen(2))), Vec::<IpAddr>::new());
}

fn contacts(hosts: core::ops::Range<u8>) -> Arc<[Contact]> {
    let contact = |host| Contact {
        address: ([10, 0, 0, host], 7_000).into(),
        flags: ContactFlags::default(),
    };
    hosts.map(contact).collect()
}

fn exchanges(outputs: &[Output]) -> Vec<PeerExchange> {
    let exchange = |message: Message| match message {
        Message::PeerExchange(exchange) => Some(exchange),
        _ => None,
    };
    sent(outputs).into_iter().filter_map(exchange).collect()
}

#[test]
fn a_remote_is_told_of_changes_once_a_minute_and_of_fifty_at_a_time() {
    let mut bench = exchanging();
    let outputs = bench.tell(ToPeer::Contacts(contacts(0..70)));
    let [first] = &exchanges(&outputs)[..] else {
        panic!("it is told at once");
    };
    assert_eq!((first.added.len(), first.dropped.len()), (50, 0));
    // Ten of those it knows go, and it hears of that with the rest, when a minute has passed.
    assert_eq!(
        exchanges(&bench.tell(ToPeer::Contacts(contacts(10..70)))),
        []
    );
    assert_eq!(exchanges(&bench.wait(59)), []);
    let [second] = &exchanges(&bench.wait(1))[..] else {
        panic!("it is told after a minute");
    };
    assert_eq!((second.added.len(), second.dropped.len()), (20, 10));
    assert!(
        second
            .added
            .iter()
            .all(|contact| !first.added.contains(contact))
    );
    assert_eq!(exchanges(&bench.wait(90)), []);
}

#[test]
fn a_remote_is_not_told_of_itself_nor_without_having_asked() {
    let mut bench = exchanging();
    assert_eq!(
        exchanges(&bench.tell(ToPeer::Contacts(contacts(200..201)))),
        []
    );
    // One that has not said that it wants to know yet is told when it does.
    let settings = PeerSettings {
        exchange: true,
        ..PeerSettings::default()
    };
    let mut bench = Bench::new(negotiated(true, Has::None), settings);
    bench.drain();
    assert_eq!(exchanges(&bench.tell(ToPeer::Contacts(contacts(1..3)))), []);
    let outputs = bench.hear(Message::ExtendedHandshake(ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    }));
    assert_eq!(exchanges(&outputs).len(), 1);
}

#[test]
fn a_torrent_that_keeps_to_itself_offers_no_exchange_and_hears_none() {
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    let offered = sent(&bench.drain()).into_iter().any(|message| {
        matches!(message, Message::ExtendedHandshake(handshake)
            if handshake.extensions.iter().any(|(name, _)| name == "ut_pex"))
    });
    assert!(!offered);
    bench.hear(Message::HaveNone);
    bench.hear(Message::ExtendedHandshake(ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    }));
    assert_eq!(exchanges(&bench.tell(ToPeer::Contacts(contacts(1..3)))), []);
    let exchange = PeerExchange {
        added: contacts(1..3).to_vec(),
        dropped: Vec::new(),
    };
    assert_eq!(bench.hear(Message::PeerExchange(exchange)), []);
}

/// The addresses that a message makes the torrent hear of.
fn introduced(outputs: &[Output]) -> usize {
    let count = |output: &Output| match output {
        Output::Torrent(FromPeer::Introduced(addresses)) => addresses.len(),
        _ => 0,
    };
    outputs.iter().map(count).sum()
}

#[test]
fn fifty_contacts_of_a_remote_are_taken_and_a_flood_ends_the_connection() {
    let mut bench = exchanging();
    let exchange = |added: core::ops::Range<u8>, dropped: core::ops::Range<u8>| {
        let dropped = contacts(dropped)
            .iter()
            .map(|contact| contact.address)
            .collect();
        let added = contacts(added).to_vec();
        Message::PeerExchange(PeerExchange { added, dropped })
    };
    assert_eq!(introduced(&bench.hear(exchange(0..40, 0..0))), 40);
    assert_eq!(
        introduced(&bench.hear(exchange(20..80, 0..0))),
        10,
        "fifty in all"
    );
    // Those that it takes back make room.
    assert_eq!(introduced(&bench.hear(exchange(90..120, 0..5))), 5);
    for _ in 0..3 {
        bench.hear(exchange(0..1, 0..0));
    }
    let outputs = bench.hear(exchange(0..1, 0..0));
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Close(_)))
    );
}

#[test]
fn whoever_a_piece_came_from_hears_that_we_have_it_and_others_who_have_it_do_not() {
    let some = || {
        let mut field = Bitfield::empty(8);
        field.insert(PieceIndex(1));
        field.insert(PieceIndex(2));
        Message::Bitfield(field.to_wire())
    };
    let mut bench = Bench::new(negotiated(true, Has::None), PeerSettings::default());
    bench.drain();
    bench.hear(some());
    bench.tell(ToPeer::Interested(true));
    bench.hear(Message::Unchoke);
    bench.tell(ToPeer::Lease(vec![run(1, 0, 1)]));
    bench.hear(Message::Piece(request(1, 0)));
    bench.handle(Input::BlockStored(block(1, 0)));
    let pieces = (1..3).map(PieceIndex).collect();
    let outputs = bench.tell(ToPeer::Have(pieces));
    let have = |piece| Message::Have(PieceIndex(piece));
    let said = sent(&outputs);
    assert!(said.contains(&have(1)) && !said.contains(&have(2)));
}

fn hole_punches(outputs: &[Output]) -> Vec<HolePunch> {
    let punch = |message: Message| match message {
        Message::HolePunch(message) => message,
        _ => None,
    };
    sent(outputs).into_iter().filter_map(punch).collect()
}

#[test]
fn hole_punching_is_offered_and_spoken_only_where_peers_are_told_of_each_other() {
    let message = HolePunch {
        kind: HolePunchKind::Connect,
        address: ([192, 0, 2, 1], 7_000).into(),
    };
    for (exchange, punches) in [(true, true), (true, false), (false, true)] {
        let settings = PeerSettings {
            exchange,
            punches,
            ..PeerSettings::default()
        };
        let mut bench = Bench::new(negotiated(true, Has::None), settings);
        let offered = sent(&bench.drain()).into_iter().any(|message| {
            matches!(message, Message::ExtendedHandshake(handshake)
                if handshake.extensions.iter().any(|(name, _)| name == "ut_holepunch"))
        });
        let both = exchange && punches;
        assert_eq!(offered, both);
        bench.hear(Message::HaveNone);
        assert_eq!(
            hole_punches(&bench.tell(ToPeer::HolePunch(message))),
            [],
            "it has not said that it knows how"
        );
        assert_eq!(told(&bench.hear(Message::HolePunch(Some(message)))), []);
        let knows = |id| {
            Message::ExtendedHandshake(ExtendedHandshake {
                extensions: vec![("ut_holepunch".into(), id)],
                ..ExtendedHandshake::default()
            })
        };
        let heard = told(&bench.hear(knows(9)));
        assert_eq!(heard.contains(&FromPeer::Punches(true)), both);
        let outputs = bench.tell(ToPeer::HolePunch(message));
        assert_eq!(hole_punches(&outputs).len(), usize::from(both));
        let heard = told(&bench.hear(Message::HolePunch(Some(message))));
        assert_eq!(heard.contains(&FromPeer::HolePunch(message)), both);
        assert_eq!(told(&bench.hear(Message::HolePunch(None))), []);
        let heard = told(&bench.hear(knows(0)));
        assert_eq!(heard.contains(&FromPeer::Punches(false)), both);
    }
}

#[test]
fn who_knows_how_to_punch_holes_is_told_of_once_it_has_joined() {
    let settings = PeerSettings {
        exchange: true,
        punches: true,
        ..PeerSettings::default()
    };
    let mut bench = Bench::new(negotiated(true, Has::None), settings);
    bench.drain();
    let handshake = ExtendedHandshake {
        extensions: Extension::offer(),
        ..ExtendedHandshake::default()
    };
    assert_eq!(told(&bench.hear(Message::ExtendedHandshake(handshake))), []);
    let heard = told(&bench.hear(Message::HaveNone));
    assert!(
        matches!(
            heard[..],
            [FromPeer::Joined { .. }, FromPeer::Punches(true)]
        ),
        "{heard:?}"
    );
}

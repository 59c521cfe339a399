//! What a downloader expects of its picker, told as short stories.

use super::*;
use core::time::Duration;
use shoal_metainfo::BLOCK_LENGTH;

const SLOW: u64 = 100;
const FAST: u64 = 1_000_000;

struct Story {
    picker: Picker,
    rng: fastrand::Rng,
    now: Moment,
    parole: Vec<PeerKey>,
}

impl Story {
    /// A torrent of so many pieces of four blocks, of which we have the first `have`.
    fn new(pieces: u32, have: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        let layout = Layout::contiguous(u64::from(pieces * 4 * BLOCK_LENGTH), 4 * BLOCK_LENGTH);
        let Has::Some(have) = some(pieces, 0..have) else {
            unreachable!()
        };
        Story {
            picker: Picker::new(layout.unwrap(), &have, &mut rng),
            rng,
            now: Moment::from_secs(1),
            parole: Vec::new(),
        }
    }

    fn ask(&mut self, peer: u64, has: &Has, rate: u64, blocks: u32) -> Vec<(u32, u32)> {
        let ask = Ask {
            peer: PeerKey(peer),
            has,
            only: None,
            suggested: &[],
            parole: self.parole.contains(&PeerKey(peer)),
            rate_bytes_per_s: rate,
            in_runs: false,
        };
        self.ask_as(&ask, blocks)
    }

    fn ask_as(&mut self, ask: &Ask<'_>, blocks: u32) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        self.picker
            .pick(self.now, ask, blocks, &mut self.rng, &mut out);
        let blocks = out.into_iter().flat_map(BlockRun::blocks);
        blocks.map(|block| (block.piece.0, block.block.0)).collect()
    }

    /// What the last of these blocks was.
    fn receive(&mut self, peer: u64, blocks: &[(u32, u32)]) -> Option<Receipt> {
        let mut last = None;
        for &at in blocks {
            last = Some(self.picker.received(block(at), PeerKey(peer)));
        }
        last
    }

    fn give_back(&mut self, peer: u64, blocks: &[(u32, u32)]) {
        for &at in blocks {
            self.picker.returned(block(at), PeerKey(peer));
        }
    }

    fn due(&mut self, first: u32, last: u32, deadline_s: u64) {
        assert!(self.picker.set_due(DeadlineLease {
            id: 1,
            first: PieceIndex(first),
            last: PieceIndex(last),
            deadline: Moment::from_secs(deadline_s),
            rate_bytes_per_s: u64::from(4 * BLOCK_LENGTH),
        }));
    }
}

fn block((piece, block): (u32, u32)) -> Block {
    Block {
        piece: PieceIndex(piece),
        block: BlockIndex(block),
    }
}

fn some(pieces: u32, which: impl IntoIterator<Item = u32>) -> Has {
    let mut field = Bitfield::empty(pieces);
    for piece in which {
        field.insert(PieceIndex(piece));
    }
    Has::Some(field)
}

fn pieces(blocks: &[(u32, u32)]) -> Vec<u32> {
    let mut pieces: Vec<u32> = blocks.iter().map(|&(piece, _)| piece).collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

fn whole(piece: u32) -> Vec<(u32, u32)> {
    (0..4).map(|block| (piece, block)).collect()
}

#[test]
fn the_rarest_piece_that_the_peer_has_comes_first() {
    let mut story = Story::new(10, 4);
    story.picker.peer_joined(&some(10, [4, 5, 6, 7, 8]));
    story.picker.peer_joined(&some(10, [4, 5, 6, 8]));
    story.picker.peer_joined(&some(10, [4, 6]));
    story.picker.piece_gained(PieceIndex(9));
    // Rarer than all is 9, but the peer lacks it; then 7, then 5 and 8.
    let has = some(10, [4, 5, 6, 7, 8]);
    assert_eq!(story.ask(1, &has, FAST, 4), whole(7));
    let next = story.ask(1, &has, FAST, 8);
    assert_eq!(pieces(&next), [5, 8]);
}

#[test]
fn among_equals_the_choice_is_random() {
    let mut firsts: Vec<u32> = (0..50)
        .map(|seed| {
            let mut story = Story::new(10, 4);
            story.rng = fastrand::Rng::with_seed(seed);
            story.ask(1, &Has::All, FAST, 1)[0].0
        })
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn who_has_nothing_begins_anywhere_rather_than_with_the_rarest() {
    let firsts = (0..50).map(|seed| {
        let mut story = Story::new(10, 0);
        story.rng = fastrand::Rng::with_seed(seed);
        let has = some(10, 0..10);
        story.picker.peer_joined(&has);
        story.picker.peer_joined(&some(10, 1..10));
        story.ask(1, &has, FAST, 1)[0].0
    });
    assert!(firsts.collect::<std::collections::BTreeSet<_>>().len() > 3);
}

#[test]
fn a_peer_whose_pieces_are_far_down_the_order_is_still_served_rarest_first() {
    let mut story = Story::new(20_000, 10);
    // A hundred copies of the last two pieces, one copy of all others: those come first, and this peer has none of them.
    story.picker.peer_joined(&some(20_000, 0..20_000));
    for _ in 0..100 {
        story.picker.piece_gained(PieceIndex(19_998));
        story.picker.piece_gained(PieceIndex(19_999));
    }
    story.picker.piece_gained(PieceIndex(19_999));
    let has = some(20_000, [19_998, 19_999]);
    assert_eq!(story.ask(1, &has, FAST, 4), whole(19_998));
    assert_eq!(story.ask(1, &has, FAST, 4), whole(19_999));
}

#[test]
fn higher_priority_comes_before_rarer_and_before_what_is_in_progress() {
    let mut story = Story::new(10, 4);
    let has = some(10, 0..10);
    story.picker.peer_joined(&has);
    story.picker.peer_joined(&some(10, [9]));
    let first = story.ask(1, &has, SLOW, 1)[0].0;
    assert_ne!(first, 9, "the rarest");
    story.picker.set_priority(PieceIndex(9), Priority::Highest);
    assert_eq!(story.ask(1, &has, SLOW, 4), whole(9));
    story.picker.set_priority(PieceIndex(8), Priority::High);
    assert_eq!(story.ask(1, &has, SLOW, 3)[0].0, 8);
}

#[test]
fn in_order_means_the_lowest_piece_of_the_highest_priority() {
    let mut story = Story::new(10, 1);
    story.picker.set_sequential(true);
    story.picker.set_priority(PieceIndex(6), Priority::High);
    story.picker.set_priority(PieceIndex(1), Priority::Skip);
    assert_eq!(pieces(&story.ask(1, &Has::All, FAST, 12)), [2, 3, 6]);
    assert_eq!(pieces(&story.ask(1, &some(10, [2, 5, 9]), FAST, 4)), [5]);
}

#[test]
fn slow_peers_share_a_piece_and_a_fast_one_takes_its_own() {
    let mut story = Story::new(10, 4);
    for _ in 0..4 {
        story.picker.peer_joined(&Has::All);
    }
    let mine = story.ask(1, &Has::All, SLOW, 1);
    let shared = story.ask(2, &Has::All, 0, 1);
    assert_eq!(pieces(&mine), pieces(&shared));
    let own = story.ask(3, &Has::All, FAST, 2);
    assert_ne!(pieces(&own), pieces(&mine));
    // The fast peer goes on with its own; the slow ones stay where they are.
    assert_eq!(pieces(&story.ask(3, &Has::All, FAST, 2)), pieces(&own));
    assert_eq!(pieces(&story.ask(1, &Has::All, SLOW, 2)), pieces(&mine));
    let other = story.ask(4, &Has::All, FAST, 1);
    assert!(pieces(&other) != pieces(&own) && pieces(&other) != pieces(&mine));
}

#[test]
fn where_there_is_no_choice_fast_and_slow_share() {
    let mut story = Story::new(5, 4);
    assert_eq!(story.ask(1, &Has::All, FAST, 1), [(4, 0)]);
    assert_eq!(story.ask(2, &Has::All, SLOW, 1), [(4, 1)]);
    assert_eq!(story.ask(3, &Has::All, FAST, 1), [(4, 2)]);
}

#[test]
fn what_somebody_left_is_finished_first() {
    let mut story = Story::new(100, 4);
    let begun = story.ask(1, &Has::All, FAST, 3);
    story.receive(1, &begun[..2]);
    story.give_back(1, &begun[2..]);
    let rest = story.ask(2, &Has::All, FAST, 2);
    assert_eq!(rest, [begun[2], (begun[0].0, 3)]);
}

#[test]
fn the_piece_closest_to_its_end_is_finished_first() {
    let mut story = Story::new(100, 4);
    let a = story.ask(1, &Has::All, FAST, 4);
    let b = story.ask(1, &Has::All, FAST, 4);
    story.receive(1, &a[..1]);
    story.give_back(1, &a[1..]);
    story.receive(1, &b[..3]);
    story.give_back(1, &b[3..]);
    assert_eq!(story.ask(2, &Has::All, SLOW, 2), [b[3], a[1]]);
}

#[test]
fn a_returned_piece_of_which_nothing_came_is_as_if_never_begun() {
    let mut story = Story::new(10, 4);
    let begun = story.ask(1, &Has::All, FAST, 4);
    assert!(story.picker.is_in_progress(PieceIndex(begun[0].0)));
    story.give_back(1, &begun);
    assert!(!story.picker.is_in_progress(PieceIndex(begun[0].0)));
    assert_eq!(story.ask(2, &Has::All, FAST, 100).len(), 24);
}

#[test]
fn pieces_are_finished_before_too_many_are_begun() {
    let mut story = Story::new(1000, 4);
    for peer in 0..20 {
        story.picker.peer_joined(&Has::All);
        story.ask(peer, &Has::All, FAST, 1);
    }
    // Twenty peers may have thirty open pieces.
    for peer in 20..30 {
        story.ask(peer, &Has::All, FAST, 1);
    }
    let begun = |story: &Story| story.picker.partials.len();
    assert_eq!(begun(&story), 30);
    story.ask(30, &Has::All, FAST, 1);
    assert_eq!(begun(&story), 30, "it joins one of the thirty");
    let elsewhere: Vec<u32> = (4..1000)
        .filter(|&piece| !story.picker.is_in_progress(PieceIndex(piece)))
        .collect();
    let has = some(1000, elsewhere);
    story.picker.peer_joined(&has);
    assert_eq!(story.ask(31, &has, FAST, 1).len(), 1);
    assert_eq!(
        begun(&story),
        31,
        "it has none of them, and would stand idle"
    );
}

#[test]
fn blocks_in_progress_are_bounded_yet_nobody_starves() {
    let mut rng = fastrand::Rng::with_seed(1);
    let layout = Layout::contiguous(100 << 28, 1 << 28).unwrap();
    let mut story = Story::new(1, 0);
    story.picker = Picker::new(layout, &Bitfield::empty(100), &mut rng);
    let per_piece = 1 << 14;
    story.picker.peer_joined(&Has::All);
    assert_eq!(
        story.ask(1, &Has::All, FAST, u32::MAX).len(),
        16 * per_piece
    );
    assert_eq!(story.ask(2, &Has::All, FAST, u32::MAX).len(), per_piece);
    assert_eq!(story.ask(2, &Has::All, FAST, u32::MAX).len(), 0);
}

#[test]
fn the_last_blocks_are_asked_for_twice_beginning_with_those_of_the_slowest() {
    let mut story = Story::new(6, 4);
    let fast = story.ask(1, &Has::All, FAST, 4);
    assert_eq!(
        story.ask(2, &Has::All, SLOW, 4).len(),
        4,
        "no duplicate while there is work"
    );
    let slow = whole(if fast[0].0 == 4 { 5 } else { 4 });
    // Of the slow peer's blocks the last one is expected latest.
    assert_eq!(story.ask(3, &Has::All, FAST, 1), [slow[3]]);
    assert_eq!(story.ask(3, &Has::All, FAST, 3), slow[..3]);
    // Blocks of one holder come before those of two, and no block ever has four.
    assert_eq!(story.ask(4, &Has::All, FAST, 4), fast);
    assert_eq!(story.ask(4, &Has::All, FAST, 100), slow);
    assert_eq!(story.ask(5, &Has::All, FAST, 100), fast);
    assert_eq!(story.ask(6, &Has::All, FAST, 100), []);
    let receipt = story.receive(5, &fast[..1]);
    let others = SmallVec::from_slice(&[PeerKey(1), PeerKey(4)]);
    let piece_complete = false;
    assert_eq!(
        receipt,
        Some(Receipt::New {
            piece_complete,
            others
        })
    );
    assert_eq!(story.receive(1, &fast[..1]), Some(Receipt::Duplicate));
}

#[test]
fn no_block_is_asked_for_twice_while_somebody_could_be_asked_for_another() {
    let mut story = Story::new(6, 4);
    story.picker.peer_joined(&some(6, [4, 5]));
    let poor = some(6, [4]);
    story.picker.peer_joined(&poor);
    assert_eq!(story.ask(2, &poor, FAST, 4), whole(4));
    assert_eq!(story.ask(3, &poor, FAST, 4), []);
    story.picker.piece_lost(PieceIndex(5));
    assert_eq!(
        story.ask(3, &poor, FAST, 4),
        whole(4),
        "nobody has the other one"
    );
}

#[test]
fn a_choking_peer_is_asked_only_for_what_it_allows() {
    let mut story = Story::new(10, 4);
    let (has, allowed) = (
        some(10, [4, 5, 6]),
        [PieceIndex(5), PieceIndex(9), PieceIndex(0)],
    );
    let ask = Ask {
        peer: PeerKey(1),
        has: &has,
        only: Some(&allowed),
        suggested: &[],
        parole: false,
        rate_bytes_per_s: 0,
        in_runs: false,
    };
    assert_eq!(story.ask_as(&ask, 100), whole(5));
}

#[test]
fn a_suggestion_comes_before_a_rarer_piece_but_not_before_what_is_due() {
    let mut story = Story::new(10, 4);
    story.due(4, 4, 5);
    let (has, suggested) = (
        some(10, 0..10),
        [PieceIndex(0), PieceIndex(7), PieceIndex(8)],
    );
    story.picker.peer_joined(&has);
    story.picker.piece_gained(PieceIndex(7));
    story.picker.piece_gained(PieceIndex(8));
    let ask = Ask {
        peer: PeerKey(1),
        has: &has,
        only: None,
        suggested: &suggested,
        parole: false,
        rate_bytes_per_s: FAST,
        in_runs: false,
    };
    assert_eq!(story.ask_as(&ask, 4), whole(4));
    assert_eq!(story.ask_as(&ask, 4), whole(8), "the last suggestion first");
    assert_eq!(story.ask_as(&ask, 4), whole(7));
}

#[test]
fn due_pieces_come_by_deadline_from_whoever_has_them() {
    let mut story = Story::new(1000, 4);
    story.due(500, 900, 5);
    assert_eq!(pieces(&story.ask(1, &Has::All, FAST, 12)), [500, 501, 502]);
    assert_eq!(
        pieces(&story.ask(2, &some(1000, [501, 700, 504]), SLOW, 4)),
        [504]
    );
    // A minute ahead is enough: what comes later is picked as usual.
    let rest = story.ask(3, &Has::All, FAST, 400);
    let due = pieces(&rest)
        .into_iter()
        .filter(|piece| (500..=900).contains(piece));
    assert!((51..=60 + 20).contains(&due.count()));
    story.picker.end_due(1);
    assert!(story.picker.readers.is_empty());
}

#[test]
fn a_due_block_that_will_be_late_is_asked_for_again_elsewhere() {
    let mut story = Story::new(100, 4);
    story.due(50, 50, 3);
    assert_eq!(story.ask(1, &Has::All, SLOW, 4), whole(50));
    let slower = story.ask(5, &Has::All, SLOW / 2, 1);
    assert_ne!(pieces(&slower), [50], "it would be later still");
    let rescued = story.ask(2, &Has::All, FAST, 4);
    assert_eq!(rescued, whole(50), "the slow one needs minutes");
    let on_time = story.ask(3, &Has::All, 2 * FAST, 4);
    assert_ne!(
        pieces(&on_time),
        [50],
        "two are enough while one of them will be on time"
    );
    story.now = story.now + Duration::from_secs(6000);
    assert_eq!(
        story.ask(3, &Has::All, FAST, 4),
        whole(50),
        "both are overdue"
    );
    assert_ne!(
        pieces(&story.ask(4, &Has::All, FAST, 4)),
        [50],
        "three are the most"
    );
}

#[test]
fn a_suspect_gets_pieces_of_its_own() {
    let mut story = Story::new(7, 4);
    story.parole.push(PeerKey(2));
    let shared = story.ask(1, &Has::All, SLOW, 1);
    let own = story.ask(2, &Has::All, SLOW, 2);
    assert_ne!(pieces(&own), pieces(&shared));
    let rest = story.ask(1, &Has::All, SLOW, 100);
    assert!(
        !pieces(&rest).contains(&own[0].0),
        "nobody joins the suspect"
    );
    assert_eq!(
        story.ask(2, &Has::All, SLOW, 100),
        [(own[0].0, 2), (own[0].0, 3)]
    );
    assert_eq!(
        story.ask(2, &Has::All, SLOW, 100),
        [],
        "nor does it double others' work"
    );
    // When it leaves, others finish the piece.
    story.receive(2, &own[..1]);
    story.give_back(2, &[(own[0].0, 1), (own[0].0, 2), (own[0].0, 3)]);
    assert_eq!(
        story.ask(3, &Has::All, SLOW, 3),
        [(own[0].0, 1), (own[0].0, 2), (own[0].0, 3)]
    );
}

#[test]
fn a_suspect_that_is_alone_may_finish_what_others_left() {
    let mut story = Story::new(5, 4);
    let begun = story.ask(1, &Has::All, SLOW, 4);
    story.receive(1, &begun[..1]);
    story.parole.push(PeerKey(2));
    assert_eq!(story.ask(2, &Has::All, SLOW, 4), []);
    story.give_back(1, &begun[1..]);
    assert_eq!(story.ask(2, &Has::All, SLOW, 4), begun[1..]);
}

#[test]
fn a_failed_piece_is_fetched_again_whole_or_in_its_bad_blocks() {
    let mut story = Story::new(5, 4);
    let all = story.ask(1, &Has::All, FAST, 4);
    let last = story.receive(1, &all);
    assert!(matches!(
        last,
        Some(Receipt::New {
            piece_complete: true,
            ..
        })
    ));
    assert_eq!(story.picker.remaining_blocks(), 0);
    assert!(!story.picker.is_complete());
    assert_eq!(
        story.ask(2, &Has::All, FAST, 4),
        [],
        "it waits for its verification"
    );
    assert_eq!(
        story.picker.contributors(PieceIndex(4)).to_vec(),
        [PeerKey(1)]
    );
    story.picker.failed(PieceIndex(4), &[BlockIndex(2)]);
    assert_eq!(story.ask(2, &Has::All, FAST, 4), [(4, 2)]);
    story.receive(2, &[(4, 2)]);
    let sources = story.picker.sources(PieceIndex(4));
    assert_eq!(
        sources[1..3],
        [(BlockIndex(1), PeerKey(1)), (BlockIndex(2), PeerKey(2))]
    );
    story.picker.failed(PieceIndex(4), &[]);
    assert_eq!(story.picker.remaining_bytes(), u64::from(4 * BLOCK_LENGTH));
    let again = story.ask(2, &Has::All, FAST, 4);
    assert_eq!(again, whole(4));
    story.receive(2, &again);
    story.picker.verified(PieceIndex(4));
    assert!(story.picker.is_complete() && story.picker.have().is_full());
}

#[test]
fn what_could_not_be_kept_or_was_lost_is_fetched_again() {
    let mut story = Story::new(5, 4);
    story.picker.peer_joined(&Has::All);
    let all = story.ask(1, &Has::All, FAST, 4);
    story.receive(1, &all[..2]);
    story.picker.dropped(PieceIndex(4));
    assert_eq!(
        story.ask(2, &Has::All, FAST, 2),
        all[..2],
        "what is still leased stays so"
    );
    story.picker.lost(PieceIndex(0));
    assert!(!story.picker.have().get(PieceIndex(0)));
    assert_eq!(story.ask(2, &Has::All, FAST, 4), whole(0));
}

#[test]
fn a_piece_that_is_not_wanted_any_more_takes_its_leases_back() {
    let mut story = Story::new(6, 4);
    let begun = story.ask(1, &Has::All, FAST, 3);
    let piece = PieceIndex(begun[0].0);
    story.receive(1, &begun[..1]);
    let first = BlockIndex(1);
    let run = BlockRun {
        piece,
        first,
        count: 2,
    };
    assert_eq!(
        story.picker.set_priority(piece, Priority::Skip),
        [(PeerKey(1), run)]
    );
    assert_eq!(story.picker.remaining_blocks(), 4);
    assert_eq!(
        story.receive(1, &begun[1..2]),
        Some(Receipt::Unleased),
        "it came too late"
    );
    // Wanted again: the peer that has not answered yet waits for the block of the old lease, another does not.
    story.picker.set_priority(piece, Priority::High);
    assert_eq!(
        story.ask(1, &Has::All, FAST, 3),
        [begun[0], begun[1], (piece.0, 3)]
    );
    assert_eq!(story.ask(2, &Has::All, FAST, 1), [begun[2]]);
}

#[test]
fn a_piece_found_on_disk_ends_its_leases() {
    let mut story = Story::new(5, 4);
    story.ask(1, &Has::All, FAST, 4);
    let run = BlockRun {
        piece: PieceIndex(4),
        first: BlockIndex(0),
        count: 4,
    };
    assert_eq!(story.picker.verified(PieceIndex(4)), [(PeerKey(1), run)]);
    assert!(story.picker.is_complete());
    assert_eq!(story.receive(1, &[(4, 0)]), Some(Receipt::Duplicate));
    assert!(!story.picker.is_interesting(&Has::All));
}

#[test]
fn a_seed_that_loses_a_piece_is_counted_piece_by_piece() {
    let mut story = Story::new(10, 4);
    story.picker.peer_joined(&Has::All);
    story.picker.peer_left(&Has::All);
    story.picker.peer_joined(&some(10, 0..9));
    assert_eq!(story.picker.availability(PieceIndex(8)), 1);
    assert_eq!(story.picker.availability(PieceIndex(9)), 0);
    assert_eq!(
        story.picker.availability(PieceIndex(10)),
        0,
        "there is no such piece"
    );
}

#[test]
fn an_idle_piece_takes_at_most_sixteen_bytes() {
    let (order, bitfields) = (size_of::<PieceIndex>(), 1);
    let fixed = size_of::<State>() + size_of::<Priority>() + 2 * size_of::<u32>();
    assert!(order + fixed + bitfields <= 16);
}

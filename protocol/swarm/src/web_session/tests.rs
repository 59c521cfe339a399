//! A web session against a torrent and an origin that are played here.

use super::*;
use crate::message::Blame;
use proptest::prelude::*;
use shoal_metainfo::{BlockIndex, PieceIndex};

const PIECE: u32 = 4 * 16_384;

fn file(range: core::ops::Range<u64>, kind: FileKind) -> WebFile {
    WebFile { range, kind }
}

/// Three files: one of a piece and a half, padding to the end of it, one of two pieces.
fn padded() -> (Arc<Layout>, Arc<[WebFile]>) {
    let piece = u64::from(PIECE);
    let layout = Layout::contiguous(4 * piece, PIECE).unwrap();
    let files = [
        file(0..piece + 100, FileKind::Content),
        file(piece + 100..2 * piece, FileKind::Padding),
        file(2 * piece..4 * piece, FileKind::Content),
    ];
    (Arc::new(layout), Arc::from(files))
}

/// One file of so many pieces.
fn single(pieces: u32) -> (Arc<Layout>, Arc<[WebFile]>) {
    let length = u64::from(PIECE) * u64::from(pieces);
    let layout = Layout::contiguous(length, PIECE).unwrap();
    (
        Arc::new(layout),
        Arc::from([file(0..length, FileKind::Content)]),
    )
}

struct Rig {
    session: WebSession,
    now: Moment,
    told: Vec<FromPeer>,
    fetches: Vec<Fetch>,
    cancelled: Vec<FetchId>,
    stored: Vec<Block>,
    discarded: Vec<Block>,
    closed: Option<CloseReason>,
}

impl Rig {
    fn new((layout, files): (Arc<Layout>, Arc<[WebFile]>), form: Form) -> Self {
        let config = WebConfig {
            layout,
            files,
            form,
            seed: 1,
        };
        let mut rig = Rig {
            session: WebSession::new(config, Moment::ZERO),
            now: Moment::ZERO,
            told: Vec::new(),
            fetches: Vec::new(),
            cancelled: Vec::new(),
            stored: Vec::new(),
            discarded: Vec::new(),
            closed: None,
        };
        rig.drain();
        rig.tell(ToPeer::Interested(true));
        rig
    }

    fn handle(&mut self, input: Input) {
        self.session.handle(self.now, input);
        self.drain();
    }

    /// Storage keeps every block.
    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Fetch(fetch) => self.fetches.push(fetch),
                Output::Cancel(id) => self.cancelled.push(id),
                Output::Store(block) => {
                    self.stored.push(block);
                    self.session.handle(self.now, Input::BlockStored(block));
                }
                Output::Discard(block) => self.discarded.push(block),
                Output::Torrent(message) => self.told.push(message),
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
    }

    fn tell(&mut self, message: ToPeer) {
        self.handle(Input::Torrent(message));
    }

    fn lease(&mut self, piece: u32, first: u32, count: u32) {
        self.tell(ToPeer::Lease(vec![run(piece, first, count)]));
    }

    /// Everything comes of a fetch.
    fn serve(&mut self, fetch: &Fetch) {
        for block in fetch.runs.iter().flat_map(|run| run.blocks()) {
            let fetch = fetch.id;
            self.handle(Input::Block { fetch, block });
        }
        let (fetch, failure) = (fetch.id, None);
        self.handle(Input::Ended { fetch, failure });
    }

    fn fail(&mut self, fetch: &Fetch, failure: Failure) {
        let file = fetch.parts.first().and_then(Part::file);
        let (fetch, failure) = (fetch.id, Some((failure, file)));
        self.handle(Input::Ended { fetch, failure });
    }

    /// The last wish for leases.
    fn wish(&self) -> Option<u32> {
        self.told.iter().rev().find_map(|message| match message {
            FromPeer::Want { blocks, .. } => Some(*blocks),
            _ => None,
        })
    }

    fn returned(&self) -> Vec<Block> {
        let runs = self.told.iter().filter_map(|message| match message {
            FromPeer::Returned { runs, .. } => Some(runs),
            _ => None,
        });
        runs.flatten().flat_map(|run| run.blocks()).collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.handle(Input::Tick);
    }
}

fn run(piece: u32, first: u32, count: u32) -> BlockRun {
    BlockRun {
        piece: PieceIndex(piece),
        first: BlockIndex(first),
        count,
    }
}

#[test]
fn it_joins_with_everything_and_wishes_for_little_until_it_has_delivered() {
    let mut rig = Rig::new(single(64), Form::Files);
    let has = Has::All;
    assert_eq!(rig.told[0], FromPeer::Joined { has, fast: false });
    assert_eq!(rig.told[1], FromPeer::Choking(false));
    assert!(rig.wish().unwrap() <= 4);
    for piece in 0..16 {
        rig.lease(piece, 0, 4);
    }
    assert_eq!(rig.fetches.len(), 1, "one fetch, until something came");
    let first = rig.fetches.remove(0);
    rig.now = Moment::from_millis(50);
    rig.serve(&first);
    assert!((1..=MAX_FETCHES).contains(&rig.fetches.len()));
}

#[test]
fn a_fetch_goes_over_the_borders_of_pieces_and_files_and_asks_for_no_padding() {
    let mut rig = Rig::new(padded(), Form::Files);
    // So that its window takes the whole.
    rig.lease(3, 0, 4);
    while let Some(fetch) = rig.fetches.pop() {
        rig.serve(&fetch);
    }
    for piece in 0..3 {
        rig.lease(piece, 0, 4);
    }
    let mut parts = Vec::new();
    while !rig.fetches.is_empty() {
        let fetch = rig.fetches.remove(0);
        let blocks = fetch.runs.iter().flat_map(|run| run.blocks()).count() as u64;
        let bytes: u64 = fetch.parts.iter().map(Part::length).sum();
        assert_eq!(bytes, blocks * 16_384);
        parts.extend(fetch.parts.clone());
        rig.serve(&fetch);
    }
    let zeros: u64 = parts
        .iter()
        .filter(|part| part.file().is_none())
        .map(Part::length)
        .sum();
    assert_eq!(zeros, u64::from(PIECE) - 100);
    assert!(parts.iter().all(|part| part.file() != Some(FileIndex(1))));
    assert_eq!(rig.stored.len(), 16);
    assert_eq!(rig.returned(), []);
}

#[test]
fn a_script_is_asked_piece_by_piece() {
    let mut rig = Rig::new(single(8), Form::Script);
    rig.lease(3, 2, 2);
    let fetch = rig.fetches.remove(0);
    let Part::Piece {
        piece,
        range,
        whole,
    } = &fetch.parts[0]
    else {
        panic!("{fetch:?}");
    };
    assert_eq!((piece.0, range.clone(), *whole), (3, 32_768..65_536, false));
}

#[test]
fn an_origin_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let mut rig = Rig::new(single(8), Form::Files);
    rig.lease(0, 0, 4);
    let fetch = rig.fetches.remove(0);
    let retry_after = Some(Duration::from_secs(90));
    rig.fail(&fetch, Failure::Busy { retry_after });
    assert!(rig.told.contains(&FromPeer::Choking(true)));
    assert_eq!(rig.returned().len(), 4, "others may fetch them");
    // A lease that crossed the news.
    rig.lease(1, 0, 1);
    assert_eq!(rig.returned().len(), 5);
    rig.wait(Duration::from_secs(89));
    assert!(rig.session.paused_until().is_some());
    rig.told.clear();
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.told[0], FromPeer::Choking(false));
    assert!(rig.wish().is_some());
    assert!(rig.fetches.is_empty());
}

#[test]
fn failures_in_a_row_make_pauses_longer_and_a_block_makes_them_short_again() {
    let mut rig = Rig::new(single(64), Form::Files);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        rig.lease(0, 0, 1);
        let fetch = rig.fetches.remove(0);
        rig.fail(&fetch, Failure::Unreachable);
        let until = rig.session.paused_until().unwrap();
        pauses.push(until - rig.now);
        rig.now = until;
        rig.handle(Input::Tick);
    }
    assert!(pauses[0] < 2 * FIRST_PAUSE && pauses[3] > 4 * FIRST_PAUSE);
    assert!(pauses.iter().all(|&pause| pause <= MAX_PAUSE.mul_f64(1.25)));
    rig.lease(1, 0, 1);
    let fetch = rig.fetches.remove(0);
    rig.serve(&fetch);
    rig.lease(2, 0, 1);
    let fetch = rig.fetches.remove(0);
    rig.fail(&fetch, Failure::Stalled);
    let until = rig.session.paused_until().unwrap();
    assert!(until - rig.now < 2 * FIRST_PAUSE);
}

#[test]
fn a_file_that_is_missing_costs_its_pieces_and_the_last_one_the_origin() {
    let mut rig = Rig::new(padded(), Form::Files);
    rig.lease(0, 0, 4);
    rig.lease(1, 0, 4);
    rig.lease(2, 0, 1);
    let fetch = rig.fetches.remove(0);
    rig.fail(&fetch, Failure::Missing("it does not have the file"));
    let only = rig.told.iter().find_map(|message| match message {
        FromPeer::HasOnly(Has::Some(pieces)) => Some(pieces.clone()),
        _ => None,
    });
    let pieces: Vec<u32> = only.unwrap().iter().map(|piece| piece.0).collect();
    assert_eq!(pieces, [2, 3]);
    assert_eq!(rig.returned().len(), 8);
    let fetch = rig.fetches.remove(0);
    assert_eq!(fetch.parts[0].file(), Some(FileIndex(2)));
    rig.fail(&fetch, Failure::NoRanges);
    assert!(matches!(rig.closed, Some(CloseReason::Protocol(_))));
    assert_eq!(rig.returned().len(), 9);
    assert!(matches!(rig.told.last(), Some(FromPeer::Left(_))));
}

#[test]
fn bad_data_in_one_file_costs_the_file_and_across_files_the_origin() {
    let blame = Blame::Certain;
    let piece = PieceIndex(3);
    let mut rig = Rig::new(padded(), Form::Files);
    rig.tell(ToPeer::Blamed { piece, blame });
    assert_eq!(rig.closed, None);
    rig.lease(2, 0, 1);
    assert_eq!(rig.returned().len(), 1, "what is left out is not fetched");
    // What was on its way when that became known was of the same file.
    for _ in 0..2 * MAX_BAD_FILES {
        rig.tell(ToPeer::Blamed { piece, blame });
    }
    assert_eq!(rig.closed, None);
    // Padding is nobody's fault: the rest of its piece is of one file.
    let piece = PieceIndex(1);
    rig.tell(ToPeer::Blamed { piece, blame });
    assert_eq!(
        rig.closed,
        Some(CloseReason::Banned(blame)),
        "nothing is left"
    );

    let (layout, _) = padded();
    let files = [
        file(0..20, FileKind::Content),
        file(20..layout.total_length(), FileKind::Content),
    ];
    let mut rig = Rig::new((layout, Arc::from(files)), Form::Files);
    let piece = PieceIndex(0);
    rig.tell(ToPeer::Blamed { piece, blame });
    assert_eq!(rig.closed, Some(CloseReason::Banned(blame)));
}

#[test]
fn an_origin_that_breaks_http_again_and_again_is_given_up() {
    let mut rig = Rig::new(single(8), Form::Files);
    for _ in 0..MAX_MISBEHAVIOUR {
        assert_eq!(rig.closed, None);
        rig.lease(0, 0, 1);
        let fetch = rig.fetches.remove(0);
        rig.fail(&fetch, Failure::Misbehaved("it lies"));
        rig.wait(MAX_PAUSE * 2);
    }
    assert_eq!(rig.closed, Some(CloseReason::Protocol("it lies")));
}

#[test]
fn what_others_delivered_meanwhile_is_not_fetched_and_not_stored() {
    let mut rig = Rig::new(single(8), Form::Files);
    rig.lease(0, 0, 2);
    let fetch = rig.fetches.remove(0);
    rig.tell(ToPeer::Revoke(vec![run(0, 0, 1)]));
    let first = fetch.runs[0].blocks().next().unwrap();
    assert_eq!(rig.returned(), [first]);
    rig.serve(&fetch);
    assert_eq!(rig.discarded, [first]);
    // Of a long one nothing is left to want: it ends.
    for piece in 1..8 {
        rig.lease(piece, 0, 4);
    }
    while let Some(fetch) = rig.fetches.pop() {
        let blocks = fetch.runs.iter().map(|run| run.count).sum::<u32>();
        if blocks as usize > CHEAP_REST_BLOCKS {
            rig.tell(ToPeer::Revoke(fetch.runs.clone()));
            assert_eq!(rig.cancelled, [fetch.id]);
            return;
        }
        rig.serve(&fetch);
    }
    panic!("no fetch was long");
}

#[test]
fn a_slow_origin_holds_few_blocks() {
    let mut rig = Rig::new(single(512), Form::Files);
    let mut held = 0;
    // 20 KB/s: a block comes every 0.8 s.
    for n in 0..200 {
        let wish = rig.wish().unwrap_or(0);
        rig.told.clear();
        for block in 0..wish {
            rig.lease((n * 8 + block / 4) % 512, block % 4, 1);
            held += 1;
        }
        let Some(fetch) = rig.fetches.first().cloned() else {
            continue;
        };
        let block = fetch
            .runs
            .iter()
            .flat_map(|run| run.blocks())
            .next()
            .unwrap();
        rig.fetches.remove(0);
        rig.now = rig.now + Duration::from_millis(800);
        let id = fetch.id;
        rig.handle(Input::Block { fetch: id, block });
        let failure = None;
        rig.handle(Input::Ended { fetch: id, failure });
        held -= 1;
        if n > 20 {
            assert!(
                rig.session.outstanding() + rig.session.reserve.len() <= 16,
                "{held}"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Lease(u32, u32, u32),
    Revoke(u32),
    Block,
    End,
    Fail(u8),
    Blamed(u32),
    Interested(bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..4, 0u32..4, 1u32..5).prop_map(|(p, f, c)| Step::Lease(p, f, c.min(4 - f))),
        1 => (0u32..4).prop_map(Step::Revoke),
        6 => Just(Step::Block),
        2 => Just(Step::End),
        1 => (0u8..6).prop_map(Step::Fail),
        1 => (0u32..4).prop_map(Step::Blamed),
        1 => any::<bool>().prop_map(Step::Interested),
        2 => (0u32..20_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: each lease comes back once, stored blocks were leased, and the bounds are kept.
    #[test]
    fn every_lease_comes_back_once(steps in prop::collection::vec(step(), 0..200)) {
        let mut rig = Rig::new(padded(), Form::Files);
        let mut leased: BTreeSet<Block> = BTreeSet::new();
        let mut under_way: Vec<(Fetch, VecDeque<Block>)> = Vec::new();
        for step in steps {
            match step {
                Step::Lease(piece, first, count) => {
                    let free = run(piece, first, count).blocks().filter(|b| !leased.contains(b));
                    let mut runs = Vec::new();
                    for block in free.collect::<Vec<_>>() {
                        leased.insert(block);
                        BlockRun::push(&mut runs, block);
                    }
                    // The torrent would not hear of it any more.
                    if rig.closed.is_some() {
                        continue;
                    }
                    rig.tell(ToPeer::Lease(runs));
                }
                Step::Revoke(piece) => rig.tell(ToPeer::Revoke(vec![run(piece, 0, 4)])),
                Step::Block => {
                    if let Some((fetch, blocks)) = under_way.iter_mut().find(|(_, b)| !b.is_empty()) {
                        let (fetch, block) = (fetch.id, blocks.pop_front().unwrap());
                        rig.handle(Input::Block { fetch, block });
                    }
                }
                Step::End => {
                    if let Some(at) = under_way.iter().position(|(_, b)| b.is_empty()) {
                        let (fetch, failure) = (under_way.remove(at).0.id, None);
                        rig.handle(Input::Ended { fetch, failure });
                    }
                }
                Step::Fail(kind) => {
                    if let Some((fetch, _)) = under_way.pop() {
                        let failure = match kind {
                            0 => Failure::Unreachable,
                            1 => Failure::Stalled,
                            2 => Failure::Busy { retry_after: None },
                            3 => Failure::Missing("gone"),
                            4 => Failure::NoRanges,
                            _ => Failure::Misbehaved("odd"),
                        };
                        rig.fail(&fetch, failure);
                    }
                }
                Step::Blamed(piece) => {
                    let (piece, blame) = (PieceIndex(piece), Blame::Certain);
                    rig.tell(ToPeer::Blamed { piece, blame });
                }
                Step::Interested(on) => rig.tell(ToPeer::Interested(on)),
                Step::Wait(ms) => rig.wait(Duration::from_millis(u64::from(ms))),
            }
            under_way.retain(|(fetch, _)| !rig.cancelled.contains(&fetch.id));
            for fetch in rig.fetches.drain(..) {
                let blocks = fetch.runs.iter().flat_map(|run| run.blocks()).collect();
                under_way.push((fetch, blocks));
            }
            prop_assert!(under_way.len() <= MAX_FETCHES);
            for message in rig.told.drain(..) {
                let (FromPeer::Received(runs) | FromPeer::Returned { runs, .. }) = message else {
                    continue;
                };
                for block in runs.iter().flat_map(|run| run.blocks()) {
                    prop_assert!(leased.remove(&block), "{block:?} came back unleased");
                }
            }
        }
        rig.tell(ToPeer::Close(CloseReason::Stopping));
        if rig.session.is_closed() {
            for message in rig.told.drain(..) {
                if let FromPeer::Received(runs) | FromPeer::Returned { runs, .. } = message {
                    for block in runs.iter().flat_map(|run| run.blocks()) {
                        prop_assert!(leased.remove(&block));
                    }
                }
            }
        }
    }
}

//! One connection: a remote that says anything, a torrent that leases, revokes and closes, a disk that is full at times.
//!
//! Invariant: as for the whole crate.

mod remote;
mod watch;

use crate::operations::{Operations, drain, is_due};
use core::time::Duration;
use remote::Remote;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::{BLOCK_LENGTH, Bitfield, Block, BlockIndex, BlockRun, Layout, PieceIndex};
use shoal_swarm::peer_session::{Input, Negotiated, PeerSession, PeerSettings};
use shoal_swarm::{Blame, CloseReason, Has, ToPeer};
use shoal_wire::{Contact, ContactFlags, HolePunch, HolePunchError, HolePunchKind, Message};
use std::net::SocketAddr;
use std::sync::Arc;
use watch::Watch;

/// The most outputs of one input: a reject for each request that waited and a cancel for each that was sent.
const MAX_OUTPUTS: usize = 4_096;

/// The most ticks that one moment may take: each gives up one request at least.
const MAX_TICKS: usize = 2_100;

/// Whoever says nothing is gone after this, keep-alives of ours or not.
const SILENCE: Duration = Duration::from_secs(600);

/// What [`Watch`] says at every step.
pub fn peer_session(input: &[u8]) {
    let mut operations = Operations::new(input);
    let layout = layout(&mut operations);
    let negotiated = Negotiated {
        fast: operations.flag(),
        extended: operations.flag(),
        v2: operations.flag(),
        ours: ours(&mut operations, &layout),
    };
    let settings = PeerSettings {
        port: operations.flag().then_some(6881),
        your_ip: None,
        anonymous: false,
        upload_only: operations.flag(),
        allowed_fast: (0..operations.below(3))
            .map(|_| existing(&mut operations, &layout))
            .collect(),
        exchange: true,
        punches: true,
        info: vec![7; 20_000].into(),
        introduced: false,
    };
    let now = Moment::from_secs(1_000);
    let layout = Arc::new(layout);
    let watch = Watch::new(layout.clone(), negotiated.clone(), settings.clone());
    let session = PeerSession::new(layout, negotiated, settings, now);
    let mut run = Run {
        session,
        watch,
        now,
        backpressure: false,
        flooded: false,
    };
    run.watch_outputs();
    if operations.flag() {
        run.begin();
    }
    while !run.watch.closed
        && let Some(kind) = operations.next_kind()
    {
        run.operate(kind, &mut operations);
    }
    run.end(&mut operations);
}

/// Layouts of v1 and v2: one byte, short last pieces, pieces that are no whole blocks, one large piece.
fn layout(operations: &mut Operations<'_>) -> Layout {
    let block = u64::from(BLOCK_LENGTH);
    let layout = match operations.below(6) {
        0 => Layout::contiguous(1, BLOCK_LENGTH),
        1 => Layout::contiguous(9 * 4 * block + 5, 4 * BLOCK_LENGTH),
        2 => Layout::contiguous(100_000, 20_000),
        3 => Layout::contiguous(20 * block, BLOCK_LENGTH),
        4 => Layout::aligned(
            [1, 5 * block, 0, 2 * block + 1, 4 * block],
            2 * BLOCK_LENGTH,
        ),
        _ => Layout::aligned([4_000 * block], 1 << 26),
    };
    match layout {
        Ok(layout) => layout,
        Err(error) => panic!("{error}"),
    }
}

fn ours(operations: &mut Operations<'_>, layout: &Layout) -> Has {
    match operations.below(4) {
        0 => Has::None,
        1 => Has::All,
        _ => Has::Some(some(operations, layout)),
    }
}

/// Any pieces of the first eight.
fn some(operations: &mut Operations<'_>, layout: &Layout) -> Bitfield {
    let mut field = Bitfield::empty(layout.piece_count());
    let bits = operations.byte();
    for piece in layout
        .pieces()
        .take(8)
        .filter(|piece| bits >> piece.0 & 1 == 1)
    {
        field.insert(piece);
    }
    field
}

fn existing(operations: &mut Operations<'_>, layout: &Layout) -> PieceIndex {
    let count = usize::try_from(layout.piece_count()).unwrap_or(1).min(256);
    PieceIndex(u32::try_from(operations.below(count)).unwrap_or(0))
}

/// A session, who watches it, and its driver's state.
struct Run {
    session: PeerSession,
    watch: Watch,
    now: Moment,
    backpressure: bool,
    flooded: bool,
}

impl Run {
    /// As most connections begin: everybody lets everybody fetch.
    fn begin(&mut self) {
        for message in [ToPeer::Interested(true), ToPeer::Choke(false)] {
            self.watch.on_torrent(&message);
            self.handle(Input::Torrent(message));
        }
        let has = Bitfield::full(self.watch.layout.piece_count());
        self.handle(Input::Message(Message::Bitfield(has.to_wire())));
        self.handle(Input::Message(Message::Unchoke));
    }

    fn operate(&mut self, kind: u8, operations: &mut Operations<'_>) {
        match kind % 16 {
            0..=4 => {
                let message = Remote::new(operations, &self.watch).message();
                self.handle(Input::Message(message));
            }
            5 => self.fetch(operations),
            6 | 7 => self.store(operations),
            8 => self.lease(operations),
            9 => self.torrent(operations),
            10 => self.upload(operations),
            11 => {
                self.now = self.now + operations.step();
                self.handle(Input::Tick);
            }
            12 => {
                if let Some(at) = self.session.deadline() {
                    self.now = self.now.max(at);
                    self.tick();
                }
            }
            13 => {
                let run = self.run_of_leased(operations);
                self.handle(Input::Torrent(ToPeer::Revoke(run.into_iter().collect())));
            }
            14 => {
                self.backpressure = operations.flag();
                self.handle(Input::Backpressure(self.backpressure));
            }
            _ => self.rare(operations),
        }
    }

    /// The remote asks for blocks in a row, as one that downloads does, and gets none before it has asked for all.
    fn fetch(&mut self, operations: &mut Operations<'_>) {
        let piece = existing(operations, &self.watch.layout);
        let blocks = self.watch.layout.block_count(piece);
        for block in (0..blocks).map(BlockIndex).take(operations.below(16)) {
            let request = self.watch.name(Block { piece, block });
            if self.watch.can_serve(request) {
                self.handle(Input::Message(Message::Request(request)));
            }
        }
    }

    /// The bytes of a block whose header came are stored, or were known.
    fn store(&mut self, operations: &mut Operations<'_>) {
        let known = operations.one_in(4);
        if let Some(block) = self.watch.take_arriving(operations, known) {
            self.handle(match known {
                true => Input::BlockKnown(block),
                false => Input::BlockStored(block),
            });
        }
    }

    /// The torrent leases blocks that the session does not hold.
    fn lease(&mut self, operations: &mut Operations<'_>) {
        let layout = self.watch.layout.clone();
        let mut runs = Vec::new();
        for _ in 0..=operations.below(2) {
            let piece = existing(operations, &layout);
            let blocks = layout.block_count(piece);
            let first = operations.number() % blocks;
            let count = (1 + operations.number() % 64).min(blocks - first);
            for block in first..first + count {
                let block = Block {
                    piece,
                    block: BlockIndex(block),
                };
                if self.watch.lease(block) {
                    BlockRun::push(&mut runs, block);
                }
            }
        }
        self.handle(Input::Torrent(ToPeer::Lease(runs)));
    }

    /// A run around a leased block, of which parts may not be leased.
    fn run_of_leased(&self, operations: &mut Operations<'_>) -> Option<BlockRun> {
        let leased: Vec<Block> = self.watch.leased.iter().copied().take(256).collect();
        let block = operations.one_of(&leased)?;
        let left = self.watch.layout.block_count(block.piece) - block.block.0;
        let count = (1 + operations.number() % 8).min(left);
        Some(BlockRun {
            count,
            ..BlockRun::one(block)
        })
    }

    fn torrent(&mut self, operations: &mut Operations<'_>) {
        let layout = self.watch.layout.clone();
        let message = match operations.below(8) {
            0 => ToPeer::Have(
                (0..=operations.below(3))
                    .map(|_| existing(operations, &layout))
                    .collect(),
            ),
            1 => ToPeer::Lost(existing(operations, &layout)),
            2 => ToPeer::Interested(!operations.one_in(4)),
            3 | 4 => ToPeer::Choke(operations.flag()),
            5 => ToPeer::UploadOnly(operations.flag()),
            6 => ToPeer::HolePunch(hole_punch(operations)),
            _ => ToPeer::Contacts(contacts(operations).into()),
        };
        self.watch.on_torrent(&message);
        self.handle(Input::Torrent(message));
    }

    fn upload(&mut self, operations: &mut Operations<'_>) {
        if let Some(request) = self.watch.take_uploading(operations) {
            let sent = !operations.one_in(4);
            self.watch.on_uploaded(request, sent);
            self.handle(Input::Uploaded { request, sent });
        } else if let Some(request) = self.watch.take_hashes(operations) {
            self.handle(Input::HashesServed {
                request,
                hashes: None,
            });
        }
    }

    fn rare(&mut self, operations: &mut Operations<'_>) {
        match operations.byte() {
            1 => self.handle(Input::Disconnected),
            2 => self.handle(Input::Torrent(ToPeer::Close(CloseReason::Stopping))),
            3 => {
                let banned = CloseReason::Banned(Blame::Differed);
                self.handle(Input::Torrent(ToPeer::Close(banned)));
            }
            4 => {
                // Answers to what was never asked.
                let request = Remote::new(operations, &self.watch).request();
                if !self.watch.is_uploading(request) {
                    self.handle(Input::Uploaded {
                        request,
                        sent: true,
                    });
                }
            }
            5 if !self.flooded => self.flood(operations),
            _ => self.handle(Input::Tick),
        }
    }

    /// One message, over and over: once for each input, as it takes its time.
    fn flood(&mut self, operations: &mut Operations<'_>) {
        self.flooded = true;
        let message = Remote::new(operations, &self.watch).message();
        for _ in 0..operations.below(64) * 40 {
            self.handle(Input::Message(message.clone()));
        }
    }

    fn handle(&mut self, input: Input) {
        if let Input::Message(message) = &input {
            self.watch.on_message(message);
        }
        self.session.handle(self.now, input);
        self.watch_outputs();
    }

    fn watch_outputs(&mut self) {
        for output in drain(&mut self.session, MAX_OUTPUTS) {
            self.watch.on_output(output);
        }
        self.watch.check_at_rest();
        assert_eq!(self.session.is_closed(), self.watch.closed);
        assert_eq!(self.session.deadline().is_none(), self.watch.closed);
    }

    /// Ticks until the next deadline is in the future.
    fn tick(&mut self) {
        for _ in 0..MAX_TICKS {
            self.handle(Input::Tick);
            if !is_due(&self.session, self.now) {
                return;
            }
        }
        panic!("it wants a tick again and again");
    }

    /// The remote hangs up, or falls silent for ever; then everything is back.
    fn end(&mut self, operations: &mut Operations<'_>) {
        if operations.flag() && !self.backpressure {
            let end = self.now + SILENCE;
            while let Some(at) = self.session.deadline().filter(|&at| at <= end) {
                self.now = self.now.max(at);
                self.tick();
            }
            assert!(self.watch.closed, "a silent remote is kept");
        }
        self.handle(Input::Disconnected);
        assert!(self.watch.closed);
        self.handle(Input::Message(Message::Unchoke));
        self.handle(Input::Tick);
    }
}

/// Any that the wire can carry.
fn hole_punch(operations: &mut Operations<'_>) -> HolePunch {
    let kind = match operations.below(3) {
        0 => HolePunchKind::Rendezvous,
        1 => HolePunchKind::Connect,
        _ => HolePunchKind::Failed(HolePunchError(operations.number())),
    };
    let address = SocketAddr::from(([10, 0, 0, operations.byte()], 6881));
    HolePunch { kind, address }
}

/// Some addresses, often the same.
fn contacts(operations: &mut Operations<'_>) -> Vec<Contact> {
    let contact = |operations: &mut Operations<'_>| Contact {
        address: SocketAddr::from(([10, 0, 0, operations.byte() % 64], 6881)),
        flags: ContactFlags(operations.byte()),
    };
    (0..operations.below(128))
        .map(|_| contact(operations))
        .collect()
}

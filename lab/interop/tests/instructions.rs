//! Instructions for each MiB that is moved, of all that decides: wire codec, peer session, torrent and picker, seed and leech
//! apart. Nothing here reads a clock, so the figure is the same in every run.
//!
//! callgrind counts them, in a transfer between two machines in memory: no sockets, no disk, no hashing, and no payload, as
//! none passes through them. The figures are those of the profile that tests are built in, where these crates are optimised
//! and check for overflow.

use anyhow::{Context, Result, ensure};
use shoal_interop::{Lab, Program, isolated, output_of};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::{Bitfield, Block, Layout, PieceIndex};
use shoal_swarm::peer_session::{self, Negotiated, Output, PeerSession, PeerSettings};
use shoal_swarm::torrent::{self, Origin, PeerRules, Torrent, TorrentConfig};
use shoal_swarm::{CloseReason, FromPeer, Has, PeerKey, ToPeer};
use shoal_wire::{Decoded, Decoder, Limits, Message, RemoteExtensions, Request, encode};
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const MIB: u32 = 256;
const PIECE_BYTES: u32 = 1 << 20;
/// What a socket takes at once, and the time it takes: 200 MiB/s.
const BLOCKS_PER_TURN: usize = 16;
const TURN: Duration = Duration::from_micros(1_250);
/// So many turns are needed where the line is always full, and half as many again for the start.
const MAX_TURNS: usize = (MIB as usize * 64 / BLOCKS_PER_TURN) * 3 / 2;

/// Instructions for each MiB of 64 blocks: the measured figure and 15 per cent. What needs fewer lowers them.
const MAX_SEED: u64 = 160_000;
const MAX_LEECH: u64 = 430_000;

#[test]
fn a_mebibyte_decided_costs_no_more_instructions_than_it_did() -> Result<()> {
    isolated(&[Program::Valgrind], |lab| {
        let seed = count(lab, "seed_turn")? / u64::from(MIB);
        let leech = count(lab, "leech_turn")? / u64::from(MIB);
        let table = format!(
            "instructions for each MiB, and the bound\nseed  {seed:9} {MAX_SEED:9}\nleech {leech:9} {MAX_LEECH:9}"
        );
        ensure!(seed <= MAX_SEED && leech <= MAX_LEECH, "{table}");
        // A transfer that was not counted must not pass for a cheap one.
        ensure!(seed > MAX_SEED / 4 && leech > MAX_LEECH / 4, "{table}");
        Ok(())
    })
}

/// The transfer that is counted, as a test of its own: it must go well.
#[test]
fn a_transfer_in_memory_completes() {
    let (mut seed, mut leech) = connected();
    let mut now = Moment::from_secs(1);
    for _ in 0..MAX_TURNS {
        if leech.verified == MIB {
            return;
        }
        now = now + TURN;
        let said = seed_turn(&mut seed, now, &std::mem::take(&mut leech.said));
        leech_turn(&mut leech, now, &said);
    }
    panic!("only {} of {MIB} pieces came", leech.verified);
}

/// What is counted of the seed.
#[inline(never)]
fn seed_turn(seed: &mut Node, now: Moment, heard: &[u8]) -> Vec<u8> {
    seed.turn(now, heard);
    std::mem::take(&mut seed.said)
}

/// What is counted of the leech.
#[inline(never)]
fn leech_turn(leech: &mut Node, now: Moment, heard: &[u8]) {
    leech.turn(now, heard);
}

/// Instructions within the function of this name.
fn count(lab: &Lab, function: &str) -> Result<u64> {
    let out = lab.path(function);
    let mut command = Command::new(Program::Valgrind.find()?);
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--toggle-collect=*{function}*"));
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(env::current_exe()?);
    command.args(["--exact", "a_transfer_in_memory_completes"]);
    output_of(&mut command)?;
    let text = fs::read_to_string(&out)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("callgrind wrote no totals")?;
    Ok(total.trim().parse()?)
}

/// One end: its machines, and what a driver does for them.
struct Node {
    torrent: Torrent,
    session: PeerSession,
    key: PeerKey,
    decoder: Decoder,
    remote: RemoteExtensions,
    /// What the other end has not read.
    said: Vec<u8>,
    uploads: VecDeque<Request>,
    stored: VecDeque<Block>,
    /// Blocks that are missing of each piece.
    missing: Vec<u32>,
    verified: u32,
    to_torrent: VecDeque<FromPeer>,
    to_session: VecDeque<ToPeer>,
}

fn connected() -> (Node, Node) {
    let total = u64::from(MIB) << 20;
    let layout = Layout::contiguous(total, PIECE_BYTES).expect("the layout is sound");
    let layout = Arc::new(layout);
    let now = Moment::from_secs(1);
    let mut seed = Node::new(&layout, Bitfield::full(MIB), 1, now);
    let mut leech = Node::new(&layout, Bitfield::empty(MIB), 2, now);
    seed.connect(now, 2);
    leech.connect(now, 1);
    seed.decide(now, torrent::Input::Unchoked(vec![seed.key]));
    (seed, leech)
}

impl Node {
    fn new(layout: &Arc<Layout>, have: Bitfield, number: u8, now: Moment) -> Node {
        let blocks = |piece| layout.block_count(piece);
        let missing = layout.pieces().map(blocks).collect();
        let negotiated = Negotiated {
            fast: true,
            extended: true,
            v2: false,
            ours: Has::from_bitfield(have.clone()),
        };
        let layout = Arc::clone(layout);
        let settings = PeerSettings::default();
        let session = PeerSession::new(Arc::clone(&layout), negotiated, settings, now);
        let mut torrent = Torrent::new(TorrentConfig {
            layout,
            have,
            priorities: Vec::new(),
            sequential: false,
            our_peer_id: [number; 20],
            seed: 5,
            max_connections: 10,
            private: false,
            exchange: false,
            super_seed: false,
            peer_rules: PeerRules::default(),
        });
        Node {
            key: torrent.next_key(),
            torrent,
            session,
            decoder: Decoder::new(Limits {
                piece_count: Some(MIB),
            }),
            remote: RemoteExtensions::default(),
            said: Vec::new(),
            uploads: VecDeque::new(),
            stored: VecDeque::new(),
            missing,
            verified: 0,
            to_torrent: VecDeque::new(),
            to_session: VecDeque::new(),
        }
    }

    fn connect(&mut self, now: Moment, remote: u8) {
        let connected = torrent::Input::Connected {
            peer: self.key,
            address: SocketAddr::from(([10, 0, 0, remote], 6881)),
            peer_id: [remote; 20],
            origin: Origin::Incoming,
        };
        self.decide(now, connected);
        self.drain_session();
        self.settle(now);
    }

    /// Understands what was heard, sends what the line takes, and does what is due.
    fn turn(&mut self, now: Moment, heard: &[u8]) {
        let mut rest = heard;
        while let Ok(Decoded::Message { consumed, message }) = self.decoder.decode(rest) {
            rest = &rest[consumed..];
            if let Message::ExtendedHandshake(handshake) = &message {
                self.remote.update(handshake);
            }
            self.handle(now, peer_session::Input::Message(message));
            self.settle(now);
        }
        assert!(rest.is_empty(), "it cannot be understood");
        for _ in 0..BLOCKS_PER_TURN {
            let Some(request) = self.uploads.pop_front() else {
                break;
            };
            encode(&Message::Piece(request), &self.remote, &mut self.said);
            let sent = true;
            self.handle(now, peer_session::Input::Uploaded { request, sent });
        }
        if self.session.deadline().is_some_and(|at| at <= now) {
            self.handle(now, peer_session::Input::Tick);
        }
        if self.torrent.deadline().is_some_and(|at| at <= now) {
            self.decide(now, torrent::Input::Tick);
        }
        self.settle(now);
    }

    /// Carries mail between the two machines, and stands for storage, until all is quiet.
    fn settle(&mut self, now: Moment) {
        loop {
            if let Some(block) = self.stored.pop_front() {
                self.handle(now, peer_session::Input::BlockStored(block));
                self.count_block(now, block.piece);
            } else if let Some(message) = self.to_torrent.pop_front() {
                let peer = self.key;
                self.decide(now, torrent::Input::Peer { peer, message });
            } else if let Some(message) = self.to_session.pop_front() {
                self.handle(now, peer_session::Input::Torrent(message));
            } else {
                return;
            }
        }
    }

    fn count_block(&mut self, now: Moment, piece: PieceIndex) {
        let missing = &mut self.missing[piece.get()];
        *missing -= 1;
        if *missing == 0 {
            self.verified += 1;
            let blocks = Vec::new();
            self.decide(now, torrent::Input::Verified { piece, blocks });
        }
    }

    fn handle(&mut self, now: Moment, input: peer_session::Input) {
        self.session.handle(now, input);
        self.drain_session();
    }

    fn drain_session(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(message) => encode(&message, &self.remote, &mut self.said),
                Output::Store(block) => self.stored.push_back(block),
                Output::Upload(request) => self.uploads.push_back(request),
                Output::Torrent(message) => self.to_torrent.push_back(message),
                // Two seeds part.
                Output::Close(CloseReason::Useless) if self.verified == MIB => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    fn decide(&mut self, now: Moment, input: torrent::Input) {
        self.torrent.handle(now, input);
        while let Some(output) = self.torrent.poll() {
            match output {
                torrent::Output::Peer { message, .. } | torrent::Output::Broadcast(message) => {
                    self.to_session.push_back(message);
                }
                torrent::Output::Refuse { reason, .. } => panic!("refused: {reason:?}"),
                _ => {}
            }
        }
    }
}

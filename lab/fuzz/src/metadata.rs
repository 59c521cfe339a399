//! The search for an info dictionary and its piece layers, among peers that say anything at any time.
//!
//! Invariant: as for the whole crate.

use crate::operations::{Operations, drain, is_due};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::create::{Kind, Options, Plan, SourceFile};
use shoal_metainfo::merkle::{Tree, file_height};
use shoal_metainfo::metainfo::{Limits, is_named};
use shoal_metainfo::{FileIndex, Metainfo};
use shoal_swarm::metadata::search::{Input, MAX_CONNECTIONS, Output, Search};
use shoal_swarm::metadata::{FromSeeker, ToSeeker};
use shoal_swarm::torrent::Origin;
use shoal_swarm::{CloseReason, PeerKey};
use shoal_wire::metadata::{METADATA_PIECE_LENGTH, metadata_piece_count, metadata_piece_length};
use shoal_wire::{HashRequest, Hashes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

/// Every connection may get as many requests as it may have, and be closed.
const MAX_OUTPUTS: usize = 16 * MAX_CONNECTIONS as usize;

/// A hybrid torrent of so many pieces has metadata of several, and more hashes than fit into one answer.
const PIECES: u64 = 900;
const PIECE: u32 = 16 * 1024;

struct Sample {
    metainfo: Metainfo,
    tree: Tree,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let file = SourceFile {
            path: vec!["file".to_owned()],
            length: PIECES * u64::from(PIECE),
            ..SourceFile::default()
        };
        let options = Options {
            kind: Kind::Hybrid,
            piece_length: Some(PIECE),
            ..Options::default()
        };
        let plan = Plan::new("sample".to_owned(), vec![file], options);
        let plan = plan.expect("one file of whole pieces can be planned");
        let hash = |piece: shoal_metainfo::PieceIndex| {
            let mut hasher = plan.hasher(piece);
            hasher.update(&vec![piece.0.to_le_bytes()[0]; PIECE as usize]);
            plan.piece_hash(piece, &hasher.finish())
        };
        let hashes: Vec<_> = plan.layout().pieces().map(hash).collect();
        let bytes = plan.finish(&hashes).expect("every piece has its hash");
        let metainfo = Metainfo::parse(&bytes, Limits::LOCAL).expect("what is made is right");
        let layer = metainfo.piece_layer(FileIndex(0));
        let height = file_height(PIECES * u64::from(PIECE));
        let tree = Tree::new(0, layer, height).expect("the layer is one of the file");
        Sample { metainfo, tree }
    })
}

/// What is known of a connection.
#[derive(Default)]
struct Peer {
    ip: Option<IpAddr>,
    v2: bool,
    offered: Option<u32>,
    asked: Vec<u32>,
    hashes: Vec<HashRequest>,
    closing: bool,
}

struct Run {
    search: Search,
    now: Moment,
    peers: BTreeMap<PeerKey, Peer>,
    dialling: BTreeMap<PeerKey, SocketAddr>,
    /// Addresses from which something came that is not right.
    liars: BTreeSet<IpAddr>,
    banned: BTreeSet<IpAddr>,
    info_is_known: bool,
    found: u32,
    next_id: u32,
}

/// Nobody is asked for what nobody has, no more connections are open than may be, only who sent something wrong is banned, and what
/// is found is right.
pub fn search(input: &[u8]) {
    let mut operations = Operations::new(input);
    let sample = sample();
    let named = sample.metainfo.info_hashes();
    let mut run = Run {
        search: Search::new(named, [0; 20], operations.byte().into()),
        now: Moment::from_secs(1_000),
        peers: BTreeMap::new(),
        dialling: BTreeMap::new(),
        liars: BTreeSet::new(),
        banned: BTreeSet::new(),
        info_is_known: false,
        found: 0,
        next_id: 0,
    };
    while let Some(kind) = operations.next_kind() {
        run.step(kind, &mut operations);
    }
}

impl Run {
    fn step(&mut self, kind: u8, operations: &mut Operations<'_>) {
        match kind % 24 {
            0 | 1 => {
                let addresses = (0..operations.below(6))
                    .map(|_| SocketAddr::from((Ipv4Addr::new(10, 0, 1, operations.byte()), 1)));
                let addresses = addresses.collect();
                let origin = Origin::Tracker;
                self.handle(Input::Candidates { origin, addresses });
            }
            2 | 3 => {
                let count = u32::from(operations.byte() % 8);
                self.handle(Input::DialGranted(count));
            }
            4..=7 => self.connect(operations),
            8 => {
                if let Some((peer, _)) = self.dialling.pop_first() {
                    self.handle(Input::DialFailed { peer });
                }
            }
            9 => {
                self.now = self.now + operations.step();
                if is_due(&self.search, self.now) || operations.flag() {
                    self.handle(Input::Tick);
                }
            }
            10 if operations.one_in(64) => self.handle(Input::Stop),
            _ => self.speak(kind, operations),
        }
    }

    fn connect(&mut self, operations: &mut Operations<'_>) {
        self.next_id += 1;
        let mut peer_id = [1; 20];
        peer_id[..4].copy_from_slice(&self.next_id.to_be_bytes());
        let dialled = if operations.flag() {
            self.dialling.pop_first()
        } else {
            None
        };
        let incoming = SocketAddr::from((Ipv4Addr::new(10, 0, 2, operations.byte()), 2));
        let (peer, address) = dialled.unwrap_or_else(|| (self.search.next_key(), incoming));
        let v2 = operations.flag();
        let entry = Peer {
            ip: Some(address.ip()),
            v2,
            ..Peer::default()
        };
        self.peers.insert(peer, entry);
        self.handle(Input::Connected {
            peer,
            address,
            peer_id,
            origin: Origin::Tracker,
            v2,
        });
    }

    /// One of the peers says something, most often what it was asked for.
    fn speak(&mut self, kind: u8, operations: &mut Operations<'_>) {
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        let Some(key) = operations.one_of(&keys) else {
            return;
        };
        let right = sample().metainfo.raw_info();
        let true_size = u32::try_from(right.len()).unwrap_or(u32::MAX);
        let message = match kind % 24 {
            10..=13 => {
                let honest = !operations.one_in(4);
                let total_bytes = if honest {
                    true_size
                } else {
                    1 + operations.number() % 100_000
                };
                FromSeeker::Offers { total_bytes }
            }
            14..=18 => self.data(key, right, operations),
            19 | 20 => self.hashes(key, operations),
            21 => FromSeeker::Rejected {
                piece: operations.number() % 4,
            },
            22 => {
                let request = self.peers[&key].hashes.first().copied();
                let Some(request) = request else { return };
                FromSeeker::HashesRejected(request)
            }
            _ => FromSeeker::Left(CloseReason::Remote),
        };
        if let (FromSeeker::Offers { total_bytes }, Some(peer)) =
            (&message, self.peers.get_mut(&key))
            && peer.offered.is_none()
        {
            peer.offered = Some(*total_bytes);
        }
        let left = matches!(message, FromSeeker::Left(_));
        if left {
            self.peers.remove(&key);
        }
        self.handle(Input::Peer { peer: key, message });
    }

    fn data(&mut self, key: PeerKey, right: &[u8], operations: &mut Operations<'_>) -> FromSeeker {
        let peer = self.peers.get_mut(&key).expect("it is one of them");
        let total_bytes = peer.offered.unwrap_or(1);
        let asked = (!peer.asked.is_empty()).then(|| peer.asked.remove(0));
        let piece = asked.unwrap_or_else(|| operations.number() % 4);
        let piece = piece.min(metadata_piece_count(total_bytes).saturating_sub(1));
        let length = metadata_piece_length(piece, total_bytes).unwrap_or(1) as usize;
        let begin = piece as usize * METADATA_PIECE_LENGTH as usize;
        let honest = right
            .get(begin..begin + length)
            .filter(|_| total_bytes as usize == right.len());
        let bytes = match honest.filter(|_| !operations.one_in(6)) {
            Some(bytes) => bytes.to_vec(),
            None => {
                self.liars.extend(peer.ip);
                vec![operations.byte(); length]
            }
        };
        FromSeeker::Data {
            piece,
            total_bytes,
            bytes: bytes.into(),
        }
    }

    fn hashes(&mut self, key: PeerKey, operations: &mut Operations<'_>) -> FromSeeker {
        let peer = self.peers.get_mut(&key).expect("it is one of them");
        if peer.hashes.is_empty() {
            return FromSeeker::Rejected { piece: 0 };
        }
        let request = peer.hashes.remove(0);
        let hashes = sample().tree.answer(&request);
        let mut hashes = hashes.expect("what is asked for exists");
        if operations.one_in(4) {
            self.liars.extend(peer.ip);
            hashes[0][0] ^= 1;
        }
        FromSeeker::Hashes(Hashes { request, hashes })
    }

    fn handle(&mut self, input: Input) {
        self.search.handle(self.now, input);
        for output in drain(&mut self.search, MAX_OUTPUTS) {
            self.check(output);
        }
        let open = self.peers.values().filter(|peer| !peer.closing).count();
        assert!(open + self.dialling.len() <= MAX_CONNECTIONS as usize);
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Peer { peer, message } => self.check_order(peer, message),
            Output::Dial { peer, address, .. } => {
                assert!(!self.banned.contains(&address.ip()));
                assert_eq!(self.dialling.insert(peer, address), None);
            }
            Output::Refuse { peer, .. } => drop(self.peers.remove(&peer)),
            Output::Ban(ip) => {
                assert!(self.liars.contains(&ip), "{ip} has not lied");
                assert!(self.banned.insert(ip));
            }
            Output::Info(hashes) => {
                assert_eq!(hashes, sample().metainfo.info_hashes());
                assert!(!self.info_is_known);
                self.info_is_known = true;
            }
            Output::Found(found) => {
                self.found += 1;
                assert_eq!(self.found, 1);
                let metainfo = &sample().metainfo;
                assert!(is_named(&found.info, &metainfo.info_hashes()));
                let layer = metainfo.piece_layer(FileIndex(0));
                assert!(found.v1_only || found.layers.into_values().eq([layer]));
            }
            Output::Unusable(error) => panic!("{error}"),
            Output::WantsDials(count) => assert!(count <= MAX_CONNECTIONS),
            Output::WantsCandidates => {}
        }
    }

    fn check_order(&mut self, key: PeerKey, message: ToSeeker) {
        let peer = self
            .peers
            .get_mut(&key)
            .expect("who is told something is connected");
        assert!(!peer.closing, "nothing follows a farewell");
        match message {
            ToSeeker::Request { piece } => {
                let offered = peer.offered.expect("who is asked has offered");
                assert!(piece < metadata_piece_count(offered) && !self.info_is_known);
                peer.asked.push(piece);
            }
            ToSeeker::RequestHashes(request) => {
                assert!(peer.v2 && self.info_is_known);
                assert_eq!(request.validate(), Ok(()));
                peer.hashes.push(request);
            }
            ToSeeker::Known(info) => assert!(is_named(&info, &sample().metainfo.info_hashes())),
            ToSeeker::Close(_) => peer.closing = true,
        }
    }
}

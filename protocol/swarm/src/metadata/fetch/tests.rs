//! Peers that lie about size and bytes, dawdle, reject and leave.

use super::*;
use shoal_metainfo::InfoHashV1;
use shoal_wire::metadata::metadata_piece_length;

const SIZE: u32 = 5 * 16_384 + 100;

fn info() -> Bytes {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..))
        .take(SIZE as usize)
        .collect()
}

/// SHA-1 of [`info`], as a magnet says.
fn named(info: &[u8]) -> InfoHashes {
    use shoal_metainfo::{PieceHasher, verifier::Needs};
    let needs = Needs {
        sha1: true,
        blocks: false,
    };
    let mut hasher = PieceHasher::new(needs, 0);
    hasher.update(info);
    InfoHashes::new(hasher.finish().sha1.map(InfoHashV1), None).unwrap()
}

fn at(s: u64) -> Moment {
    Moment::from_secs(s)
}

fn address(peer: u64) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(peer).unwrap()])
}

/// What a peer does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// It sends rubbish for this piece.
    Wrong(u32),
    /// It offers another size, and sends rubbish.
    Size(u32),
    Silent,
    Rejects,
    /// It leaves when it is asked for this piece.
    Leaves(u32),
}

struct World {
    fetch: InfoFetch,
    info: Bytes,
    peers: Vec<Manner>,
    convicted: BTreeSet<u64>,
    sent_bytes: u64,
    done: Option<Bytes>,
    now: Moment,
    most_copies: usize,
}

impl World {
    fn new(peers: &[Manner]) -> Self {
        let info = info();
        World {
            fetch: InfoFetch::new(named(&info)),
            info,
            peers: peers.to_vec(),
            convicted: BTreeSet::new(),
            sent_bytes: 0,
            done: None,
            now: at(0),
            most_copies: 0,
        }
    }

    /// All peers offer; then everything happens at once, until only time helps, for at most `limit_s` seconds.
    fn run(&mut self, limit_s: u64) {
        for (peer, manner) in (0u64..).zip(self.peers.clone()) {
            let size = match manner {
                Size(size) => size,
                _ => SIZE,
            };
            self.fetch
                .offer(self.now, PeerKey(peer), address(peer), size);
        }
        loop {
            self.most_copies = self.most_copies.max(self.fetch.copies.len());
            let actions = self.fetch.take_actions();
            let idle = actions.is_empty();
            for action in actions {
                self.follow(action);
            }
            if self.done.is_some() {
                return;
            }
            if idle {
                let Some(next) = self.fetch.deadline(self.now) else {
                    return;
                };
                if next > at(limit_s) {
                    return;
                }
                self.now = next;
                self.fetch.tick(next);
            }
        }
    }

    fn follow(&mut self, action: Action) {
        match action {
            Action::Request(peer, piece) => self.request(peer, piece),
            Action::Convict(peer, found) => {
                assert_eq!(found, address(peer.0));
                self.convicted.insert(peer.0);
                self.fetch.leave(self.now, peer);
            }
            Action::Contradiction(peer) => panic!("{peer:?}"),
            Action::Done(info) => self.done = Some(info),
        }
    }

    fn request(&mut self, peer: PeerKey, piece: u32) {
        let manner = self.peers[usize::try_from(peer.0).unwrap()];
        let (mut size, mut wrong) = (SIZE, false);
        match manner {
            Honest => {}
            Wrong(bad) => wrong = bad == piece,
            Size(claimed) => (size, wrong) = (claimed, true),
            Silent => return,
            Rejects => return self.fetch.reject(self.now, peer, piece),
            Leaves(bad) if bad == piece => return self.fetch.leave(self.now, peer),
            Leaves(_) => {}
        }
        let length = metadata_piece_length(piece, size).unwrap() as usize;
        let begin = piece as usize * 16_384;
        let bytes = if wrong {
            vec![0; length].into()
        } else {
            self.info.slice(begin..begin + length)
        };
        self.sent_bytes += bytes.len() as u64;
        self.fetch.data(self.now, peer, piece, size, bytes);
    }
}

fn run(peers: &[Manner]) -> World {
    let mut world = World::new(peers);
    world.run(600);
    assert!(world.most_copies <= MAX_COPIES);
    assert!(world.done.as_ref().is_none_or(|done| *done == world.info));
    for &liar in &world.convicted {
        let manner = peers[usize::try_from(liar).unwrap()];
        assert!(
            matches!(manner, Wrong(_) | Size(_)),
            "{manner:?} was convicted"
        );
    }
    world
}

use Manner::{Honest, Leaves, Rejects, Silent, Size, Wrong};

#[test]
fn honest_peers_share_the_work_and_send_everything_once() {
    let world = run(&[Honest, Honest, Honest]);
    assert!(world.done.is_some());
    assert_eq!(world.sent_bytes, u64::from(SIZE));
    assert_eq!(world.now, at(0));
}

#[test]
fn all_take_part_in_what_is_small() {
    let mut world = World::new(&[]);
    for peer in 0..3 {
        world.fetch.offer(at(0), PeerKey(peer), address(peer), SIZE);
    }
    let asked: BTreeSet<PeerKey> = world
        .fetch
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Request(peer, _) => Some(peer),
            _ => None,
        })
        .collect();
    assert!(asked.contains(&PeerKey(0)));
}

#[test]
fn a_liar_about_bytes_is_found_and_costs_its_own_copy() {
    for liar in 0..3 {
        let mut peers = [Honest; 3];
        peers[liar] = Wrong(2);
        let world = run(&peers);
        assert!(world.done.is_some());
        // Whether it was asked for the piece that it lies about is up to the order.
        assert!(world.convicted.len() <= 1);
        assert!(
            world.sent_bytes <= 5 * u64::from(SIZE),
            "{}",
            world.sent_bytes
        );
    }
}

#[test]
fn liars_in_the_majority_are_outlived() {
    let peers: Vec<Manner> = (0..20).map(|at| Wrong(at % 6)).chain([Honest]).collect();
    let world = run(&peers);
    assert!(world.done.is_some());
    assert!(world.now < at(60), "{:?}", world.now);
}

#[test]
fn a_liar_that_is_alone_is_convicted_by_its_only_copy() {
    let world = run(&[Wrong(0)]);
    assert_eq!(world.done, None);
    assert_eq!(world.convicted, BTreeSet::from([0]));
}

#[test]
fn lies_about_the_size_do_not_keep_the_right_one_back() {
    let sizes = [1, SIZE - 1, SIZE + 1, 10 * 1024 * 1024, 16_384];
    let peers: Vec<Manner> = sizes.map(Size).into_iter().chain([Honest]).collect();
    let world = run(&peers);
    assert!(world.done.is_some());
}

#[test]
fn silent_peers_with_sizes_of_their_own_do_not_keep_the_right_one_back() {
    let mut world = World::new(&[Silent, Silent, Silent, Silent, Honest]);
    // Four sizes that nobody ever sends a byte of fill all places first.
    for peer in 0..4u32 {
        let key = PeerKey(peer.into());
        world.fetch.offer(at(0), key, address(key.0), 1_000 + peer);
    }
    for action in world.fetch.take_actions() {
        assert!(matches!(action, Action::Request(..)));
    }
    world.fetch.offer(at(0), PeerKey(4), address(4), SIZE);
    while world.done.is_none() {
        let actions = world.fetch.take_actions();
        if actions.is_empty() {
            world.now = world.fetch.deadline(world.now).unwrap();
            assert!(world.now < at(120));
            world.fetch.tick(world.now);
        }
        for action in actions {
            world.follow(action);
        }
    }
}

#[test]
fn peers_that_leave_reject_or_are_silent_are_replaced() {
    for other in [Leaves(1), Rejects, Silent] {
        let world = run(&[other, Honest]);
        assert!(world.done.is_some(), "{other:?}");
        assert!(world.now <= at(10), "{other:?} took until {:?}", world.now);
        assert_eq!(world.convicted, BTreeSet::new());
    }
}

#[test]
fn a_peer_that_contradicts_itself_is_reported() {
    let mut fetch = InfoFetch::new(named(&info()));
    let peer = PeerKey(1);
    fetch.offer(at(0), peer, address(1), SIZE);
    fetch.take_actions();
    fetch.offer(at(0), peer, address(1), SIZE + 1);
    fetch.data(at(0), peer, 0, SIZE - 1, Bytes::new());
    let reported = Action::Contradiction(peer);
    assert_eq!(fetch.take_actions(), [reported.clone(), reported]);
}

#[test]
fn data_that_was_not_asked_for_is_reported_and_data_that_comes_late_is_taken() {
    let info = info();
    let mut fetch = InfoFetch::new(named(&info));
    let peer = PeerKey(1);
    fetch.offer(at(0), peer, address(1), SIZE);
    fetch.take_actions();
    fetch.tick(at(8));
    let piece = info.slice(..16_384);
    fetch.data(at(9), peer, 0, SIZE, piece.clone());
    assert_eq!(fetch.best(), Some((SIZE, 1)));
    fetch.data(at(9), peer, 0, SIZE, piece);
    assert!(fetch.take_actions().contains(&Action::Contradiction(peer)));
}

//! What spans torrents: grants of dials and unchokes, asked for in any order and at any time.
//!
//! Invariant: as for the whole crate.

use crate::operations::{Operations, drain, is_due};
use shoal_machine::{Machine, Moment, Sighting};
use shoal_session::choker::MAX_AUTOMATIC_SLOTS;
use shoal_session::session::{OPTIMISTIC_TURN, SLOTS_PER_OPTIMISTIC};
use shoal_session::{
    Candidate, Input, Output, PeerId, SeedingPolicy, Session, Settings, Slots, TorrentKey,
};
use shoal_swarm::PeerKey;
use std::collections::{BTreeMap, BTreeSet};

/// An unchoke and a grant for each torrent.
const MAX_OUTPUTS: usize = 8;

const TORRENTS: u64 = 4;

/// One torrent, as the session has heard of it.
#[derive(Default)]
struct Torrent {
    wants: u32,
    dialling: u32,
    connected: u32,
    interested: BTreeSet<PeerKey>,
    unchoked: BTreeSet<PeerKey>,
}

struct Run {
    session: Session,
    settings: Settings,
    torrents: BTreeMap<TorrentKey, Torrent>,
    now: Moment,
}

/// No more slots, connections and half-open connections than there are; what is granted was asked for; nobody is unchoked
/// who is not interested, and no slot stays empty that somebody waits for.
pub fn session(input: &[u8]) {
    let mut operations = Operations::new(input);
    let policies = [
        SeedingPolicy::RoundRobin,
        SeedingPolicy::Fastest,
        SeedingPolicy::AntiLeech,
    ];
    let settings = Settings {
        slots: match operations.below(8) {
            0 => Slots::Automatic,
            count => Slots::Fixed(u32::try_from(count).unwrap_or(0) - 1),
        },
        seeding: policies[operations.below(policies.len())],
        max_connections: operations.number(),
        max_connections_per_torrent: operations.number(),
        max_half_open: operations.number() % 64,
        ..Settings::default()
    };
    let mut run = Run {
        session: Session::new(settings.clone(), operations.byte().into()),
        settings,
        torrents: BTreeMap::new(),
        now: Moment::from_secs(1_000),
    };
    while let Some(kind) = operations.next_kind() {
        run.operate(kind, &mut operations);
    }
    run.settle();
}

impl Run {
    fn operate(&mut self, kind: u8, operations: &mut Operations<'_>) {
        let torrent = TorrentKey(u64::from(kind >> 4) % TORRENTS);
        match kind % 16 {
            0 | 1 => {
                self.torrents.entry(torrent).or_default();
                self.handle(Input::Added(torrent));
            }
            2 if operations.one_in(4) => {
                self.torrents.remove(&torrent);
                self.handle(Input::Removed(torrent));
            }
            3 | 4 => {
                let count = operations.number();
                self.of(torrent, |known| known.wants = count);
                self.handle(Input::WantsDials { torrent, count });
            }
            5 | 6 => {
                let connected = operations.flag();
                // One that was never granted is ignored.
                self.of(torrent, |known| {
                    if known.dialling > 0 {
                        known.dialling -= 1;
                        known.connected += u32::from(connected);
                    }
                });
                self.handle(Input::DialEnded { torrent, connected });
            }
            7 => {
                if self.session.admits(torrent) {
                    self.of(torrent, |known| known.connected += 1);
                    self.handle(Input::Accepted(torrent));
                }
            }
            8 => {
                self.of(torrent, |known| {
                    known.connected = known.connected.saturating_sub(1);
                });
                self.handle(Input::Disconnected(torrent));
            }
            9..=12 => self.peers(torrent, operations),
            14 => {
                let [network, host, at] = [(); 3].map(|()| operations.byte());
                let sighting = Sighting {
                    by: [11, 0, network % 16, host].into(),
                    at: [at, 1, 1, at % 3].into(),
                };
                self.handle(Input::Seen(sighting));
            }
            13 => {
                self.now = self.now + operations.step();
                self.tick();
            }
            _ => {
                if let Some(at) = self.session.deadline() {
                    self.now = self.now.max(at);
                }
                self.tick();
            }
        }
    }

    fn of(&mut self, torrent: TorrentKey, change: impl FnOnce(&mut Torrent)) {
        if let Some(known) = self.torrents.get_mut(&torrent) {
            change(known);
        }
    }

    fn peers(&mut self, torrent: TorrentKey, operations: &mut Operations<'_>) {
        let seeding = operations.flag();
        let peers: Vec<Candidate> = (0..operations.below(12))
            .map(|_| {
                let bits = operations.byte();
                Candidate {
                    id: PeerId {
                        torrent,
                        peer: PeerKey(u64::from(bits >> 3)),
                    },
                    interested: bits & 3 != 0,
                    seeding,
                    snubbed: bits & 4 != 0,
                    download_rate: operations.number().into(),
                    upload_rate: operations.number().into(),
                    downloaded_bytes: u64::from(operations.number()),
                    uploaded_bytes: u64::from(operations.number()) << (bits & 31),
                    has_permille: u16::from(operations.byte()) * 4,
                    joined: self.now,
                }
            })
            .map(|peer| (peer.id, peer))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect();
        let interested = peers.iter().filter(|peer| peer.interested);
        let interested: BTreeSet<PeerKey> = interested.map(|peer| peer.id.peer).collect();
        self.of(torrent, |known| {
            known
                .unchoked
                .retain(|key| peers.iter().any(|peer| peer.id.peer == *key));
            known.interested = interested;
        });
        self.handle(Input::Peers { torrent, peers });
    }

    fn tick(&mut self) {
        self.handle(Input::Tick);
        assert!(
            !is_due(&self.session, self.now),
            "it wants a tick again and again"
        );
    }

    fn handle(&mut self, input: Input) {
        self.session.handle(self.now, input);
        for output in drain(&mut self.session, MAX_OUTPUTS) {
            match output {
                Output::GrantDials { torrent, count } => self.on_granted(torrent, count),
                Output::Shed { .. } => panic!("the settings stay"),
                Output::OurAddress(ip) => {
                    assert!(self.session.our_addresses().any(|ours| ours == ip));
                }
                Output::Unchoked { torrent, peers } => {
                    let Some(known) = self.torrents.get_mut(&torrent) else {
                        panic!("a torrent that is gone");
                    };
                    let count = peers.len();
                    known.unchoked = peers.into_iter().collect();
                    assert_eq!(known.unchoked.len(), count, "one twice");
                    assert!(
                        known.unchoked.is_subset(&known.interested),
                        "one that needs no slot"
                    );
                }
            }
        }
        assert!(self.unchoked() <= self.most_unchoked());
    }

    fn unchoked(&self) -> u64 {
        self.torrents
            .values()
            .map(|torrent| torrent.unchoked.len() as u64)
            .sum()
    }

    /// Slots by rank and optimistic ones.
    fn most_unchoked(&self) -> u64 {
        let slots = match self.settings.slots {
            Slots::Fixed(count) => count,
            Slots::Automatic => MAX_AUTOMATIC_SLOTS,
        };
        u64::from(slots + (slots / SLOTS_PER_OPTIMISTIC).max(1))
    }

    fn on_granted(&mut self, torrent: TorrentKey, count: u32) {
        self.of(torrent, |known| {
            assert!(count > 0 && known.wants >= count, "more than it wanted");
            known.wants -= count;
            known.dialling += count;
        });
        let known = self
            .torrents
            .get(&torrent)
            .map(|known| known.dialling + known.connected);
        let settings = &self.settings;
        assert!(known.is_some_and(|of_one| of_one <= settings.max_connections_per_torrent));
        let half_open: u32 = self.torrents.values().map(|torrent| torrent.dialling).sum();
        let connected: u32 = self
            .torrents
            .values()
            .map(|torrent| torrent.connected)
            .sum();
        assert!(half_open <= settings.max_half_open);
        assert!(half_open + connected <= settings.max_connections);
    }

    /// After some rounds no slot is empty that somebody waits for.
    fn settle(&mut self) {
        let end = self.now + OPTIMISTIC_TURN;
        while let Some(at) = self.session.deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.tick();
        }
        let waiting: u64 = self
            .torrents
            .values()
            .map(|one| one.interested.len() as u64)
            .sum();
        let least = match self.settings.slots {
            Slots::Fixed(count) => u64::from(count),
            Slots::Automatic => 1,
        };
        assert!(self.unchoked() >= least.min(waiting), "an empty slot");
    }
}

//! The session's decisions over time: choke rounds, optimistic unchokes, and who may open a connection.
//!
//! Invariant: a peer is unchoked only while its torrent reports it as interested; the number unchoked never exceeds the slots
//! by rank plus the optimistic ones; connections, open and half-open, never exceed their limits through grants of ours.

use crate::caps::Caps;
use crate::choker::{self, Candidate, SeedingPolicy, Slots, Turn};
use crate::{PeerId, TorrentKey};
use core::net::IpAddr;
use core::time::Duration;
use shoal_machine::{ExternalAddresses, Machine, Moment, Sighting};
use shoal_swarm::PeerKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers unchoked by rank.
    pub slots: Slots,
    /// Of these and the optimistic ones, the most of one torrent.
    pub slots_per_torrent: Option<u32>,
    /// How a seed gives its slots.
    pub seeding: SeedingPolicy,
    /// Connections of all torrents together.
    pub max_connections: u32,
    /// Connections of one torrent.
    pub max_connections_per_torrent: u32,
    /// Connections being opened, of all torrents together. Home routers fall over when too many are.
    pub max_half_open: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            slots: Slots::Automatic,
            slots_per_torrent: None,
            seeding: SeedingPolicy::default(),
            max_connections: 500,
            max_connections_per_torrent: 200,
            max_half_open: 30,
        }
    }
}

/// Time between two rounds of choking: shorter makes peers flap, longer leaves slots with those who left (BEP 3).
pub const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts (BEP 3).
pub const OPTIMISTIC_TURN: Duration = Duration::from_secs(30);
/// One optimistic slot for each so many slots by rank, at least one.
pub const SLOTS_PER_OPTIMISTIC: u32 = 1;
/// Of so many optimistic slots one goes to anybody, and the others by need: to the one with the fewest pieces of [`NEEDY_DRAWN`] drawn
/// from those who gave us something. By rank, who gives more gets more, and peers with slow uplinks would be fed at the end
/// alone, when all others are done.
pub const OPTIMISTIC_FOR_ANYBODY: u32 = 5;
/// See [`OPTIMISTIC_FOR_ANYBODY`].
pub const NEEDY_DRAWN: usize = 10;
/// A slot by need is for those who gave us at least a part in so many of what they got from us: who never gives has little, too, and
/// neither that one is meant nor who gives a token. Links of homes send a fourth to a tenth of what they receive.
pub const NEEDY_GIVE_ONE_IN: u64 = 16;
/// A connection this young is three times as likely to be unchoked optimistically (BEP 3), because it has nothing to
/// give yet.
pub const NEWCOMER_AGE: Duration = Duration::from_secs(60);
const NEWCOMER_WEIGHT: usize = 3;

/// What can happen to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// A torrent is there.
    Added(TorrentKey),
    /// A torrent is gone, with its connections.
    Removed(TorrentKey),
    /// A torrent could use this many connections more; replaces its last wish.
    WantsDials {
        /// Which torrent.
        torrent: TorrentKey,
        /// How many.
        count: u32,
    },
    /// A granted dial ended.
    DialEnded {
        /// Whose.
        torrent: TorrentKey,
        /// Whether there is a connection now.
        connected: bool,
    },
    /// A connection was accepted from outside.
    Accepted(TorrentKey),
    /// A connection is over.
    Disconnected(TorrentKey),
    /// The peers of a torrent as they are: sent about once a second, and when one becomes interested.
    Peers {
        /// Which torrent.
        torrent: TorrentKey,
        /// All its peers.
        peers: Vec<Candidate>,
    },
    /// A peer or a tracker says where it sees us.
    Seen(Sighting),
    /// From here on these hold. Connections beyond them end.
    Settings(Settings),
    /// The most slots of one torrent, besides what holds for each; `None` for no bound of its own.
    SlotsOf {
        /// Which torrent.
        torrent: TorrentKey,
        /// How many.
        most: Option<u32>,
    },
    /// A deadline passed.
    Tick,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The torrent may open this many connections more.
    GrantDials {
        /// Which torrent.
        torrent: TorrentKey,
        /// How many.
        count: u32,
    },
    /// These peers of the torrent are unchoked, all its others are choked.
    Unchoked {
        /// Which torrent.
        torrent: TorrentKey,
        /// The peers.
        peers: Vec<PeerKey>,
    },
    /// The torrent has so many connections too many.
    Shed {
        /// Which torrent.
        torrent: TorrentKey,
        /// How many.
        count: u32,
    },
    /// The world sees us at this address, by the votes of many networks; in place of an earlier one of its family.
    OurAddress(IpAddr),
}

#[derive(Debug, Default)]
struct TorrentState {
    wants: u32,
    dialling: u32,
    connected: u32,
    /// The most slots, where it has a bound of its own.
    most_slots: Option<u32>,
    peers: Vec<Candidate>,
    /// What was last said to be unchoked.
    unchoked: BTreeSet<PeerKey>,
}

impl TorrentState {
    /// Connections that it has or is about to have.
    fn taken(&self) -> u32 {
        self.connected + self.dialling
    }

    /// Whether there is nothing to know of it.
    fn is_idle(&self) -> bool {
        let nobody = self.peers.is_empty() && self.unchoked.is_empty();
        self.wants == 0 && self.taken() == 0 && nobody && self.most_slots.is_none()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    rng: fastrand::Rng,
    /// All that are there.
    known: BTreeSet<TorrentKey>,
    /// Those of them that have, had or want connections: of ten thousand torrents that nobody asks for none is looked at.
    torrents: BTreeMap<TorrentKey, TorrentState>,
    turns: BTreeMap<PeerId, Turn>,
    /// Since when each optimistically unchoked peer is.
    optimistic: BTreeMap<PeerId, Moment>,
    /// Optimistic slots that were given, in a cycle of [`OPTIMISTIC_FOR_ANYBODY`].
    optimistic_given: u32,
    next_round: Option<Moment>,
    /// The torrent that was last granted a dial; the next one in order is first in turn.
    last_granted: Option<TorrentKey>,
    ours: ExternalAddresses,
    outputs: VecDeque<Output>,
}

impl Session {
    /// An empty session. `seed` decides its dice.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Session {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            known: BTreeSet::new(),
            torrents: BTreeMap::new(),
            turns: BTreeMap::new(),
            optimistic: BTreeMap::new(),
            optimistic_given: 0,
            next_round: None,
            last_granted: None,
            ours: ExternalAddresses::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether one more connection from outside may be kept for `torrent`.
    #[must_use]
    pub fn admits(&self, torrent: TorrentKey) -> bool {
        self.room(torrent) > 0
    }

    /// What is known of a torrent that is there.
    fn state(&mut self, torrent: TorrentKey) -> Option<&mut TorrentState> {
        let known = self.known.contains(&torrent);
        known.then(|| self.torrents.entry(torrent).or_default())
    }

    fn on_peers(&mut self, now: Moment, torrent: TorrentKey, peers: Vec<Candidate>) {
        let Some(state) = self.state(torrent) else {
            return;
        };
        state.peers = peers;
        let present: BTreeSet<PeerKey> = state.peers.iter().map(|peer| peer.id.peer).collect();
        state.unchoked.retain(|peer| present.contains(peer));
        let gone = |id: &PeerId| id.torrent == torrent && !present.contains(&id.peer);
        self.turns.retain(|id, _| !gone(id));
        self.optimistic.retain(|id, _| !gone(id));
        if self.next_round.is_none_or(|at| at <= now) {
            self.round(now);
        } else {
            self.fill_free_slots(now);
        }
    }

    /// A whole round: everybody's slot is open to question.
    fn round(&mut self, now: Moment) {
        let anybody = self.torrents.values().any(|state| !state.peers.is_empty());
        self.next_round = anybody.then(|| now + ROUND);
        let ranked = self.ranked(now);
        let slots = self.slots(now);
        let mut caps = self.caps();
        let mut chosen: BTreeSet<PeerId> = ranked
            .iter()
            .map(|candidate| candidate.id)
            .filter(|id| caps.take(id.torrent))
            .take(slots)
            .collect();
        self.rotate_optimistic(now, optimistic(slots), &ranked, &mut caps, &mut chosen);
        self.apply(now, &chosen);
    }

    /// Between rounds nobody loses a slot, but a free one is not left empty until the next round.
    fn fill_free_slots(&mut self, now: Moment) {
        let mut caps = self.caps();
        let mut chosen = self.unchoked_and_interested();
        // A bound may be lower than it was.
        chosen.retain(|id| caps.take(id.torrent));
        let slots = self.slots(now);
        let most = slots + optimistic(slots);
        if chosen.len() < most {
            let ranked = self.ranked(now);
            let waiting: Vec<PeerId> = ranked
                .iter()
                .map(|candidate| candidate.id)
                .filter(|id| !chosen.contains(id) && caps.take(id.torrent))
                .take(most - chosen.len())
                .collect();
            chosen.extend(waiting);
        }
        self.apply(now, &chosen);
    }

    fn rotate_optimistic(
        &mut self,
        now: Moment,
        slots: usize,
        ranked: &[Candidate],
        caps: &mut Caps,
        chosen: &mut BTreeSet<PeerId>,
    ) {
        let turns = &self.turns;
        self.optimistic.retain(|id, since| {
            let candidate = ranked.iter().find(|candidate| candidate.id == *id);
            let goes_on = candidate.is_some_and(|candidate| {
                let turn = turns.get(id).copied().unwrap_or_default();
                now.since(*since) < OPTIMISTIC_TURN || choker::keeps_turn(candidate, &turn, now)
            });
            goes_on && !chosen.contains(id) && caps.take(id.torrent)
        });
        let waits = |candidate: &&Candidate| {
            !chosen.contains(&candidate.id) && !self.optimistic.contains_key(&candidate.id)
        };
        let mut waiting: Vec<&Candidate> = ranked.iter().filter(waits).collect();
        while self.optimistic.len() < slots {
            waiting.retain(|candidate| caps.has_room(candidate.id.torrent));
            self.optimistic_given = (self.optimistic_given + 1) % OPTIMISTIC_FOR_ANYBODY;
            let needy = if self.optimistic_given == 0 {
                None
            } else {
                draw_needy(&mut self.rng, &waiting)
            };
            let Some(drawn) = needy.or_else(|| draw(&mut self.rng, &waiting, now)) else {
                break;
            };
            caps.take(drawn.torrent);
            waiting.retain(|candidate| candidate.id != drawn);
            self.optimistic.insert(drawn, now);
        }
        chosen.extend(self.optimistic.keys().copied());
    }

    fn apply(&mut self, now: Moment, chosen: &BTreeSet<PeerId>) {
        for (&torrent, state) in &mut self.torrents {
            let wanted: BTreeSet<PeerKey> = chosen
                .iter()
                .filter(|id| id.torrent == torrent)
                .map(|id| id.peer)
                .collect();
            if wanted == state.unchoked {
                continue;
            }
            for candidate in &state.peers {
                let (was, is) = (
                    state.unchoked.contains(&candidate.id.peer),
                    wanted.contains(&candidate.id.peer),
                );
                let turn = self.turns.entry(candidate.id).or_default();
                if is && !was {
                    turn.unchoked_at = Some(now);
                    turn.uploaded_at_unchoke = candidate.uploaded_bytes;
                } else if was && !is {
                    turn.unchoked_at = None;
                    turn.choked_at = Some(now);
                }
            }
            let peers = wanted.iter().copied().collect();
            state.unchoked = wanted;
            self.outputs.push_back(Output::Unchoked { torrent, peers });
        }
    }

    /// Where the world sees us, one address of a family at most.
    pub fn our_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ours.elected()
    }

    fn ranked(&self, now: Moment) -> Vec<Candidate> {
        let all = self.torrents.values().flat_map(|state| &state.peers);
        choker::rank(all, self.settings.seeding, now, |id| {
            self.turns.get(&id).copied().unwrap_or_default()
        })
    }

    fn slots(&self, now: Moment) -> usize {
        let unchoked = self.torrents.values().flat_map(|state| {
            let is_unchoked = |peer: &&Candidate| state.unchoked.contains(&peer.id.peer);
            state.peers.iter().filter(is_unchoked)
        });
        let (mut rates, mut idle) = (Vec::new(), 0);
        for peer in unchoked {
            let since = self.turns.get(&peer.id).and_then(|turn| turn.unchoked_at);
            let settled = since.is_some_and(|since| now.since(since) >= choker::SETTLED);
            if settled && peer.upload_rate == 0 {
                idle += 1;
            } else {
                rates.push(peer.upload_rate);
            }
        }
        let all = self.torrents.values().flat_map(|state| &state.peers);
        choker::slots(self.settings.slots, &mut rates, idle, choker::is_young(all)) as usize
    }

    fn unchoked_and_interested(&self) -> BTreeSet<PeerId> {
        self.torrents
            .values()
            .flat_map(|state| {
                state
                    .peers
                    .iter()
                    .filter(|peer| peer.interested && state.unchoked.contains(&peer.id.peer))
            })
            .map(|peer| peer.id)
            .collect()
    }

    fn caps(&self) -> Caps {
        let own = self.torrents.iter();
        let own = own.filter_map(|(&torrent, state)| Some((torrent, state.most_slots?)));
        Caps::new(self.settings.slots_per_torrent, own.collect())
    }

    /// Slots are given anew, and connections beyond the most of all end where a torrent has the most of them. Each torrent sees to the
    /// most of one itself.
    fn on_settings(&mut self, now: Moment, settings: Settings) {
        self.settings = settings;
        self.round(now);
        let of_one = self.settings.max_connections_per_torrent;
        let open = self.torrents.iter();
        let mut open: BTreeMap<TorrentKey, u32> = open
            .map(|(&key, state)| (key, state.connected.min(of_one)))
            .collect();
        let before = open.clone();
        let mut excess = open
            .values()
            .sum::<u32>()
            .saturating_sub(self.settings.max_connections);
        while excess > 0
            && let Some((_, most)) = open.iter_mut().max_by_key(|(_, open)| **open)
        {
            *most -= 1;
            excess -= 1;
        }
        for (torrent, left) in open {
            let count = before.get(&torrent).map_or(0, |before| before - left);
            if count > 0 {
                self.outputs.push_back(Output::Shed { torrent, count });
            }
        }
    }

    /// Connections that `torrent` may still have.
    fn room(&self, torrent: TorrentKey) -> u32 {
        if !self.known.contains(&torrent) {
            return 0;
        }
        let taken = self.torrents.get(&torrent).map_or(0, TorrentState::taken);
        self.room_of_all().min(self.room_beside(taken))
    }

    /// Connections that all torrents together may still have.
    fn room_of_all(&self) -> u32 {
        let taken: u32 = self.torrents.values().map(TorrentState::taken).sum();
        self.settings.max_connections.saturating_sub(taken)
    }

    /// Connections that a torrent with so many may still have.
    fn room_beside(&self, taken: u32) -> u32 {
        let most = self.settings.max_connections_per_torrent;
        most.saturating_sub(taken)
    }

    /// Gives dials in turn, one each, so that a torrent with thousands of addresses does not starve the others.
    fn grant_dials(&mut self) {
        let mut granted: BTreeMap<TorrentKey, u32> = BTreeMap::new();
        let mut room_of_all = self.room_of_all();
        let wanting = self.torrents.iter().filter(|(_, state)| state.wants > 0);
        let mut keys: Vec<TorrentKey> = wanting.map(|(&key, _)| key).collect();
        let first = keys.partition_point(|&key| self.last_granted.is_some_and(|last| key <= last));
        keys.rotate_left(first);
        let mut half_open: u32 = self.torrents.values().map(|state| state.dialling).sum();
        let mut progress = true;
        while progress && half_open < self.settings.max_half_open {
            progress = false;
            for &torrent in &keys {
                let taken = self.torrents.get(&torrent).map_or(0, TorrentState::taken);
                let room = room_of_all.min(self.room_beside(taken));
                let Some(state) = self.torrents.get_mut(&torrent) else {
                    continue;
                };
                if state.wants == 0 || room == 0 || half_open >= self.settings.max_half_open {
                    continue;
                }
                state.wants -= 1;
                state.dialling += 1;
                half_open += 1;
                room_of_all -= 1;
                self.last_granted = Some(torrent);
                *granted.entry(torrent).or_default() += 1;
                progress = true;
            }
        }
        for (torrent, count) in granted {
            self.outputs
                .push_back(Output::GrantDials { torrent, count });
        }
    }
}

/// See [`SLOTS_PER_OPTIMISTIC`].
fn optimistic(slots: usize) -> usize {
    (slots / SLOTS_PER_OPTIMISTIC as usize).max(1)
}

/// Any of those who wait, newcomers rather.
fn draw(rng: &mut fastrand::Rng, waiting: &[&Candidate], now: Moment) -> Option<PeerId> {
    let mut urn: Vec<PeerId> = Vec::new();
    for candidate in waiting {
        let newcomer = now.since(candidate.joined) < NEWCOMER_AGE;
        let weight = if newcomer { NEWCOMER_WEIGHT } else { 1 };
        urn.extend(core::iter::repeat_n(candidate.id, weight));
    }
    rng.choice(&urn).copied()
}

/// See [`OPTIMISTIC_FOR_ANYBODY`].
fn draw_needy(rng: &mut fastrand::Rng, waiting: &[&Candidate]) -> Option<PeerId> {
    let gave: Vec<&Candidate> = waiting
        .iter()
        .copied()
        .filter(|candidate| gives_its_part(candidate))
        .collect();
    let drawn = rng.choose_multiple(gave, NEEDY_DRAWN);
    let least = drawn
        .into_iter()
        .min_by_key(|candidate| candidate.has_permille);
    least.map(|candidate| candidate.id)
}

/// See [`NEEDY_GIVE_ONE_IN`].
fn gives_its_part(candidate: &Candidate) -> bool {
    let part = candidate.downloaded_bytes.saturating_mul(NEEDY_GIVE_ONE_IN);
    part >= candidate.uploaded_bytes.max(1)
}

impl Machine for Session {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Added(torrent) => {
                self.known.insert(torrent);
            }
            Input::Removed(torrent) => {
                self.known.remove(&torrent);
                self.torrents.remove(&torrent);
                self.turns.retain(|id, _| id.torrent != torrent);
                self.optimistic.retain(|id, _| id.torrent != torrent);
            }
            Input::WantsDials { torrent, count } => {
                if let Some(state) = self.state(torrent) {
                    state.wants = count;
                }
            }
            Input::DialEnded { torrent, connected } => {
                // One that was granted to a torrent which has since been removed, and was added again, takes nobody's place.
                let state = self.torrents.get_mut(&torrent);
                if let Some(state) = state.filter(|state| state.dialling > 0) {
                    state.dialling -= 1;
                    state.connected += u32::from(connected);
                }
            }
            Input::Accepted(torrent) => {
                if let Some(state) = self.state(torrent) {
                    state.connected += 1;
                }
            }
            Input::Disconnected(torrent) => {
                if let Some(state) = self.torrents.get_mut(&torrent) {
                    state.connected = state.connected.saturating_sub(1);
                }
            }
            Input::Peers { torrent, peers } => self.on_peers(now, torrent, peers),
            Input::Seen(sighting) => {
                let elected = self.ours.vote(sighting);
                self.outputs.extend(elected.map(Output::OurAddress));
            }
            Input::Settings(settings) => self.on_settings(now, settings),
            Input::SlotsOf { torrent, most } => {
                if let Some(state) = self.state(torrent) {
                    state.most_slots = most;
                    self.round(now);
                }
            }
            Input::Tick => {
                if self.next_round.is_some_and(|at| at <= now) {
                    self.round(now);
                }
            }
        }
        self.grant_dials();
        self.torrents.retain(|_, state| !state.is_idle());
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        self.next_round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: TorrentKey = TorrentKey(1);

    fn session(settings: Settings) -> Session {
        let mut session = Session::new(settings, 7);
        session.handle(Moment::ZERO, Input::Added(T));
        session
    }

    fn fixed(count: u32) -> Settings {
        Settings {
            slots: Slots::Fixed(count),
            ..Settings::default()
        }
    }

    fn leech(key: u64, download_rate: u64) -> Candidate {
        Candidate {
            id: PeerId {
                torrent: T,
                peer: PeerKey(key),
            },
            interested: true,
            seeding: false,
            snubbed: false,
            download_rate,
            upload_rate: 0,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            has_permille: 0,
            joined: Moment::ZERO,
        }
    }

    fn drain(session: &mut Session) -> Vec<Output> {
        core::iter::from_fn(|| session.poll()).collect()
    }

    fn report(session: &mut Session, now: Moment, peers: Vec<Candidate>) -> Option<Vec<u64>> {
        session.handle(now, Input::Peers { torrent: T, peers });
        last_unchoked(session)
    }

    fn last_unchoked(session: &mut Session) -> Option<Vec<u64>> {
        drain(session)
            .into_iter()
            .rev()
            .find_map(|output| match output {
                Output::Unchoked { peers, .. } => Some(peers.iter().map(|peer| peer.0).collect()),
                Output::GrantDials { .. } | Output::Shed { .. } | Output::OurAddress(_) => None,
            })
    }

    #[test]
    fn the_best_givers_and_as_many_by_need_or_luck_are_unchoked() {
        let mut session = session(fixed(2));
        let peers = (0..10).map(|key| leech(key, key * 100)).collect();
        let unchoked = report(&mut session, Moment::from_secs(1), peers).unwrap();
        assert_eq!(unchoked.len(), 4);
        assert!(unchoked.contains(&8) && unchoked.contains(&9));
    }

    #[test]
    fn a_newly_interested_peer_gets_a_free_slot_without_waiting_for_the_round() {
        let mut session = session(fixed(4));
        report(&mut session, Moment::from_secs(1), vec![leech(1, 0)]);
        let unchoked = report(
            &mut session,
            Moment::from_secs(2),
            vec![leech(1, 0), leech(2, 0)],
        );
        assert_eq!(unchoked, Some(vec![1, 2]));
    }

    #[test]
    fn between_rounds_nobody_loses_a_slot_to_a_better_peer() {
        let mut session = session(fixed(1));
        report(
            &mut session,
            Moment::from_secs(1),
            vec![leech(1, 10), leech(2, 5)],
        );
        let better = vec![leech(1, 10), leech(2, 5), leech(3, 1_000)];
        assert_eq!(report(&mut session, Moment::from_secs(2), better), None);
        session.handle(Moment::from_secs(11), Input::Tick);
        assert!(last_unchoked(&mut session).unwrap().contains(&3));
    }

    #[test]
    fn who_takes_nothing_keeps_no_slot_from_those_who_wait() {
        let mut session = session(Settings::default());
        let idle = |count: u64| -> Vec<Candidate> { (0..count).map(|key| leech(key, 0)).collect() };
        let mut most = 0;
        for s in 1..60 {
            let unchoked = report(&mut session, Moment::from_secs(s), idle(30));
            most = unchoked.map_or(most, |unchoked| most.max(unchoked.len()));
        }
        assert_eq!(most, 30);
    }

    /// How often each of these was unchoked optimistically, of so many turns: one gives much and has the slot by rank.
    fn turns_of(peers: &[Candidate], turns: u64) -> BTreeMap<u64, u64> {
        let mut session = session(fixed(1));
        let mut counts = BTreeMap::new();
        for turn in 1..=turns {
            let now = Moment::ZERO + OPTIMISTIC_TURN * u32::try_from(turn).unwrap();
            let mut peers = peers.to_vec();
            peers.push(leech(0, 1_000_000));
            session.handle(now, Input::Peers { torrent: T, peers });
            session.handle(now, Input::Tick);
            for id in session.optimistic.keys() {
                *counts.entry(id.peer.0).or_default() += 1;
            }
            drain(&mut session);
        }
        counts
    }

    #[test]
    fn four_of_five_optimistic_slots_go_to_who_has_least_of_those_who_gave() {
        let peer = |key, has_permille, downloaded_bytes| Candidate {
            has_permille,
            downloaded_bytes,
            uploaded_bytes: 1_600,
            ..leech(key, 0)
        };
        let mut peers: Vec<Candidate> = (4..=9).map(|key| peer(key, 500, 100)).collect();
        peers.push(peer(1, 100, 100));
        peers.push(peer(2, 0, 0));
        peers.push(peer(3, 0, 99));
        let counts = turns_of(&peers, 400);
        assert!(counts[&1] >= 320, "it gave and has least: {counts:?}");
        assert!(counts[&2] < 60, "it has less, and never gave: {counts:?}");
        assert!(counts[&3] < 60, "it gave a token: {counts:?}");
        assert!(counts[&9] > 10, "luck reaches everybody: {counts:?}");
    }

    #[test]
    fn the_optimistic_slot_reaches_everybody_in_time() {
        let mut session = session(fixed(1));
        let peers: Vec<Candidate> = (0..6).map(|key| leech(key, 1_000 - key)).collect();
        let mut seen = BTreeSet::new();
        for s in 1..2_000 {
            let now = Moment::from_secs(s);
            session.handle(
                now,
                Input::Peers {
                    torrent: T,
                    peers: peers.clone(),
                },
            );
            session.handle(now, Input::Tick);
            seen.extend(last_unchoked(&mut session).unwrap_or_default());
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn who_loses_interest_loses_the_slot() {
        let mut session = session(fixed(4));
        report(&mut session, Moment::from_secs(1), vec![leech(1, 0)]);
        let bored = Candidate {
            interested: false,
            ..leech(1, 0)
        };
        assert_eq!(
            report(&mut session, Moment::from_secs(2), vec![bored]),
            Some(vec![])
        );
    }

    #[test]
    fn dials_are_shared_between_torrents_and_bounded_by_half_open() {
        let mut session = session(Settings {
            max_half_open: 4,
            ..Settings::default()
        });
        session.handle(Moment::ZERO, Input::Added(TorrentKey(2)));
        session.handle(
            Moment::ZERO,
            Input::WantsDials {
                torrent: T,
                count: 1_000,
            },
        );
        let first = drain(&mut session);
        assert_eq!(
            first,
            [Output::GrantDials {
                torrent: T,
                count: 4
            }]
        );
        session.handle(
            Moment::ZERO,
            Input::WantsDials {
                torrent: TorrentKey(2),
                count: 1,
            },
        );
        assert_eq!(drain(&mut session), []);
        for _ in 0..2 {
            session.handle(
                Moment::ZERO,
                Input::DialEnded {
                    torrent: T,
                    connected: false,
                },
            );
        }
        let then = drain(&mut session);
        assert!(
            then.contains(&Output::GrantDials {
                torrent: TorrentKey(2),
                count: 1
            }),
            "{then:?}"
        );
    }

    #[test]
    fn our_address_is_what_many_networks_say_over_all_torrents() {
        let mut session = session(Settings::default());
        let at: IpAddr = "80.1.1.1".parse().unwrap();
        let votes = |session: &mut Session, networks: core::ops::Range<u8>, at| {
            for network in networks {
                let by = IpAddr::from([11, 0, network, 1]);
                session.handle(Moment::ZERO, Input::Seen(Sighting { by, at }));
            }
            drain(session)
        };
        assert_eq!(votes(&mut session, 0..5, at), []);
        assert_eq!(votes(&mut session, 0..5, at), [], "a network has one vote");
        assert_eq!(votes(&mut session, 5..9, at), [Output::OurAddress(at)]);
        assert!(session.our_addresses().eq([at]));
        let elsewhere = "80.2.2.2".parse().unwrap();
        assert_eq!(votes(&mut session, 20..26, elsewhere), [], "a minority");
        assert_eq!(
            votes(&mut session, 26..40, elsewhere),
            [Output::OurAddress(elsewhere)],
            "we have moved"
        );
    }

    #[test]
    fn a_torrent_has_no_more_slots_than_it_may_and_others_have_the_rest() {
        let mut session = session(fixed(4));
        let other = TorrentKey(2);
        session.handle(Moment::ZERO, Input::Added(other));
        let of = |torrent| -> Vec<Candidate> {
            let peer = |key| PeerKey(key);
            let leech = |key| Candidate {
                id: PeerId {
                    torrent,
                    peer: peer(key),
                },
                ..leech(key, key)
            };
            (1..=10).map(leech).collect()
        };
        let now = Moment::from_secs(1);
        session.handle(
            now,
            Input::SlotsOf {
                torrent: T,
                most: Some(1),
            },
        );
        session.handle(
            now,
            Input::Peers {
                torrent: T,
                peers: of(T),
            },
        );
        session.handle(
            now,
            Input::Peers {
                torrent: other,
                peers: of(other),
            },
        );
        let unchoked = |session: &Session, key| session.torrents[&key].unchoked.len();
        session.handle(Moment::from_secs(20), Input::Tick);
        assert_eq!((unchoked(&session, T), unchoked(&session, other)), (1, 7));
        let settings = Settings {
            slots_per_torrent: Some(3),
            ..fixed(4)
        };
        session.handle(Moment::from_secs(21), Input::Settings(settings));
        assert_eq!((unchoked(&session, T), unchoked(&session, other)), (1, 3));
        session.handle(
            Moment::from_secs(22),
            Input::SlotsOf {
                torrent: T,
                most: None,
            },
        );
        assert_eq!((unchoked(&session, T), unchoked(&session, other)), (3, 3));
    }

    #[test]
    fn fewer_connections_end_those_of_whoever_has_most() {
        let mut session = session(Settings::default());
        let other = TorrentKey(2);
        session.handle(Moment::ZERO, Input::Added(other));
        for torrent in [T, T, T, T, T, other, other] {
            session.handle(Moment::ZERO, Input::Accepted(torrent));
        }
        let settings = Settings {
            max_connections: 3,
            max_connections_per_torrent: 4,
            ..Settings::default()
        };
        session.handle(Moment::ZERO, Input::Settings(settings));
        let shed = drain(&mut session);
        // One of the five is too many for a torrent, which it knows itself.
        let expected = [(T, 2), (other, 1)].map(|(torrent, count)| Output::Shed { torrent, count });
        assert_eq!(shed, expected);
        assert!(!session.admits(other));
    }

    #[test]
    fn a_full_session_admits_nobody() {
        let mut session = session(Settings {
            max_connections: 2,
            ..Settings::default()
        });
        assert!(session.admits(T));
        session.handle(Moment::ZERO, Input::Accepted(T));
        session.handle(Moment::ZERO, Input::Accepted(T));
        assert!(!session.admits(T));
        session.handle(Moment::ZERO, Input::Disconnected(T));
        assert!(session.admits(T));
        assert!(!session.admits(TorrentKey(99)));
    }

    proptest! {
        #[test]
        fn limits_hold_whatever_happens(
            ops in proptest::collection::vec((0u8..8, 1u64..4, 0u32..20, any::<u64>()), 1..200),
            slots in 1u32..6,
        ) {
            let settings = Settings { max_connections: 12, max_connections_per_torrent: 7, max_half_open: 5, ..fixed(slots) };
            let mut session = Session::new(settings.clone(), 3);
            let mut now = Moment::ZERO;
            for (op, key, number, dice) in ops {
                let torrent = TorrentKey(key);
                now = now + Duration::from_millis(dice % 4_000);
                let input = match op {
                    0 => Input::Added(torrent),
                    1 => Input::Removed(torrent),
                    2 => Input::WantsDials { torrent, count: number },
                    3 => Input::DialEnded { torrent, connected: dice % 2 == 0 },
                    4 => Input::Disconnected(torrent),
                    5 => Input::Peers { torrent, peers: (0..u64::from(number)).map(|peer| Candidate {
                        id: PeerId { torrent, peer: PeerKey(peer) },
                        interested: (dice >> (peer % 60)) & 1 == 1,
                        ..leech(peer, dice % (peer + 1))
                    }).collect() },
                    _ => Input::Tick,
                };
                session.handle(now, input);
                drain(&mut session);
                let open: u32 = session.torrents.values().map(|state| state.connected + state.dialling).sum();
                prop_assert!(open <= settings.max_connections);
                prop_assert!(session.torrents.values().map(|state| state.dialling).sum::<u32>() <= settings.max_half_open);
                let mut unchoked = 0;
                for state in session.torrents.values() {
                    prop_assert!(state.connected + state.dialling <= settings.max_connections_per_torrent);
                    for peer in &state.unchoked {
                        let known = state.peers.iter().find(|candidate| candidate.id.peer == *peer);
                        prop_assert!(known.is_some());
                        unchoked += 1;
                    }
                }
                prop_assert!(unchoked <= slots + (slots / SLOTS_PER_OPTIMISTIC).max(1));
            }
        }
    }
}

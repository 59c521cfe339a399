//! Two multiplexers and a network between them that a test can spoil.

use super::*;
use crate::half_open::MAX_HALF_OPEN;
use crate::packet::HEADER_LENGTH;
use fastrand::Rng;
use proptest::prelude::*;

const TRIP: Duration = Duration::from_millis(20);

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(side).unwrap()], 6881))
}

/// What is at an offset of the stream that `side` sends.
fn content(side: usize, offset: u64) -> u8 {
    u8::try_from((offset * 31 + offset / 251 + side as u64) % 256).unwrap()
}

/// What the network does to a datagram: nothing, or it arrives so many times, each so much later.
type Fault = Box<dyn FnMut(usize, &mut Vec<u8>) -> Vec<Duration>>;

struct Side {
    machine: Multiplexer,
    key: Option<Key>,
    received: u64,
    acknowledged: u64,
    finished: bool,
    connected: bool,
    closed: Option<Closed>,
    /// Whether what comes is read at once.
    reads: bool,
    unread: u64,
    sent_datagrams: usize,
    longest: usize,
}

struct Pair {
    now: Moment,
    sides: [Side; 2],
    /// When, to whom, in which order, what.
    wire: BTreeMap<(Moment, u64), (usize, Vec<u8>)>,
    sequence: u64,
    fault: Fault,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let side = |number| Side {
            machine: Multiplexer::new(Settings::default(), Rng::with_seed(seed + number)),
            key: None,
            received: 0,
            acknowledged: 0,
            finished: false,
            connected: false,
            closed: None,
            reads: true,
            unread: 0,
            sent_datagrams: 0,
            longest: 0,
        };
        Pair {
            now: Moment::from_secs(1),
            sides: [side(0), side(1000)],
            wire: BTreeMap::new(),
            sequence: 0,
            fault: Box::new(|_, _| vec![TRIP / 2]),
        }
    }

    fn connected(seed: u64) -> Self {
        let mut pair = Pair::new(seed);
        pair.connect();
        pair.write(0, 1);
        pair.run(Duration::from_secs(1));
        assert!(pair.sides[0].connected && pair.sides[1].key.is_some());
        pair
    }

    fn connect(&mut self) {
        let key = self.sides[0].machine.connect(self.now, address(1));
        self.sides[0].key = Some(key.unwrap());
    }

    fn input(&mut self, side: usize, input: Input<'_>) {
        let bytes = match input {
            Input::Datagram { bytes, .. } => bytes,
            _ => &[],
        };
        let now = self.now;
        let other = 1 - side;
        let side = &mut self.sides[side];
        side.machine.handle(now, input);
        let mut read = 0;
        while let Some(output) = side.machine.poll() {
            assert_eq!(side.closed, None, "{output:?} after the end");
            match output {
                Output::Accepted { key, .. } => side.key = Some(key),
                Output::Connected(_) => side.connected = true,
                Output::Received { delivery, .. } => {
                    let payload = match &delivery {
                        Delivery::Datagram(length) => &bytes[bytes.len() - length..],
                        Delivery::Held(held) => held,
                    };
                    for (byte, offset) in payload.iter().zip(side.received..) {
                        assert_eq!(*byte, content(other, offset), "offset {offset}");
                    }
                    side.received += payload.len() as u64;
                    read += payload.len() as u64;
                }
                Output::Acknowledged { up_to, .. } => side.acknowledged = up_to,
                Output::Finished(_) => side.finished = true,
                Output::Closed { reason, .. } => side.closed = Some(reason),
            }
        }
        side.unread += read;
        if side.reads
            && side.unread > 0
            && let Some(key) = side.key
        {
            let bytes = core::mem::take(&mut side.unread);
            side.machine.handle(now, Input::Consumed { key, bytes });
        }
    }

    fn write(&mut self, side: usize, bytes: u64) {
        let key = self.sides[side].key.unwrap();
        self.input(side, Input::Written { key, bytes });
    }

    fn flush(&mut self) {
        for side in 0..2 {
            while let Some((remote, key, datagram)) = self.sides[side].machine.transmit(self.now) {
                assert_eq!(key.is_some(), key == self.sides[side].key && key.is_some());
                let mut bytes = vec![0; datagram.length()];
                let offsets = datagram.payload.clone();
                for (byte, offset) in datagram.write_head(&mut bytes).iter_mut().zip(offsets) {
                    *byte = content(side, offset);
                }
                self.sides[side].sent_datagrams += 1;
                self.sides[side].longest = self.sides[side].longest.max(bytes.len());
                assert_eq!(remote, address(1 - side));
                for delay in (self.fault)(side, &mut bytes) {
                    self.sequence += 1;
                    let at = (self.now + delay, self.sequence);
                    self.wire.insert(at, (1 - side, bytes.clone()));
                }
            }
        }
    }

    /// Runs until nothing happens any more, at most for `time`.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.flush();
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timers = self.sides.iter().filter_map(|side| side.machine.deadline());
            let Some(next) = timers.chain(arrival).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (side, bytes)) = self.wire.pop_first().unwrap();
                let remote = address(1 - side);
                self.input(
                    side,
                    Input::Datagram {
                        remote,
                        bytes: &bytes,
                    },
                );
            } else {
                (0..2).for_each(|side| self.input(side, Input::Tick));
            }
        }
    }
}

#[test]
fn streams_of_both_directions_arrive_whole() {
    let mut pair = Pair::connected(1);
    pair.write(0, 3_000_000);
    pair.write(1, 500_000);
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.sides[1].received, 3_000_001);
    assert_eq!(pair.sides[0].received, 500_000);
    assert_eq!(pair.sides[0].acknowledged, 3_000_001);
    assert_eq!(pair.sides[0].longest, 1_472);
}

#[test]
fn streams_survive_loss_order_duplicates_and_noise() {
    for seed in 0..30 {
        let mut pair = Pair::new(seed);
        let mut dice = Rng::with_seed(seed);
        pair.fault = Box::new(move |_, bytes| {
            let jitter = |dice: &mut Rng| TRIP / 2 + Duration::from_micros(dice.u64(..8_000));
            match dice.u32(..100) {
                0..10 => vec![],
                10..15 => vec![jitter(&mut dice), jitter(&mut dice)],
                // Only fields that steer: UDP's checksum guards the rest, and nothing else could.
                15..18 => {
                    let at = dice.usize(..HEADER_LENGTH);
                    bytes[at] ^= 1 << dice.u8(..8);
                    if !(4..16).contains(&at) {
                        vec![]
                    } else {
                        vec![TRIP / 2]
                    }
                }
                _ => vec![jitter(&mut dice)],
            }
        });
        pair.connect();
        pair.write(0, 200_000);
        pair.run(Duration::from_secs(10));
        pair.write(1, 100_000);
        pair.run(Duration::from_secs(300));
        assert_eq!(pair.sides[1].received, 200_000, "seed {seed}");
        assert_eq!(pair.sides[0].received, 100_000, "seed {seed}");
    }
}

#[test]
fn both_sides_end_and_nothing_is_left() {
    let mut pair = Pair::connected(3);
    let keys = [pair.sides[0].key.unwrap(), pair.sides[1].key.unwrap()];
    pair.write(0, 100_000);
    pair.input(0, Input::Finish(keys[0]));
    pair.run(Duration::from_secs(5));
    assert!(pair.sides[1].finished && pair.sides[1].received == 100_001);
    assert_eq!(pair.sides[0].closed, None);
    pair.write(1, 50_000);
    pair.input(1, Input::Finish(keys[1]));
    pair.run(Duration::from_secs(5));
    for side in &pair.sides {
        assert_eq!(side.closed, Some(Closed::Ended));
        assert_eq!(side.machine.connections(), 0);
        assert_eq!(side.machine.deadline(), None);
    }
    assert_eq!(pair.sides[0].received, 50_000);
}

#[test]
fn who_leaves_still_delivers_what_it_wrote() {
    let mut pair = Pair::connected(4);
    let key = pair.sides[0].key.unwrap();
    pair.write(0, 400_000);
    pair.input(0, Input::Abandon(key));
    pair.run(Duration::from_secs(10));
    assert!(pair.sides[1].finished && pair.sides[1].received == 400_001);
    assert_eq!(pair.sides[0].closed, Some(Closed::Ended));
    // The other side learns by its next word that nobody listens.
    pair.write(1, 10);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.sides[1].closed, Some(Closed::Reset));
}

#[test]
fn giving_up_tells_the_remote_at_once() {
    let mut pair = Pair::connected(5);
    let key = pair.sides[1].key.unwrap();
    pair.input(1, Input::Abort(key));
    pair.run(TRIP);
    assert_eq!(pair.sides[1].closed, Some(Closed::Aborted));
    assert_eq!(pair.sides[0].closed, Some(Closed::Reset));
}

#[test]
fn a_remote_that_falls_silent_is_given_up_after_a_minute() {
    let mut pair = Pair::connected(6);
    pair.fault = Box::new(|_, _| vec![]);
    pair.write(0, 100_000);
    pair.run(Duration::from_secs(30));
    assert_eq!(pair.sides[0].closed, None);
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.sides[0].closed, Some(Closed::TimedOut));
}

#[test]
fn nobody_there_is_known_after_seven_seconds() {
    let mut pair = Pair::new(7);
    pair.fault = Box::new(|_, _| vec![]);
    pair.connect();
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.sides[0].closed, Some(Closed::TimedOut));
    assert_eq!(pair.sides[0].sent_datagrams, 3);
    assert_eq!(pair.sides[0].machine.connections(), 0);
}

#[test]
fn who_does_not_read_stops_the_sender_and_starts_it_again() {
    let mut pair = Pair::connected(8);
    pair.sides[1].reads = false;
    pair.write(0, 6_000_000);
    pair.run(Duration::from_secs(200));
    let limit = Settings::default().max_receive_bytes;
    assert!((limit - 1_500..=limit + 1_500).contains(&pair.sides[1].received));
    assert_eq!((pair.sides[0].closed, pair.sides[1].closed), (None, None));
    pair.sides[1].reads = true;
    let (key, bytes) = (pair.sides[1].key.unwrap(), pair.sides[1].unread);
    pair.sides[1].unread = 0;
    pair.input(1, Input::Consumed { key, bytes });
    pair.run(Duration::from_secs(30));
    assert_eq!(pair.sides[1].received, 6_000_001);
}

#[test]
fn a_path_that_takes_less_is_used_as_far_as_it_goes() {
    let mut pair = Pair::new(9);
    pair.fault = Box::new(|_, bytes| match bytes.len() {
        0..=1_400 => vec![TRIP / 2],
        _ => vec![],
    });
    pair.connect();
    pair.write(0, 2_000_000);
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.sides[1].received, 2_000_000);
    // The search has settled: what leaves is as long as the path takes.
    pair.sides[0].longest = 0;
    pair.write(0, 100_000);
    pair.run(Duration::from_secs(5));
    assert!((1_393..=1_400).contains(&pair.sides[0].longest));
}

#[test]
fn an_idle_connection_keeps_its_nat_mapping() {
    let mut pair = Pair::connected(10);
    let before = pair.sides[0].sent_datagrams;
    pair.run(Duration::from_secs(300));
    let sent = pair.sides[0].sent_datagrams - before;
    assert!((9..=12).contains(&sent), "{sent} in five minutes");
    assert_eq!(pair.sides[0].closed, None);
}

#[test]
fn short_writes_share_packets_and_do_not_wait_for_delayed_acknowledgements() {
    let mut pair = Pair::connected(11);
    let (before, began) = (pair.sides[0].sent_datagrams, pair.now);
    for _ in 0..100 {
        pair.write(0, 17);
        pair.flush();
    }
    pair.run(TRIP * 2);
    assert_eq!(pair.sides[1].received, 1_701);
    assert!(pair.now - began <= TRIP * 2);
    assert!(pair.sides[0].sent_datagrams - before <= 3);
}

/// A packet of somebody whose address may be anybody's.
fn forged(kind: Kind, id: u16, sequence: u16, acknowledged: u16, payload: &[u8]) -> Vec<u8> {
    let datagram = Datagram::bare(Header {
        kind,
        connection_id: id,
        timestamp_us: 1,
        difference_us: 0,
        window_bytes: 1 << 20,
        sequence: Sequence(sequence),
        acknowledged: Sequence(acknowledged),
    });
    let mut bytes = vec![0; datagram.length()];
    datagram.write_head(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn give(machine: &mut Multiplexer, bytes: &[u8]) {
    let remote = address(1);
    machine.handle(Moment::from_secs(1), Input::Datagram { remote, bytes });
}

fn answers(machine: &mut Multiplexer) -> Vec<Datagram> {
    core::iter::from_fn(|| machine.transmit(Moment::from_secs(1)))
        .map(|(_, _, datagram)| datagram)
        .collect()
}

#[test]
fn a_forged_source_costs_an_entry_and_an_answer_of_its_own_length() {
    let mut machine = Multiplexer::new(Settings::default(), Rng::with_seed(1));
    give(&mut machine, &forged(Kind::Syn, 7, 100, 0, b""));
    let answer = answers(&mut machine);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].length(), HEADER_LENGTH);
    assert_eq!(answer[0].header.connection_id, 7);
    assert_eq!(answer[0].header.acknowledged, Sequence(100));
    let sequence = answer[0].header.sequence;
    // Who did not see the answer guesses wrong, and no payload of it is taken.
    give(
        &mut machine,
        &forged(Kind::Data, 8, 101, sequence.0 ^ 0x55, b"GET"),
    );
    assert_eq!((machine.poll(), machine.connections()), (None, 0));
    assert_eq!(answers(&mut machine), []);
    assert_eq!(machine.deadline(), None);
    // Who saw it is taken in, with what it says.
    give(
        &mut machine,
        &forged(Kind::Data, 8, 101, sequence.previous().0, b"GET"),
    );
    assert!(matches!(machine.poll(), Some(Output::Accepted { .. })));
    assert!(matches!(
        machine.poll(),
        Some(Output::Received {
            delivery: Delivery::Datagram(3),
            ..
        })
    ));
}

#[test]
fn an_initiator_that_follows_bep_29_to_the_letter_gets_the_number_that_it_expects() {
    let mut machine = Multiplexer::new(Settings::default(), Rng::with_seed(2));
    give(&mut machine, &forged(Kind::Syn, 7, 1, 0, b""));
    let sequence = answers(&mut machine)[0].header.sequence;
    give(
        &mut machine,
        &forged(Kind::Data, 8, 2, sequence.0, b"hello"),
    );
    let Some(Output::Accepted { key, .. }) = machine.poll() else {
        panic!("not accepted");
    };
    while machine.poll().is_some() {}
    machine.handle(Moment::from_secs(1), Input::Written { key, bytes: 5 });
    assert_eq!(answers(&mut machine)[0].header.sequence, sequence.next());
}

#[test]
fn a_flood_of_syns_takes_bounded_memory_and_open_connections_are_not_touched() {
    let mut machine = Multiplexer::new(Settings::default(), Rng::with_seed(3));
    for id in 0..60_000 {
        give(&mut machine, &forged(Kind::Syn, id, 1, 0, b""));
    }
    assert_eq!(answers(&mut machine).len(), MAX_REPLIES);
    let kept = (0..60_000).filter(|id| machine.half_open.contains((address(1), id + 1)));
    assert_eq!(kept.count(), MAX_HALF_OPEN);
    assert_eq!(machine.connections(), 0);
}

#[test]
fn strangers_are_reset_a_limited_number_of_times_and_resets_are_not_answered() {
    let mut machine = Multiplexer::new(Settings::default(), Rng::with_seed(4));
    give(&mut machine, &forged(Kind::Reset, 9, 5, 6, b""));
    assert_eq!(answers(&mut machine), []);
    for id in 0..1_000 {
        give(&mut machine, &forged(Kind::Data, id, 5, 6, b"data"));
    }
    let answers = answers(&mut machine);
    assert_eq!(answers.len(), RESETS_PER_S as usize);
    assert_eq!(answers[3].header.connection_id, 3);
    assert_eq!(answers[3].header.acknowledged, Sequence(5));
}

#[test]
fn a_blind_reset_or_acknowledgement_does_nothing() {
    let mut pair = Pair::connected(12);
    let slot = pair.sides[1].key.unwrap().slot;
    let connection = &pair.sides[1].machine.entries[slot].connection;
    let id = connection.receive_id();
    for kind in [Kind::Reset, Kind::State, Kind::Fin] {
        for distance in [200_u16, 30_000, 60_000] {
            let entry = &pair.sides[1].machine.entries[slot];
            let next = entry.connection.next_sequence();
            let bytes = forged(kind, id, 0, next.0.wrapping_add(distance), b"");
            pair.input(
                1,
                Input::Datagram {
                    remote: address(0),
                    bytes: &bytes,
                },
            );
            assert_eq!(pair.sides[1].closed, None);
        }
    }
    pair.write(0, 1_000);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.sides[1].received, 1_001);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn noise_in_the_header_never_breaks_a_machine(changes in prop::collection::vec((0usize..HEADER_LENGTH + 4, any::<u8>(), 0u64..40), 1..60), seed in 0u64..1_000) {
        let mut pair = Pair::new(seed);
        let mut changes = changes.into_iter();
        let mut dice = Rng::with_seed(seed);
        // Sequence numbers may be forged, so that only what the machine says of itself is checked: the content is not.
        pair.fault = Box::new(move |_, bytes| {
            if dice.u8(..4) == 0 && let Some((at, byte, delay)) = changes.next() {
                let kind = bytes[0] >> 4;
                if at < bytes.len() && kind != 0 {
                    bytes[at] = byte;
                }
                return vec![Duration::from_millis(delay)];
            }
            vec![TRIP / 2]
        });
        pair.connect();
        pair.write(0, 50_000);
        pair.run(Duration::from_secs(200));
    }
}

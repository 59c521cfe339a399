//! The encrypted handshake: two sides that talk over a line on which anything may happen.
//!
//! RC4 keeps bits where they are, so that a bit turned on the line is a bit turned in what the other side decrypts: lengths, methods
//! and constants are reached through the cipher.
//!
//! Invariant: as for the whole crate.

use crate::operations::Operations;
use shoal_metainfo::InfoHash;
use shoal_wire::mse::{
    Established, Initiator, MAX_INITIAL_PAYLOAD, MAX_PAD_LENGTH, Methods, MseError, Noise,
    Responder, SkeyHash,
};

const SKEY: InfoHash = InfoHash([0x5a; 20]);

const METHODS: [Methods; 3] = [Methods::ALL, Methods::RC4, Methods::PLAINTEXT];

/// The most that one side says of a handshake: a key and its padding; two hashes, the offer, padding, a length, a payload.
const MAX_SAID: usize = 96 + MAX_PAD_LENGTH + 40 + 14 + MAX_PAD_LENGTH + 2 + MAX_INITIAL_PAYLOAD;

/// What a handshake came to.
#[derive(Debug, PartialEq)]
enum End {
    Waiting,
    Failed(MseError),
    Done { encrypted: bool, received: Vec<u8> },
}

/// Either machine.
enum Machine {
    Initiator(Initiator),
    Responder(Responder),
}

/// One side: its machine, what it heard and said, and what it came to.
struct Side {
    machine: Machine,
    heard: Vec<u8>,
    said: Vec<u8>,
    done: Option<Result<Established, MseError>>,
    /// What came after the end.
    later: Vec<u8>,
}

/// How a side is set up.
#[derive(Clone)]
struct Setup {
    methods: Methods,
    noise: Noise,
    /// `None` is the side that was called.
    initial: Option<Vec<u8>>,
}

impl Setup {
    fn read(operations: &mut Operations<'_>, secret: u8, initial: bool) -> Self {
        let methods = METHODS[operations.below(METHODS.len())];
        let mut length = || operations.number() as usize % (MAX_PAD_LENGTH + 1);
        let (pad, crypto_pad) = (vec![secret; length()], length());
        Setup {
            methods,
            noise: Noise::fixed([secret; 20], pad, crypto_pad),
            initial: initial.then(|| operations.bytes().to_vec()),
        }
    }

    fn start(self) -> Side {
        let mut said = Vec::new();
        let machine = match self.initial {
            Some(initial) => {
                let (methods, noise) = (self.methods, self.noise);
                let machine = Initiator::new(SKEY, methods, noise, &initial, &mut said);
                Machine::Initiator(machine)
            }
            None => Machine::Responder(Responder::new(self.methods, self.noise)),
        };
        Side {
            machine,
            heard: Vec::new(),
            said,
            done: None,
            later: Vec::new(),
        }
    }
}

impl Side {
    /// Hears bytes; returns what it says.
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.heard.extend_from_slice(bytes);
        if self.done.is_some() {
            self.later.extend_from_slice(bytes);
            return Vec::new();
        }
        let mut out = Vec::new();
        let find = |name| (name == SkeyHash::of(SKEY)).then_some(SKEY);
        let outcome = match &mut self.machine {
            Machine::Initiator(machine) => machine.receive(bytes, &mut out),
            Machine::Responder(machine) => machine.receive(bytes, find, &mut out),
        };
        self.done = outcome.transpose();
        self.said.extend_from_slice(&out);
        assert!(self.said.len() <= MAX_SAID, "nobody says that much");
        out
    }

    fn end(mut self) -> End {
        match self.done {
            None => End::Waiting,
            Some(Err(error)) => End::Failed(error),
            Some(Ok(mut established)) => {
                assert_eq!(established.skey, SKEY);
                if let Some(ciphers) = &mut established.ciphers {
                    ciphers.receive.apply(&mut self.later);
                }
                established.received.append(&mut self.later);
                End::Done {
                    encrypted: established.ciphers.is_some(),
                    received: established.received,
                }
            }
        }
    }
}

/// Whatever happens on the line, both sides say and come to what they would if it had arrived at once; where nothing happened to it,
/// they agree as far as their methods allow.
pub fn mse(input: &[u8]) {
    let mut operations = Operations::new(input);
    let setups = [
        Setup::read(&mut operations, 3, true),
        Setup::read(&mut operations, 4, false),
    ];
    let initial = setups[0].initial.clone().unwrap_or_default();
    let mut sides = setups.clone().map(Setup::start);
    // What is on its way to each side.
    let mut lines = [Vec::new(), sides[0].said.clone()];
    let mut tampered = false;
    while let Some(kind) = operations.next_kind() {
        let to = operations.below(2);
        match kind % 8 {
            0 => tampered |= turn(&mut lines[to], &mut operations),
            1 => {
                let bytes = operations.bytes();
                tampered |= !bytes.is_empty();
                let at = operations.number() as usize % (lines[to].len() + 1);
                lines[to].splice(at..at, bytes.iter().copied());
            }
            _ => {
                let count = (operations.number() as usize).min(lines[to].len());
                deliver(&mut sides, &mut lines, to, count);
            }
        }
    }
    while lines.iter().any(|line| !line.is_empty()) {
        for to in [0, 1] {
            let count = lines[to].len();
            deliver(&mut sides, &mut lines, to, count);
        }
    }
    check(setups, sides, (!tampered).then_some(initial.as_slice()));
}

/// Turns bits of a byte on the line.
fn turn(line: &mut [u8], operations: &mut Operations<'_>) -> bool {
    let (at, bits) = (operations.number() as usize, operations.byte());
    let length = line.len().max(1);
    match line.get_mut(at % length) {
        Some(byte) => {
            *byte ^= bits;
            bits != 0
        }
        None => false,
    }
}

fn deliver(sides: &mut [Side; 2], lines: &mut [Vec<u8>; 2], to: usize, count: usize) {
    let part: Vec<u8> = lines[to].drain(..count).collect();
    let said = sides[to].hear(&part);
    lines[1 - to].extend(said);
}

/// `initial` is what the initiator began with, where nothing happened to it on the way.
fn check(setups: [Setup; 2], sides: [Side; 2], initial: Option<&[u8]>) {
    let agreed = setups[0].methods == setups[1].methods
        || [setups[0].methods, setups[1].methods].contains(&Methods::ALL);
    let mut ends = Vec::new();
    for (setup, side) in setups.into_iter().zip(sides) {
        let mut again = setup.start();
        again.hear(&side.heard);
        assert_eq!(
            again.said, side.said,
            "what is said does not depend on cuts"
        );
        let end = side.end();
        assert_eq!(again.end(), end, "nor does the end");
        ends.push(end);
    }
    let Some(initial) = initial else { return };
    match (ends.pop(), agreed) {
        (
            Some(End::Done {
                received,
                encrypted,
            }),
            true,
        ) => {
            assert_eq!(received, initial);
            let received = Vec::new();
            assert_eq!(
                ends,
                [End::Done {
                    received,
                    encrypted
                }]
            );
        }
        (Some(End::Failed(MseError::Offer(_))), false) => assert_eq!(ends, [End::Waiting]),
        other => panic!("an undisturbed handshake came to {other:?}"),
    }
}

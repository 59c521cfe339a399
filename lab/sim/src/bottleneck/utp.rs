//! The two ends of a uTP connection, each with a multiplexer of its own.

use super::{Packet, Said};
use fastrand::Rng;
use shoal_machine::Moment;
use shoal_utp::{Delivery, Input, Key, Multiplexer, Output, Settings};
use std::net::SocketAddr;

/// Headers of IPv4 and UDP.
const OVERHEAD_BYTES: u64 = 28;

/// More than any run sends.
const ENDLESS_BYTES: u64 = 1 << 50;

#[derive(Debug)]
pub(super) struct Pair {
    sender: Multiplexer,
    receiver: Multiplexer,
    addresses: [SocketAddr; 2],
    key: Key,
    /// The receiver's answer has come.
    answered: bool,
    received: u64,
}

impl Pair {
    pub(super) fn new(now: Moment, flow: usize, seed: u64) -> Self {
        let port = 10_000 + u16::try_from(flow).expect("a run has few flows");
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| SocketAddr::from((ip, port)));
        let mut sender = Multiplexer::new(Settings::default(), Rng::with_seed(seed));
        let key = sender
            .connect(now, addresses[1])
            .expect("it is the only connection");
        sender.handle(
            now,
            Input::Written {
                key,
                bytes: ENDLESS_BYTES,
            },
        );
        Pair {
            sender,
            receiver: Multiplexer::new(Settings::default(), Rng::with_seed(!seed)),
            addresses,
            key,
            answered: false,
            received: 0,
        }
    }

    /// The sender or, with `back`, the receiver gets a packet or its timers.
    pub(super) fn turn(&mut self, now: Moment, back: bool, packet: Option<&Packet>) -> Said {
        let mut said = Said::default();
        let (machine, remote) = match back {
            false => (&mut self.sender, self.addresses[1]),
            true => (&mut self.receiver, self.addresses[0]),
        };
        let bytes = match packet {
            Some(Packet::Utp(bytes)) => {
                self.answered |= !back;
                machine.handle(now, Input::Datagram { remote, bytes });
                &bytes[..]
            }
            _ => {
                machine.handle(now, Input::Tick);
                &[]
            }
        };
        let mut consumed = None;
        while let Some(output) = machine.poll() {
            match output {
                Output::Received { key, delivery } => {
                    let payload = match &delivery {
                        Delivery::Datagram(length) => &bytes[bytes.len() - length..],
                        Delivery::Held(held) => held,
                    };
                    check(payload, self.received);
                    self.received += payload.len() as u64;
                    said.received_bytes += payload.len() as u64;
                    consumed = Some(key);
                }
                Output::Closed { reason, .. } => panic!("the connection ended: {reason}"),
                _ => {}
            }
        }
        if let Some(key) = consumed {
            let bytes = said.received_bytes;
            machine.handle(now, Input::Consumed { key, bytes });
        }
        while let Some((_, key, datagram)) = machine.transmit(now) {
            let mut bytes = vec![0; datagram.length()];
            let payload = datagram.write_head(&mut bytes);
            if !payload.is_empty() {
                assert_eq!(key, Some(self.key));
                assert!(self.answered, "payload left before the remote had answered");
                stamp(payload, datagram.payload.start);
            }
            let length = bytes.len() as u64 + OVERHEAD_BYTES;
            said.packets.push((Packet::Utp(bytes), length));
        }
        said.wake = machine.deadline();
        said
    }
}

/// Payload starts with its place in the stream.
fn stamp(payload: &mut [u8], offset: u64) {
    for (byte, place) in payload.iter_mut().zip(offset.to_be_bytes()) {
        *byte = place;
    }
}

fn check(payload: &[u8], offset: u64) {
    let right = payload
        .iter()
        .zip(offset.to_be_bytes())
        .all(|(byte, place)| *byte == place);
    assert!(right, "the bytes at {offset} are others");
}

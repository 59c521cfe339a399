//! Our machine over a socket of its own.

use anyhow::Result;
use shoal_dht::item::Item;
use shoal_dht::{Dht, Handle, Input, Output, Saved, Settings};
use shoal_machine::{Machine, Moment};
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A participant that does nothing but what it is told.
pub(crate) struct Ours {
    socket: UdpSocket,
    begun: Instant,
    machine: Dht,
    /// What searches have found.
    pub(crate) found: Vec<Item>,
    pub(crate) peers: Vec<SocketAddr>,
    /// The searches that stored something.
    pub(crate) stored: BTreeSet<Handle>,
}

impl Ours {
    /// Takes part there, and begins with this contact.
    pub(crate) fn start(address: SocketAddr, contact: Option<SocketAddr>) -> Result<Self> {
        let settings = Settings {
            v6: false,
            ..Settings::default()
        };
        let rng = fastrand::Rng::with_seed(address.port().into());
        let machine = Dht::new(Moment::ZERO, settings, &Saved::default(), [1; 32], rng);
        let mut ours = Ours {
            socket: UdpSocket::bind(address)?,
            begun: Instant::now(),
            machine,
            found: Vec::new(),
            peers: Vec::new(),
            stored: BTreeSet::new(),
        };
        ours.tell(Input::Bootstrap {
            addresses: contact.into_iter().collect(),
            are_routers: false,
        })?;
        Ok(ours)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.begun.elapsed()
    }

    pub(crate) fn tell(&mut self, input: Input) -> Result<()> {
        self.machine.handle(self.now(), input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { to, bytes } => drop(self.socket.send_to(&bytes, to)?),
                Output::ItemFound { item, .. } => self.found.push(item),
                Output::PeersFound { peers, .. } => self.peers.extend(peers),
                Output::Ended { handle, outcome } if outcome.stored > 0 => {
                    self.stored.insert(handle);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes part for a while.
    pub(crate) fn run(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut buffer = [0; 2048];
        while Instant::now() < until {
            self.socket
                .set_read_timeout(Some(Duration::from_millis(20)))?;
            let input = match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => Input::Datagram {
                    from,
                    bytes: buffer[..length].to_vec(),
                },
                Err(_) => Input::Tick,
            };
            self.tell(input)?;
        }
        Ok(())
    }
}

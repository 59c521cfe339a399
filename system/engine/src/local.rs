//! The driver of local service discovery: one for all torrents, which says who we are and passes on who is there.
//!
//! Invariant: private torrents are never named here, nothing leaves before a torrent joins, and no torrent is waited for.

use crate::clock::Clock;
use crate::dht::DhtPeers;
use crate::inbox::Sender;
use crate::mailbox::{Mailbox, separate};
use crate::torrent::ToTorrent;
use shoal_machine::Machine;
use shoal_metainfo::InfoHash;
use shoal_swarm::torrent::Origin;
use shoal_tracker::local::{
    GROUP_V4, GROUP_V6, Input, LocalAnnounce, LocalDiscovery, MAX_DATAGRAM_BYTES, Output,
};
use shoal_transport::{Multicast, Transport};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

/// What torrents tell this driver.
enum ToLocal {
    Join([u8; 20], Sender<ToTorrent>),
    Leave([u8; 20]),
}

/// How torrents speak to this driver. Clones speak to the same.
#[derive(Clone)]
pub(crate) struct LocalPeers {
    mailbox: Mailbox<ToLocal>,
}

impl LocalPeers {
    /// The two ends. Others may connect to these addresses; an announce names one port, and goes to the families that have it.
    pub(crate) fn new(
        clock: Clock,
        transport: Transport,
        first: SocketAddr,
        listening: &[SocketAddr],
        dht: Option<DhtPeers>,
        rng: &mut fastrand::Rng,
    ) -> (LocalTask, Self) {
        let mailbox = Mailbox::new();
        let port = first.port();
        let listens = |family: SocketAddr| {
            let mut reachable = listening.iter().filter(|at| !at.ip().is_loopback());
            reachable.any(|at| at.is_ipv4() == family.is_ipv4() && at.port() == port)
        };
        let task = LocalTask {
            clock,
            transport,
            dht,
            discovery: LocalDiscovery::new(port, rng),
            mailbox: mailbox.clone(),
            torrents: BTreeMap::new(),
            v4: Group::new(GROUP_V4, listens(GROUP_V4)),
            v6: Group::new(GROUP_V6, listens(GROUP_V6)),
        };
        (task, LocalPeers { mailbox })
    }

    /// Announces these swarms, and tells their torrent who announces them, until what this returns is dropped.
    pub(crate) fn join(
        &self,
        swarms: impl Iterator<Item = InfoHash>,
        torrent: &Sender<ToTorrent>,
    ) -> Membership {
        let swarms: Vec<[u8; 20]> = swarms.map(|swarm| swarm.0).collect();
        for swarm in &swarms {
            let join = ToLocal::Join(*swarm, torrent.clone());
            self.mailbox.push(join, separate);
        }
        Membership {
            swarms,
            mailbox: self.mailbox.clone(),
        }
    }
}

/// A torrent's being announced.
pub(crate) struct Membership {
    swarms: Vec<[u8; 20]>,
    mailbox: Mailbox<ToLocal>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        for swarm in &self.swarms {
            self.mailbox.push(ToLocal::Leave(*swarm), separate);
        }
    }
}

/// One family's group, open while there is somebody to announce.
struct Group {
    address: SocketAddr,
    /// Whoever hears of us in this family can connect. Where not, we hear of others all the same.
    listens: bool,
    socket: Option<Multicast>,
    buffer: Vec<u8>,
}

impl Group {
    fn new(address: SocketAddr, listens: bool) -> Self {
        Group {
            address,
            listens,
            socket: None,
            buffer: Vec::new(),
        }
    }

    /// Opens it where it is not, and sees to it that it covers the interfaces that there are now.
    fn open(&mut self, transport: &Transport) {
        let opened = match &mut self.socket {
            Some(socket) => socket.look_around(),
            None => transport.multicast(self.address).map(|socket| {
                self.socket = socket;
                self.buffer.resize(MAX_DATAGRAM_BYTES, 0);
            }),
        };
        if let Err(error) = opened {
            tracing::debug!(group = %self.address, %error, "no peers are looked for there");
        }
    }

    fn close(&mut self) {
        (self.socket, self.buffer) = (None, Vec::new());
    }

    async fn announce(&self, announce: &LocalAnnounce) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.listens) {
            socket.send(&announce.encode(self.address)).await;
        }
    }

    /// Waits for a datagram, for ever where it is not open.
    async fn hear(&mut self) -> io::Result<Input> {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        let (length, from) = socket.recv(&mut self.buffer).await?;
        Ok(Input::Heard {
            from,
            datagram: self.buffer[..length].to_vec(),
        })
    }
}

/// The driver.
pub(crate) struct LocalTask {
    clock: Clock,
    transport: Transport,
    /// Neighbours may take part.
    dht: Option<DhtPeers>,
    discovery: LocalDiscovery,
    mailbox: Mailbox<ToLocal>,
    torrents: BTreeMap<[u8; 20], Sender<ToTorrent>>,
    v4: Group,
    v6: Group,
}

impl LocalTask {
    /// Runs for as long as its event loop does.
    pub(crate) async fn run(mut self) {
        loop {
            let deadline = self.discovery.deadline();
            let mut mail = Vec::new();
            tokio::select! {
                () = self.mailbox.collect(&mut mail) => {
                    mail.into_iter().for_each(|message| self.hear(message));
                }
                heard = self.v4.hear() => match heard {
                    Ok(input) => self.tell(input),
                    // The next announce opens it again.
                    Err(_) => self.v4.close(),
                },
                heard = self.v6.hear() => match heard {
                    Ok(input) => self.tell(input),
                    Err(_) => self.v6.close(),
                },
                () = self.clock.sleep_until(deadline) => self.tell(Input::Tick),
            }
            self.carry_out().await;
        }
    }

    fn hear(&mut self, message: ToLocal) {
        match message {
            ToLocal::Join(swarm, torrent) => {
                self.torrents.insert(swarm, torrent);
                self.tell(Input::Joined(swarm));
            }
            ToLocal::Leave(swarm) => {
                self.torrents.remove(&swarm);
                self.tell(Input::Left(swarm));
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.discovery.handle(self.clock.now(), input);
    }

    async fn carry_out(&mut self) {
        while let Some(output) = self.discovery.poll() {
            match output {
                Output::Announce(announce) => {
                    self.v4.open(&self.transport);
                    self.v6.open(&self.transport);
                    self.v4.announce(&announce).await;
                    self.v6.announce(&announce).await;
                }
                Output::Found { swarm, address } => {
                    if let Some(dht) = &self.dht {
                        dht.meet(address);
                    }
                    if let Some(torrent) = self.torrents.get(&swarm) {
                        // Where the torrent is busy or gone, the peer is heard of again.
                        let found = ToTorrent::Candidates(Origin::Local, vec![address]);
                        drop(torrent.try_send(found));
                    }
                }
            }
        }
        if self.discovery.is_idle() {
            self.v4.close();
            self.v6.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddMagnet, Engine, EngineConfig, FoundTorrent};
    use shoal_metainfo::bencode::Limits;
    use shoal_metainfo::{Magnet, Metainfo};
    use shoal_transport::TransportConfig;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::Duration;

    /// Whether somebody joins for a torrent that its magnet link led to in an earlier run.
    async fn joins(info: &str) -> bool {
        let transport = TransportConfig {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            isolated: true,
            ..TransportConfig::default()
        };
        let mut engine = Engine::start(EngineConfig {
            transport,
            workers: 1,
            ..EngineConfig::default()
        })
        .await
        .unwrap();
        let (clock, transport) = (engine.handle.environment.clock, engine.transport().clone());
        let mut rng = fastrand::Rng::with_seed(1);
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 6881));
        let (task, local) = LocalPeers::new(clock, transport, address, &[address], None, &mut rng);
        let environment = Arc::get_mut(&mut engine.handle.environment).unwrap();
        environment.local = Some(local);
        let file = format!("d4:info{info}e").into_bytes();
        let metainfo = Arc::new(Metainfo::parse(&file, Limits::LOCAL).unwrap());
        let add = AddMagnet {
            magnet: Magnet::new(metainfo.info_hashes()),
            peers: Vec::new(),
            trackers: Vec::new(),
            known: Some(FoundTorrent {
                metainfo,
                file: file.into(),
            }),
        };
        let search = engine.add_magnet(add).await.unwrap();
        // Whoever reports has joined where it does.
        search.watch().changed().await.unwrap();
        let mut mail = Vec::new();
        let heard = tokio::time::timeout(Duration::ZERO, task.mailbox.collect(&mut mail)).await;
        engine.stop(Duration::from_secs(10)).await;
        heard.is_ok()
    }

    #[tokio::test]
    async fn a_private_torrent_of_a_magnet_link_is_not_named_on_the_local_network() {
        let info = |private| {
            let pieces = "x".repeat(20);
            format!("d6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:{pieces}{private}e")
        };
        assert!(joins(&info("")).await);
        assert!(!joins(&info("7:privatei1e")).await);
    }
}

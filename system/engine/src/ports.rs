//! The driver of port mapping: one for all torrents, which has the router pass our port on while there is a torrent.
//!
//! Invariant: nothing is sent before a torrent is added, and what was mapped is taken back before this ends.

use crate::clock::Clock;
use shoal_transport::{Mapped, PortMapper, TargetClass};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;

/// How long we leave a router alone that maps nothing. Networks change, and routers restart.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the engine wants of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// There was no torrent yet.
    Nothing,
    /// The port is to be mapped.
    Mapping,
    /// No more.
    Leave,
}

/// The port at which the world finds us. Clones speak of the same.
#[derive(Clone, Debug)]
pub(crate) struct OurPort {
    /// Where we listen, if we do.
    local: Option<u16>,
    mapped: watch::Receiver<Option<Mapped>>,
    wanted: watch::Sender<Wanted>,
}

impl OurPort {
    /// Both ends. Without a mapper, and without anybody who runs the task, the port is the local one.
    pub(crate) fn new(
        clock: Clock,
        local: Option<u16>,
        mapper: Option<PortMapper>,
    ) -> (Option<PortsTask>, Self) {
        let (sender, mapped) = watch::channel(None);
        let (wanted, heard) = watch::channel(Wanted::Nothing);
        let task = mapper.map(|mapper| PortsTask {
            clock,
            mapper,
            wanted: heard,
            mapped: sender,
        });
        let port = OurPort {
            local,
            mapped,
            wanted,
        };
        (task, port)
    }

    /// What a peer at this address is told. The router passes on what comes from its far side, over IPv4.
    pub(crate) fn told_to(&self, peer: IpAddr) -> Option<u16> {
        let peer = peer.to_canonical();
        let outside = peer.is_ipv4() && TargetClass::of(peer) == TargetClass::Global;
        if outside {
            self.announced()
        } else {
            self.local
        }
    }

    /// What trackers are told.
    pub(crate) fn announced(&self) -> Option<u16> {
        let mapped = self.mapped().map(|mapped| mapped.address.port());
        mapped.or(self.local)
    }

    /// What the router passes on to us, if it does.
    pub(crate) fn mapped(&self) -> Option<Mapped> {
        *self.mapped.borrow()
    }

    /// The same, for whoever says what it is at present: only what comes from here on is a change.
    pub(crate) fn followed(&self) -> Self {
        let mut followed = self.clone();
        followed.mapped.mark_unchanged();
        followed
    }

    /// Waits until another port is to be told; for ever where none can come.
    pub(crate) async fn changed(&mut self) {
        if self.mapped.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// There is a torrent.
    pub(crate) fn map(&self) {
        self.wanted.send_if_modified(|wanted| {
            let begins = *wanted == Wanted::Nothing;
            if begins {
                *wanted = Wanted::Mapping;
            }
            begins
        });
    }

    /// The router is to forget us.
    pub(crate) fn leave(&self) {
        self.wanted.send_replace(Wanted::Leave);
    }
}

/// The driver.
pub(crate) struct PortsTask {
    clock: Clock,
    mapper: PortMapper,
    wanted: watch::Receiver<Wanted>,
    mapped: watch::Sender<Option<Mapped>>,
}

impl PortsTask {
    /// Runs until leave is taken.
    pub(crate) async fn run(mut self) {
        let nothing = |wanted: &Wanted| *wanted != Wanted::Nothing;
        if self.wanted.wait_for(nothing).await.is_err() {
            return;
        }
        let leave = |wanted: &Wanted| *wanted == Wanted::Leave;
        let (mapper, mapped, clock) = (&mut self.mapper, &self.mapped, self.clock);
        tokio::select! {
            // Where no torrent came, nothing is sent.
            biased;
            _ = self.wanted.wait_for(leave) => {}
            () = keep_mapped(mapper, mapped, clock) => {}
        }
        // What others were told stays what they are told, also when leave is taken of them.
        self.mapper.release().await;
    }
}

async fn keep_mapped(
    mapper: &mut PortMapper,
    mapped: &watch::Sender<Option<Mapped>>,
    clock: Clock,
) {
    loop {
        let found = mapper.map().await;
        let again_after = match &found {
            Ok(mapped) => mapped.renew_after,
            Err(error) => {
                tracing::debug!(%error, "no port is mapped");
                RETRY_AFTER
            }
        };
        let found = found.ok();
        mapped.send_if_modified(|before| {
            let differs = before.map(|mapped| mapped.address) != found.map(|mapped| mapped.address);
            if let (true, Some(found)) = (differs, found) {
                tracing::info!(by = %found.by, port = found.address.port(), "the router passes a port on");
            }
            *before = found;
            differs
        });
        clock.sleep_until(Some(clock.now() + again_after)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_transport::MappingProtocol;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[tokio::test]
    async fn who_begins_when_a_port_is_mapped_hears_of_the_next_one_alone() {
        let (sender, mapped) = watch::channel(None);
        let (wanted, _) = watch::channel(Wanted::Mapping);
        let ours = OurPort {
            local: Some(6881),
            mapped,
            wanted,
        };
        let map = |port| {
            sender.send_replace(Some(Mapped {
                address: SocketAddrV4::new(Ipv4Addr::new(11, 22, 33, 44), port),
                by: MappingProtocol::Pcp,
                renew_after: RETRY_AFTER,
            }))
        };
        map(50_000);
        let mut followed = ours.followed();
        assert_eq!(followed.announced(), Some(50_000));
        let heard = tokio::time::timeout(Duration::ZERO, followed.changed()).await;
        assert!(heard.is_err(), "it is no news");
        map(50_001);
        followed.changed().await;
        assert_eq!(followed.announced(), Some(50_001));
    }
}

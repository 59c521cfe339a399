//! Peers of torrents: those that are connected, those that a person names, and addresses that nobody speaks to.
//!
//! Invariant: who is banned is in the database before the engine hears of it, and the engine hears of all before the first torrent begins.

use super::{Answer, NodeError, Session, unix_now};
use crate::entry::Run;
use crate::message::{Peer, PeerRequest, Reply};
use shoal_engine::{Engine, EngineError, MAX_BANS, PeerLine, PeerOrigin};
use shoal_store::{Database, StoreError};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The list of them in the database.
const BANS: &str = "ban";

/// So many named peers of one torrent are kept in mind: more than a person names.
const MAX_NAMED: usize = 200;

/// Tells the engine who was banned in earlier lives of the node.
pub(super) async fn tell_bans(
    engine: &Engine,
    database: &Database,
) -> Result<BTreeSet<IpAddr>, StoreError> {
    let mut banned = BTreeSet::new();
    for name in database.entries(BANS).await?.into_keys() {
        let Ok(address) = name.parse::<IpAddr>() else {
            tracing::warn!("a banned address cannot be read and is left out");
            continue;
        };
        match engine.handle().ban(address).await {
            Ok(()) => drop(banned.insert(address)),
            Err(error) => tracing::warn!(%error, "an address is not banned"),
        }
    }
    Ok(banned)
}

impl Session {
    pub(super) async fn peer(&mut self, request: PeerRequest) -> Answer {
        match request {
            PeerRequest::List { torrents } => {
                let ids = self.resolve(&torrents)?;
                Ok(self.shown_peers(&ids))
            }
            PeerRequest::Add { torrents, peers } => {
                let ids = self.resolve(&torrents)?;
                if peers.len() > MAX_NAMED {
                    let what = format!("{MAX_NAMED} peers are the most at once");
                    return Err(NodeError::Usage(what));
                }
                for &id in &ids {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.peers.extend(&peers);
                        let beyond = entry.peers.len().saturating_sub(MAX_NAMED);
                        entry.peers.drain(..beyond);
                    }
                    self.heed_peers(id);
                }
                Ok(self.torrents(&ids))
            }
            PeerRequest::Banned {} => Ok(self.shown_bans()),
            PeerRequest::Ban { addresses } => self.ban(&addresses).await,
            PeerRequest::Unban { addresses } => self.unban(&addresses).await,
        }
    }

    /// The torrent hears which peers a person named.
    pub(super) fn heed_peers(&mut self, id: i64) {
        let named = self.entries.get(&id).map(|entry| entry.peers.clone());
        let named = named.unwrap_or_default();
        if let Some(handle) = self.engaged(id) {
            Session::tell_torrent(async move { handle.add_peers(named).await });
        }
        let run = self.entries.get(&id).map(|entry| &entry.run);
        if matches!(run, Some(Run::Searching(..))) {
            self.halt(id);
            self.begin(id, None);
        }
    }

    async fn ban(&mut self, addresses: &[IpAddr]) -> Answer {
        let addresses: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        if self.banned.union(&addresses).count() > MAX_BANS {
            let what = format!("{MAX_BANS} addresses are the most; lift some bans");
            return Err(NodeError::Usage(what));
        }
        let value = format!(r#"{{"at":{}}}"#, unix_now());
        for address in addresses {
            let name = address.to_string();
            self.database.set_entry(BANS, &name, Some(&value)).await?;
            self.banned.insert(address);
            // The engine's session alone hears of it, which waits for nobody.
            let banned = self.engine.handle().ban(address).await;
            banned.map_err(|error| match error {
                EngineError::Stopped => NodeError::Stopped,
                error => NodeError::Refused(error.to_string()),
            })?;
        }
        Ok(self.shown_bans())
    }

    async fn unban(&mut self, addresses: &[IpAddr]) -> Answer {
        let addresses: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        if let Some(address) = addresses.difference(&self.banned).next() {
            let what = format!("{address} is not banned; `shoal peer list --banned` shows who is");
            return Err(NodeError::Usage(what));
        }
        for address in addresses {
            let name = address.to_string();
            self.database.set_entry(BANS, &name, None).await?;
            self.banned.remove(&address);
            self.engine.handle().unban(address);
        }
        Ok(self.shown_bans())
    }

    fn shown_bans(&self) -> Reply {
        Reply::Banned {
            addresses: self.banned.iter().copied().collect(),
        }
    }

    fn shown_peers(&self, ids: &[i64]) -> Reply {
        let mut peers = Vec::new();
        for entry in ids.iter().filter_map(|id| self.entries.get(id)) {
            if let Run::Running(handle, _) = &entry.run {
                let lines = handle.watch().borrow().peers.clone();
                peers.extend(lines.into_iter().map(|line| shown(entry.id, line)));
            }
        }
        Reply::Peers { peers }
    }
}

fn shown(torrent: i64, line: PeerLine) -> Peer {
    let origin = match line.origin {
        PeerOrigin::User => "user",
        PeerOrigin::Magnet => "magnet",
        PeerOrigin::Tracker => "tracker",
        PeerOrigin::PeerExchange => "peer_exchange",
        PeerOrigin::Dht => "dht",
        PeerOrigin::Local => "local",
        PeerOrigin::Incoming => "incoming",
        PeerOrigin::Resume => "resume",
    };
    Peer {
        torrent,
        address: line.address,
        client: line.client.map(|client| client.as_ref().to_owned()),
        origin: origin.to_owned(),
        transport: if line.over_utp { "utp" } else { "tcp" }.to_owned(),
        encrypted: line.encrypted,
        connected_s: line.since.elapsed().as_secs(),
        seed: line.seed,
        pieces: line.pieces,
        we_are_interested: line.we_are_interested,
        chokes_us: line.chokes_us,
        interested: line.interested,
        choked: line.choked,
        snubs_us: line.snubs_us,
        downloaded_bytes: line.downloaded_bytes,
        uploaded_bytes: line.uploaded_bytes,
        download_rate_bytes_per_s: line.download_rate,
        upload_rate_bytes_per_s: line.upload_rate,
    }
}

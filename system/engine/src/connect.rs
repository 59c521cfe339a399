//! From an address, or an accepted socket, to a connection whose handshake is done.
//!
//! Invariant: nothing is said to a remote before it named a torrent that we have; a remote that dawdles is given up.

use crate::carried::Carried;
use crate::torrent::{ToTorrent, TorrentId};
use shoal_metainfo::{InfoHash, InfoHashes};
use shoal_swarm::PeerKey;
use shoal_swarm::torrent::Origin;
use shoal_transport::{DetachedStream, OriginClass, PeerStream, Transport};
use shoal_wire::handshake::{self, HANDSHAKE_LENGTH, Progress};
use shoal_wire::{Feature, Handshake, PeerId, Reserved, Version};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a handshake may take. Slow lines and busy clients need a second or two.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is ready for messages.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) stream: DetachedStream,
    pub(crate) address: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) origin: Origin,
    pub(crate) fast: bool,
    pub(crate) extended: bool,
    pub(crate) v2: bool,
    /// What came right behind the handshake.
    pub(crate) leftover: Vec<u8>,
    /// The key of the dial it came from; accepted connections have none yet.
    pub(crate) key: Option<PeerKey>,
    /// What the connection brings along that was in use before the metainfo was known.
    pub(crate) carried: Option<Box<Carried>>,
}

/// What we say of ourselves in a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction {
    pub(crate) hashes: InfoHashes,
    pub(crate) peer_id: PeerId,
}

fn reserved() -> Reserved {
    Reserved::default()
        .with(Feature::Fast)
        .with(Feature::Extended)
}

/// The class of an origin in the address policy.
pub(crate) const fn class(origin: Origin) -> OriginClass {
    match origin {
        Origin::User => OriginClass::User,
        Origin::Magnet => OriginClass::Metainfo,
        Origin::Tracker => OriginClass::Tracker,
        Origin::PeerExchange => OriginClass::PeerExchange,
        Origin::Dht => OriginClass::Dht,
        Origin::Local => OriginClass::Local,
        Origin::Incoming => OriginClass::Incoming,
        Origin::Resume => OriginClass::Resume,
    }
}

/// Opens a connection and shakes hands. A hybrid torrent is tried by its v1 name, which more clients know, and where that is
/// refused by its v2 name.
pub(crate) async fn dial(
    transport: &Transport,
    us: Introduction,
    address: SocketAddr,
    origin: Origin,
    key: PeerKey,
) -> io::Result<Ready> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for name in us.hashes.swarms() {
        let stream = transport
            .dial(address, class(origin))
            .await
            .map_err(io::Error::other)?;
        match timeout(HANDSHAKE_TIMEOUT, initiate(&stream, us, name)).await {
            Ok(Ok((theirs, version, leftover))) => {
                return ready(
                    stream,
                    address,
                    origin,
                    theirs,
                    version,
                    leftover,
                    Some(key),
                );
            }
            // Whoever does not know a name closes the connection without a word.
            Ok(Err(error)) if is_closed(&error) => refused = error,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(refused)
}

/// As [`dial`], and tells `torrent` what came of it, unless `dials` were cancelled before.
pub(crate) async fn dial_and_tell(
    transport: Transport,
    us: Introduction,
    address: SocketAddr,
    origin: Origin,
    peer: PeerKey,
    dials: CancellationToken,
    torrent: mpsc::Sender<ToTorrent>,
) {
    let dial = dial(&transport, us, address, origin, peer);
    let outcome = match dials.run_until_cancelled(dial).await {
        None => return,
        Some(Ok(ready)) => ToTorrent::Dialled(Box::new(ready)),
        Some(Err(error)) => {
            // The words of an error may name the address.
            tracing::debug!(peer = peer.0, kind = %error.kind(), "a dial came to nothing");
            tracing::trace!(peer = peer.0, %address, %error);
            ToTorrent::DialFailed(peer)
        }
    };
    drop(torrent.send(outcome).await);
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

async fn initiate(
    stream: &PeerStream,
    us: Introduction,
    name: InfoHash,
) -> io::Result<(Handshake, Version, Vec<u8>)> {
    let ours = Handshake {
        reserved: handshake::reserved_for(reserved(), &us.hashes, name),
        info_hash: name,
        peer_id: us.peer_id,
    };
    write_all(stream, &ours.encode()).await?;
    let mut read = Vec::new();
    loop {
        if let Progress::Complete(theirs) = Handshake::decode(&read).map_err(io::Error::other)? {
            let version = handshake::judge_answer(&us.hashes, name, theirs.info_hash);
            let version = version.map_err(io::Error::other)?;
            return Ok((theirs, version, read.split_off(HANDSHAKE_LENGTH)));
        }
        read_some(stream, &mut read).await?;
    }
}

/// Answers an accepted connection. `find` looks up the torrent that the remote named.
pub(crate) async fn accept(
    stream: PeerStream,
    address: SocketAddr,
    find: impl Fn(InfoHash) -> Option<(TorrentId, Introduction)>,
) -> io::Result<(TorrentId, Ready)> {
    let answered = timeout(HANDSHAKE_TIMEOUT, respond(&stream, find)).await;
    let (id, theirs, version, leftover) = answered.map_err(|_| io::ErrorKind::TimedOut)??;
    let ready = ready(
        stream,
        address,
        Origin::Incoming,
        theirs,
        version,
        leftover,
        None,
    )?;
    Ok((id, ready))
}

async fn respond(
    stream: &PeerStream,
    find: impl Fn(InfoHash) -> Option<(TorrentId, Introduction)>,
) -> io::Result<(TorrentId, Handshake, Version, Vec<u8>)> {
    let mut read = Vec::new();
    let mut answered = None;
    loop {
        let progress = Handshake::decode(&read).map_err(io::Error::other)?;
        let opening = match progress {
            Progress::Begun => None,
            Progress::Opened {
                reserved,
                info_hash,
            } => Some((reserved, info_hash)),
            Progress::Complete(theirs) => Some((theirs.reserved, theirs.info_hash)),
        };
        if let (Some((theirs, asked)), None) = (opening, answered) {
            let unknown = || io::Error::other("the remote asks for a torrent that is not here");
            let (id, us) = find(asked).ok_or_else(unknown)?;
            let (info_hash, version) =
                handshake::answer(&us.hashes, theirs, asked).ok_or_else(unknown)?;
            let reserved = handshake::reserved_for(reserved(), &us.hashes, info_hash);
            let ours = Handshake {
                reserved,
                info_hash,
                peer_id: us.peer_id,
            };
            write_all(stream, &ours.encode()).await?;
            answered = Some((id, version));
        }
        if let (Progress::Complete(theirs), Some((id, version))) = (progress, answered) {
            return Ok((id, theirs, version, read.split_off(HANDSHAKE_LENGTH)));
        }
        read_some(stream, &mut read).await?;
    }
}

fn ready(
    stream: PeerStream,
    address: SocketAddr,
    origin: Origin,
    theirs: Handshake,
    version: Version,
    leftover: Vec<u8>,
    key: Option<PeerKey>,
) -> io::Result<Ready> {
    Ok(Ready {
        stream: stream.detach()?,
        address,
        peer_id: theirs.peer_id,
        origin,
        fast: theirs.reserved.has(Feature::Fast),
        extended: theirs.reserved.has(Feature::Extended),
        v2: version == Version::V2,
        leftover,
        key,
        carried: None,
    })
}

async fn write_all(stream: &PeerStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends what is there to `read`, a few hundred bytes at the most: messages may follow the handshake at once.
async fn read_some(stream: &PeerStream, read: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                read.extend_from_slice(&buffer[..count]);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

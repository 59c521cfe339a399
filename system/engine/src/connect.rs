//! From an address, or an accepted socket, to a connection whose handshake is done.
//!
//! Invariant: nothing is said to a remote before it named a torrent that we have; a remote that dawdles is given up.

use crate::carried::Carried;
use crate::mse::Line;
use crate::register::Register;
use crate::route::RouteId;
use crate::torrent::TorrentId;
use shoal_metainfo::{InfoHash, InfoHashes};
use shoal_swarm::PeerKey;
use shoal_swarm::torrent::Origin;
use shoal_transport::{DetachedStream, OriginClass, PeerDialer, PeerStream};
use shoal_wire::handshake::{self, HANDSHAKE_LENGTH, Progress};
use shoal_wire::mse::{EncryptionPolicy, Methods, Opening};
use shoal_wire::{Feature, Handshake, PeerId, Reserved, Version};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

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
    /// The remote takes part in the DHT.
    pub(crate) dht: bool,
    /// It began with an encrypted handshake, whatever followed.
    pub(crate) disguised: bool,
    /// The key of the dial it came from; accepted connections have none yet.
    pub(crate) key: Option<PeerKey>,
    pub(crate) carried: Box<Carried>,
}

/// What we say of ourselves in a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction {
    pub(crate) hashes: InfoHashes,
    pub(crate) peer_id: PeerId,
    /// Where it is, and alone to be found.
    pub(crate) route: RouteId,
    /// We take part in the DHT, and the torrent may be known there.
    pub(crate) dht: bool,
    /// Strangers who name it are answered. Whoever knows a URL can tell the name of content without a torrent, and is not to learn that
    /// we fetch it.
    pub(crate) is_public: bool,
}

fn reserved(us: Introduction) -> Reserved {
    let always = Reserved::default()
        .with(Feature::Fast)
        .with(Feature::Extended);
    match us.dht {
        true => always.with(Feature::Dht),
        false => always,
    }
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

/// Whom to call, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    pub(crate) key: PeerKey,
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
    pub(crate) encryption: EncryptionPolicy,
    /// The remote was reached in the clear alone, the last time.
    pub(crate) known_plain: bool,
    /// The remote dials us at the same time (BEP 55).
    pub(crate) punch: bool,
}

/// Opens a connection and shakes hands. A hybrid torrent is tried by its v1 name, which more clients know, and where that is
/// refused by its v2 name. Where encryption is no must, a remote that does not turn out to know how is called again in the clear.
pub(crate) async fn dial(dialer: &PeerDialer, us: Introduction, dial: Dial) -> io::Result<Ready> {
    let way = match dial.punch {
        true => Way::Punch,
        false => Way::Any,
    };
    let failed = match call_by_names(dialer, us, dial, way).await {
        Ok(ready) => return Ok(ready),
        Err(failed) => failed,
    };
    // Clients that are told to use uTP alone accept TCP all the same, and close.
    let silent = failed.heard == (Heard::Nothing { over_tcp: true }) && is_closed(&failed.error);
    if silent && dialer.can_punch() {
        let again = call_by_names(dialer, us, dial, Way::AfterTcp).await;
        return again.map_err(|_| failed.error);
    }
    Err(failed.error)
}

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By whatever answers first.
    Any,
    /// As the remote dials us.
    Punch,
    /// Over uTP, after TCP led to nothing.
    AfterTcp,
}

/// How much the remote let us hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    NotReached,
    /// Of who cannot encrypt no more can be expected where we do.
    Nothing {
        over_tcp: bool,
    },
    /// It knows how to encrypt: there is no use in calling it again in the clear.
    Something,
}

/// Why an attempt came to nothing.
struct Failed {
    error: io::Error,
    heard: Heard,
}

async fn call_by_names(
    dialer: &PeerDialer,
    us: Introduction,
    dial: Dial,
    way: Way,
) -> Result<Ready, Failed> {
    let mut methods = match dial.encryption {
        EncryptionPolicy::Disabled => None,
        EncryptionPolicy::Enabled if dial.known_plain => None,
        policy => Some(policy.methods()),
    };
    let may_fall_back = dial.encryption == EncryptionPolicy::Enabled;
    let mut refused = Failed {
        error: io::ErrorKind::NotFound.into(),
        heard: Heard::NotReached,
    };
    for name in us.hashes.swarms() {
        let mut attempt = call(dialer, us, dial, way, name, methods).await;
        if let Err(Failed { heard, .. }) = &attempt
            && matches!(heard, Heard::Nothing { .. })
            && methods.is_some()
            && may_fall_back
        {
            methods = None;
            attempt = call(dialer, us, dial, way, name, methods).await;
        }
        match attempt {
            Ok(ready) => return Ok(ready),
            // Whoever does not know a name closes the connection without a word.
            Err(failed) if is_closed(&failed.error) => refused = failed,
            Err(failed) => return Err(failed),
        }
    }
    Err(refused)
}

/// One connection under one name, encrypted by one of `methods` or in the clear.
async fn call(
    dialer: &PeerDialer,
    us: Introduction,
    dial: Dial,
    way: Way,
    name: InfoHash,
    methods: Option<Methods>,
) -> Result<Ready, Failed> {
    let (address, class) = (dial.address, class(dial.origin));
    let stream = match way {
        Way::Any => dialer.dial(address, class).await,
        Way::Punch => {
            tracing::debug!("dialling {address}, which is to dial us at the same time");
            dialer.punch(address, class).await
        }
        Way::AfterTcp => dialer.dial_after_tcp(address, class).await,
    };
    let failed = |heard| move |error| Failed { error, heard };
    let stream = stream.map_err(io::Error::other);
    let stream = stream.map_err(failed(Heard::NotReached))?;
    let over_tcp = !stream.is_utp();
    let mut line = Line::new(stream);
    let mut answered = false;
    let shaking = initiate(&mut line, us, name, methods, &mut answered);
    let shaken = match timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(shaken) => shaken,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let heard = match answered {
        true => Heard::Something,
        false => Heard::Nothing { over_tcp },
    };
    let shaken = shaken.map_err(failed(heard))?;
    ready(line, dial.address, dial.origin, shaken, Some(dial.key)).map_err(failed(heard))
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// What hands were shaken on: what the remote said, what the connection speaks, and what came behind.
type Shaken = (Handshake, Version, Vec<u8>);

async fn initiate(
    line: &mut Line,
    us: Introduction,
    name: InfoHash,
    methods: Option<Methods>,
    answered: &mut bool,
) -> io::Result<Shaken> {
    let ours = Handshake {
        reserved: handshake::reserved_for(reserved(us), &us.hashes, name),
        info_hash: name,
        peer_id: us.peer_id,
    };
    let mut ours = ours.encode();
    let mut read = match methods {
        Some(methods) => line.initiate(name, methods, &ours, answered).await?,
        None => {
            line.write_all(&mut ours).await?;
            Vec::new()
        }
    };
    loop {
        if let Progress::Complete(theirs) = Handshake::decode(&read).map_err(io::Error::other)? {
            let version = handshake::judge_answer(&us.hashes, name, theirs.info_hash);
            let version = version.map_err(io::Error::other)?;
            return Ok((theirs, version, read.split_off(HANDSHAKE_LENGTH)));
        }
        line.read_some(&mut read).await?;
    }
}

/// Answers an accepted connection, which may ask for any torrent of the register.
pub(crate) async fn accept(
    stream: PeerStream,
    address: SocketAddr,
    policy: EncryptionPolicy,
    register: &Register,
) -> io::Result<(TorrentId, Ready)> {
    let mut line = Line::new(stream);
    let answered = timeout(HANDSHAKE_TIMEOUT, respond(&mut line, policy, register)).await;
    let (id, shaken) = answered.map_err(|_| io::ErrorKind::TimedOut)??;
    let ready = ready(line, address, Origin::Incoming, shaken, None)?;
    Ok((id, ready))
}

fn unknown() -> io::Error {
    io::Error::other("the remote asks for a torrent that is not here")
}

/// Finds out how a remote begins, and lets it in where the policy does. Returns what it has sent of the connection, and the torrent
/// that it had to name before.
async fn admit(
    line: &mut Line,
    policy: EncryptionPolicy,
    register: &Register,
) -> io::Result<(Vec<u8>, Option<TorrentId>)> {
    let mut read = Vec::new();
    loop {
        match (Opening::of(&read), policy) {
            (Opening::Undecided, _) => line.read_some(&mut read).await?,
            (Opening::Plaintext, EncryptionPolicy::Forced) => {
                return Err(io::Error::other("the remote speaks in the clear"));
            }
            (Opening::Encrypted, EncryptionPolicy::Disabled) => {
                return Err(io::Error::other("the remote encrypts, or is no peer"));
            }
            (Opening::Plaintext, _) => return Ok((read, None)),
            (Opening::Encrypted, _) => {
                let find = |hash| register.find_hashed(hash);
                let (name, read) = line.respond(policy.methods(), read, find).await?;
                let (id, _) = register.find(name).ok_or_else(unknown)?;
                return Ok((read, Some(id)));
            }
        }
    }
}

async fn respond(
    line: &mut Line,
    policy: EncryptionPolicy,
    register: &Register,
) -> io::Result<(TorrentId, Shaken)> {
    let (mut read, named) = admit(line, policy, register).await?;
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
            let (id, us) = register.find(asked).ok_or_else(unknown)?;
            if named.is_some_and(|named| named != id) {
                return Err(unknown());
            }
            let (info_hash, version) =
                handshake::answer(&us.hashes, theirs, asked).ok_or_else(unknown)?;
            let reserved = handshake::reserved_for(reserved(us), &us.hashes, info_hash);
            let ours = Handshake {
                reserved,
                info_hash,
                peer_id: us.peer_id,
            };
            line.write_all(&mut ours.encode()).await?;
            answered = Some((id, version));
        }
        if let (Progress::Complete(theirs), Some((id, version))) = (progress, answered) {
            let shaken = (theirs, version, read.split_off(HANDSHAKE_LENGTH));
            return Ok((id, shaken));
        }
        line.read_some(&mut read).await?;
    }
}

fn ready(
    line: Line,
    address: SocketAddr,
    origin: Origin,
    shaken: Shaken,
    key: Option<PeerKey>,
) -> io::Result<Ready> {
    let (theirs, version, leftover) = shaken;
    Ok(Ready {
        stream: line.stream.detach()?,
        address,
        peer_id: theirs.peer_id,
        origin,
        fast: theirs.reserved.has(Feature::Fast),
        extended: theirs.reserved.has(Feature::Extended),
        v2: version == Version::V2,
        dht: theirs.reserved.has(Feature::Dht),
        disguised: line.disguised,
        key,
        carried: Box::new(Carried::fresh(&leftover, line.ciphers)),
    })
}

//! Many peers of one torrent, played by one thread: each connects, has half of it, is interested, and fetches blocks slowly once it may.
//!
//! Invariant: a peer keeps no payload and at most one request open.

use anyhow::{Context, Result, bail, ensure};
use shoal_metainfo::{Bitfield, InfoHash, PieceIndex};
use shoal_wire::{
    Decoded, Decoder, Handshake, Limits, Message, PeerId, RemoteExtensions, Request, Reserved,
    encode, handshake::Feature, handshake::HANDSHAKE_LENGTH,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

const BLOCK_BYTES: u32 = 16 * 1024;
/// What a slow peer lets pass between two blocks.
const BETWEEN_BLOCKS: Duration = Duration::from_millis(250);
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// The torrent that all are of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swarm {
    pub(crate) seed: SocketAddr,
    pub(crate) info_hash: InfoHash,
    pub(crate) piece_count: u32,
}

/// What the crowd has done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Peers that are connected and have heard what the seed has.
    pub(crate) connected: AtomicU64,
    /// Peers that were, and lost their connection.
    pub(crate) lost: AtomicU64,
    /// Blocks that arrived.
    pub(crate) blocks: AtomicU64,
}

/// Whether peers fetch what they are allowed to.
pub(crate) type Fetching = watch::Receiver<bool>;

/// Starts a peer that lives until the runtime ends, bound to this address.
pub(crate) async fn start_peer(
    swarm: Swarm,
    from: IpAddr,
    number: u64,
    fetching: Fetching,
    tally: Arc<Tally>,
) -> Result<()> {
    let connecting = Peer::connect(swarm, from, number);
    let mut peer = tokio::time::timeout(CONNECT_WITHIN, connecting)
        .await
        .with_context(|| format!("peer {number} waited in vain for the seed's handshake"))??;
    tokio::spawn(async move {
        tally.connected.fetch_add(1, Ordering::Relaxed);
        // Whatever ends it, an answer to a slow and honest peer it is not.
        drop(peer.run(fetching, &tally).await);
        tally.connected.fetch_sub(1, Ordering::Relaxed);
        tally.lost.fetch_add(1, Ordering::Relaxed);
    });
    Ok(())
}

struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    /// Bytes received and not decoded.
    buffer: Vec<u8>,
    /// Payload still to come of the block on its way.
    payload: usize,
    piece_count: u32,
    choked: bool,
    requested: bool,
    rng: fastrand::Rng,
}

impl Peer {
    async fn connect(swarm: Swarm, from: IpAddr, number: u64) -> Result<Peer> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(swarm.seed).await?;
        let mut rng = fastrand::Rng::with_seed(number);
        let ours = Handshake {
            reserved: Reserved::default()
                .with(Feature::Fast)
                .with(Feature::Extended),
            info_hash: swarm.info_hash,
            peer_id: PeerId::generate(&mut rng),
        };
        let mut hello = ours.encode().to_vec();
        let mut has = Bitfield::empty(swarm.piece_count);
        for piece in (0..swarm.piece_count).map(PieceIndex) {
            if rng.bool() {
                has.insert(piece);
            }
        }
        // A seed would part from another.
        has.remove(PieceIndex(0));
        for message in [Message::Bitfield(has.to_wire()), Message::Interested] {
            encode(&message, &RemoteExtensions::default(), &mut hello);
        }
        stream.write_all(&hello).await?;
        let mut theirs = [0; HANDSHAKE_LENGTH];
        stream.read_exact(&mut theirs).await?;
        let limits = Limits {
            piece_count: Some(swarm.piece_count),
        };
        Ok(Peer {
            stream,
            decoder: Decoder::new(limits),
            buffer: Vec::new(),
            payload: 0,
            piece_count: swarm.piece_count,
            choked: true,
            requested: false,
            rng,
        })
    }

    async fn run(&mut self, mut fetching: Fetching, tally: &Tally) -> Result<()> {
        let mut next = Instant::now();
        let mut chunk = [0; 4096];
        loop {
            let may = *fetching.borrow() && !self.choked && !self.requested;
            tokio::select! {
                read = self.stream.read(&mut chunk) => {
                    let length = read?;
                    ensure!(length > 0, "the seed closed the connection");
                    self.take(&chunk[..length], tally)?;
                }
                () = sleep_until(next), if may => {
                    next = Instant::now() + BETWEEN_BLOCKS;
                    self.request().await?;
                }
                changed = fetching.changed() => changed?,
            }
        }
    }

    async fn request(&mut self) -> Result<()> {
        let request = Request {
            piece: PieceIndex(self.rng.u32(..self.piece_count)),
            begin: 0,
            length: BLOCK_BYTES,
        };
        let mut bytes = Vec::new();
        let message = Message::Request(request);
        encode(&message, &RemoteExtensions::default(), &mut bytes);
        self.stream.write_all(&bytes).await?;
        self.requested = true;
        Ok(())
    }

    /// Decodes what has come, and drops payload.
    fn take(&mut self, bytes: &[u8], tally: &Tally) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let dropped = self.payload.min(self.buffer.len() - at);
            self.payload -= dropped;
            at += dropped;
            if self.payload > 0 {
                break;
            }
            if dropped > 0 {
                self.requested = false;
                tally.blocks.fetch_add(1, Ordering::Relaxed);
            }
            match self.decoder.decode(&self.buffer[at..])? {
                Decoded::Incomplete { .. } => break,
                Decoded::Skipped { consumed } => at += consumed,
                Decoded::Message { consumed, message } => {
                    at += consumed;
                    self.hear(&message)?;
                }
            }
        }
        self.buffer.drain(..at);
        Ok(())
    }

    fn hear(&mut self, message: &Message) -> Result<()> {
        match message {
            Message::Choke => (self.choked, self.requested) = (true, false),
            Message::Unchoke => self.choked = false,
            Message::Reject(_) => self.requested = false,
            Message::Piece(header) => self.payload = header.length as usize,
            Message::Unknown(id) => bail!("the seed sends a message of id {id}"),
            _ => {}
        }
        Ok(())
    }
}

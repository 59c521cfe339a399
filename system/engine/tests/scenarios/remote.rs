//! A remote made by hand, which says exactly what a test wants it to.

use crate::rig::{PATIENCE, PIECE, Sample};
use shoal_metainfo::PieceIndex;
use shoal_wire::handshake::{HANDSHAKE_LENGTH, Progress, judge_answer, reserved_for};
use shoal_wire::mse::{Ciphers, Established, Initiator, Methods, Noise, Responder, SkeyHash};
use shoal_wire::{
    Decoded, Decoder, Feature, Handshake, Limits, Message, PeerId, RemoteExtensions, Request,
    Reserved, encode,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The other end of a connection to an engine.
pub(crate) struct Remote {
    pub(crate) stream: TcpStream,
    /// What the engine said in its handshake.
    pub(crate) reserved: Reserved,
    /// How many bytes it reads at a time, in turn.
    pub(crate) portions: Vec<usize>,
    reads: usize,
    decoder: Decoder,
    read: Vec<u8>,
    ciphers: Option<Box<Ciphers>>,
}

/// What is not read is to be felt at the other end soon.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// The bytes of blocks, by piece and offset.
pub(crate) fn block(sample: &Sample, request: Request) -> Vec<u8> {
    let start = request.piece.get() * PIECE as usize + request.begin as usize;
    sample.bytes()[start..start + request.length as usize].to_vec()
}

impl Remote {
    /// Connects from `ip` and shakes hands.
    pub(crate) async fn connect(to: SocketAddr, ip: IpAddr, sample: &Sample) -> io::Result<Remote> {
        Remote::connect_with(to, ip, sample, RECEIVE_BUFFER_BYTES).await
    }

    /// As [`Remote::connect`], with room for so many bytes that it has not read, or the least that the system allows.
    pub(crate) async fn connect_with(
        to: SocketAddr,
        ip: IpAddr,
        sample: &Sample,
        receive_buffer_bytes: u32,
    ) -> io::Result<Remote> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(receive_buffer_bytes)?;
        socket.bind(SocketAddr::new(ip, 0))?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&handshake(sample).encode()).await?;
        Remote::shaken(stream, sample).await
    }

    /// As [`Remote::connect_with`], by an encrypted handshake, which offers `methods`.
    pub(crate) async fn connect_encrypted(
        to: SocketAddr,
        ip: IpAddr,
        sample: &Sample,
        receive_buffer_bytes: u32,
        methods: Methods,
    ) -> io::Result<Remote> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(receive_buffer_bytes)?;
        socket.bind(SocketAddr::new(ip, 0))?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let (skey, initial) = (sample.metainfo.info_hashes().primary(), handshake(sample));
        let (noise, mut out) = (noise(1), Vec::new());
        let mut machine = Initiator::new(skey, methods, noise, &initial.encode(), &mut out);
        loop {
            stream.write_all(&std::mem::take(&mut out)).await?;
            let heard = some(&mut stream).await?;
            if let Some(done) = machine
                .receive(&heard, &mut out)
                .map_err(io::Error::other)?
            {
                return Remote::established(stream, sample, done).await;
            }
        }
    }

    /// Waits for an engine to dial, with an encrypted handshake, and chooses one of `methods`.
    pub(crate) async fn accept_encrypted(
        listener: &TcpListener,
        sample: &Sample,
        methods: Methods,
    ) -> io::Result<Remote> {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let skey = sample.metainfo.info_hashes().primary();
        let find = |hash| (hash == SkeyHash::of(skey)).then_some(skey);
        let (mut machine, mut out) = (Responder::new(methods, noise(2)), Vec::new());
        loop {
            let heard = some(&mut stream).await?;
            let done = machine.receive(&heard, find, &mut out);
            stream.write_all(&std::mem::take(&mut out)).await?;
            if let Some(mut done) = done.map_err(io::Error::other)? {
                let mut ours = handshake(sample).encode();
                if let Some(ciphers) = &mut done.ciphers {
                    ciphers.send.apply(&mut ours);
                }
                stream.write_all(&ours).await?;
                return Remote::established(stream, sample, done).await;
            }
        }
    }

    /// Reads the rest of the engine's handshake, where an encrypted one is done.
    async fn established(
        stream: TcpStream,
        sample: &Sample,
        done: Established,
    ) -> io::Result<Remote> {
        let mut remote = Remote::new(stream, sample, Reserved::default());
        (remote.read, remote.ciphers) = (done.received, done.ciphers);
        remote.read_at_least(HANDSHAKE_LENGTH).await?;
        let theirs: Vec<u8> = remote.read.drain(..HANDSHAKE_LENGTH).collect();
        remote.reserved = judge(&theirs, sample);
        Ok(remote)
    }

    /// Whether what is said is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.ciphers.is_some()
    }

    /// Waits for an engine to dial.
    pub(crate) async fn accept(listener: &TcpListener, sample: &Sample) -> io::Result<Remote> {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        stream.write_all(&handshake(sample).encode()).await?;
        Remote::shaken(stream, sample).await
    }

    async fn shaken(mut stream: TcpStream, sample: &Sample) -> io::Result<Remote> {
        let mut theirs = [0; HANDSHAKE_LENGTH];
        stream.read_exact(&mut theirs).await?;
        let reserved = judge(&theirs, sample);
        Ok(Remote::new(stream, sample, reserved))
    }

    fn new(stream: TcpStream, sample: &Sample, reserved: Reserved) -> Remote {
        let piece_count = Some(sample.piece_count());
        Remote {
            stream,
            reserved,
            portions: vec![usize::MAX],
            reads: 0,
            decoder: Decoder::new(Limits { piece_count }),
            read: Vec::new(),
            ciphers: None,
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(ciphers) = &mut self.ciphers else {
            return self.stream.write_all(bytes).await;
        };
        let mut bytes = bytes.to_vec();
        ciphers.send.apply(&mut bytes);
        self.stream.write_all(&bytes).await
    }

    pub(crate) async fn say(&mut self, messages: &[Message]) -> io::Result<()> {
        self.send(&encoded(messages)).await
    }

    /// The next message; payload is dropped. An error where the connection is closed.
    pub(crate) async fn hear(&mut self) -> io::Result<Message> {
        self.hear_whole().await.map(|(message, _)| message)
    }

    /// The next message, and the payload behind it, where there is some.
    pub(crate) async fn hear_whole(&mut self) -> io::Result<(Message, Vec<u8>)> {
        let hearing = async {
            loop {
                match self.decoder.decode(&self.read).unwrap() {
                    Decoded::Message { consumed, message } => {
                        self.read.drain(..consumed);
                        let mut payload = Vec::new();
                        if let Message::Piece(header) = &message {
                            self.read_at_least(header.length as usize).await?;
                            payload.extend(self.read.drain(..header.length as usize));
                        }
                        return Ok((message, payload));
                    }
                    Decoded::Skipped { consumed } => drop(self.read.drain(..consumed)),
                    Decoded::Incomplete { need } => self.read_at_least(need).await?,
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .expect("nothing was heard, and nothing was closed")
    }

    async fn read_at_least(&mut self, count: usize) -> io::Result<()> {
        while self.read.len() < count {
            self.sip().await?;
        }
        Ok(())
    }

    /// One read, which is not understood yet.
    pub(crate) async fn sip(&mut self) -> io::Result<()> {
        let portion = self.portions[self.reads % self.portions.len()];
        self.reads += 1;
        let mut some = (&mut self.stream).take(portion as u64);
        let before = self.read.len();
        if some.read_buf(&mut self.read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.receive.apply(&mut self.read[before..]);
        }
        Ok(())
    }

    /// Hears until `wanted` comes.
    pub(crate) async fn hear_until(&mut self, wanted: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.hear().await.expect("the connection was closed");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Hears until the connection is closed; gives what was heard.
    pub(crate) async fn hear_all(&mut self) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Ok(message) = self.hear().await {
            heard.push(message);
        }
        heard
    }

    /// Says it has everything and answers each request with what `block` gives, until the connection is closed; gives the
    /// requests.
    pub(crate) async fn serve(mut self, block: impl Fn(Request) -> Vec<u8>) -> Vec<Request> {
        let mut requests = Vec::new();
        let greeting = self.say(&[Message::HaveAll, Message::Unchoke]).await;
        if greeting.is_err() {
            return requests;
        }
        while let Ok(message) = self.hear().await {
            if let Message::Request(request) = message {
                requests.push(request);
                let mut bytes = encoded(&[Message::Piece(request)]);
                bytes.extend(block(request));
                if self.send(&bytes).await.is_err() {
                    break;
                }
            }
        }
        requests
    }
}

pub(crate) fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let remote = RemoteExtensions::default();
    messages
        .iter()
        .for_each(|message| encode(message, &remote, &mut bytes));
    bytes
}

pub(crate) fn request(piece: u32) -> Request {
    Request {
        piece: PieceIndex(piece),
        begin: 0,
        length: PIECE,
    }
}

fn handshake(sample: &Sample) -> Handshake {
    let hashes = sample.metainfo.info_hashes();
    let reserved = Reserved::default()
        .with(Feature::Fast)
        .with(Feature::Extended);
    Handshake {
        reserved: reserved_for(reserved, &hashes, hashes.primary()),
        info_hash: hashes.primary(),
        peer_id: PeerId::generate(&mut fastrand::Rng::new()),
    }
}

/// An engine's answer to our handshake; gives what it says of itself.
fn judge(theirs: &[u8], sample: &Sample) -> Reserved {
    let Ok(Progress::Complete(theirs)) = Handshake::decode(theirs) else {
        panic!("not a handshake");
    };
    let hashes = sample.metainfo.info_hashes();
    judge_answer(&hashes, hashes.primary(), theirs.info_hash).unwrap();
    theirs.reserved
}

fn noise(secret: u8) -> Noise {
    Noise::new([secret; 20], &mut fastrand::Rng::with_seed(secret.into()))
}

/// What is there. The end of the stream is an error.
async fn some(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    match stream.read_buf(&mut heard).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(heard),
    }
}

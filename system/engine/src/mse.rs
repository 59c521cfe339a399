//! The encrypted handshake over a socket, and the connection that it leads to, until a worker takes it over.
//!
//! Invariant: the ciphers are in step with what was written and read.

use shoal_metainfo::InfoHash;
use shoal_transport::PeerStream;
use shoal_wire::mse::{Ciphers, Initiator, Methods, Noise, Responder, SkeyHash};
use std::{io, mem};

/// The most that is read at once. A few hundred bytes: messages may follow a handshake at once.
const READ_BYTES: usize = 512;

/// A connection on which hands are shaken.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: PeerStream,
    /// Once they are agreed on.
    pub(crate) ciphers: Option<Box<Ciphers>>,
    /// It began with an encrypted handshake, whatever followed.
    pub(crate) disguised: bool,
}

impl Line {
    pub(crate) const fn new(stream: PeerStream) -> Self {
        Line {
            stream,
            ciphers: None,
            disguised: false,
        }
    }

    /// Sends all of `bytes`. Whoever cancels it cannot use the line any more.
    pub(crate) async fn write_all(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.send.apply(bytes);
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what is there to `read`. The end of the stream is an error.
    pub(crate) async fn read_some(&mut self, read: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let bytes = &mut buffer[..count];
                    if let Some(ciphers) = &mut self.ciphers {
                        ciphers.receive.apply(bytes);
                    }
                    read.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Shakes hands as the side that dialled. `initial` goes with it. Returns what the remote has sent behind its part; `answered` is
    /// set once the remote turns out to know how, also where this fails or is cancelled.
    pub(crate) async fn initiate(
        &mut self,
        skey: InfoHash,
        offered: Methods,
        initial: &[u8],
        answered: &mut bool,
    ) -> io::Result<Vec<u8>> {
        self.disguised = true;
        let (mut out, mut heard) = (Vec::new(), Vec::new());
        let mut machine = Initiator::new(skey, offered, noise()?, initial, &mut out);
        loop {
            self.write_all(&mut mem::take(&mut out)).await?;
            heard.clear();
            self.read_some(&mut heard).await?;
            let done = machine.receive(&heard, &mut out);
            *answered = machine.is_answered();
            if let Some(established) = done.map_err(io::Error::other)? {
                self.ciphers = established.ciphers;
                return Ok(established.received);
            }
        }
    }

    /// Shakes hands as the side that was called and has read `heard`. Returns the torrent that the remote means, and what it has sent
    /// behind its part.
    pub(crate) async fn respond(
        &mut self,
        allowed: Methods,
        mut heard: Vec<u8>,
        find: impl Fn(SkeyHash) -> Option<InfoHash>,
    ) -> io::Result<(InfoHash, Vec<u8>)> {
        self.disguised = true;
        let mut out = Vec::new();
        let mut machine = Responder::new(allowed, noise()?);
        loop {
            let done = machine.receive(&heard, &find, &mut out);
            let done = done.map_err(io::Error::other)?;
            self.write_all(&mut mem::take(&mut out)).await?;
            if let Some(established) = done {
                self.ciphers = established.ciphers;
                return Ok((established.skey, established.received));
            }
            heard.clear();
            self.read_some(&mut heard).await?;
        }
    }
}

/// The dice of one handshake.
fn noise() -> io::Result<Noise> {
    let mut secret = [0; 20];
    getrandom::fill(&mut secret)?;
    Ok(Noise::new(secret, &mut fastrand::Rng::new()))
}

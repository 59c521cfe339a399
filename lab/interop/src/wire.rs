//! Just enough of the peer wire protocol (BEP 3) to look at what a peer announces, and to lie to it.
//!
//! Invariant: no message longer than [`MAX_MESSAGE_BYTES`] is read.

use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Nothing that these tests exchange is longer: a block is 16 KiB.
const MAX_MESSAGE_BYTES: usize = 1 << 17;
const PATIENCE: Duration = Duration::from_secs(10);

const UNCHOKE: u8 = 1;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;

/// Connects to a peer, and gives the bitfield that it announces.
///
/// # Errors
///
/// It does not answer, or announces something else first.
pub fn bitfield_of(peer: SocketAddr, info_hash: [u8; 20]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    shake_hands(&mut stream, info_hash)?;
    let (kind, bitfield) = read_message(&mut stream)?;
    ensure!(kind == BITFIELD, "the first message is of kind {kind}");
    Ok(bitfield)
}

/// Both sides say the same, but for their peer ids. No reserved bit is set: no extension is spoken.
fn shake_hands(stream: &mut TcpStream, info_hash: [u8; 20]) -> Result<()> {
    let mut ours = Vec::from(PROTOCOL);
    ours.extend_from_slice(&[0; 8]);
    ours.extend_from_slice(&info_hash);
    ours.extend_from_slice(b"-XX0001-000000000000");
    stream.write_all(&ours)?;
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    ensure!(theirs[..20] == *PROTOCOL, "it speaks another protocol");
    ensure!(theirs[28..48] == info_hash, "it has another torrent");
    Ok(())
}

/// The kind and payload of the next message that is not a keep-alive.
fn read_message(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        ensure!(length <= MAX_MESSAGE_BYTES, "a message of {length} bytes");
        if length > 0 {
            let mut message = vec![0; length];
            stream.read_exact(&mut message)?;
            let payload = message.split_off(1);
            return Ok((message[0], payload));
        }
    }
}

fn write_message(stream: &mut TcpStream, kind: u8, payload: &[u8]) -> Result<()> {
    let length = u32::try_from(payload.len() + 1)?;
    let mut message = Vec::from(length.to_be_bytes());
    message.push(kind);
    message.extend_from_slice(payload);
    stream.write_all(&message)?;
    Ok(())
}

/// The least time between two wrong blocks: 3 MB/s at the most. What is asked of a liar before its first piece is hashed follows from
/// that rather than from how busy the machine is.
const BETWEEN_LIES: Duration = Duration::from_millis(5);

/// A peer that claims to have everything, and answers every request with bytes that are wrong.
#[derive(Debug)]
pub struct Liar {
    /// Blocks that it sent.
    lies: Arc<AtomicU64>,
}

impl Liar {
    /// Starts one that listens at this address, and lies until the process ends.
    ///
    /// # Errors
    ///
    /// It cannot listen.
    pub fn start(address: SocketAddr, info_hash: [u8; 20], piece_count: usize) -> Result<Liar> {
        let listener = TcpListener::bind(address)?;
        let lies = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&lies);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lies = Arc::clone(&lies);
                // A connection ends with an error: the other side has had enough.
                thread::spawn(move || lie(&mut stream, info_hash, piece_count, &lies));
            }
        });
        Ok(Liar { lies: told })
    }

    /// How many wrong blocks it sent so far.
    #[must_use]
    pub fn lies(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }
}

fn lie(
    stream: &mut TcpStream,
    info_hash: [u8; 20],
    piece_count: usize,
    lies: &AtomicU64,
) -> Result<()> {
    shake_hands(stream, info_hash)?;
    let mut bitfield = vec![0xff; piece_count.div_ceil(8)];
    if let Some(last) = bitfield.last_mut() {
        // Bits beyond the last piece are zero.
        *last <<= bitfield_spare(piece_count);
    }
    write_message(stream, BITFIELD, &bitfield)?;
    write_message(stream, UNCHOKE, &[])?;
    loop {
        let (kind, payload) = read_message(stream)?;
        if kind == REQUEST && payload.len() == 12 {
            // A request is piece, offset, length; a block is piece, offset, bytes.
            let mut length = [0; 4];
            length.copy_from_slice(&payload[8..]);
            let length = usize::try_from(u32::from_be_bytes(length))?;
            ensure!(length <= MAX_MESSAGE_BYTES, "a request of {length} bytes");
            let mut block = payload[..8].to_vec();
            block.resize(8 + length, 0xab);
            thread::sleep(BETWEEN_LIES);
            write_message(stream, PIECE, &block)?;
            lies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many bits of the last byte stand for no piece.
const fn bitfield_spare(piece_count: usize) -> usize {
    (8 - piece_count % 8) % 8
}

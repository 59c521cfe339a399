//! A peer that introduces others who are not there (BEP 11, BEP 55): whoever is connected is told of one, and who asks for that one is told
//! to dial it at once, and another one too.
//!
//! Invariant: no message longer than [`MAX_MESSAGE_BYTES`] is read.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Nothing that is said to it is longer.
const MAX_MESSAGE_BYTES: usize = 1 << 17;
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// The bit of a handshake that says that extensions are spoken (BEP 10).
const EXTENDED_BIT: u8 = 0x10;
const EXTENDED: u8 = 20;
/// Under which numbers it wants to hear of peers and of hole punching.
const OURS: &[u8] = b"d1:md12:ut_holepunchi4e6:ut_pexi1eee";
const OUR_PUNCH: u8 = 4;
const RENDEZVOUS: u8 = 0;
const CONNECT: u8 = 1;

/// The peer, which listens until the process ends.
#[derive(Debug)]
pub struct Introducer {
    asked: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
}

impl Introducer {
    /// Starts one: `named` is told of as a peer, and `wanted` is somebody else whom to dial at once.
    ///
    /// # Errors
    ///
    /// It cannot listen.
    pub fn start(
        address: SocketAddrV4,
        info_hash: [u8; 20],
        named: SocketAddrV4,
        wanted: SocketAddrV4,
    ) -> Result<Introducer> {
        let listener = TcpListener::bind(address)?;
        let introducer = Introducer {
            asked: Arc::default(),
            told: Arc::default(),
        };
        let (asked, told) = (Arc::clone(&introducer.asked), Arc::clone(&introducer.told));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (asked, told) = (Arc::clone(&asked), Arc::clone(&told));
                // It ends with an error: the other side has gone.
                thread::spawn(move || {
                    introduce(&mut stream, info_hash, [named, wanted], &asked, &told)
                });
            }
        });
        Ok(introducer)
    }

    /// How often somebody asked to be brought together with a peer.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How often somebody was told whom to dial.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }
}

fn introduce(
    stream: &mut TcpStream,
    info_hash: [u8; 20],
    [named, wanted]: [SocketAddrV4; 2],
    asked: &AtomicUsize,
    told: &AtomicUsize,
) -> Result<()> {
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    ensure!(theirs[..20] == *PROTOCOL, "it speaks another protocol");
    ensure!(theirs[28..48] == info_hash, "it has another torrent");
    let mut ours = Vec::from(PROTOCOL);
    ours.extend_from_slice(&[0, 0, 0, 0, 0, EXTENDED_BIT, 0, 0]);
    ours.extend_from_slice(&info_hash);
    ours.extend_from_slice(b"-XX0002-000000000000");
    stream.write_all(&ours)?;
    say(stream, 0, OURS)?;
    let mut punch = None;
    loop {
        let (kind, payload) = read_message(stream)?;
        let Some((&number, payload)) = payload.split_first().filter(|_| kind == EXTENDED) else {
            continue;
        };
        match number {
            0 => {
                if let Some(number) = number_of(payload, "ut_pex") {
                    let mut list = Vec::from(*b"d5:added6:");
                    list.extend_from_slice(&bytes_of(named));
                    list.extend_from_slice(b"7:added.f1:\0e");
                    say(stream, number, &list)?;
                }
                punch = number_of(payload, "ut_holepunch").or(punch);
            }
            OUR_PUNCH if payload.first() == Some(&RENDEZVOUS) => {
                asked.fetch_add(1, Ordering::SeqCst);
                for wanted in [named, wanted] {
                    let Some(number) = punch else {
                        continue;
                    };
                    // IPv4, and no error.
                    let mut message = vec![CONNECT, 0];
                    message.extend_from_slice(&bytes_of(wanted));
                    message.extend_from_slice(&[0; 4]);
                    say(stream, number, &message)?;
                    told.fetch_add(1, Ordering::SeqCst);
                }
            }
            _ => {}
        }
    }
}

/// An address as both messages write it.
fn bytes_of(address: SocketAddrV4) -> Vec<u8> {
    let mut bytes = address.ip().octets().to_vec();
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes
}

/// Under which number the other side wants to hear of this, if it does.
fn number_of(handshake: &[u8], extension: &str) -> Option<u8> {
    let key = format!("{}:{extension}i", extension.len());
    let at = handshake
        .windows(key.len())
        .position(|part| part == key.as_bytes())?;
    let digits = handshake[at + key.len()..]
        .split(|byte| *byte == b'e')
        .next()?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number > 0).then_some(number)
}

fn say(stream: &mut TcpStream, number: u8, payload: &[u8]) -> Result<()> {
    let length = u32::try_from(payload.len() + 2)?;
    let mut message = Vec::from(length.to_be_bytes());
    message.extend_from_slice(&[EXTENDED, number]);
    message.extend_from_slice(payload);
    Ok(stream.write_all(&message)?)
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
            let (kind, payload) = message.split_first().context("an empty message")?;
            return Ok((*kind, payload.to_vec()));
        }
    }
}

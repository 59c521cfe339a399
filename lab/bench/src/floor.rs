//! The floor: what one thread a side can do with the simplest means. `sendfile` out of a file in memory, over loopback TCP,
//! then receive, SHA-1 and write into a file in memory.

use crate::figures::Metric;
use crate::transfer::{GIB, Goods, touch_memory};
use crate::usage::thread_cpu_s;
use anyhow::{Result, anyhow, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use sha1::{Digest, Sha1};
use shoal_interop::Lab;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

const SENT_AT_ONCE: usize = 1 << 20;
const RECEIVED_AT_ONCE: usize = 1 << 18;
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// A digest for each piece, as in a torrent.
const PIECE_BYTES: usize = 1 << 20;

/// Moves the content, and gives the same figures as of a client, as far as there are any.
///
/// # Errors
///
/// A socket or file fails, or what arrived is not what was sent.
pub(crate) fn measure(lab: &Lab, goods: &Goods) -> Result<Vec<(Metric, f64)>> {
    touch_memory(lab, goods.bytes)?;
    let folder = lab.folder("floor")?;
    let listener = TcpListener::bind((lab.address().ip(), 0))?;
    let address = listener.local_addr()?;
    let source = goods.content.path();
    let start = Instant::now();
    let sender = thread::spawn(move || send(&listener, &source));
    let leech_cpu_s = receive(address, &folder.join(&goods.content.name))?;
    let wall_s = start.elapsed().as_secs_f64();
    let seed_cpu_s = sender.join().map_err(|_| anyhow!("the sender failed"))??;
    goods.content.check(&folder)?;
    std::fs::remove_dir_all(&folder)?;
    let bytes = goods.bytes as f64;
    Ok(vec![
        (Metric::ThroughputMbPerS, bytes / 1e6 / wall_s),
        (Metric::TransferMbPerS, bytes / 1e6 / wall_s),
        (Metric::WallS, wall_s),
        (Metric::SeedCpuSPerGib, seed_cpu_s / (bytes / GIB)),
        (Metric::LeechCpuSPerGib, leech_cpu_s / (bytes / GIB)),
        (
            Metric::TotalCpuSPerGib,
            (seed_cpu_s + leech_cpu_s) / (bytes / GIB),
        ),
    ])
}

/// Sends a file to whoever connects first, and gives the CPU seconds that it took.
fn send(listener: &TcpListener, source: &Path) -> Result<f64> {
    let (stream, _) = listener.accept()?;
    let file = File::open(source)?;
    let bytes = file.metadata()?.len();
    let (mut offset, before) = (0, thread_cpu_s()?);
    while offset < bytes {
        let sent = rustix::fs::sendfile(&stream, &file, Some(&mut offset), SENT_AT_ONCE)?;
        ensure!(sent > 0, "the file is shorter than it was");
    }
    Ok(thread_cpu_s()? - before)
}

/// Receives until the other side has sent everything, and gives the CPU seconds that it took.
fn receive(address: std::net::SocketAddr, target: &Path) -> Result<f64> {
    let before = thread_cpu_s()?;
    let mut stream = TcpStream::connect(address)?;
    set_socket_recv_buffer_size(&stream, RECEIVE_BUFFER_BYTES)?;
    let mut file = File::create(target)?;
    let mut buffer = vec![0; RECEIVED_AT_ONCE];
    let (mut hasher, mut hashed) = (Sha1::new(), 0);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        let (piece, rest) = buffer[..length].split_at(length.min(PIECE_BYTES - hashed));
        hasher.update(piece);
        hashed += piece.len();
        if hashed == PIECE_BYTES {
            std::hint::black_box(hasher.finalize_reset());
            hasher.update(rest);
            hashed = rest.len();
        }
        file.write_all(&buffer[..length])?;
    }
    std::hint::black_box(hasher.finalize());
    Ok(thread_cpu_s()? - before)
}

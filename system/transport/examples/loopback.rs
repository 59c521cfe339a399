//! Moves bytes over loopback through TCP and uTP in turn, and prints what came of it.
//!
//!     cargo run --release -p shoal-transport --example loopback -- [MEBIBYTES] [ROUNDS]
//!
//! Each end has an event loop on a thread of its own; the sockets of uTP have theirs on these threads, too, as those of the engine have.

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use shoal_transport::{OriginClass, PeerStream, Transport, TransportConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

type Fault = Box<dyn Error + Send + Sync>;

/// What the engine writes at once: 32 blocks.
const WRITE_BYTES: usize = 32 * 16 * 1024;
/// What it reads at once.
const READ_BYTES: usize = 18 * 1024;

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (mebibytes, rounds) = (number(512)?, number(3)?);
    for round in 1..=rounds {
        for utp in [false, true] {
            let (took, cpu) = transfer(utp, mebibytes << 20)?;
            let rate = (mebibytes << 20) as f64 / 1e6 / took.as_secs_f64();
            let cpu = cpu.as_secs_f64() * 1024.0 / mebibytes as f64;
            let name = if utp { "uTP" } else { "TCP" };
            println!("round {round}, {name}: {rate:.0} MB/s, {cpu:.2} CPU s/GiB of both ends");
        }
    }
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn cpu_time() -> Result<Duration, Fault> {
    // User and system time in ticks of 10 ms (proc(5)): fields 14 and 15, counted behind the name.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = fields[12].parse::<u64>()? + fields[13].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn transport() -> Result<Transport, Fault> {
    let listen = vec!["127.0.0.1:0".parse()?];
    Ok(Transport::start(TransportConfig {
        listen,
        ..TransportConfig::default()
    })?)
}

fn transfer(utp: bool, bytes: u64) -> Result<(Duration, Duration), Fault> {
    let (tell, told) = oneshot::channel();
    let before = cpu_time()?;
    let began = Instant::now();
    let sender = thread::spawn(move || runtime()?.block_on(send(utp, bytes, tell)));
    runtime()?.block_on(receive(utp, bytes, told))?;
    let took = began.elapsed();
    sender.join().map_err(|_| "the sender panicked")??;
    Ok((took, cpu_time()? - before))
}

async fn send(utp: bool, bytes: u64, tell: oneshot::Sender<SocketAddr>) -> Result<(), Fault> {
    let transport = transport()?;
    let mut listeners = transport.listen()?;
    let (_utp, mut ends) = transport.utp(&listeners)?;
    let listener = listeners.remove(0);
    tell.send(listener.local_addr())
        .map_err(|_| "nobody asks")?;
    let (stream, _) = match utp {
        true => ends.remove(0).listener.accept().await?,
        false => listener.accept().await?,
    };
    let block = vec![7; WRITE_BYTES];
    let mut left = bytes;
    while left > 0 {
        stream.writable().await?;
        let count = usize::try_from(left)?.min(WRITE_BYTES);
        match stream.try_write(&block[..count]) {
            Ok(count) => left -= count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Until the receiver has all.
    while read(&stream, &mut [0; 16]).await? > 0 {}
    Ok(())
}

async fn receive(utp: bool, bytes: u64, told: oneshot::Receiver<SocketAddr>) -> Result<(), Fault> {
    let transport = transport()?;
    let target = told.await?;
    let (dialler, _ends) = transport.utp(&transport.listen()?)?;
    let stream = match utp {
        true => dialler.dial(target, OriginClass::User).await?,
        false => transport.dial(target, OriginClass::User).await?,
    };
    stream.try_write(b"!")?;
    let mut buffer = vec![0; READ_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = read(&stream, &mut buffer).await?;
        if count == 0 {
            return Err("the stream ended early".into());
        }
        left -= count as u64;
    }
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

async fn read(stream: &PeerStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

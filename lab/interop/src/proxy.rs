//! A proxy that speaks SOCKS4, SOCKS4a, SOCKS5 and HTTP at one port, says what it was asked for, and can die and return.
//!
//! It is no third party's, since none speaks all of it; what third parties' do is in the tests of the machines.
//!
//! Invariant: names are looked up in its own table, and nowhere else.

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// More than a datagram has.
const DATAGRAM_BYTES: usize = 65_536;

/// What somebody wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// A connection.
    Connect,
    /// That datagrams are passed on.
    Associate,
    /// That a datagram is.
    Datagram,
    /// An HTTP request in its absolute form.
    Request,
}

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// The name and password that everybody has to say, where that is so.
    pub login: Option<(String, String)>,
    /// What it knows of names.
    pub names: BTreeMap<String, IpAddr>,
}

/// The proxy.
pub struct Proxy {
    address: SocketAddr,
    door: Door,
    asked: Arc<Mutex<Vec<(Wish, String)>>>,
    life: Life,
}

/// One of its lives.
#[derive(Clone, Default)]
struct Life {
    is_over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    /// Those of them that others have opened.
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

#[derive(Clone)]
struct Work {
    address: SocketAddr,
    door: Door,
    asked: Arc<Mutex<Vec<(Wish, String)>>>,
    life: Life,
}

impl Proxy {
    /// Starts one at this address.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub fn start(address: SocketAddr, door: Door) -> Result<Proxy> {
        let mut proxy = Proxy {
            address,
            door,
            asked: Arc::default(),
            life: Life::default(),
        };
        proxy.revive()?;
        Ok(proxy)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked for so far, in all its lives: each thing once, with how often.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<(Wish, String), usize> {
        let mut counts = BTreeMap::new();
        for wish in lock(&self.asked).iter() {
            *counts.entry(wish.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Whether nobody is connected to it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        lock(&self.life.clients).iter().all(has_ended)
    }

    /// Whether it was asked for that.
    #[must_use]
    pub fn was_asked(&self, wish: Wish, target: &str) -> bool {
        let asked = lock(&self.asked);
        asked
            .iter()
            .any(|(other, at)| *other == wish && at == target)
    }

    /// Closes its port and all its connections at once.
    pub fn kill(&mut self) {
        self.life.is_over.store(true, Ordering::SeqCst);
        for stream in lock(&self.life.streams).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        // Its threads have seen it by then.
        thread::sleep(LOOK_EVERY * 5);
    }

    /// Begins again, and knows nothing of before.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub fn revive(&mut self) -> Result<()> {
        self.life = Life::default();
        let listener = TcpListener::bind(self.address).context("the proxy's address")?;
        listener.set_nonblocking(true)?;
        let work = Work {
            address: self.address,
            door: self.door.clone(),
            asked: Arc::clone(&self.asked),
            life: self.life.clone(),
        };
        thread::spawn(move || work.accept(&listener));
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Work {
    fn is_over(&self) -> bool {
        self.life.is_over.load(Ordering::SeqCst)
    }

    fn accept(&self, listener: &TcpListener) {
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let work = self.clone();
                    thread::spawn(move || drop(work.serve(stream)));
                }
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn keep(&self, stream: &TcpStream) -> Result<()> {
        lock(&self.life.streams).push(stream.try_clone()?);
        ensure!(!self.is_over(), "it is dead");
        Ok(())
    }

    fn note(&self, wish: Wish, target: &str) {
        lock(&self.asked).push((wish, target.to_owned()));
    }

    fn look_up(&self, name: &str) -> Result<IpAddr> {
        let known = self.door.names.get(name).copied();
        known
            .or_else(|| name.parse().ok())
            .context("an unknown name")
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(false)?;
        self.keep(&stream)?;
        lock(&self.life.clients).push(stream.try_clone()?);
        let mut first = [0];
        stream.peek(&mut first)?;
        match first[0] {
            4 => self.socks4(stream),
            5 => self.socks5(stream),
            _ => self.http(stream),
        }
    }

    fn connect(&self, host: &str, port: u16) -> Result<TcpStream> {
        self.note(Wish::Connect, &format!("{host}:{port}"));
        let target = SocketAddr::new(self.look_up(host)?, port);
        let onward = TcpStream::connect_timeout(&target, CONNECT_WITHIN)?;
        self.keep(&onward)?;
        Ok(onward)
    }

    fn socks4(&self, mut stream: TcpStream) -> Result<()> {
        let head: [u8; 8] = read(&mut stream)?;
        until_zero(&mut stream)?;
        let port = u16::from_be_bytes([head[2], head[3]]);
        let host = match head[4..] {
            [0, 0, 0, last] if last != 0 => until_zero(&mut stream)?,
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string(),
            _ => return Ok(()),
        };
        match self.connect(&host, port) {
            Ok(onward) => {
                stream.write_all(&[0, 90, 0, 0, 0, 0, 0, 0])?;
                splice(stream, onward)
            }
            Err(_) => Ok(stream.write_all(&[0, 91, 0, 0, 0, 0, 0, 0])?),
        }
    }

    fn socks5(&self, mut stream: TcpStream) -> Result<()> {
        let [_, count] = read(&mut stream)?;
        let mut methods = vec![0; usize::from(count)];
        stream.read_exact(&mut methods)?;
        match &self.door.login {
            None => stream.write_all(&[5, 0])?,
            Some(_) if !methods.contains(&2) => return Ok(stream.write_all(&[5, 0xff])?),
            Some((name, password)) => {
                stream.write_all(&[5, 2])?;
                let [_, length] = read(&mut stream)?;
                let said_name = text(&mut stream, length)?;
                let [length] = read(&mut stream)?;
                let said_password = text(&mut stream, length)?;
                let right = said_name == *name && said_password == *password;
                stream.write_all(&[1, u8::from(!right)])?;
                ensure!(right, "a stranger");
            }
        }
        let [_, command, _] = read(&mut stream)?;
        let (host, port) = read_endpoint(&mut stream)?;
        if command == 3 {
            return self.associate(stream);
        }
        match self.connect(&host, port) {
            Ok(onward) => {
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                splice(stream, onward)
            }
            Err(error) => {
                let refused = error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                let reply = if refused { 5 } else { 4 };
                Ok(stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0])?)
            }
        }
    }

    /// Passes datagrams on as long as the connection stands, between one client and everybody.
    fn associate(&self, mut stream: TcpStream) -> Result<()> {
        self.note(Wish::Associate, "");
        let near = UdpSocket::bind((self.address.ip(), 0))?;
        let far = UdpSocket::bind((self.address.ip(), 0))?;
        let port = near.local_addr()?.port().to_be_bytes();
        // Its address is left out, as many do.
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, port[0], port[1]])?;
        near.set_read_timeout(Some(LOOK_EVERY))?;
        far.set_read_timeout(Some(LOOK_EVERY))?;
        let client = Arc::new(Mutex::new(None));
        let is_over = Arc::new(AtomicBool::new(false));
        let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
        let (back, back_over) = (Arc::clone(&client), Arc::clone(&is_over));
        thread::spawn(move || bring_back(&far_too, &near_too, &back, &back_over));
        let (work, out_over) = (self.clone(), Arc::clone(&is_over));
        thread::spawn(move || work.take_out(&near, &far, &client, &out_over));
        let mut ignored = [0; 16];
        while matches!(stream.read(&mut ignored), Ok(1..)) {}
        is_over.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn take_out(
        &self,
        near: &UdpSocket,
        far: &UdpSocket,
        client: &Mutex<Option<SocketAddr>>,
        is_over: &AtomicBool,
    ) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        while !is_over.load(Ordering::SeqCst) {
            let Ok((length, from)) = near.recv_from(&mut buffer) else {
                continue;
            };
            *lock(client) = Some(from);
            let Some(mut rest) = buffer[..length].get(3..) else {
                continue;
            };
            let Ok((host, port)) = read_endpoint(&mut rest) else {
                continue;
            };
            let target = format!("{host}:{port}");
            if !self.was_noted(&target) {
                self.note(Wish::Datagram, &target);
            }
            if let Ok(ip) = self.look_up(&host) {
                drop(far.send_to(rest, (ip, port)));
            }
        }
    }

    /// Datagrams are noted once for each target: there may be very many.
    fn was_noted(&self, target: &str) -> bool {
        let asked = lock(&self.asked);
        asked
            .iter()
            .any(|(wish, at)| *wish == Wish::Datagram && at == target)
    }

    fn http(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "half a head");
            if line.trim_end().is_empty() {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        if let Some((name, password)) = &self.door.login {
            let expected = format!(
                "basic {}",
                BASE64_STANDARD.encode(format!("{name}:{password}"))
            );
            let says = lines.iter().any(|line| {
                let said = line.split_once(':');
                said.is_some_and(|(field, value)| {
                    let (field, value) = (field.to_ascii_lowercase(), value.trim());
                    let basic = value
                        .split_once(' ')
                        .map(|(scheme, rest)| format!("{} {rest}", scheme.to_ascii_lowercase()));
                    field == "proxy-authorization" && basic.as_ref() == Some(&expected)
                })
            });
            if !says {
                return Ok(stream.write_all(
                    b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                )?);
            }
        }
        let first = lines.first().context("an empty head")?.clone();
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, _] = words[..] else {
            return Ok(());
        };
        if method == "CONNECT" {
            let (host, port) = target.rsplit_once(':').context("no port")?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            return match self.connect(host, port.parse()?) {
                Ok(onward) => {
                    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
                    splice(stream, onward)
                }
                Err(_) => Ok(stream.write_all(b"HTTP/1.1 502 Bad\r\n\r\n")?),
            };
        }
        let rest = target.strip_prefix("http://").context("no absolute form")?;
        let (site, path) = rest.split_once('/').unwrap_or((rest, ""));
        self.note(Wish::Request, site);
        let (host, port) = site.rsplit_once(':').unwrap_or((site, "80"));
        let address = SocketAddr::new(self.look_up(host)?, port.parse()?);
        let mut onward = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        self.keep(&onward)?;
        let mut head = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n");
        for line in &lines[1..] {
            let field = line.to_ascii_lowercase();
            if !field.starts_with("proxy-") && !field.starts_with("connection:") {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
        onward.write_all(format!("{head}\r\n").as_bytes())?;
        io::copy(&mut onward, &mut stream)?;
        Ok(stream.shutdown(Shutdown::Both)?)
    }
}

/// What comes from far is passed to the client, as from whom it came.
fn bring_back(
    far: &UdpSocket,
    near: &UdpSocket,
    client: &Mutex<Option<SocketAddr>>,
    is_over: &AtomicBool,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while !is_over.load(Ordering::SeqCst) {
        let Ok((length, from)) = far.recv_from(&mut buffer) else {
            continue;
        };
        let Some(client) = *lock(client) else {
            continue;
        };
        let mut wrapped = vec![0, 0, 0];
        match from.ip() {
            IpAddr::V4(ip) => {
                wrapped.push(1);
                wrapped.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                wrapped.push(4);
                wrapped.extend_from_slice(&ip.octets());
            }
        }
        wrapped.extend_from_slice(&from.port().to_be_bytes());
        wrapped.extend_from_slice(&buffer[..length]);
        drop(near.send_to(&wrapped, client));
    }
}

/// Both directions, until both have ended.
fn splice(stream: TcpStream, onward: TcpStream) -> Result<()> {
    let (mut back_from, mut back_to) = (onward.try_clone()?, stream.try_clone()?);
    let back = thread::spawn(move || {
        drop(io::copy(&mut back_from, &mut back_to));
        drop(back_to.shutdown(Shutdown::Write));
    });
    let (mut from, mut to) = (stream, onward);
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
    drop(back.join());
    Ok(())
}

/// Whether the other end has closed a connection.
fn has_ended(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut byte = [0];
    let peeked = recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    match peeked {
        Ok((0, _)) => true,
        Ok(_) => false,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

fn read<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(stream: &mut impl Read, length: u8) -> Result<String> {
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes)?)
}

fn until_zero(stream: &mut impl Read) -> Result<String> {
    let mut found = Vec::new();
    loop {
        match read(stream)? {
            [0] => return Ok(String::from_utf8(found)?),
            [byte] => found.push(byte),
        }
        ensure!(found.len() < 256, "a long text");
    }
}

/// As SOCKS5 writes it.
fn read_endpoint(stream: &mut impl Read) -> Result<(String, u16)> {
    let [kind] = read(stream)?;
    let host = match kind {
        1 => Ipv4Addr::from(read::<4>(stream)?).to_string(),
        4 => Ipv6Addr::from(read::<16>(stream)?).to_string(),
        _ => {
            let [length] = read(stream)?;
            text(stream, length)?
        }
    };
    Ok((host, u16::from_be_bytes(read(stream)?)))
}

/// Held for a look, a push or a swap.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

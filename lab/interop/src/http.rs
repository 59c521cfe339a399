//! Just enough HTTP to steer clients by their own interfaces.
//!
//! Invariant: no request outlasts [`PATIENCE`], and no reply larger than [`MAX_REPLY_BYTES`] is read.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client that does not answer for so long has a problem.
const PATIENCE: Duration = Duration::from_secs(10);
/// Replies are lists of a few torrents.
const MAX_REPLY_BYTES: u64 = 1 << 20;

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body, of a request that went well.
    pub(crate) fn into_body(self) -> Result<String> {
        match self.status {
            200 => Ok(self.body),
            status => bail!("HTTP status {status}: {}", self.body),
        }
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Reply> {
    request(address, "GET", path, &[], &[])
}

pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    request(address, "POST", path, headers, body)
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    read_reply(stream)
}

/// Reads as much as the reply says it has: not every server closes the connection, even where it is asked to.
fn read_reply(stream: TcpStream) -> Result<Reply> {
    let mut stream = BufReader::new(stream.take(MAX_REPLY_BYTES));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("no HTTP reply")?.parse()?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut reply = Reply {
        status,
        headers,
        body: String::new(),
    };
    let mut body = Vec::new();
    match reply.header("Content-Length") {
        Some(length) => stream.take(length.parse()?).read_to_end(&mut body)?,
        None => stream.read_to_end(&mut body)?,
    };
    reply.body = String::from_utf8_lossy(&body).into_owned();
    Ok(reply)
}

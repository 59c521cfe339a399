//! Connections that lead through a proxy.
//!
//! Invariant: the proxy is the one address that is dialled here, by a socket under the binding; where it is not there or refuses, there
//! is no connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::binding::Binding;
use crate::proxy::{Endpoint, Handshake, Proxy, ProxyError};
use crate::sockets;
use crate::transport::DialError;

/// What is looked at of an answer at once.
const GLANCE_BYTES: usize = 512;

/// Why there is no connection through a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ThroughProxy {
    /// The proxy is not there.
    #[error("it cannot be reached ({0}), and nothing goes another way")]
    Unreachable(io::Error),
    /// It does not say anything.
    #[error("it does not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It does not do what it is asked.
    #[error(transparent)]
    Said(#[from] ProxyError),
}

/// A proxy through which something was not reached.
#[derive(Debug, thiserror::Error)]
#[error("{target} through the proxy {proxy}: {why}")]
pub struct ProxyFailure {
    /// Where it should have led.
    pub target: Endpoint,
    /// Which one. It shows no name and no password.
    pub proxy: Proxy,
    /// Why it did not.
    #[source]
    pub why: ThroughProxy,
}

impl ProxyFailure {
    pub(crate) fn of(proxy: &Proxy, target: impl Into<Endpoint>, why: ThroughProxy) -> DialError {
        DialError::Proxy(Box::new(ProxyFailure {
            target: target.into(),
            proxy: proxy.clone(),
            why,
        }))
    }
}

/// A connection to `target`, at whose first byte the stream stands. The proxy, and the target behind it, have `patience` each.
pub(crate) async fn open(
    proxy: &Proxy,
    target: &Endpoint,
    binding: &Binding,
    patience: Duration,
) -> Result<TcpStream, ThroughProxy> {
    let handshake = Handshake::connect(proxy, target)?;
    let (stream, _) = ask(proxy, handshake, binding, patience).await?;
    Ok(stream)
}

/// Connects to the proxy and asks it for something.
pub(crate) async fn ask(
    proxy: &Proxy,
    mut handshake: Handshake,
    binding: &Binding,
    patience: Duration,
) -> Result<(TcpStream, Handshake), ThroughProxy> {
    let address = proxy.address();
    let socket = sockets::tcp_to(address, binding).map_err(ThroughProxy::Unreachable)?;
    let connected = timeout(patience, socket.connect(address)).await;
    let connected = connected.map_err(|_| ThroughProxy::TimedOut(patience))?;
    let mut stream = connected.map_err(ThroughProxy::Unreachable)?;
    let shaken = timeout(patience, shake(&mut stream, &mut handshake)).await;
    shaken.map_err(|_| ThroughProxy::TimedOut(patience))??;
    Ok((stream, handshake))
}

/// Looks at what has come before it takes it, so that what is behind the answer stays where it is.
async fn shake(stream: &mut TcpStream, handshake: &mut Handshake) -> Result<(), ThroughProxy> {
    let mut glance = [0; GLANCE_BYTES];
    loop {
        let unsent = handshake.to_send();
        let sent = stream.write_all(&unsent).await;
        sent.map_err(|_| ProxyError::Closed)?;
        if handshake.is_done() {
            return Ok(());
        }
        let there = stream.peek(&mut glance).await;
        let there = there.map_err(|_| ProxyError::Closed)?;
        if there == 0 {
            return Err(ProxyError::Closed.into());
        }
        let taken = handshake.receive(&glance[..there])?;
        let read = stream.read_exact(&mut glance[..taken]).await;
        read.map_err(|_| ProxyError::Closed)?;
    }
}

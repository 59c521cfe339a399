//! Dialling peers over TCP, uTP, or whichever answers first.
//!
//! Invariant: each attempt is judged by the policy on its own; of two connections at most one is used, and the other one ends.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Notify;

use crate::peer_stream::PeerStream;
use crate::policy::OriginClass;
use crate::transport::{DialError, Transport};
use crate::utp::Utp;

/// How long TCP is tried alone (RFC 8305, `Connection Attempt Delay`): most peers answer within, and over TCP a peer costs less of a core.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long uTP is tried after TCP was refused or led to nothing, which shows that the host is there: a SYN, its repetition after a second, and a second for the
/// answer. Otherwise dials to peers that have left would take up their places for the whole of the time that a dial has.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// How long a peer is dialled that was told to dial us at this moment: two repetitions of a SYN, after which it has given up, too.
const PUNCH: Duration = Duration::from_secs(5);

/// Over what peers are dialled.
#[derive(Clone, Debug)]
pub enum PeerDialer {
    /// TCP only.
    Tcp(Transport),
    /// uTP only.
    Utp(Utp),
    /// TCP, and uTP as well where TCP has failed or has not answered soon.
    Both(Transport, Utp),
}

impl PeerDialer {
    /// Connects to a peer that `origin` named. Where nothing works, the error is that of TCP, if TCP was tried. Safe to cancel.
    pub async fn dial(
        &self,
        target: SocketAddr,
        origin: OriginClass,
    ) -> Result<PeerStream, DialError> {
        match self {
            Self::Tcp(tcp) => tcp.dial(target, origin).await,
            Self::Utp(utp) => utp.dial(target, origin).await,
            Self::Both(tcp, utp) => race(tcp, utp, target, origin).await,
        }
    }

    /// Whether routers that let in answers alone can be passed: only over uTP, whose socket is the same towards all peers.
    #[must_use]
    pub const fn can_punch(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Utp(utp) | Self::Both(_, utp) => utp.can_dial(),
        }
    }

    /// As [`PeerDialer::dial`], to a peer that dials us at the same time (BEP 55): over uTP only, and for no longer than it does.
    pub async fn punch(
        &self,
        target: SocketAddr,
        origin: OriginClass,
    ) -> Result<PeerStream, DialError> {
        self.over_utp(target, origin, PUNCH).await
    }

    /// As [`PeerDialer::dial`], to a peer that accepted over TCP and closed without a word: over uTP only.
    pub async fn dial_after_tcp(
        &self,
        target: SocketAddr,
        origin: OriginClass,
    ) -> Result<PeerStream, DialError> {
        self.over_utp(target, origin, AFTER_REFUSAL).await
    }

    async fn over_utp(
        &self,
        target: SocketAddr,
        origin: OriginClass,
        after: Duration,
    ) -> Result<PeerStream, DialError> {
        let (Self::Utp(utp) | Self::Both(_, utp)) = self else {
            let source = ErrorKind::Unsupported.into();
            return Err(DialError::Io { target, source });
        };
        let dialled = tokio::time::timeout(after, utp.dial(target, origin)).await;
        dialled.map_err(|_| DialError::TimedOut { target, after })?
    }
}

async fn race(
    tcp: &Transport,
    utp: &Utp,
    target: SocketAddr,
    origin: OriginClass,
) -> Result<PeerStream, DialError> {
    let tcp_has_failed = Notify::new();
    let mut over_tcp = std::pin::pin!(tcp.dial(target, origin));
    let mut over_utp = std::pin::pin!(async {
        // Either way it is time.
        drop(tokio::time::timeout(HEAD_START, tcp_has_failed.notified()).await);
        utp.dial(target, origin).await
    });
    tokio::select! {
        biased;
        tcp = &mut over_tcp => match tcp {
            Ok(stream) => Ok(stream),
            Err(error) => {
                tcp_has_failed.notify_one();
                let outcome = match error.is_refused_by_host() {
                    true => tokio::time::timeout(AFTER_REFUSAL, over_utp).await.ok(),
                    false => Some(over_utp.await),
                };
                outcome.and_then(Result::ok).ok_or(error)
            }
        },
        utp = &mut over_utp => match utp {
            Ok(stream) => Ok(stream),
            Err(_) => over_tcp.await,
        },
    }
}

//! One announce or scrape over UDP (BEP 15, with the URL data of BEP 41): connect, ask, repeat what was lost, give up.
//!
//! Invariant: a datagram that does not carry the transaction id and the action that are waited for changes nothing, so that
//! only who sees our packets can answer them. After `Done` nothing follows.

mod connections;
mod packet;

use crate::announce::{AnnounceReply, AnnounceRequest, MAX_SCRAPE_HASHES, ScrapeReply};
use crate::error::Error;
use core::fmt;
use core::time::Duration;
use packet::Answer;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHash;
use std::collections::VecDeque;
use url::{Host, Url};

pub use connections::{Connections, MAX_CONNECTIONS};

/// A client may use a connection id for a minute after it got it (BEP 15).
pub const CONNECTION_ID_LIFETIME: Duration = Duration::from_secs(60);

/// The first wait for an answer; it doubles with each repetition (BEP 15). An exchange that has less time than for two
/// attempts waits a third of what it has, as one lost datagram should not decide it.
const FIRST_RETRANSMIT: Duration = Duration::from_secs(15);

/// The wait doubles no more than that often (BEP 15).
const MAX_DOUBLINGS: u32 = 8;

/// How long an exchange may take. BEP 15 would go on for two hours, while the other trackers of the tier wait for their turn;
/// 45 s are two attempts with the whole wait of BEP 15 for each (15 s and 30 s). The schedule decides when to begin again.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(45);

/// Larger than any datagram with [`crate::MAX_PEERS`] IPv6 peers; a driver needs no larger buffer.
pub const MAX_DATAGRAM_BYTES: usize = 20 + 18 * crate::MAX_PEERS;

/// With it, an announce fits into a packet that passes anywhere (1,280 bytes, the least that IPv6 carries whole).
pub const MAX_URL_DATA_BYTES: usize = 1024;

/// What is wanted of the tracker.
#[derive(Clone)]
pub enum UdpRequest {
    /// Tell it about us, learn about peers.
    Announce(AnnounceRequest),
    /// The figures of at most [`MAX_SCRAPE_HASHES`] swarms.
    Scrape(Vec<InfoHash>),
}

/// What came of it, of the same kind as the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    /// To an announce.
    Announce(AnnounceReply),
    /// To a scrape.
    Scrape(ScrapeReply),
}

/// What the socket speaks: it decides how large the peers of a reply are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// 6 bytes a peer.
    V4,
    /// 18 bytes a peer.
    V6,
}

/// What a tracker gave to prove that we receive at our address. Good for all requests from one socket to one tracker
/// address, for [`CONNECTION_ID_LIFETIME`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId {
    id: u64,
    received_at: Moment,
}

impl ConnectionId {
    /// Whether a request may carry it at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Moment) -> bool {
        now.since(self.received_at) < CONNECTION_ID_LIFETIME
    }
}

/// What can happen to an exchange. Without `Debug`, as datagrams hold addresses.
#[derive(Clone)]
pub enum Input {
    /// Begin; the time limit counts from here.
    Start,
    /// The tracker's address sent this.
    Datagram(Vec<u8>),
    /// A deadline passed.
    Tick,
}

/// What an exchange wants done.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram to the tracker's address.
    Send(Vec<u8>),
    /// It is over.
    Done(Result<UdpReply, Error>),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The datagram may hold a passkey.
            Output::Send(datagram) => write!(f, "Send({} bytes)", datagram.len()),
            Output::Done(result) => f.debug_tuple("Done").field(result).finish(),
        }
    }
}

/// Where a tracker with a `udp` URL listens.
///
/// # Errors
///
/// [`Error::UnusableUrl`] where the URL is of another scheme or lacks a host or a port; there is no customary port.
pub fn endpoint(tracker: &Url) -> Result<(Host, u16), Error> {
    if tracker.scheme() != "udp" {
        return Err(Error::UnusableUrl("it is not a udp URL"));
    }
    // The host of a scheme that browsers do not know is not interpreted by the parser of URLs: names may be international
    // and IPv4 addresses are still text.
    let host = match tracker.host() {
        Some(Host::Domain(name)) => Host::parse(name).ok(),
        Some(address) => Some(address.to_owned()),
        None => None,
    };
    let host = host.ok_or(Error::UnusableUrl("it names no host"))?;
    let port = tracker.port().filter(|&port| port != 0);
    Ok((host, port.ok_or(Error::UnusableUrl("it names no port"))?))
}

/// Path and query of a tracker's URL as BEP 41 sends them, empty where there is nothing to say.
fn url_data(tracker: &Url) -> Result<Vec<u8>, Error> {
    let mut data = match tracker.path() {
        "/" if tracker.query().is_none() => String::new(),
        path => path.to_owned(),
    };
    if let Some(query) = tracker.query() {
        data.push('?');
        data.push_str(query);
    }
    if data.len() > MAX_URL_DATA_BYTES {
        return Err(Error::UnusableUrl(
            "its path and query are longer than 1,024 bytes",
        ));
    }
    Ok(data.into_bytes())
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before `Input::Start`.
    Idle,
    /// A connect request is on its way.
    Connecting,
    /// The request is on its way.
    Asking,
    /// `Output::Done` was given.
    Over,
}

/// One exchange.
pub struct UdpExchange {
    request: UdpRequest,
    url_data: Vec<u8>,
    family: AddressFamily,
    time_limit: Duration,
    rng: fastrand::Rng,
    phase: Phase,
    connection: Option<ConnectionId>,
    /// Whether the connection id is from an earlier exchange, so that its refusal says nothing about the request.
    connection_is_cached: bool,
    transaction: u32,
    /// Repetitions since the last answer.
    repetitions: u32,
    /// Repeat what was sent last.
    repeat_at: Moment,
    /// End the exchange without an answer.
    give_up_at: Moment,
    outputs: VecDeque<Output>,
}

impl UdpExchange {
    /// An exchange with the tracker that has this URL, over a socket of this family, with the connection id of an earlier
    /// exchange if there is one. `rng` must not be predictable by strangers: transaction ids are drawn from it.
    ///
    /// # Errors
    ///
    /// [`Error::UnusableUrl`] where path and query exceed [`MAX_URL_DATA_BYTES`]; [`Error::Malformed`] where a scrape names
    /// no swarm or more than [`MAX_SCRAPE_HASHES`].
    pub fn new(
        request: UdpRequest,
        tracker: &Url,
        family: AddressFamily,
        cached: Option<ConnectionId>,
        time_limit: Duration,
        rng: fastrand::Rng,
    ) -> Result<Self, Error> {
        if let UdpRequest::Scrape(hashes) = &request
            && !(1..=MAX_SCRAPE_HASHES).contains(&hashes.len())
        {
            return Err(Error::Malformed("a scrape asks for 1 to 74 swarms"));
        }
        Ok(UdpExchange {
            url_data: url_data(tracker)?,
            request,
            family,
            time_limit,
            rng,
            phase: Phase::Idle,
            connection: cached,
            connection_is_cached: cached.is_some(),
            transaction: 0,
            repetitions: 0,
            repeat_at: Moment::NEVER,
            give_up_at: Moment::NEVER,
            outputs: VecDeque::new(),
        })
    }

    /// The connection id, for the next exchange from the same socket with the same tracker address ([`Connections`]).
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Sends the request where there is a connection id for it, a connect request otherwise.
    fn send(&mut self, now: Moment) {
        let valid = self
            .connection
            .filter(|connection| connection.is_valid(now));
        self.connection = valid;
        self.connection_is_cached &= valid.is_some();
        let phase = if valid.is_some() {
            Phase::Asking
        } else {
            Phase::Connecting
        };
        if phase != self.phase {
            self.phase = phase;
            self.transaction = self.rng.u32(..);
        }
        let datagram = match (valid, &self.request) {
            (None, _) => packet::connect(self.transaction),
            (Some(connection), UdpRequest::Announce(request)) => packet::announce(
                connection.id,
                self.transaction,
                request,
                self.family,
                &self.url_data,
            ),
            (Some(connection), UdpRequest::Scrape(hashes)) => {
                packet::scrape(connection.id, self.transaction, hashes)
            }
        };
        let first_wait = FIRST_RETRANSMIT.min(self.time_limit / 3);
        self.repeat_at = now + first_wait * (1 << self.repetitions.min(MAX_DOUBLINGS));
        self.outputs.push_back(Output::Send(datagram));
    }

    fn receive(&mut self, now: Moment, datagram: &[u8]) {
        let answer = match self.phase {
            Phase::Connecting => packet::connected(datagram, self.transaction),
            Phase::Asking => {
                packet::answered(datagram, self.transaction, &self.request, self.family)
            }
            Phase::Idle | Phase::Over => return,
        };
        match answer {
            None => {}
            Some(Answer::Connected(id)) => {
                self.connection = Some(ConnectionId {
                    id,
                    received_at: now,
                });
                self.connection_is_cached = false;
                self.repetitions = 0;
                self.send(now);
            }
            Some(Answer::Failed(_)) if self.phase == Phase::Asking && self.connection_is_cached => {
                // Most likely the tracker restarted and does not know the connection id any more.
                self.forget_connection();
                self.send(now);
            }
            Some(Answer::Failed(reason)) => {
                self.finish(Err(Error::Failure {
                    reason,
                    retry_in: None,
                }));
            }
            Some(Answer::Replied(reply)) => self.finish(reply),
        }
    }

    fn tick(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Idle | Phase::Over) {
            return;
        }
        if now >= self.give_up_at {
            self.finish(Err(Error::TimedOut));
        } else if now >= self.repeat_at {
            if self.connection_is_cached {
                // Some trackers are silent about a connection id that they do not know any more.
                self.forget_connection();
            } else {
                self.repetitions += 1;
            }
            self.send(now);
        }
    }

    /// Goes on with a connect request, as if there had been no earlier exchange.
    fn forget_connection(&mut self) {
        self.connection = None;
        self.connection_is_cached = false;
        self.repetitions = 0;
    }

    fn finish(&mut self, result: Result<UdpReply, Error>) {
        self.phase = Phase::Over;
        self.outputs.push_back(Output::Done(result));
    }
}

impl Machine for UdpExchange {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Start if self.phase == Phase::Idle => {
                self.give_up_at = now + self.time_limit;
                self.send(now);
            }
            Input::Start => {}
            Input::Datagram(datagram) => self.receive(now, &datagram),
            Input::Tick => self.tick(now),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Idle | Phase::Over => None,
            Phase::Connecting | Phase::Asking => {
                earliest(Some(self.repeat_at), Some(self.give_up_at))
            }
        }
    }
}

#[cfg(test)]
mod tests;

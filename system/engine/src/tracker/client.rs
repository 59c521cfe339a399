//! One announce or scrape, over whatever the tracker's URL says.
//!
//! Invariant: nothing takes longer than its caller gave it, and an address is spoken to only after the policy has allowed it to
//! who named the tracker, also where a connection to it waits to be used again.

use crate::clock::Clock;
use shoal_machine::{Machine, Sighting};
use shoal_metainfo::InfoHash;
use shoal_tracker::udp;
use shoal_tracker::{
    AddressFamily, AnnounceReply, AnnounceRequest, ConnectionId, Connections, Error, ScrapeReply,
    UdpExchange, UdpReply, UdpRequest, check_url, http,
};
use shoal_transport::{
    Endpoint, HttpLimits, HttpReply, OriginClass, Protocol, Transport, UdpChannel,
};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// Trackers redirect from http to https, and from an old name to a new one.
const MAX_REDIRECTS: usize = 5;

/// A tracker, and on whose word it is spoken to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) origin: OriginClass,
}

/// Speaks to trackers. Clones share the connections that wait to be used again.
#[derive(Clone)]
pub(crate) struct TrackerClient {
    clock: Clock,
    transport: Transport,
    connections: Arc<Mutex<Connections<UdpChannel>>>,
}

impl TrackerClient {
    pub(crate) fn new(clock: Clock, transport: Transport) -> Self {
        TrackerClient {
            clock,
            transport,
            connections: Arc::default(),
        }
    }

    /// Announces. Some trackers say where they see us (BEP 24).
    pub(crate) async fn announce(
        &self,
        tracker: &Target,
        request: AnnounceRequest,
        within: Duration,
        rng: fastrand::Rng,
    ) -> Result<(AnnounceReply, Option<Sighting>), Error> {
        let work = async {
            if is_udp(tracker)? {
                let request = UdpRequest::Announce(request);
                return match self.ask_over_udp(tracker, request, within, rng).await? {
                    UdpReply::Announce(reply) => Ok((reply, None)),
                    UdpReply::Scrape(_) => Err(OTHER_QUESTION),
                };
            }
            let url = http::announce_url(&tracker.url, &request)?;
            let reply = self.fetch(url, tracker.origin, within).await?;
            let announced = http::announce_reply(reply.status, &reply.body)?;
            let seen = announced.external_ip.zip(reply.remote);
            let seen = seen.map(|(at, remote)| Sighting {
                by: remote.ip(),
                at,
            });
            Ok((announced, seen))
        };
        in_time(within, work).await
    }

    /// The figures of these swarms.
    pub(crate) async fn scrape(
        &self,
        tracker: &Target,
        swarms: &[InfoHash],
        within: Duration,
        rng: fastrand::Rng,
    ) -> Result<ScrapeReply, Error> {
        let work = async {
            if is_udp(tracker)? {
                let request = UdpRequest::Scrape(swarms.to_vec());
                return match self.ask_over_udp(tracker, request, within, rng).await? {
                    UdpReply::Scrape(reply) => Ok(reply),
                    UdpReply::Announce(_) => Err(OTHER_QUESTION),
                };
            }
            let url = http::scrape_url(&tracker.url, swarms)?;
            let reply = self.fetch(url, tracker.origin, within).await?;
            http::scrape_reply(reply.status, &reply.body, swarms)
        };
        in_time(within, work).await
    }

    async fn fetch(
        &self,
        url: Url,
        origin: OriginClass,
        timeout: Duration,
    ) -> Result<HttpReply, Error> {
        let limits = HttpLimits {
            protocol: Protocol::TrackerHttp,
            max_body_bytes: http::MAX_REPLY_BYTES,
            timeout,
            max_redirects: MAX_REDIRECTS,
            family: None,
        };
        let reply = self.transport.http().get(url, origin, limits).await;
        reply.map_err(unreachable)
    }

    /// Tries the tracker's addresses one after the other, with an equal share of the time for each, until one answers.
    async fn ask_over_udp(
        &self,
        tracker: &Target,
        request: UdpRequest,
        within: Duration,
        mut rng: fastrand::Rng,
    ) -> Result<UdpReply, Error> {
        let until = self.clock.now() + within;
        let (host, port) = udp::endpoint(&tracker.url)?;
        let (host, origin) = (host.to_string(), tracker.origin);
        let endpoints = self
            .transport
            .endpoints(&host, port, origin, Protocol::TrackerUdp)
            .await
            .map_err(unreachable)?;
        let mut last = Error::Unreachable("its name has no address".into());
        let targets = targets(&endpoints);
        for (endpoint, share) in targets.iter().zip((1..=targets.len()).rev()) {
            let left = until.since(self.clock.now());
            let time_limit = left / u32::try_from(share).unwrap_or(u32::MAX);
            let (cached, channel) = match self.connection(endpoint, origin) {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            // Of a name that a proxy looks up, what comes from IPv6 is not heard.
            let family = match endpoint {
                Endpoint::Address(SocketAddr::V6(_)) => AddressFamily::V6,
                Endpoint::Address(SocketAddr::V4(_)) | Endpoint::Name(..) => AddressFamily::V4,
            };
            let (request, rng) = (request.clone(), rng.fork());
            let exchange =
                UdpExchange::new(request, &tracker.url, family, cached, time_limit, rng)?;
            match self.exchange(endpoint, channel, exchange).await {
                // Another address would refuse as well.
                done @ (Ok(_) | Err(Error::Failure { .. })) => return done,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection that waits, or a new socket. `endpoint` was allowed to `origin` when it was resolved.
    fn connection(
        &self,
        endpoint: &Endpoint,
        origin: OriginClass,
    ) -> Result<(Option<ConnectionId>, UdpChannel), Error> {
        let waiting = match endpoint {
            Endpoint::Address(address) => self.connections().take(self.clock.now(), *address),
            Endpoint::Name(..) => None,
        };
        match waiting.filter(|(_, channel)| !channel.is_over()) {
            Some((id, channel)) => Ok((Some(id), channel)),
            None => {
                let channel = self.transport.udp(endpoint.clone(), origin);
                Ok((None, channel.map_err(unreachable)?))
            }
        }
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        channel: UdpChannel,
        mut exchange: UdpExchange,
    ) -> Result<UdpReply, Error> {
        let result = self.run(&channel, &mut exchange).await;
        // A socket on which nothing came may not be the one to try again with.
        if matches!(result, Ok(_) | Err(Error::Failure { .. }))
            && let Some(id) = exchange.connection()
            && let Endpoint::Address(address) = endpoint
        {
            let now = self.clock.now();
            self.connections().keep(now, *address, id, channel);
        }
        result
    }

    async fn run(
        &self,
        channel: &UdpChannel,
        exchange: &mut UdpExchange,
    ) -> Result<UdpReply, Error> {
        let mut buffer = vec![0; udp::MAX_DATAGRAM_BYTES];
        let mut input = udp::Input::Start;
        loop {
            exchange.handle(self.clock.now(), input);
            while let Some(output) = exchange.poll() {
                match output {
                    udp::Output::Send(datagram) => {
                        channel.send(&datagram).await.map_err(unreachable)?;
                    }
                    udp::Output::Done(result) => return result,
                }
            }
            input = tokio::select! {
                received = channel.recv(&mut buffer) => {
                    let count = received.map_err(unreachable)?;
                    udp::Input::Datagram(buffer[..count].to_vec())
                }
                () = self.clock.sleep_until(exchange.deadline()) => udp::Input::Tick,
            };
        }
    }

    /// Held for a look, never across an await.
    fn connections(&self) -> MutexGuard<'_, Connections<UdpChannel>> {
        let locked = self.connections.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an exchange over UDP never comes to.
const OTHER_QUESTION: Error = Error::Malformed("it answers another question");

fn is_udp(tracker: &Target) -> Result<bool, Error> {
    check_url(&tracker.url)?;
    Ok(tracker.url.scheme() == "udp")
}

async fn in_time<T>(
    within: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = tokio::time::timeout(within, work).await;
    done.unwrap_or(Err(Error::TimedOut))
}

fn unreachable(error: impl Display) -> Error {
    Error::Unreachable(error.to_string())
}

/// The addresses to try: the first, and one of the other family rather than a second of the same.
fn targets(endpoints: &[Endpoint]) -> Vec<Endpoint> {
    let Some((first, others)) = endpoints.split_first() else {
        return Vec::new();
    };
    let is_v4 = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Address(SocketAddr::V4(_)));
    let of_other_family = |endpoint: &&Endpoint| is_v4(endpoint) != is_v4(first);
    let second = others.iter().find(of_other_family).or(others.first());
    std::iter::once(first).chain(second).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_tried_over_both_families_where_it_has_both() {
        let addresses = |texts: &[&str]| -> Vec<Endpoint> {
            let address = |text: &&str| Endpoint::Address(text.parse().unwrap());
            texts.iter().map(address).collect()
        };
        let (a, b, c) = ("192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1");
        assert_eq!(targets(&addresses(&[a, b, c])), addresses(&[a, c]));
        assert_eq!(targets(&addresses(&[a, b])), addresses(&[a, b]));
        assert_eq!(targets(&addresses(&[c])), addresses(&[c]));
        assert!(targets(&[]).is_empty());
    }
}

//! Exchanges with a tracker over UDP that loses, repeats and forges datagrams.

use super::{SWARMS, check_announce, check_error, check_scrape};
use crate::operations::{Operations, drain, is_due};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_tracker::udp::{DEFAULT_TIME_LIMIT, Input, Output};
use shoal_tracker::{
    AddressFamily, AnnounceRequest, ConnectionId, Error, Event, UdpExchange, UdpReply, UdpRequest,
};
use url::Url;

/// A connect request, and an announce with the URL data of [`URL`].
const MAX_REQUEST_BYTES: usize = 16 + 20 * SWARMS.len() + 128;

const URL: &str = "udp://tracker.example:6969/announce?passkey=0123456789abcdef";

/// Two exchanges in a row, the second with the connection id of the first. One answer at most, in time, and nothing after
/// it; what does not carry our transaction changes nothing.
pub fn udp(input: &[u8]) {
    let mut operations = Operations::new(input);
    let Ok(url) = Url::parse(URL) else { return };
    let mut now = Moment::from_secs(1_000);
    let mut connection = None;
    for _ in 0..2 {
        connection = exchange(&mut operations, &url, &mut now, connection);
    }
}

fn request(operations: &mut Operations<'_>) -> UdpRequest {
    if operations.flag() {
        return UdpRequest::Scrape(SWARMS[..=operations.below(SWARMS.len())].to_vec());
    }
    UdpRequest::Announce(AnnounceRequest {
        info_hash: SWARMS[0],
        peer_id: [b'p'; 20],
        port: 6881,
        uploaded: u64::MAX,
        downloaded: 0,
        left: 1,
        event: operations.flag().then_some(Event::Started),
        num_want: operations.number(),
        key: 7,
        ipv4: None,
        ipv6: None,
        tracker_id: None,
    })
}

fn exchange(
    operations: &mut Operations<'_>,
    url: &Url,
    now: &mut Moment,
    cached: Option<ConnectionId>,
) -> Option<ConnectionId> {
    let request = request(operations);
    let family = if operations.flag() {
        AddressFamily::V6
    } else {
        AddressFamily::V4
    };
    let random = fastrand::Rng::with_seed(operations.byte().into());
    let exchange = UdpExchange::new(
        request.clone(),
        url,
        family,
        cached,
        DEFAULT_TIME_LIMIT,
        random,
    );
    let Ok(exchange) = exchange else {
        panic!("a good request and a good URL");
    };
    let mut run = Run {
        exchange,
        request,
        began: *now,
        transaction: None,
        done: false,
    };
    run.handle(*now, Input::Start);
    while let Some(kind) = operations.next_kind() {
        match kind % 8 {
            0 => {
                *now = *now + operations.step();
                run.handle(*now, Input::Tick);
            }
            1 => run.handle(*now, Input::Datagram(operations.bytes().to_vec())),
            2 => run.handle(*now, Input::Start),
            3 => break,
            _ => run.answer(*now, operations),
        }
    }
    *now = run.began + DEFAULT_TIME_LIMIT;
    run.handle(*now, Input::Tick);
    assert!(run.done, "it goes on beyond its time limit");
    run.exchange.connection()
}

struct Run {
    exchange: UdpExchange,
    request: UdpRequest,
    began: Moment,
    /// Of the last request.
    transaction: Option<[u8; 4]>,
    done: bool,
}

impl Run {
    /// An answer with our transaction, or nearly so, and any body.
    fn answer(&mut self, now: Moment, operations: &mut Operations<'_>) {
        let mut datagram = u32::from(operations.byte() % 5).to_be_bytes().to_vec();
        let mut transaction = self.transaction.unwrap_or_default();
        let forged = operations.byte() == 1;
        transaction[3] ^= u8::from(forged);
        datagram.extend(transaction);
        datagram.extend(operations.bytes());
        let before = self.done;
        self.handle(now, Input::Datagram(datagram));
        assert!(!forged || self.done == before, "a forgery ended it");
    }

    fn handle(&mut self, now: Moment, input: Input) {
        let before = self.done;
        self.exchange.handle(now, input);
        for output in drain(&mut self.exchange, 2) {
            assert!(!self.done && !before, "there is something after the end");
            match output {
                Output::Send(datagram) => self.check_sent(&datagram),
                Output::Done(result) => {
                    self.done = true;
                    self.check_result(result);
                }
            }
        }
        assert_eq!(self.exchange.deadline().is_none(), self.done);
        assert!(!is_due(&self.exchange, now) || now - self.began > Duration::ZERO);
    }

    fn check_sent(&mut self, datagram: &[u8]) {
        assert!((16..=MAX_REQUEST_BYTES).contains(&datagram.len()));
        self.transaction = datagram[12..].first_chunk().copied();
    }

    fn check_result(&self, result: Result<UdpReply, Error>) {
        match (result, &self.request) {
            (Ok(UdpReply::Announce(reply)), UdpRequest::Announce(_)) => check_announce(&reply),
            (Ok(UdpReply::Scrape(reply)), UdpRequest::Scrape(swarms)) => {
                assert!(reply.swarms.len() <= swarms.len());
                check_scrape(&reply);
            }
            (Ok(_), _) => panic!("an answer to another question"),
            (Err(error), _) => check_error(&error),
        }
    }
}

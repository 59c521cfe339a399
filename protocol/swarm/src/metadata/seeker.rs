//! One connection of a torrent whose metainfo is not known yet: it asks for metadata and hashes, keeps what the remote says of its
//! pieces for later, and lets nothing else happen.
//!
//! Invariant: what is kept of the remote's words is bounded, and replaying it to a [`PeerSession`](crate::peer_session::PeerSession)
//! puts that where it would be had it listened from the start.

use super::message::{FromSeeker, ToSeeker};
use super::offer::MetadataOffer;
use crate::message::CloseReason;
use crate::peer_session::exchange::{FLOOD, Heard};
use crate::peer_session::{CLIENT, IDLE, KEEP_ALIVE, MAX_QUEUED_REQUESTS, UPLOAD_ONLY};
use core::net::IpAddr;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::PieceIndex;
use shoal_wire::{ExtendedHandshake, Extension, Message, Metadata, RemoteExtensions};
use std::collections::{BTreeSet, VecDeque};

/// The most pieces of which it is remembered that the remote got them, besides its first statement: who fetches more while we look
/// for the metadata is connected anew afterwards.
const MAX_HAVES: usize = 4_096;

/// The most allowed fast pieces that are remembered, as in a session.
const MAX_ALLOWED_FAST: usize = 64;

/// What can happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The remote said this.
    Message(Message),
    /// What the search says.
    Search(ToSeeker),
    /// The socket is closed or broken.
    Disconnected,
    /// A deadline passed.
    Tick,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Message),
    /// Tell the search.
    Search(FromSeeker),
    /// Close the socket; nothing follows.
    Close(CloseReason),
}

/// What the handshake settled, and what the remote is told of us.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// The connection is in the v2 swarm or was upgraded to it (BEP 52).
    pub v2: bool,
    /// The port we listen on, where we do.
    pub port: Option<u16>,
    /// The remote's address as we see it, which it is told.
    pub your_ip: Option<IpAddr>,
    /// It is not told which program we are.
    pub anonymous: bool,
}

/// What a remote has said so far that still counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its bitfield, or that it has all or nothing.
    statement: Option<Message>,
    haves: BTreeSet<PieceIndex>,
    allowed_fast: Vec<PieceIndex>,
    handshakes: Option<ExtendedHandshake>,
    unchoked: bool,
    interested: bool,
}

impl Said {
    /// The messages that say it all, in an order in which a remote may say them.
    pub fn replay(self) -> impl Iterator<Item = Message> {
        let statement = self.statement.into_iter();
        let handshake = self.handshakes.map(Message::ExtendedHandshake);
        let haves = self.haves.into_iter().map(Message::Have);
        let allowed = self.allowed_fast.into_iter().map(Message::AllowedFast);
        let unchoke = self.unchoked.then_some(Message::Unchoke);
        let interested = self.interested.then_some(Message::Interested);
        statement
            .chain(handshake)
            .chain(haves)
            .chain(allowed)
            .chain(unchoke)
            .chain(interested)
    }

    /// A later handshake adds to an earlier one (BEP 10).
    fn on_handshake(&mut self, handshake: ExtendedHandshake) {
        let Some(known) = &mut self.handshakes else {
            self.handshakes = Some(handshake);
            return;
        };
        for (name, id) in handshake.extensions {
            let place = known
                .extensions
                .iter()
                .position(|(other, _)| *other == name);
            if let Some(place) = place {
                known.extensions[place].1 = id;
            } else if known.extensions.len() < MAX_NAMES {
                known.extensions.push((name, id));
            }
        }
        known.client = handshake.client.or(known.client.take());
        known.port = handshake.port.or(known.port);
        known.reqq = handshake.reqq.or(known.reqq);
        known.upload_only = handshake.upload_only;
        known.your_ip = handshake.your_ip.or(known.your_ip);
        known.metadata_size = handshake.metadata_size.or(known.metadata_size);
    }
}

/// As many extensions as one handshake may name.
const MAX_NAMES: usize = shoal_wire::extended_handshake::MAX_EXTENSIONS;

/// See the module.
#[derive(Debug)]
pub struct Seeker {
    terms: Terms,
    said: Said,
    heard: Heard,
    remote: RemoteExtensions,
    offer: Option<MetadataOffer>,
    offered: Option<u32>,
    outputs: VecDeque<Output>,
    closed: bool,
    now: Moment,
    last_heard: Moment,
    last_sent: Moment,
}

impl Seeker {
    /// A connection whose handshake is done. It has something to say at once: poll it.
    #[must_use]
    pub fn new(terms: Terms, now: Moment) -> Self {
        let mut seeker = Seeker {
            terms,
            said: Said::default(),
            heard: Heard::default(),
            remote: RemoteExtensions::default(),
            offer: None,
            offered: None,
            outputs: VecDeque::new(),
            closed: false,
            now,
            last_heard: now,
            last_sent: now,
        };
        // BEP 6 wants a statement first. It stays true: what we have on disk is not known before the metainfo.
        if terms.fast {
            seeker.send(Message::HaveNone);
        }
        seeker.send_extended_handshake();
        seeker
    }

    /// What is to be replayed to the session that takes the connection over.
    #[must_use]
    pub fn into_said(self) -> Said {
        self.said
    }

    fn send_extended_handshake(&mut self) {
        if !self.terms.extended {
            return;
        }
        let mut extensions = Extension::offer();
        // Whoever is brought together with us is to be of use; the session that follows offers it.
        extensions.retain(|(name, _)| name != Extension::HolePunch.name());
        extensions.push((UPLOAD_ONLY.0.to_owned(), UPLOAD_ONLY.1));
        let offer = self.offer.as_ref();
        self.send(Message::ExtendedHandshake(ExtendedHandshake {
            extensions,
            client: (!self.terms.anonymous).then(|| CLIENT.to_owned()),
            port: self.terms.port,
            reqq: Some(MAX_QUEUED_REQUESTS),
            upload_only: false,
            your_ip: self.terms.your_ip,
            metadata_size: offer.and_then(MetadataOffer::total_bytes),
        }));
    }

    fn send(&mut self, message: Message) {
        self.last_sent = self.now;
        self.outputs.push_back(Output::Send(message));
    }

    fn tell(&mut self, message: FromSeeker) {
        self.outputs.push_back(Output::Search(message));
    }

    fn close(&mut self, reason: CloseReason) {
        self.tell(FromSeeker::Left(reason.clone()));
        self.outputs.push_back(Output::Close(reason));
        self.closed = true;
    }

    fn refuse(&mut self, what: &'static str) {
        self.close(CloseReason::Protocol(what));
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                self.on_statement(message);
            }
            Message::Have(piece) => self.on_have(piece),
            Message::DontHave(piece) => self.on_dont_have(piece),
            Message::Choke => self.said.unchoked = false,
            Message::Unchoke => self.said.unchoked = true,
            Message::Interested => self.said.interested = true,
            Message::NotInterested => self.said.interested = false,
            Message::AllowedFast(piece) => {
                let known = &mut self.said.allowed_fast;
                if known.len() < MAX_ALLOWED_FAST && !known.contains(&piece) {
                    known.push(piece);
                }
            }
            // We have nothing, and have said so.
            Message::Request(request) if self.terms.fast => self.send(Message::Reject(request)),
            Message::Piece(_) => self.refuse("it sent a block that was not requested"),
            Message::ExtendedHandshake(handshake) => self.on_extended_handshake(handshake),
            Message::Extended { id, payload } if id == UPLOAD_ONLY.1 => {
                if let Some(known) = &mut self.said.handshakes {
                    known.upload_only = payload.first().is_some_and(|&byte| byte != 0);
                }
            }
            Message::Metadata(message) => self.on_metadata(message),
            Message::PeerExchange(exchange) => match self.heard.hear(self.now, exchange) {
                Some(news) if news.is_empty() => {}
                Some(news) => self.tell(FromSeeker::Introduced(news)),
                None => self.refuse(FLOOD),
            },
            Message::HashRequest(request) if self.terms.v2 => {
                self.send(Message::HashReject(request));
            }
            Message::HashRequest(_) => self.refuse("it asked for v2 hashes on a v1 connection"),
            Message::Hashes(hashes) => self.tell(FromSeeker::Hashes(hashes)),
            Message::HashReject(request) => self.tell(FromSeeker::HashesRejected(request)),
            Message::KeepAlive
            | Message::Port(_)
            | Message::Unknown(_)
            | Message::Suggest(_)
            | Message::Reject(_)
            | Message::Request(_)
            | Message::Cancel(_)
            | Message::HolePunch(_)
            | Message::Extended { .. } => {}
        }
    }

    /// A second one replaces the first, and what was said in between.
    fn on_statement(&mut self, statement: Message) {
        if !self.terms.fast && !matches!(statement, Message::Bitfield(_)) {
            return self.refuse("it used the fast extension, which was not agreed on");
        }
        self.said.statement = Some(statement);
        self.said.haves.clear();
    }

    fn on_have(&mut self, piece: PieceIndex) {
        self.said.haves.insert(piece);
        if self.said.haves.len() > MAX_HAVES {
            self.close(CloseReason::Useless);
        }
    }

    /// Of a statement nothing can be taken back before it can be read, and this is rare: the connection is made anew.
    fn on_dont_have(&mut self, piece: PieceIndex) {
        let known = self.said.haves.remove(&piece);
        if !known && self.said.statement.is_some() {
            self.close(CloseReason::Useless);
        }
    }

    fn on_extended_handshake(&mut self, handshake: ExtendedHandshake) {
        self.remote.update(&handshake);
        self.said.on_handshake(handshake);
        let known = self.said.handshakes.as_ref();
        let total_bytes = known.and_then(|known| known.metadata_size);
        let speaks = self.remote.id(Extension::Metadata).is_some();
        if let Some(total_bytes) = total_bytes.filter(|_| speaks)
            && self.offered != Some(total_bytes)
        {
            self.offered = Some(total_bytes);
            self.tell(FromSeeker::Offers { total_bytes });
        }
    }

    fn on_metadata(&mut self, message: Metadata) {
        match message {
            Metadata::Request { piece } => {
                let answer = match &mut self.offer {
                    Some(offer) => offer.answer(self.now, piece),
                    None => Metadata::Reject { piece },
                };
                self.send(Message::Metadata(answer));
            }
            Metadata::Data {
                piece,
                total_bytes,
                bytes,
            } => self.tell(FromSeeker::Data {
                piece,
                total_bytes,
                bytes,
            }),
            Metadata::Reject { piece } => self.tell(FromSeeker::Rejected { piece }),
            Metadata::Unknown => {}
        }
    }

    fn on_search(&mut self, message: ToSeeker) {
        match message {
            ToSeeker::Request { piece } => {
                self.send(Message::Metadata(Metadata::Request { piece }));
            }
            ToSeeker::RequestHashes(request) => self.send(Message::HashRequest(request)),
            ToSeeker::Known(info) => {
                self.offer = Some(MetadataOffer::new(info, self.now));
                self.send_extended_handshake();
            }
            ToSeeker::Close(reason) => self.close(reason),
        }
    }
}

impl Machine for Seeker {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        if self.closed {
            return;
        }
        self.now = self.now.max(now);
        match input {
            Input::Message(message) => {
                self.last_heard = self.now;
                self.on_message(message);
            }
            Input::Search(message) => self.on_search(message),
            Input::Disconnected => self.close(CloseReason::Remote),
            Input::Tick => {
                if self.now >= self.last_heard + IDLE {
                    self.close(CloseReason::Idle);
                } else if self.now >= self.last_sent + KEEP_ALIVE {
                    self.send(Message::KeepAlive);
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        let next = earliest(
            Some(self.last_heard + IDLE),
            Some(self.last_sent + KEEP_ALIVE),
        );
        next.filter(|_| !self.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use shoal_metainfo::merkle::HashRequest;
    use shoal_wire::{Contact, ContactFlags, PeerExchange, Request};

    const TERMS: Terms = Terms {
        fast: true,
        extended: true,
        v2: false,
        port: Some(6881),
        your_ip: None,
        anonymous: false,
    };

    fn drain(seeker: &mut Seeker) -> Vec<Output> {
        std::iter::from_fn(|| seeker.poll()).collect()
    }

    fn hear(seeker: &mut Seeker, message: Message) -> Vec<Output> {
        seeker.handle(Moment::ZERO, Input::Message(message));
        drain(seeker)
    }

    fn begin(terms: Terms) -> Seeker {
        let mut seeker = Seeker::new(terms, Moment::ZERO);
        drain(&mut seeker);
        seeker
    }

    fn handshake(size: Option<u32>) -> ExtendedHandshake {
        ExtendedHandshake {
            extensions: vec![("ut_metadata".into(), 3)],
            metadata_size: size,
            ..ExtendedHandshake::default()
        }
    }

    #[test]
    fn what_was_said_is_replayed_in_a_legal_order() {
        let mut seeker = begin(TERMS);
        let first = handshake(None);
        let later = ExtendedHandshake {
            extensions: vec![("lt_donthave".into(), 7)],
            reqq: Some(250),
            ..ExtendedHandshake::default()
        };
        for message in [
            Message::ExtendedHandshake(first),
            Message::Bitfield(vec![0x80]),
            Message::Interested,
            Message::Have(PieceIndex(5)),
            Message::Unchoke,
            Message::Have(PieceIndex(6)),
            Message::DontHave(PieceIndex(5)),
            Message::AllowedFast(PieceIndex(1)),
            Message::AllowedFast(PieceIndex(1)),
            Message::NotInterested,
            Message::ExtendedHandshake(later),
        ] {
            assert_eq!(hear(&mut seeker, message), []);
        }
        let both = ExtendedHandshake {
            extensions: vec![("ut_metadata".into(), 3), ("lt_donthave".into(), 7)],
            reqq: Some(250),
            ..ExtendedHandshake::default()
        };
        let replayed: Vec<Message> = seeker.into_said().replay().collect();
        assert_eq!(
            replayed,
            [
                Message::Bitfield(vec![0x80]),
                Message::ExtendedHandshake(both),
                Message::Have(PieceIndex(6)),
                Message::AllowedFast(PieceIndex(1)),
                Message::Unchoke,
            ]
        );
    }

    #[test]
    fn metadata_is_offered_by_size_and_extension_together() {
        let mut seeker = begin(TERMS);
        let without = ExtendedHandshake {
            metadata_size: Some(9),
            ..ExtendedHandshake::default()
        };
        assert_eq!(hear(&mut seeker, Message::ExtendedHandshake(without)), []);
        let offers = Output::Search(FromSeeker::Offers { total_bytes: 9 });
        let with = handshake(None);
        assert_eq!(
            hear(&mut seeker, Message::ExtendedHandshake(with.clone())),
            [offers]
        );
        assert_eq!(hear(&mut seeker, Message::ExtendedHandshake(with)), []);
    }

    #[test]
    fn metadata_is_rejected_until_it_is_known_and_served_from_then_on() {
        let mut seeker = begin(TERMS);
        let ask = || Message::Metadata(Metadata::Request { piece: 0 });
        let reject = Message::Metadata(Metadata::Reject { piece: 0 });
        assert_eq!(hear(&mut seeker, ask()), [Output::Send(reject)]);
        let info: bytes::Bytes = b"d4:name1:xe".as_slice().into();
        let known = Input::Search(ToSeeker::Known(info.clone()));
        seeker.handle(Moment::ZERO, known);
        let said = drain(&mut seeker);
        let [Output::Send(Message::ExtendedHandshake(said))] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(said.metadata_size, Some(11));
        let data = Message::Metadata(Metadata::Data {
            piece: 0,
            total_bytes: 11,
            bytes: info,
        });
        assert_eq!(hear(&mut seeker, ask()), [Output::Send(data)]);
    }

    #[test]
    fn nothing_is_uploaded_or_taken_before_the_metainfo_is_known() {
        let request = Request {
            piece: PieceIndex(0),
            begin: 0,
            length: 16_384,
        };
        let mut seeker = begin(TERMS);
        let rejected = [Output::Send(Message::Reject(request))];
        assert_eq!(hear(&mut seeker, Message::Request(request)), rejected);
        let mut slow = begin(Terms {
            fast: false,
            ..TERMS
        });
        assert_eq!(hear(&mut slow, Message::Request(request)), []);
        hear(&mut seeker, Message::Piece(request));
        assert!(seeker.closed);
        let hashes = HashRequest {
            pieces_root: [0; 32],
            base_layer: 0,
            index: 0,
            length: 2,
            proof_layers: 0,
        };
        hear(&mut slow, Message::HashRequest(hashes));
        assert!(slow.closed, "hash messages are for v2 connections");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seeker = begin(TERMS);
        for piece in 0..10_000 {
            hear(&mut seeker, Message::AllowedFast(PieceIndex(piece)));
        }
        assert_eq!(seeker.said.allowed_fast.len(), MAX_ALLOWED_FAST);
        let most = u32::try_from(MAX_HAVES).unwrap();
        for piece in 0..most {
            assert_eq!(hear(&mut seeker, Message::Have(PieceIndex(piece))), []);
        }
        hear(&mut seeker, Message::Have(PieceIndex(most)));
        assert!(seeker.closed);
    }

    #[test]
    fn peers_that_a_remote_tells_of_reach_the_search_and_floods_of_them_end_it() {
        let mut seeker = begin(TERMS);
        let exchange = |n: u8| {
            let address = SocketAddr::from(([10, 0, 0, n], 6881));
            let flags = ContactFlags::default();
            Message::PeerExchange(PeerExchange {
                added: vec![Contact { address, flags }],
                dropped: Vec::new(),
            })
        };
        let told = |n: u8| {
            let address = SocketAddr::from(([10, 0, 0, n], 6881));
            [Output::Search(FromSeeker::Introduced(vec![address]))]
        };
        assert_eq!(hear(&mut seeker, exchange(1)), told(1));
        assert_eq!(hear(&mut seeker, exchange(1)), []);
        assert_eq!(hear(&mut seeker, exchange(2)), told(2));
        for n in 3..20 {
            hear(&mut seeker, exchange(n));
        }
        assert!(seeker.closed);
    }

    #[test]
    fn silence_is_kept_alive_and_ended() {
        let mut seeker = begin(TERMS);
        let at = seeker.deadline().unwrap();
        seeker.handle(at, Input::Tick);
        assert_eq!(drain(&mut seeker), [Output::Send(Message::KeepAlive)]);
        seeker.handle(Moment::ZERO + IDLE, Input::Tick);
        assert!(seeker.closed);
        assert_eq!(seeker.deadline(), None);
    }
}

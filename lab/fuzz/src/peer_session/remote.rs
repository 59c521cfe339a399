//! What a remote may say: what it should, what it should not, and what no torrent has.

use super::watch::Watch;
use super::{contacts, existing, hole_punch, some};
use crate::operations::Operations;
use shoal_metainfo::Block;
use shoal_metainfo::{Bitfield, BlockIndex, PieceIndex};
use shoal_wire::{
    ExtendedHandshake, HashRequest, Hashes, Message, Metadata, PeerExchange, Request,
};

/// Makes up one message.
pub(super) struct Remote<'o, 'i, 'w> {
    operations: &'o mut Operations<'i>,
    watch: &'w Watch,
}

impl<'o, 'i, 'w> Remote<'o, 'i, 'w> {
    pub(super) const fn new(operations: &'o mut Operations<'i>, watch: &'w Watch) -> Self {
        Remote { operations, watch }
    }

    /// Most often one that does not end the connection.
    pub(super) fn message(&mut self) -> Message {
        let rude = self.operations.one_in(200);
        let message = self.any_message();
        match self.is_breach(&message) && !rude {
            true => Message::Unchoke,
            false => message,
        }
    }

    fn is_breach(&self, message: &Message) -> bool {
        let negotiated = &self.watch.negotiated;
        let layout = &self.watch.layout;
        match message {
            Message::Bitfield(bytes) => {
                self.watch.joined || Bitfield::from_wire(bytes, layout.piece_count()).is_none()
            }
            Message::HaveAll | Message::HaveNone => self.watch.joined || !negotiated.fast,
            Message::Suggest(_) | Message::Reject(_) | Message::AllowedFast(_) => !negotiated.fast,
            Message::Have(piece) => !layout.contains(*piece),
            Message::Request(request) => !negotiated.fast && !self.watch.can_serve(*request),
            Message::Piece(header) => {
                let asked = [&self.watch.outstanding, &self.watch.withdrawn];
                !asked.iter().any(|requests| requests.contains(header))
            }
            Message::HashRequest(_) => !negotiated.v2,
            _ => false,
        }
    }

    fn any_message(&mut self) -> Message {
        match self.operations.below(32) {
            0 => Message::KeepAlive,
            1 => Message::Choke,
            2..=4 => Message::Unchoke,
            5 => Message::Interested,
            6 => Message::NotInterested,
            7 => Message::Have(self.piece()),
            8 => self.bitfield(),
            9 => Message::HaveAll,
            10 => Message::HaveNone,
            11..=14 => Message::Request(self.request()),
            15..=19 => Message::Piece(self.answer()),
            20 => Message::Cancel(self.asked()),
            21 => Message::Reject(self.answer()),
            22 => Message::Suggest(self.piece()),
            23 => Message::AllowedFast(self.piece()),
            24 => Message::ExtendedHandshake(self.handshake()),
            25 => Message::DontHave(self.piece()),
            26 => Message::Extended {
                id: self.operations.byte() % 6,
                payload: self.operations.bytes().to_vec(),
            },
            27 | 28 => Message::HashRequest(self.hash_request()),
            29 => Message::Hashes(Hashes {
                request: self.hash_request(),
                hashes: vec![[0; 32]; 4],
            }),
            30 => Message::HashReject(self.hash_request()),
            _ if self.operations.flag() => Message::Port(1),
            _ if self.operations.flag() => Message::PeerExchange(PeerExchange {
                added: contacts(self.operations),
                dropped: Vec::new(),
            }),
            _ if self.operations.one_in(4) => {
                let known = self.operations.flag();
                Message::HolePunch(known.then(|| hole_punch(self.operations)))
            }
            _ => Message::Metadata(Metadata::Request {
                piece: self.operations.number(),
            }),
        }
    }

    /// A piece, most often one that exists.
    fn piece(&mut self) -> PieceIndex {
        if self.operations.byte() == 255 {
            return PieceIndex(self.operations.number());
        }
        existing(self.operations, &self.watch.layout)
    }

    fn bitfield(&mut self) -> Message {
        let count = self.watch.layout.piece_count();
        Message::Bitfield(match self.operations.below(8) {
            0 => self.operations.bytes().to_vec(),
            1 => Bitfield::full(count).to_wire(),
            2 => Bitfield::empty(count).to_wire(),
            _ => some(self.operations, &self.watch.layout).to_wire(),
        })
    }

    /// A part of a piece, most often a whole block.
    pub(super) fn request(&mut self) -> Request {
        let piece = self.piece();
        if self.operations.byte() > 200 {
            return Request {
                piece,
                begin: self.operations.number(),
                length: self.operations.number(),
            };
        }
        let blocks = self.watch.layout.block_count(piece).max(1);
        let block = Block {
            piece,
            block: BlockIndex(self.operations.number() % blocks),
        };
        self.watch.name(block)
    }

    /// What we asked for and still wait for, or took back, or something else.
    fn answer(&mut self) -> Request {
        let known = match self.operations.below(8) {
            0 => None,
            1 => self.operations.one_of(&self.watch.withdrawn),
            _ => self.operations.one_of(&self.watch.outstanding),
        };
        match known {
            Some(request) => request,
            None => self.request(),
        }
    }

    /// What the remote asked for, or something else.
    fn asked(&mut self) -> Request {
        let asked: Vec<Request> = self.watch.owed.keys().copied().collect();
        match self.operations.one_of(&asked) {
            Some(request) if !self.operations.one_in(4) => request,
            _ => self.request(),
        }
    }

    fn handshake(&mut self) -> ExtendedHandshake {
        let offers = self.operations.byte();
        let offered = [("lt_donthave", 7), ("upload_only", 3)].iter().enumerate();
        ExtendedHandshake {
            extensions: offered
                .filter(|(at, _)| offers >> at & 1 == 1)
                .map(|(_, &(name, id))| (name.to_owned(), id * (offers >> 7)))
                .collect(),
            client: (offers & 4 != 0).then(|| "client".to_owned()),
            reqq: (offers & 8 != 0).then(|| self.operations.number().max(1)),
            upload_only: offers & 16 != 0,
            ..ExtendedHandshake::default()
        }
    }

    fn hash_request(&mut self) -> HashRequest {
        let fair = self.operations.byte() < 200;
        let length = self.operations.number();
        HashRequest {
            pieces_root: [self.operations.byte(); 32],
            base_layer: self.operations.number(),
            index: if fair { 0 } else { self.operations.number() },
            length: if fair { 2 << (length % 9) } else { length },
            proof_layers: self.operations.number(),
        }
    }
}

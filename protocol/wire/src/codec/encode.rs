//! Messages to bytes.
//!
//! Invariant: what is written here is read back by the decoder as the same message.

use super::id;
use crate::extended_handshake;
use crate::extension::{Extension, RemoteExtensions};
use crate::hole_punch;
use crate::message::{BlockHeader, HashRequest, Message, Request};
use crate::metadata;
use crate::pex;

/// Appends `message` to `out`. Of a block this is the header of 13 bytes; whoever sends it appends the payload.
///
/// Extension messages go out under the ids in `remote`; one that the remote did not ask for is not written at all.
pub fn encode(message: &Message, remote: &RemoteExtensions, out: &mut Vec<u8>) {
    match message {
        Message::KeepAlive => out.extend_from_slice(&[0; 4]),
        Message::Choke => bare(id::CHOKE, out),
        Message::Unchoke => bare(id::UNCHOKE, out),
        Message::Interested => bare(id::INTERESTED, out),
        Message::NotInterested => bare(id::NOT_INTERESTED, out),
        Message::Have(piece) => one(id::HAVE, piece.0, out),
        Message::Bitfield(bytes) => framed(&[id::BITFIELD], bytes, out),
        Message::Request(request) => three(id::REQUEST, request, out),
        Message::Piece(header) => out.extend_from_slice(&piece_header(header)),
        Message::Cancel(request) => three(id::CANCEL, request, out),
        Message::Port(port) => framed(&[id::PORT], &port.to_be_bytes(), out),
        Message::Suggest(piece) => one(id::SUGGEST, piece.0, out),
        Message::HaveAll => bare(id::HAVE_ALL, out),
        Message::HaveNone => bare(id::HAVE_NONE, out),
        Message::Reject(request) => three(id::REJECT, request, out),
        Message::AllowedFast(piece) => one(id::ALLOWED_FAST, piece.0, out),
        Message::ExtendedHandshake(handshake) => {
            let payload = extended_handshake::encode(handshake);
            framed(&[id::EXTENDED, id::EXTENDED_HANDSHAKE], &payload, out);
        }
        Message::PeerExchange(exchange) => {
            if let Some(id) = remote.id(Extension::PeerExchange) {
                framed(&[id::EXTENDED, id], &pex::encode(exchange), out);
            }
        }
        Message::DontHave(piece) => {
            if let Some(id) = remote.id(Extension::DontHave) {
                framed(&[id::EXTENDED, id], &piece.0.to_be_bytes(), out);
            }
        }
        Message::HolePunch(message) => {
            if let (Some(message), Some(id)) = (message, remote.id(Extension::HolePunch)) {
                framed(&[id::EXTENDED, id], &hole_punch::encode(message), out);
            }
        }
        Message::Metadata(message) => {
            if let Some(id) = remote.id(Extension::Metadata) {
                let (header, body) = (metadata::header(message), metadata::body(message));
                prefix(2 + header.len() + body.len(), out);
                out.extend_from_slice(&[id::EXTENDED, id]);
                out.extend_from_slice(&header);
                out.extend_from_slice(body);
            }
        }
        Message::Extended { id, payload } => framed(&[id::EXTENDED, *id], payload, out),
        Message::HashRequest(request) => {
            framed(&[id::HASH_REQUEST], &hash_request(request), out);
        }
        Message::Hashes(hashes) => {
            let list = hashes.hashes.as_flattened();
            let header = hash_request(&hashes.request);
            prefix(1 + header.len() + list.len(), out);
            out.push(id::HASHES);
            out.extend_from_slice(&header);
            out.extend_from_slice(list);
        }
        Message::HashReject(request) => framed(&[id::HASH_REJECT], &hash_request(request), out),
        Message::Unknown(id) => bare(*id, out),
    }
}

fn bare(id: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 1, id]);
}

fn one(id: u8, number: u32, out: &mut Vec<u8>) {
    let mut bytes = [0, 0, 0, 5, id, 0, 0, 0, 0];
    bytes[5..].copy_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&bytes);
}

fn three(id: u8, request: &Request, out: &mut Vec<u8>) {
    let mut bytes = [0; 17];
    bytes[..5].copy_from_slice(&[0, 0, 0, 13, id]);
    bytes[5..9].copy_from_slice(&request.piece.0.to_be_bytes());
    bytes[9..13].copy_from_slice(&request.begin.to_be_bytes());
    bytes[13..].copy_from_slice(&request.length.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// The header of a piece message, for those who put it before its payload themselves.
#[must_use]
pub fn piece_header(header: &BlockHeader) -> [u8; super::PIECE_HEADER_LENGTH] {
    let mut bytes = [0; super::PIECE_HEADER_LENGTH];
    bytes[..4].copy_from_slice(&header.length.saturating_add(9).to_be_bytes());
    bytes[4] = id::PIECE;
    bytes[5..9].copy_from_slice(&header.piece.0.to_be_bytes());
    bytes[9..].copy_from_slice(&header.begin.to_be_bytes());
    bytes
}

/// A message of an id, or an id and an extension id, and a payload.
fn framed(ids: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    prefix(ids.len() + payload.len(), out);
    out.extend_from_slice(ids);
    out.extend_from_slice(payload);
}

/// The length prefix of a message of `length` bytes. Nothing we hold comes near 4 GiB; no remote would read it.
fn prefix(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.reserve(super::PREFIX_LENGTH + length as usize);
    out.extend_from_slice(&length.to_be_bytes());
}

fn hash_request(request: &HashRequest) -> [u8; super::HASH_REQUEST_LENGTH] {
    let mut bytes = [0; super::HASH_REQUEST_LENGTH];
    let numbers = [
        request.base_layer,
        request.index,
        request.length,
        request.proof_layers,
    ];
    bytes[..32].copy_from_slice(&request.pieces_root);
    for (slot, number) in bytes[32..].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *slot = number.to_be_bytes();
    }
    bytes
}

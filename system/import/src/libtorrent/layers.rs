//! Piece layers out of the Merkle trees of the resume data: qBittorrent's .torrent files do not have them.
//!
//! Invariant: memory in proportion to the hashes that are there, not to the length that a file claims.

use shoal_metainfo::bencode::{Limits, Value, decode};
use shoal_metainfo::merkle::{self, Hash};
use shoal_metainfo::metainfo::{Dictionary, MissingLayer, torrent_file};
use std::collections::BTreeMap;

/// `torrent` with the piece layers that the trees of the resume data `root` give. `None` where they do not give all.
pub(super) fn complete(root: Value<'_>, torrent: &[u8]) -> Option<Vec<u8>> {
    let document = decode(torrent, Limits::LOCAL).ok()?;
    let info = document.root().get("info")?.raw();
    let missing = Dictionary::read(info, Limits::LOCAL).ok()?.missing;
    let bytewise = root
        .get("file-version")
        .and_then(|version| version.as_int())
        != Some(2);
    let mut layers = BTreeMap::new();
    // The trees are in the order of the files, as the missing layers are: what is not the next missing one is of a file of one piece,
    // of padding, or of a file whose double came before.
    let mut wanted = missing.iter();
    let mut next = wanted.next()?;
    for tree in root.get("trees")?.as_list()? {
        let Some(layer) = layer_of(tree, next, bytewise) else {
            continue;
        };
        layers.insert(next.root, layer);
        match wanted.next() {
            Some(another) => next = another,
            None => return Some(torrent_file(info, &layers, &[], &[])),
        }
    }
    None
}

/// The piece layer `wanted`, if `tree` is the tree of its file and has it, or all blocks.
fn layer_of(tree: Value<'_>, wanted: &MissingLayer, bytewise: bool) -> Option<Vec<Hash>> {
    let (hashes, odd) = tree.get("hashes")?.as_bytes()?.as_chunks::<32>();
    if !odd.is_empty() {
        return None;
    }
    let mask = tree.get("mask").and_then(|mask| mask.as_bytes());
    let mask = mask.filter(|mask| !mask.is_empty());
    let height = merkle::file_height(wanted.length);
    let piece_height = merkle::piece_layer_height(wanted.piece_length);
    let pieces = run(hashes, mask, bytewise, height.checked_sub(piece_height)?);
    let layer = match u64::try_from(pieces.len()).ok()? >= wanted.pieces() {
        true => pieces
            .get(..usize::try_from(wanted.pieces()).ok()?)?
            .to_vec(),
        false => {
            let blocks = run(hashes, mask, bytewise, height);
            let count = wanted
                .length
                .div_ceil(u64::from(shoal_metainfo::BLOCK_LENGTH));
            let blocks = blocks.get(..usize::try_from(count).ok()?)?;
            let width = 1 << piece_height;
            blocks
                .chunks(usize::try_from(width).ok()?)
                .map(|piece| merkle::root(piece, width))
                .collect()
        }
    };
    let root = merkle::root_from_piece_layer(&layer, wanted.piece_length);
    (root == wanted.root).then_some(layer)
}

/// The nodes without a gap from the first one of the layer that is `depth` below the root, as far as they go. Nodes are numbered layer
/// by layer from the root, which is 0; where there is a mask, only those are there that it names.
fn run(hashes: &[Hash], mask: Option<&[u8]>, bytewise: bool, depth: u32) -> Vec<Hash> {
    let first = (1u64 << depth) - 1;
    let layer = first..2 * first + 1;
    let present = |number: u64| match mask {
        None => true,
        Some(mask) => is_named(mask, bytewise, number),
    };
    // Without a mask the end of the hashes ends this; with one, the end of the mask does.
    let end = mask.map_or(hashes.len(), |mask| match bytewise {
        true => mask.len(),
        false => mask.len().saturating_mul(8),
    });
    let end = u64::try_from(end).unwrap_or(u64::MAX);
    let mut run = Vec::new();
    let numbers = (0..end).filter(|&number| present(number));
    for (number, hash) in numbers.zip(hashes) {
        if layer.contains(&number) {
            if number != first + run.len() as u64 {
                break;
            }
            run.push(*hash);
        }
    }
    run
}

/// Whether the mask has `number`: a character `1` for each in version 1, a bit in version 2.
fn is_named(mask: &[u8], bytewise: bool, number: u64) -> bool {
    let Ok(number) = usize::try_from(number) else {
        return false;
    };
    match bytewise {
        true => mask.get(number) == Some(&b'1'),
        false => mask
            .get(number / 8)
            .is_some_and(|byte| byte & (0x80 >> (number % 8)) != 0),
    }
}

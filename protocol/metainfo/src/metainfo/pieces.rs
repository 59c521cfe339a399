//! What an info dictionary promises about each piece: SHA-1 hashes (BEP 3), and Merkle roots (BEP 52).

use super::error::{Error, HybridMismatch, Warning};
use super::list::Listed;
use crate::bencode::Value;
use crate::geometry::{BLOCK_LENGTH, Layout};
use crate::merkle;
use crate::names::{Names, Place};
use crate::verifier::{V1Pieces, V2Piece, V2Pieces};
use std::collections::BTreeMap;

/// The SHA-1 hashes of `pieces`, one for each of `layout`.
pub(super) fn v1(info: Value<'_>, layout: &Layout) -> Result<V1Pieces, Error> {
    let pieces = info.get("pieces").ok_or(Error::Missing("pieces"))?;
    let pieces = pieces.as_bytes().ok_or(Error::Malformed {
        field: "pieces",
        expected: "a string",
    })?;
    let expected = u64::from(layout.piece_count()) * 20;
    if pieces.len() as u64 != expected {
        let found = pieces.len();
        return Err(Error::PiecesLength { expected, found });
    }
    Ok(V1Pieces(pieces.as_chunks().0.to_vec()))
}

/// The roots of the pieces of all files, each piece layer checked against the root of its file. Expects that `layout`
/// bounds the number of pieces.
pub(super) fn v2(
    files: &[Listed<'_>],
    layers: Option<Value<'_>>,
    layout: &Layout,
    names: &Names<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<V2Pieces, Error> {
    let layers = layers.and_then(|layers| layers.as_dict());
    let layers = layers.into_iter().flatten();
    let mut layers: BTreeMap<&[u8], (Value<'_>, bool)> =
        layers.map(|(root, layer)| (root, (layer, false))).collect();
    let mut pieces = Vec::new();
    for file in files {
        let (Some(root), Some(place)) = (file.root, file.place) else {
            continue;
        };
        if file.length <= u64::from(layout.piece_length()) {
            let content_length = u32::try_from(file.length).unwrap_or(u32::MAX);
            pieces.push(V2Piece {
                root,
                content_length,
                leaves: content_length.div_ceil(BLOCK_LENGTH).next_power_of_two(),
            });
            continue;
        }
        let shown = || names.display(place);
        let (layer, used) = layers
            .get_mut(root.as_slice())
            .ok_or_else(|| Error::MissingPieceLayer(shown()))?;
        *used = true;
        let layer = layer
            .as_bytes()
            .ok_or_else(|| Error::MissingPieceLayer(shown()))?;
        pieces.extend(from_layer(file, root, layer, layout.piece_length(), shown)?);
    }
    match layers.values().filter(|(_, used)| !used).count() {
        0 => {}
        spare => warnings.push(Warning::SparePieceLayers(spare)),
    }
    Ok(V2Pieces(pieces))
}

/// The pieces of a file that has more than one.
fn from_layer(
    file: &Listed<'_>,
    root: [u8; 32],
    layer: &[u8],
    piece_length: u32,
    shown: impl Fn() -> String,
) -> Result<impl Iterator<Item = V2Piece>, Error> {
    let expected = file.length.div_ceil(u64::from(piece_length)) * 32;
    if layer.len() as u64 != expected {
        return Err(Error::PieceLayerLength {
            file: shown(),
            expected,
            found: layer.len(),
        });
    }
    let (layer, _) = layer.as_chunks::<32>();
    if merkle::root_from_piece_layer(layer, piece_length) != root {
        return Err(Error::WrongPieceLayer(shown()));
    }
    let mut rest = file.length;
    Ok(layer.iter().map(move |&root| {
        let content = rest.min(u64::from(piece_length));
        rest -= content;
        V2Piece {
            root,
            content_length: u32::try_from(content).unwrap_or(piece_length),
            leaves: piece_length / BLOCK_LENGTH,
        }
    }))
}

/// Checks that both parts of a hybrid torrent list the same files in the same order, each with a content beginning at the
/// same piece (BEP 52), and gives the v1 files the roots of the v2 ones.
pub(super) fn join_hybrid(
    v1: &mut [Listed<'_>],
    v2: &[Listed<'_>],
    piece_length: u32,
    names: &Names<'_>,
) -> Result<(), HybridMismatch> {
    let mut promised = v2.iter();
    let (mut at, mut offset, mut aligned) = (0usize, 0u64, 0u64);
    for file in v1.iter_mut() {
        if let Some(place) = file.place
            && let Some(twin) = promised.next()
        {
            same_file(at, (file, place), twin, names)?;
            if file.length > 0 && offset != aligned {
                return Err(HybridMismatch::Alignment {
                    file: names.display(place),
                    expected: aligned,
                    found: offset,
                });
            }
            file.root = twin.root;
            let pieces = file.length.div_ceil(u64::from(piece_length));
            aligned = aligned.saturating_add(pieces.saturating_mul(piece_length.into()));
            at += 1;
        }
        offset = offset.saturating_add(file.length);
    }
    let v1_count = v1.iter().filter(|file| file.place.is_some()).count();
    if v1_count != v2.len() {
        return Err(HybridMismatch::FileCount {
            v1: v1_count,
            v2: v2.len(),
        });
    }
    Ok(())
}

fn same_file(
    at: usize,
    (file, place): (&Listed<'_>, Place<'_>),
    twin: &Listed<'_>,
    names: &Names<'_>,
) -> Result<(), HybridMismatch> {
    let shown = || names.display(place);
    if twin.place != Some(place) {
        return Err(HybridMismatch::Path {
            at,
            v1: shown(),
            v2: twin
                .place
                .map(|place| names.display(place))
                .unwrap_or_default(),
        });
    }
    if file.symlink != twin.symlink {
        return Err(HybridMismatch::Symlink(shown()));
    }
    if file.length != twin.length {
        return Err(HybridMismatch::Length {
            file: shown(),
            v1: file.length,
            v2: twin.length,
        });
    }
    Ok(())
}

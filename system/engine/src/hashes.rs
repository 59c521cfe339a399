//! Answers to BEP 52 hash requests: from the piece layers that the metainfo gave, and below them from verified content.
//!
//! Invariant: a hash below the piece layer is computed from verified bytes only, and is handed out only if it leads to the
//! hash above it.

use shoal_metainfo::merkle::{self, Tree};
use shoal_metainfo::verifier::{Needs, V2Piece};
use shoal_metainfo::{BLOCK_LENGTH, PieceHasher, PieceIndex, Verifier};
use shoal_storage::Content;
use shoal_wire::{HashRequest, Hashes};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A file's place among the pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSpan {
    pub(crate) root: [u8; 32],
    pub(crate) length: u64,
    pub(crate) first: PieceIndex,
}

/// The trees of one torrent.
#[derive(Debug)]
pub(crate) struct HashServer {
    verifier: Arc<Verifier>,
    piece_length: u32,
    files: BTreeMap<[u8; 32], FileSpan>,
    /// The tree that was last asked for. Building one hashes a file's whole piece layer, and requests for one file come in a
    /// row; keeping them all would double the metainfo.
    last: Mutex<Option<([u8; 32], Arc<Tree>)>>,
}

impl HashServer {
    pub(crate) fn new(
        verifier: Arc<Verifier>,
        piece_length: u32,
        files: impl Iterator<Item = FileSpan>,
    ) -> Self {
        let files = files.map(|file| (file.root, file)).collect();
        HashServer {
            verifier,
            piece_length,
            files,
            last: Mutex::new(None),
        }
    }

    /// The hashes asked for; `None` where they are not to be had here. May read and hash a piece.
    pub(crate) fn answer(&self, content: &Content, request: &HashRequest) -> Option<Hashes> {
        let file = self.files.get(&request.pieces_root)?;
        let tree = self.tree(file)?;
        let hashes = match tree.answer(request) {
            Some(hashes) => hashes,
            None if request.base_layer == 0 => {
                let blocks_per_piece = self.piece_length.div_ceil(BLOCK_LENGTH);
                let within = request.index / blocks_per_piece;
                if within >= self.piece_count(file)? {
                    return None;
                }
                let piece = PieceIndex(file.first.0 + within);
                tree.answer_from_leaves(request, &self.leaves(content, piece)?)?
            }
            None => return None,
        };
        Some(Hashes {
            request: *request,
            hashes,
        })
    }

    fn tree(&self, file: &FileSpan) -> Option<Arc<Tree>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((root, tree)) = last.as_ref()
            && *root == file.root
        {
            return Some(Arc::clone(tree));
        }
        let height = merkle::height_over(file.length.div_ceil(u64::from(BLOCK_LENGTH)));
        let piece_layer = merkle::piece_layer_height(self.piece_length).min(height);
        let pieces = file.first.0..file.first.0.checked_add(self.piece_count(file)?)?;
        let nodes = pieces.map(|piece| Some(self.piece(PieceIndex(piece))?.root));
        let tree = Arc::new(Tree::new(
            piece_layer,
            nodes.collect::<Option<_>>()?,
            height,
        )?);
        *last = Some((file.root, Arc::clone(&tree)));
        Some(tree)
    }

    /// How many pieces the file has.
    fn piece_count(&self, file: &FileSpan) -> Option<u32> {
        u32::try_from(file.length.div_ceil(u64::from(self.piece_length))).ok()
    }

    fn piece(&self, piece: PieceIndex) -> Option<&V2Piece> {
        match &*self.verifier {
            Verifier::V1(_) | Verifier::Unhashed(_) => None,
            Verifier::V2(v2) | Verifier::Hybrid(_, v2) => v2.0.get(piece.get()),
        }
    }

    /// The hashes of a piece's blocks, if we have the piece.
    fn leaves(&self, content: &Content, piece: PieceIndex) -> Option<Vec<[u8; 32]>> {
        let content_length = self.piece(piece)?.content_length;
        let mut hasher = PieceHasher::new(
            Needs {
                sha1: false,
                blocks: true,
            },
            content_length,
        );
        let mut block = vec![0; BLOCK_LENGTH as usize];
        let mut begin = 0;
        while begin < content_length {
            let length = BLOCK_LENGTH.min(content_length - begin);
            let bytes = &mut block[..length as usize];
            content.read(piece, begin, bytes).ok()?;
            hasher.update(bytes);
            begin += length;
        }
        hasher.finish().blocks
    }
}

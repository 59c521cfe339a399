//! What makes a hash request of BEP 52 a fair one, and how many hashes answer it.
//!
//! Invariant: nothing here is sized by a number in a request before that request was found fair.

use crate::message::{HashRequest, Hashes};

/// The most hashes of the base layer in one request, uncles not counted. BEP 52 wants no more, and they cover 8 MiB of
/// leaves or 512 pieces in 16 KiB of answer.
pub const MAX_HASHES: u32 = 512;

/// Layers of the tallest Merkle tree above its leaves: a file of 2^64 bytes has 2^50 blocks.
pub const MAX_LAYERS: u32 = 50;

/// Why a hash request is not fair, or why hashes do not answer their request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// BEP 52: a power of two of at least two; ours to bound above.
    #[error("a hash request for {0} hashes; it must be for a power of two from 2 to {MAX_HASHES}")]
    Length(u32),
    /// BEP 52: the first hash begins a subtree.
    #[error(
        "a hash request from index {index}, which is no multiple of its length {length}, or whose end overflows"
    )]
    Index {
        /// The first hash.
        index: u32,
        /// How many.
        length: u32,
    },
    /// Taller than any tree.
    #[error(
        "a hash request from layer {base_layer} up through {proof_layers} more; no tree has over {MAX_LAYERS}"
    )]
    Layers {
        /// Layers above the leaves.
        base_layer: u32,
        /// Layers of uncles above that.
        proof_layers: u32,
    },
    /// The answer has too few or too many hashes.
    #[error("{found} hashes answer a request that is answered by {expected}")]
    Count {
        /// What there must be.
        expected: u32,
        /// What there is.
        found: usize,
    },
}

impl HashRequest {
    /// Whether the request could be answered for some file. A remote's request that could not is rejected, not
    /// answered; whether the file has these layers and hashes is for who knows the file.
    pub const fn validate(&self) -> Result<(), HashError> {
        let &HashRequest {
            index,
            length,
            base_layer,
            proof_layers,
            ..
        } = self;
        if !length.is_power_of_two() || length < 2 || length > MAX_HASHES {
            return Err(HashError::Length(length));
        }
        if !index.is_multiple_of(length) || index.checked_add(length).is_none() {
            return Err(HashError::Index { index, length });
        }
        if base_layer.saturating_add(proof_layers) > MAX_LAYERS {
            return Err(HashError::Layers {
                base_layer,
                proof_layers,
            });
        }
        Ok(())
    }

    /// How many uncle hashes come after the base layer's: one for each proof layer, except for those whose hashes follow
    /// from the base layer's, of which there are log2(length) - 1 (BEP 52).
    #[must_use]
    pub const fn uncle_count(&self) -> u32 {
        let follow = match self.length.checked_ilog2() {
            Some(layers) => layers.saturating_sub(1),
            None => 0,
        };
        self.proof_layers.saturating_sub(follow)
    }

    /// How many hashes answer the request; at most [`MAX_HASHES`] + [`MAX_LAYERS`] where it is fair.
    #[must_use]
    pub const fn hash_count(&self) -> u32 {
        self.length.saturating_add(self.uncle_count())
    }
}

impl Hashes {
    /// Whether the request is fair and there are as many hashes as answer it. Whether they are right is for who has the
    /// root.
    pub fn validate(&self) -> Result<(), HashError> {
        self.request.validate()?;
        let expected = self.request.hash_count();
        if self.hashes.len() == expected as usize {
            Ok(())
        } else {
            Err(HashError::Count {
                expected,
                found: self.hashes.len(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIR: HashRequest = HashRequest {
        pieces_root: [9; 32],
        base_layer: 0,
        index: 1024,
        length: 512,
        proof_layers: 10,
    };

    #[test]
    fn lengths_are_powers_of_two_from_2_to_512() {
        for length in [2, 4, 256, MAX_HASHES] {
            let request = HashRequest { length, ..FAIR };
            assert_eq!(request.validate(), Ok(()));
        }
        for length in [0, 1, 3, 511, MAX_HASHES * 2, u32::MAX] {
            let request = HashRequest { length, ..FAIR };
            assert_eq!(request.validate(), Err(HashError::Length(length)));
        }
    }

    #[test]
    fn an_index_begins_a_subtree_and_its_end_is_a_number() {
        for index in [0, 512, u32::MAX - 1023] {
            let request = HashRequest { index, ..FAIR };
            assert_eq!(request.validate(), Ok(()), "{index}");
        }
        for index in [1, 256, 513, u32::MAX - 511] {
            let request = HashRequest { index, ..FAIR };
            let length = 512;
            assert_eq!(request.validate(), Err(HashError::Index { index, length }));
        }
    }

    #[test]
    fn no_tree_is_taller_than_the_tallest_file() {
        for (base_layer, proof_layers, fair) in [
            (0, MAX_LAYERS, true),
            (MAX_LAYERS, 0, true),
            (1, MAX_LAYERS, false),
            (u32::MAX, u32::MAX, false),
        ] {
            let request = HashRequest {
                base_layer,
                proof_layers,
                ..FAIR
            };
            assert_eq!(request.validate().is_ok(), fair);
        }
    }

    #[test]
    fn proof_layers_that_follow_from_the_base_layer_are_left_out() {
        for (length, proof_layers, uncles) in [
            (2, 0, 0),
            (2, 1, 1),
            (2, 5, 5),
            (4, 1, 0),
            (4, 2, 1),
            (512, 8, 0),
            (512, 9, 1),
            (512, 10, 2),
        ] {
            let request = HashRequest {
                length,
                proof_layers,
                ..FAIR
            };
            assert_eq!(request.uncle_count(), uncles, "{length} {proof_layers}");
            assert_eq!(request.hash_count(), length + uncles);
        }
        let absurd = HashRequest {
            length: u32::MAX,
            proof_layers: u32::MAX,
            ..FAIR
        };
        assert_eq!(absurd.hash_count(), u32::MAX);
    }

    #[test]
    fn the_trees_of_metainfo_count_as_we_do() {
        for length in (1..10).map(|log| 1 << log) {
            for proof_layers in 0..MAX_LAYERS {
                let ours = HashRequest {
                    length,
                    proof_layers,
                    ..FAIR
                };
                let theirs = shoal_metainfo::merkle::HashRequest {
                    base_layer: ours.base_layer,
                    index: ours.index,
                    length,
                    proof_layers,
                };
                assert_eq!(ours.hash_count(), theirs.answer_length());
                let fits = theirs.fits(MAX_LAYERS);
                assert!(
                    !fits || ours.validate().is_ok(),
                    "fair to a tree but not to us"
                );
            }
        }
    }

    #[test]
    fn an_answer_has_exactly_the_hashes_asked_for() {
        for (count, right) in [(513, false), (514, true), (515, false)] {
            let answer = Hashes {
                request: FAIR,
                hashes: vec![[0; 32]; count],
            };
            assert_eq!(answer.validate().is_ok(), right);
        }
    }
}

//! Which hashes of a file's tree are asked for (BEP 52), what makes such a request a fair one, and how many hashes answer it.
//!
//! Invariant: nothing here is sized by a number in a request before that request was found fair.

use super::{Hash, MAX_HEIGHT};

/// The most hashes of the base layer in one request, uncles not counted. BEP 52 wants no more, and they cover 8 MiB of
/// leaves or 512 pieces in 16 KiB of answer.
pub const MAX_REQUEST_LENGTH: u32 = 512;

/// Why a hash request is not fair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashRequestError {
    /// BEP 52: a power of two of at least two; ours to bound above.
    #[error(
        "a hash request for {0} hashes; it must be for a power of two from 2 to {MAX_REQUEST_LENGTH}"
    )]
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
        "a hash request from layer {base_layer} up through {proof_layers} more; no tree has over {MAX_HEIGHT}"
    )]
    Layers {
        /// Layers above the leaves.
        base_layer: u32,
        /// Layers of uncles above that.
        proof_layers: u32,
    },
}

/// A range of hashes of a file's tree, as in BEP 52's hash request message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRequest {
    /// The root of the file.
    pub pieces_root: Hash,
    /// The layer to start in, counted from the blocks.
    pub base_layer: u32,
    /// The first hash, counted within that layer; a multiple of `length`.
    pub index: u32,
    /// How many hashes of that layer: a power of two, at least 2.
    pub length: u32,
    /// How many layers above the base layer are to be proved, those included for which no hash needs to be sent.
    pub proof_layers: u32,
}

impl HashRequest {
    /// Whether the request could be answered for some file. A remote's request that could not is rejected, not
    /// answered; whether the file has these layers and hashes is for who knows the file.
    pub const fn validate(&self) -> Result<(), HashRequestError> {
        let &HashRequest {
            index,
            length,
            base_layer,
            proof_layers,
            ..
        } = self;
        if !length.is_power_of_two() || length < 2 || length > MAX_REQUEST_LENGTH {
            return Err(HashRequestError::Length(length));
        }
        if !index.is_multiple_of(length) || index.checked_add(length).is_none() {
            return Err(HashRequestError::Index { index, length });
        }
        if base_layer.saturating_add(proof_layers) > MAX_HEIGHT {
            return Err(HashRequestError::Layers {
                base_layer,
                proof_layers,
            });
        }
        Ok(())
    }

    /// Whether a tree of `height` layers above its blocks can answer this.
    #[must_use]
    pub fn fits(&self, height: u32) -> bool {
        if self.validate().is_err() || height > MAX_HEIGHT || self.base_layer >= height {
            return false;
        }
        let above = height - self.base_layer;
        u64::from(self.index) + u64::from(self.length) <= 1 << above && self.proof_layers < above
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

    /// How far above the base layer the node lies that the hashes asked for make up.
    pub(super) fn covered_layers(&self) -> u32 {
        self.length.checked_ilog2().unwrap_or(0)
    }

    /// How many hashes answer the request; at most [`MAX_REQUEST_LENGTH`] + [`MAX_HEIGHT`] where it is fair.
    #[must_use]
    pub const fn hash_count(&self) -> u32 {
        self.length.saturating_add(self.uncle_count())
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
        for length in [2, 4, 256, MAX_REQUEST_LENGTH] {
            let request = HashRequest { length, ..FAIR };
            assert_eq!(request.validate(), Ok(()));
        }
        for length in [0, 1, 3, 511, MAX_REQUEST_LENGTH * 2, u32::MAX] {
            let request = HashRequest { length, ..FAIR };
            assert_eq!(request.validate(), Err(HashRequestError::Length(length)));
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
            assert_eq!(
                request.validate(),
                Err(HashRequestError::Index { index, length })
            );
        }
    }

    #[test]
    fn no_tree_is_taller_than_the_tallest_file() {
        for (base_layer, proof_layers, fair) in [
            (0, MAX_HEIGHT, true),
            (MAX_HEIGHT, 0, true),
            (1, MAX_HEIGHT, false),
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
}

//! Whether hashes are as many as the request for them asks (BEP 52).

use crate::message::Hashes;
use shoal_metainfo::merkle::HashRequestError;

/// Why hashes do not answer their request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashesError {
    /// The request that they repeat is none that we would make.
    #[error(transparent)]
    Request(#[from] HashRequestError),
    /// Too few or too many.
    #[error("{found} hashes answer a request that is answered by {expected}")]
    Count {
        /// What there must be.
        expected: u32,
        /// What there is.
        found: usize,
    },
}

impl Hashes {
    /// Whether the request is fair and there are as many hashes as answer it. Whether they are right is for who has the
    /// root.
    pub fn validate(&self) -> Result<(), HashesError> {
        self.request.validate()?;
        let expected = self.request.hash_count();
        if self.hashes.len() == expected as usize {
            Ok(())
        } else {
            Err(HashesError::Count {
                expected,
                found: self.hashes.len(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HashRequest;

    #[test]
    fn an_answer_has_exactly_the_hashes_asked_for() {
        let request = HashRequest {
            pieces_root: [9; 32],
            base_layer: 0,
            index: 1024,
            length: 512,
            proof_layers: 10,
        };
        for (count, right) in [(513, false), (514, true), (515, false)] {
            let hashes = vec![[0; 32]; count];
            assert_eq!(Hashes { request, hashes }.validate().is_ok(), right);
        }
        let request = HashRequest {
            length: 3,
            ..request
        };
        let unfair = Hashes {
            request,
            hashes: vec![[0; 32]; 13],
        }
        .validate();
        assert_eq!(unfair, Err(HashRequestError::Length(3).into()));
    }
}

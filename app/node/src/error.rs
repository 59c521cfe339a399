//! Why a node does not do what it is asked for.
//!
//! Invariant: a sentence says what is wrong and what to do, and no secret.

use crate::message::ErrorKind;
use shoal_store::StoreError;

/// Why the node does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was given cannot be used.
    #[error("{0}")]
    Refused(String),
    /// No torrent is called that.
    #[error("no torrent here is called {0:?}; `shoal list` shows what there is")]
    NotFound(String),
    /// Something else is not there.
    #[error("{0}")]
    Absent(String),
    /// No category or tag is.
    #[error("there is no {0} {1:?}; make it with `shoal {0} set {1:?}`")]
    NoCarrier(&'static str, String),
    /// No route is.
    #[error("there is no route {0:?}; make it with `shoal route set {0}`")]
    NoRoute(String),
    /// Several are.
    #[error("{0:?} could be more than one torrent; write its number, or more of its info hash")]
    Ambiguous(String),
    /// It is not known yet.
    #[error("{0}")]
    Unknown(String),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node ends.
    #[error("the node is stopping; start it again")]
    Stopped,
}

impl NodeError {
    /// Of what kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            NodeError::Usage(_) | NodeError::Ambiguous(_) => ErrorKind::Usage,
            NodeError::Refused(_) => ErrorKind::Refused,
            NodeError::NotFound(_)
            | NodeError::NoCarrier(..)
            | NodeError::NoRoute(_)
            | NodeError::Absent(_) => ErrorKind::NotFound,
            NodeError::Store(StoreError::Duplicate) => ErrorKind::Duplicate,
            NodeError::Unknown(_) | NodeError::Store(_) | NodeError::Stopped => ErrorKind::Failure,
        }
    }
}

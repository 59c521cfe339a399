//! Limits that several torrents share, and those of one torrent, which may change while bytes pass.
//!
//! Invariant: a torrent is in at most [`MAX_LIMIT_GROUPS`] groups, in each once; where it is in none, one flag is all that is read.

use super::gate::{Gate, Gates};
use super::{Direction, RateLimits};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Notify, futures::Notified};

/// The most groups of a torrent: a category with those above it, and more tags than anybody gives rates to.
pub const MAX_LIMIT_GROUPS: usize = 16;

/// A limit that any number of torrents share. Clones are the same limit.
#[derive(Clone, Debug)]
pub struct LimitGroup(Arc<Gates>);

impl LimitGroup {
    /// A group of no torrent yet.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        LimitGroup(Arc::new(Gates::new(limits)))
    }

    /// Changes the limits; who waits is judged by the new ones.
    pub fn set_limits(&self, limits: RateLimits) {
        self.0.set_limits(limits);
    }

    pub(super) fn gate(&self, direction: Direction) -> &Gate {
        self.0.gate(direction)
    }

    fn is(&self, other: &LimitGroup) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The groups of one torrent.
#[derive(Debug, Default)]
pub(super) struct Groups {
    any: AtomicBool,
    /// Locked for the copying of a pointer.
    groups: RwLock<Arc<[LimitGroup]>>,
    changed: Notify,
}

impl Groups {
    pub(super) fn set(&self, groups: &[LimitGroup]) {
        let mut kept: Vec<LimitGroup> = Vec::new();
        for group in groups {
            if kept.len() < MAX_LIMIT_GROUPS && !kept.iter().any(|other| other.is(group)) {
                kept.push(group.clone());
            }
        }
        let any = !kept.is_empty();
        *self.groups.write().unwrap_or_else(PoisonError::into_inner) = kept.into();
        self.any.store(any, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn are_none(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Those of now; `None` where there are none.
    pub(super) fn current(&self) -> Option<Arc<[LimitGroup]>> {
        if self.are_none() {
            return None;
        }
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&groups))
    }

    /// Waits for the next change, as of this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

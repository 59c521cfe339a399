//! The pool of block buffers, which bounds the memory that received blocks can take.
//!
//! Invariant: leased and free buffers together never exceed the capacity; a buffer exists only once it was first needed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_metainfo::BLOCK_LENGTH;
use tokio::sync::Semaphore;

const BLOCK_BYTES: usize = BLOCK_LENGTH as usize;

/// The buffers. Shared by every content of a process.
#[derive(Debug)]
pub(crate) struct Pool {
    /// One permit for each buffer that may still be leased.
    permits: Semaphore,
    free: Mutex<Vec<Box<[u8]>>>,
    capacity: usize,
}

impl Pool {
    /// A pool of at most `capacity` buffers, none of which is allocated yet.
    pub(crate) fn new(capacity: usize) -> Self {
        Pool {
            permits: Semaphore::new(capacity),
            free: Mutex::new(Vec::new()),
            capacity,
        }
    }

    /// Waits until a buffer is free. Waiters are served in order.
    pub(crate) async fn lease(self: &Arc<Self>) -> BlockBuffer {
        // The semaphore is never closed; were it, the buffer would still be counted by its drop.
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
        self.take()
    }

    /// A buffer if one is free.
    pub(crate) fn try_lease(self: &Arc<Self>) -> Option<BlockBuffer> {
        self.permits.try_acquire().ok()?.forget();
        Some(self.take())
    }

    /// How many buffers can still be leased.
    pub(crate) fn available(&self) -> usize {
        self.permits.available_permits()
    }

    /// How many buffers there may be.
    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    fn take(self: &Arc<Self>) -> BlockBuffer {
        let bytes = self.free().pop();
        BlockBuffer {
            bytes: bytes.unwrap_or_else(|| vec![0; BLOCK_BYTES].into_boxed_slice()),
            len: BLOCK_BYTES,
            pool: Arc::clone(self),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer for one block, leased from the pool; dropping it gives it back. Its bytes are whatever was there before.
#[derive(Debug)]
pub struct BlockBuffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Arc<Pool>,
}

impl BlockBuffer {
    /// Makes the buffer `len` bytes long, at most 16 KiB; it begins that long.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(BLOCK_BYTES);
    }
}

impl Deref for BlockBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for BlockBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for BlockBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free().push(bytes);
        self.pool.permits.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_allocates_late_and_never_more_than_its_capacity() {
        let pool = Arc::new(Pool::new(2));
        let first = pool.try_lease().unwrap();
        assert!(pool.free().is_empty());
        let mut second = pool.try_lease().unwrap();
        assert!(pool.try_lease().is_none());
        second.set_len(usize::MAX);
        assert_eq!(second.len(), BLOCK_BYTES);
        drop(first);
        assert_eq!((pool.available(), pool.free().len()), (1, 1));
        assert!(pool.try_lease().is_some());
        assert_eq!(pool.free().len(), 1);
    }

    #[tokio::test]
    async fn a_waiter_gets_the_buffer_that_comes_back() {
        let pool = Arc::new(Pool::new(1));
        let held = pool.lease().await;
        let waiter = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.lease().await.len() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiter.await.unwrap(), BLOCK_BYTES);
    }
}

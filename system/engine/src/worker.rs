//! One event loop a core.
//!
//! A connection lives on the worker that it was given to and never moves, so that its socket, its wire state and the bytes it
//! handles stay in one core's cache, and no executor steals it half-way.

use crate::EngineError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The event loops of an engine. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<Handle>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: CancellationToken,
    next: Arc<AtomicUsize>,
}

/// Hands out workers in turn.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    handles: Vec<Handle>,
    next: Arc<AtomicUsize>,
}

impl Pool {
    /// The next worker's event loop.
    pub(crate) fn next(&self) -> &Handle {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[at % self.handles.len()]
    }
}

impl Workers {
    /// Starts `count` of them, at least one.
    pub(crate) fn start(count: usize) -> Result<Self, EngineError> {
        let stop = CancellationToken::new();
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(EngineError::Threads)?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            let thread = thread::Builder::new()
                .name(format!("shoal-worker-{number}"))
                .spawn(move || {
                    runtime.block_on(stop.cancelled_owned());
                    // Tasks are dropped; what blocks on a disk is left to itself.
                    runtime.shutdown_background();
                })
                .map_err(EngineError::Threads)?;
            threads.push(thread);
        }
        Ok(Workers {
            handles,
            threads,
            stop,
            next: Arc::new(AtomicUsize::new(0)),
        })
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool {
            handles: self.handles.clone(),
            next: Arc::clone(&self.next),
        }
    }
}

impl Drop for Workers {
    /// Ends the loops and what still runs on them, and waits for their threads.
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on its own; there is nothing left to do for it.
            drop(thread.join());
        }
    }
}

//! One event loop a core.
//!
//! A connection lives on the worker that it was given to and never moves, so that its socket, its wire state and the bytes it
//! handles stay in one core's cache, and no executor steals it half-way. It gets the worker with the fewest connections, and among
//! equals the one that its torrent lives on: two that talk to each other a thousand times a second then need not wake a core for it.

use crate::EngineError;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The event loops of an engine. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    stop: CancellationToken,
    pool: Pool,
}

thread_local! {
    /// The number of the worker that this thread is, if it is one.
    static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Hands out workers.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    handles: Vec<Handle>,
    next: Arc<AtomicUsize>,
    /// Connections of each worker.
    connections: Arc<[AtomicUsize]>,
}

impl Pool {
    /// The next worker's event loop, for what is no connection.
    pub(crate) fn next(&self) -> &Handle {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[at % self.handles.len()]
    }

    /// Tasks that have not ended.
    pub(crate) fn alive_tasks(&self) -> usize {
        let loops = self.handles.iter();
        loops.map(|handle| handle.metrics().num_alive_tasks()).sum()
    }

    /// A place for one connection.
    pub(crate) fn seat(&self) -> Seat {
        let here = HERE.get();
        let load = |at: &usize| (self.connections[*at].load(Ordering::Relaxed), *at != here);
        let at = (0..self.handles.len()).min_by_key(load).unwrap_or(0);
        self.connections[at].fetch_add(1, Ordering::Relaxed);
        Seat {
            pool: self.clone(),
            at,
        }
    }
}

/// A connection's place on a worker, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pool: Pool,
    at: usize,
}

impl Seat {
    /// Runs `connection` there.
    pub(crate) fn spawn(self, connection: impl Future<Output = ()> + Send + 'static) {
        let handle = self.pool.handles[self.at].clone();
        handle.spawn(async move {
            connection.await;
            drop(self);
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.connections[self.at].fetch_sub(1, Ordering::Relaxed);
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
                    HERE.set(number);
                    runtime.block_on(stop.cancelled_owned());
                    // Tasks are dropped; what blocks on a disk is left to itself.
                    runtime.shutdown_background();
                })
                .map_err(EngineError::Threads)?;
            threads.push(thread);
        }
        let connections = handles.iter().map(|_| AtomicUsize::new(0)).collect();
        let pool = Pool {
            handles,
            next: Arc::new(AtomicUsize::new(0)),
            connections,
        };
        Ok(Workers {
            threads,
            stop,
            pool,
        })
    }

    pub(crate) fn pool(&self) -> Pool {
        self.pool.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_begin_at_home_spread_evenly_and_leave_room_behind() {
        let workers = Workers::start(3).unwrap();
        let pool = workers.pool();
        let there = pool.clone();
        let seats = thread::spawn(move || {
            HERE.set(1);
            let mut seats: Vec<Seat> = (0..6).map(|_| there.seat()).collect();
            let first: Vec<usize> = seats.iter().map(|seat| seat.at).collect();
            assert_eq!(first, [1, 0, 2, 1, 0, 2]);
            // Two connections of worker 2 end, and the next two come there, though home has no more than worker 0.
            seats.retain(|seat| seat.at != 2);
            seats.extend((0..2).map(|_| there.seat()));
            seats
        })
        .join()
        .unwrap();
        assert_eq!(
            seats[4..].iter().map(|seat| seat.at).collect::<Vec<_>>(),
            [2, 2]
        );
        drop(seats);
        let loads = pool
            .connections
            .iter()
            .map(|load| load.load(Ordering::Relaxed));
        assert_eq!(loads.sum::<usize>(), 0);
    }
}

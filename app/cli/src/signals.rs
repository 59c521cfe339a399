//! Ctrl-C and SIGTERM: the first asks to end, the second ends.
//!
//! Invariant: the process is gone at most [`PATIENCE`] after the first signal, whatever blocks.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;

/// Just under the two seconds within which Ctrl-C ends.
const PATIENCE: Duration = Duration::from_millis(1_900);

/// Whether the person wants the program to end. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Begins to watch, on a thread of its own: a full pipe or a dead disk may block all others. No signal is missed from
    /// here on.
    pub(crate) fn watch() -> Interrupt {
        let (sender, asked) = watch::channel(false);
        let flag = Arc::new(AtomicBool::new(false));
        // Nothing is sent: the end of the sender says that the thread watches, or that it never will.
        let (begun, beginning) = mpsc::channel::<()>();
        let interrupt = Interrupt {
            flag: Arc::clone(&flag),
            asked,
        };
        let watching = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || wait(&flag, &sender, begun));
        if let Err(error) = watching {
            tracing::warn!(%error, "no thread for signals: they end the program at once");
        }
        let _ = beginning.recv();
        interrupt
    }

    /// A flag for loops that cannot wait.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // Nobody watches, so that none will come here.
            std::future::pending::<()>().await;
        }
    }
}

/// Asks this process to end, as SIGTERM does: whatever blocks, it is gone soon.
pub(crate) fn end_this() {
    let sent = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM);
    if let Err(error) = sent {
        tracing::warn!(%error, "the system does not let the program tell itself to end");
    }
}

fn wait(flag: &AtomicBool, sender: &watch::Sender<bool>, begun: mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let (interrupt, terminate) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
            return;
        };
        drop(begun);
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        flag.store(true, Ordering::Relaxed);
        sender.send_replace(true);
        drop(tokio::time::timeout(PATIENCE, next()).await);
        process::exit(Exit::Interrupted.code().into());
    });
}

//! What `get` and `seed` share: an engine with one torrent, from start to stop.
//!
//! Invariant: an engine that was started is stopped, however the command ends.

mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_engine::{AddTorrent, Engine, Phase, Reason, Snapshot, TorrentHandle};
use shoal_metainfo::Metainfo;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use super::Done;
use crate::args::{NetworkArgs, StateArgs};
use crate::exit::{Exit, Failure};
use crate::listen;
use crate::output::Output;
use crate::output::event::{Event, Listening};
use crate::signals::Interrupt;

pub(super) use report::Purpose;
use report::Reporter;

/// How often the goal and the progress bar are looked at.
const TICK: Duration = Duration::from_millis(200);

/// For taking leave when all is done. What is not synced by then is verified again after a power failure, no more.
const LEAVE: Duration = Duration::from_secs(3);

/// For taking leave after Ctrl-C, which is over within two seconds.
pub(super) const LEAVE_AT_ONCE: Duration = Duration::from_millis(1700);

/// When a transfer is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// Everything wanted is verified.
    Complete,
    /// And this many times its size is uploaded.
    Ratio(f64),
    /// And this much time has passed since.
    Time(Duration),
    /// Never.
    Forever,
}

impl Goal {
    /// Whether it is reached, where everything wanted is verified `since` some time.
    fn is_reached(self, snapshot: &Snapshot, since: Option<Instant>) -> bool {
        let Some(since) = since else { return false };
        match self {
            Goal::Complete => true,
            Goal::Ratio(ratio) => {
                snapshot.uploaded_bytes as f64 >= ratio * snapshot.wanted_bytes as f64
            }
            Goal::Time(time) => since.elapsed() >= time,
            Goal::Forever => false,
        }
    }
}

/// A torrent to run, once an engine runs.
pub(super) trait Prepare {
    /// Says which torrent, and how. The engine's network may be used to find it, and what there is to tell meanwhile is told.
    async fn prepare(self, engine: &Engine, output: &mut Output) -> Result<AddTorrent, Failure>;
}

/// The event loop of the command line itself; the engine has its own.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let message = format!("cannot start an event loop: {error}; end other programs");
            Failure::new(Exit::Failure, message)
        })
}

/// Runs a torrent until its goal is reached or somebody ends it.
pub(super) fn run(
    network: &NetworkArgs,
    state: &StateArgs,
    prepare: impl Prepare,
    purpose: Purpose,
    goal: Goal,
    output: &mut Output,
) -> Done {
    let interrupt = Interrupt::watch();
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let engine = listen::start(network, state).await?;
        let mut transfer = Transfer {
            engine: &engine,
            interrupt: interrupt.clone(),
            output,
        };
        let ending = Box::pin(transfer.run(prepare, purpose, goal)).await;
        engine
            .stop(if interrupt.came() {
                LEAVE_AT_ONCE
            } else {
                LEAVE
            })
            .await;
        ending?.tell(output)
    });
    // A disk that does not answer must not keep the process.
    runtime.shutdown_background();
    done
}

/// How a transfer ended, and what is to be said of it when the engine has stopped: what was on its way to the disk is
/// verified until then.
struct Ending {
    done: Done,
    last_word: Option<LastWord>,
}

struct LastWord {
    reporter: Reporter,
    watched: watch::Receiver<Snapshot>,
    reason: &'static str,
}

impl Ending {
    fn tell(self, output: &mut Output) -> Done {
        if let Some(last) = self.last_word {
            let snapshot = last.watched.borrow().clone();
            output.show(&last.reporter.stopped(&snapshot, last.reason))?;
        }
        self.done
    }
}

struct Transfer<'a> {
    engine: &'a Engine,
    interrupt: Interrupt,
    output: &'a mut Output,
}

impl Transfer<'_> {
    async fn run(
        &mut self,
        prepare: impl Prepare,
        purpose: Purpose,
        goal: Goal,
    ) -> Result<Ending, Failure> {
        let addresses = self.engine.listening().to_vec();
        self.output
            .show(&Event::Listening(Listening { addresses }))?;
        let (engine, output) = (self.engine, &mut *self.output);
        let adding = async {
            let mut add = prepare.prepare(engine, output).await?;
            let (metainfo, directory) = (Arc::clone(&add.metainfo), add.directory.clone());
            // Whoever gives the command after files were deleted asks for them.
            add.accept_missing = true;
            let handle = engine.add(add).await?;
            Ok::<_, Failure>((Reporter::new(&metainfo, &directory, purpose), handle))
        };
        let (reporter, handle) = tokio::select! {
            added = adding => added?,
            () = self.interrupt.wait() => return Err(Failure::interrupted()),
        };
        self.follow(reporter, &handle, goal).await
    }

    /// Says how far the torrent is, until its end.
    async fn follow(
        &mut self,
        mut reporter: Reporter,
        handle: &TorrentHandle,
        goal: Goal,
    ) -> Result<Ending, Failure> {
        let mut watched = handle.watch();
        let mut tick = tokio::time::interval(TICK);
        let mut complete_since = None;
        let mut missing = false;
        loop {
            let snapshot = watched.borrow_and_update().clone();
            let was_missing = std::mem::replace(&mut missing, lacks_files(&snapshot));
            if missing && !was_missing {
                // What is left is served, and what is gone is fetched again: nobody is there to bring it back.
                let handle = handle.clone();
                tokio::spawn(async move { handle.accept_missing().await });
            }
            for event in reporter.look(&snapshot) {
                self.output.show(&event)?;
            }
            if let Some(failure) = ended(&snapshot, &reporter) {
                return Err(failure);
            }
            if snapshot.complete && complete_since.is_none() {
                complete_since = Some(Instant::now());
            }
            if goal.is_reached(&snapshot, complete_since) {
                let last_word = (goal != Goal::Complete).then_some(LastWord {
                    reporter,
                    watched,
                    reason: "goal_reached",
                });
                return Ok(Ending {
                    done: Ok(Exit::Ok),
                    last_word,
                });
            }
            tokio::select! {
                changed = watched.changed() => if changed.is_err() {
                    return Err(unexpected_end());
                },
                _ = tick.tick() => {}
                () = self.interrupt.wait() => {
                    // Who asked for the end of something that is done was not kept from anything.
                    let done = complete_since.is_some() || goal == Goal::Forever;
                    return Ok(Ending {
                        done: if done { Ok(Exit::Ok) } else { Err(Failure::interrupted()) },
                        last_word: Some(LastWord { reporter, watched, reason: "interrupted" }),
                    });
                }
            }
        }
    }
}

/// Whether somebody deleted files of it.
fn lacks_files(snapshot: &Snapshot) -> bool {
    let Phase::Suspended { reason, .. } = &snapshot.phase else {
        return false;
    };
    *reason == Reason::FilesMissing
}

/// Why the torrent cannot go on, if it cannot.
fn ended(snapshot: &Snapshot, reporter: &Reporter) -> Option<Failure> {
    match &snapshot.phase {
        Phase::Failed(reason) => Some(Failure::new(Exit::Failure, reason)),
        Phase::Stopped => Some(unexpected_end()),
        _ => reporter.nothing_to_seed(snapshot),
    }
}

fn unexpected_end() -> Failure {
    let message = "the torrent ended by itself; run the command again with -v to see why";
    Failure::new(Exit::Failure, message)
}

/// Fills in what both commands have.
pub(super) fn with_network(mut add: AddTorrent, network: &NetworkArgs) -> AddTorrent {
    add.peers.clone_from(&network.peers);
    add.trackers.clone_from(&network.trackers);
    add
}

/// The warnings of a torrent, for whoever runs it without looking inside.
pub(super) fn log_warnings(metainfo: &Metainfo) {
    for warning in metainfo.warnings() {
        tracing::warn!(%warning, "odd torrent");
    }
}

//! The room in which everything is measured: namespaces without a way out, and a folder in memory.
//!
//! The program starts itself a second time there. The first process only waits: it removes the folder when the second one
//! has ended, however that came about.
//!
//! Invariant: after Ctrl-C or SIGTERM nothing runs that was started, and no folder is left.

use crate::arguments::Arguments;
use crate::report;
use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use shoal_interop::{Lab, Outcome, run_isolated_by};
use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How often a folder is removed again in which processes that are ending still write.
const REMOVALS: u32 = 100;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(100);

/// Runs `body` in the room; in the first process, waits for that.
///
/// # Errors
///
/// The body failed, or there can be no room on this machine.
pub fn enter(arguments: &Arguments, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let start = |command: &mut Command| wait_beside(&arguments.dir, command);
    let mut done = Ok(());
    // The room's own way to show what went wrong leaves a folder behind.
    let inside = |lab: &Lab| {
        done = body(lab);
        Ok(())
    };
    match run_isolated_by(start, &words, inside)? {
        Outcome::Ran => done,
        Outcome::Skipped(why) => bail!("{why}"),
    }
}

/// Runs the command, with a folder of its own below `parent` for its temporary files.
fn wait_beside(parent: &Path, command: &mut Command) -> io::Result<ExitStatus> {
    let mut builder = tempfile::Builder::new();
    let scratch = builder.prefix("shoal-bench-").tempdir_in(parent)?;
    command.env("TMPDIR", scratch.path());
    // Ctrl-C is for the first process alone, which then ends the others.
    command.process_group(0);
    let status = wait_or_end(command.spawn()?);
    let folder = scratch.keep();
    for _ in 0..REMOVALS {
        if fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
            break;
        }
        thread::sleep(BETWEEN_REMOVALS);
    }
    status
}

/// Waits for the child, and ends it where a signal asks us to leave. What it started ends with it.
fn wait_or_end(mut child: Child) -> io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sender, ended) = oneshot::channel();
    let waiting = thread::spawn(move || {
        let status = child.wait();
        // Nobody waits for this after a signal.
        let _ = sender.send(());
        status
    });
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let asked = tokio::select! {
            _ = ended => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        if let (true, Some(pid)) = (asked, pid) {
            report::say("interrupted: ending everything");
            kill_process(pid, Signal::KILL)?;
        }
        io::Result::Ok(())
    })?;
    waiting
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that waits failed")))
}

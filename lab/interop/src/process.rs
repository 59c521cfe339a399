//! A third-party program while it runs.
//!
//! Invariant: a process and what it started end with the value that stands for it; no other process is ever signalled.

use crate::lab::Lab;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to leave after it was asked to.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// How often anything is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running program, in a process group of its own, that speaks to a log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program. `name` names its log, in which earlier runs of the same name are kept.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(lab: &Lab, name: &str, command: &mut Command) -> Result<Process> {
        let log = lab.log(name);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// What it has said, in all runs under its name.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it said after the first `from` bytes, and how many bytes there are.
    #[must_use]
    pub fn said_since(&self, from: u64) -> (String, u64) {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_end(&mut text)
        });
        let length = u64::try_from(read.unwrap_or(0)).unwrap_or(0);
        (String::from_utf8_lossy(&text).into_owned(), from + length)
    }

    /// Its number, of the program itself and not of what it started.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    ///
    /// The system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let mut ended = None;
        let name = &self.name;
        eventually(within, &format!("{name} to end"), || {
            ended = child.try_wait()?;
            Ok(ended.is_some())
        })?;
        ended.context("it ended")
    }

    /// Sends a signal to this process alone. One that has ended is left alone.
    pub fn signal(&mut self, signal: Signal) {
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to leave, and makes it where it does not in time.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        drop(self.wait(LEAVE_WITHIN));
    }

    /// Its process id, while it was not waited for.
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group outlives its first process as long as it has members. Its number cannot have been given to others
        // where the first process was not waited for; where it was, the namespace ends what is left.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.pid()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        drop(self.child.wait());
    }
}

/// Runs a program to its end and gives what it printed.
///
/// # Errors
///
/// It does not start, or does not end well; the error has what it said.
pub fn output_of(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let (said, wailed) = (text(&output.stdout), text(&output.stderr));
        bail!("{name} ended with {}:\n{said}{wailed}", output.status);
    }
    Ok(text(&output.stdout))
}

/// Waits until `condition` holds, looking often.
///
/// # Errors
///
/// It does not hold in time, or cannot be looked at.
pub fn eventually(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < within {
        if condition().with_context(|| format!("while waiting for {what}"))? {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
    bail!("waited {} s in vain for {what}", within.as_secs())
}

//! Who runs programs: a few at a time, each with an end.
//!
//! Invariant: a program leads a process group of its own, and nothing of that group outlives its time or the node.

use rustix::process::{Pid, Signal, kill_process_group};
use shoal_store::{Database, StoreError};
use std::env;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// What waits is called like this in the database.
const KIND: &str = "hook_waiting";

/// So many run at once: thousands of torrents may be added together.
const AT_ONCE: usize = 4;

/// So many wait. Who adds more torrents than that together does without the rest.
const MAX_WAITING: usize = 10_000;

/// A program may copy what has come to a slow disk; longer than this it does not do anything any more.
const ENDS_WITHIN: Duration = Duration::from_secs(60 * 60);

/// For what is to be done before the end.
const LEAVE: Duration = Duration::from_secs(5);

/// After an error of the database.
const REST: Duration = Duration::from_secs(10);

/// What a program sees of the surroundings of the node.
const ENVIRONMENT: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Runs what is ordered, one after the other.
pub(super) struct Runner {
    database: Database,
    waiting: Arc<AtomicUsize>,
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Runner {
    /// Begins with what has waited since the last life of the node.
    pub(super) async fn start(database: Database) -> Result<Self, StoreError> {
        let waiting = database.entries(KIND).await?.len();
        let waiting = Arc::new(AtomicUsize::new(waiting));
        let wake = Arc::new(Notify::new());
        let working = work(database.clone(), Arc::clone(&waiting), Arc::clone(&wake));
        Ok(Runner {
            task: tokio::spawn(working).abort_handle(),
            database,
            waiting,
            wake,
        })
    }

    /// Has a program run. Orders of the same name are one.
    pub(super) async fn order(&self, name: &str, program: &[String]) -> Result<(), StoreError> {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            tracing::warn!(
                order = name,
                "{MAX_WAITING} hooks wait; this one does not run"
            );
            return Ok(());
        }
        let text = serde_json::to_string(program);
        let text = text.map_err(|error| StoreError::Damaged(error.to_string()))?;
        self.database.set_entry(KIND, name, Some(&text)).await?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn work(database: Database, waiting: Arc<AtomicUsize>, wake: Arc<Notify>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // Whoever ends this ends all of them.
    let mut running = JoinSet::new();
    loop {
        let orders = match database.entries(KIND).await {
            Ok(orders) => orders,
            Err(error) => {
                tracing::warn!(%error, "which hooks wait is not known");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        waiting.store(orders.len(), Ordering::Relaxed);
        if orders.is_empty() {
            wake.notified().await;
        }
        for (name, text) in orders {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            while running.try_join_next().is_some() {}
            // Before it begins, so that it never begins twice.
            if let Err(error) = database.set_entry(KIND, &name, None).await {
                tracing::warn!(order = name, %error, "a hook waits");
                tokio::time::sleep(REST).await;
                break;
            }
            waiting.fetch_sub(1, Ordering::Relaxed);
            match serde_json::from_str::<Vec<String>>(&text) {
                Ok(program) => drop(running.spawn(async move {
                    tell(&name, run(&program, ENDS_WITHIN).await);
                    drop(place);
                })),
                Err(error) => tracing::warn!(order = name, %error, "a hook cannot be read"),
            }
        }
    }
}

/// How a program ended.
#[derive(Debug)]
enum Ending {
    Ended(ExitStatus),
    TookTooLong,
}

fn tell(order: &str, ending: std::io::Result<Ending>) {
    match ending {
        Ok(Ending::Ended(status)) if status.success() => tracing::info!(order, "a hook has run"),
        Ok(Ending::Ended(status)) => tracing::warn!(order, %status, "a hook has failed"),
        Ok(Ending::TookTooLong) => {
            tracing::warn!(order, "a hook did not end in time and was ended");
        }
        Err(error) => tracing::warn!(order, %error, "a hook does not run"),
    }
}

async fn run(program: &[String], within: Duration) -> std::io::Result<Ending> {
    let Some((path, arguments)) = program.split_first() else {
        return Err(std::io::Error::other("it names no program"));
    };
    let known = ENVIRONMENT
        .iter()
        .filter_map(|name| Some((name, env::var_os(name)?)));
    // What it says of itself goes where the log goes: standard error.
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .envs(known)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let group = Group(group.and_then(Pid::from_raw));
    if let Ok(status) = timeout(within, child.wait()).await {
        return Ok(Ending::Ended(status?));
    }
    group.signal(Signal::TERM);
    // However it ends, what is left of the group goes with it.
    drop(timeout(LEAVE, child.wait()).await);
    drop(group);
    child.wait().await?;
    Ok(Ending::TookTooLong)
}

/// The processes that a program has started, and itself.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // There is nobody any more, which is what is wanted.
            kill_process_group(group, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let begun = Instant::now();
        let within = Duration::from_millis(500);
        let ended = run(&words(&["sh", "-c", &script]), within).await.unwrap();
        assert!(matches!(ended, Ending::TookTooLong), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        let pid = fs::read_to_string(&file).unwrap();
        // The end is on its way, and then it may be there as a zombie that nobody has taken leave of.
        let path = format!("/proc/{}/stat", pid.trim());
        let is_gone = || fs::read_to_string(&path).map_or(true, |state| state.contains(") Z"));
        let ending = async {
            while !is_gone() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), ending).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_and_little_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen").display().to_string();
        let script = "{ printf '%s|' \"$@\"; env; } > \"$0\"; exit 7";
        let hostile = "a b; $(rm) `x` \"'";
        let program = words(&["sh", "-c", script, &file, hostile, "", "--flag"]);
        let ended = run(&program, ENDS_WITHIN).await.unwrap();
        let Ending::Ended(status) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(status.code(), Some(7));
        let seen = fs::read_to_string(file).unwrap();
        assert!(seen.starts_with(&format!("{hostile}||--flag|")), "{seen}");
        assert!(!seen.contains("CARGO"), "{seen}");
        assert!(
            run(&words(&["/no/such/program"]), ENDS_WITHIN)
                .await
                .is_err()
        );
    }
}

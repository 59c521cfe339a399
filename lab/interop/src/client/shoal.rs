//! Ours, as people run it: the binary `shoal`.

use super::{Client, Job, Role, Running, Speech};
use crate::lab::Lab;
use crate::process::Process;
use crate::program;
use anyhow::Result;
use serde_json::Value;
use std::process::Command;

/// `shoal --json` with these words.
///
/// # Errors
///
/// It is not built.
pub fn command(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(program::shoal()?);
    command.arg("--json").args(words);
    Ok(command)
}

/// The command line of a job: `get` or `seed`, with no one to talk to but who is named.
///
/// # Errors
///
/// It is not built.
pub fn order(lab: &Lab, job: &Job<'_>) -> Result<Command> {
    let mut command = match job.role {
        Role::Seed => {
            let mut command = command(&["seed", "--trust"])?;
            command.arg(job.torrent).arg("--data").arg(job.folder);
            command
        }
        Role::Leech => {
            let mut command = command(&["get"])?;
            command.arg(job.source()).arg("-o").arg(job.folder);
            command
        }
    };
    if !job.local && job.exchange != Some(true) && job.router.is_none() {
        command.arg("--isolated");
    }
    match job.router {
        Some(router) => command.arg("--dht-router").arg(router.to_string()),
        None => command.arg("--no-dht"),
    };
    if let Some(limit) = job.download_limit {
        command.arg("--download-limit").arg(limit.to_string());
    }
    command.arg("--listen").arg(job.address.to_string());
    command.arg("--allow-net").arg(lab.network());
    command.arg("--state-dir").arg(lab.path("state"));
    match job.speech {
        Speech::Usual => {}
        speech => {
            let policy = speech.word("enabled", "disabled", "forced");
            command.arg("--encryption").arg(policy);
        }
    }
    if job.utp {
        command.args(["--transport", "utp"]);
    }
    if let Some(limit) = job.upload_limit {
        command.arg("--upload-limit").arg(limit.to_string());
    }
    for peer in job.connect {
        command.arg("--peer").arg(peer.to_string());
    }
    Ok(command)
}

/// The events that it printed.
#[must_use]
pub fn events(said: &str) -> Vec<Value> {
    said.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let process = Process::start(lab, &job.name(Client::Shoal), &mut order(lab, job)?)?;
    let role = job.role;
    Ok(Running::new(
        Client::Shoal,
        job,
        process,
        Box::new(move |process| match role {
            Role::Seed => {
                let events = events(&process.said());
                Ok(events.iter().any(|event| event["event"] == "started"))
            }
            // It ends when all is verified.
            Role::Leech => Ok(process.ended()?.is_some_and(|status| status.success())),
        }),
    ))
}

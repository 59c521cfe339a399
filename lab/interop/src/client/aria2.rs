//! aria2 1.36: v1, and peers only through trackers.

use super::{Client, Job, Role, Running, Speech, accepts};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::Program;
use anyhow::Result;
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let state = lab.folder(&job.name(Client::Aria2))?;
    let mut command = Command::new(Program::Aria2.find()?);
    command.args(["--no-conf", "--enable-dht6=false", "--disable-ipv6=true"]);
    // It has UDP trackers only together with its DHT, which finds nobody without a router.
    command.arg("--enable-dht=true");
    command.arg(format!("--dht-listen-port={}", job.address.port()));
    command.arg(format!("--dht-file-path={}", state.join("dht").display()));
    if let Some(router) = job.router {
        command.arg(format!("--dht-entry-point={router}"));
    }
    if let Some(limit) = job.download_limit {
        command.arg(format!("--max-overall-download-limit={limit}"));
    }
    let exchange = job.exchange.unwrap_or(true);
    command.arg(format!("--enable-peer-exchange={exchange}"));
    command.arg(format!("--bt-enable-lpd={}", job.local));
    command.arg(format!("--bt-lpd-interface={}", job.address.ip()));
    command.args(["--console-log-level=notice", "--summary-interval=5"]);
    command.arg("--file-allocation=none");
    if job.speech == Speech::Encrypted {
        command.args(["--bt-force-encryption=true", "--bt-min-crypto-level=arc4"]);
    }
    command.arg(format!("--listen-port={}", job.address.port()));
    command.arg(format!("--interface={}", job.address.ip()));
    command.arg("--dir").arg(job.folder);
    match job.role {
        Role::Seed => command.args(["--seed-ratio=0.0", "--check-integrity=true"]),
        Role::Leech => command.args(["--seed-time=0", "--bt-save-metadata=false"]),
    };
    command.arg(job.source());
    let process = Process::start(lab, &job.name(Client::Aria2), &mut command)?;
    let (role, address) = (job.role, job.address);
    Ok(Running::new(
        Client::Aria2,
        job,
        process,
        Box::new(move |process| match role {
            Role::Seed => Ok(process.said().contains("seed") && accepts(address)),
            // It ends when it is complete.
            Role::Leech => Ok(process.ended()?.is_some_and(|status| status.success())),
        }),
    ))
}

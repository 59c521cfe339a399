//! rqbit 9: v1, told of peers by address.

use super::{Client, Job, Role, Running, accepts};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::Program;
use anyhow::Result;
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let port = job.address.port();
    let mut command = Command::new(Program::Rqbit.find()?);
    // It keeps its state below the home folder.
    command.env("HOME", lab.folder(&job.name(Client::Rqbit))?);
    command.arg("--http-api-listen-addr");
    command.arg(format!("127.0.0.1:{}", port + 1000));
    command.args(["--disable-dht", "--disable-trackers", "--disable-lsd"]);
    command.arg("--listen-port").arg(port.to_string());
    command
        .args(["download", "--overwrite", "-o"])
        .arg(job.folder);
    if job.role == Role::Leech {
        command.arg("--exit-on-finish");
    }
    if !job.connect.is_empty() {
        let peers: Vec<String> = job.connect.iter().map(ToString::to_string).collect();
        command.arg("--initial-peers").arg(peers.join(","));
    }
    command.arg(job.torrent);
    let process = Process::start(lab, &job.name(Client::Rqbit), &mut command)?;
    let (role, address) = (job.role, job.address);
    Ok(Running::new(
        Client::Rqbit,
        job,
        process,
        Box::new(move |process| match role {
            // It checks what it has before it serves, and says how much of it is right once a second.
            Role::Seed => Ok(process.said().contains(": 100.00% (") && accepts(address)),
            // It ends when it is complete.
            Role::Leech => Ok(process.ended()?.is_some_and(|status| status.success())),
        }),
    ))
}

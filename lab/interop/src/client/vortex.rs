//! vortex-cli: v1, and peers only through trackers. It leaves when it is complete.

use super::{Client, Job, Role, Running};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::Program;
use anyhow::{Result, ensure};
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    ensure!(job.role == Role::Leech, "vortex-cli only downloads");
    let mut command = Command::new(Program::Vortex.find()?);
    command.env("HOME", lab.folder(&job.name(Client::Vortex))?);
    command.arg("-t").arg(job.torrent);
    command.arg("-d").arg(job.folder);
    let process = Process::start(lab, &job.name(Client::Vortex), &mut command)?;
    Ok(Running::new(
        Client::Vortex,
        job,
        process,
        Box::new(|process| Ok(process.ended()?.is_some_and(|status| status.success()))),
    ))
}

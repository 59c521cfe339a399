//! rTorrent 0.9.8: v1.

use super::{Client, Job, Role, Running, accepts};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::Program;
use anyhow::Result;
use std::fs;
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let state = lab.folder(&job.name(Client::RTorrent))?;
    let (session, finished) = (state.join("session"), state.join("finished"));
    fs::create_dir(&session)?;
    let (ip, port) = (job.address.ip(), job.address.port());
    let mut settings = format!(
        "system.daemon.set = true\n\
         network.bind_address.set = {ip}\n\
         network.local_address.set = {ip}\n\
         network.port_range.set = {port}-{port}\n\
         network.port_random.set = no\n\
         dht.mode.set = disable\n\
         directory.default.set = {}\n\
         session.path.set = {}\n\
         method.set_key = event.download.finished, mark, \"execute2={{touch,{}}}\"\n",
        job.folder.display(),
        session.display(),
        finished.display(),
    );
    let told: String = job
        .connect
        .iter()
        .map(|peer| format!(", \"d.add_peer={peer}\""))
        .collect();
    let torrent = job.torrent.display();
    settings += &format!("schedule2 = load, 1, 0, ((load.start, \"{torrent}\"{told}))\n");
    let file = state.join("rtorrent.rc");
    fs::write(&file, settings)?;
    let mut command = Command::new(Program::RTorrent.find()?);
    command.arg("-n").arg("-o");
    command.arg(format!("import={}", file.display()));
    let process = Process::start(lab, &job.name(Client::RTorrent), &mut command)?;
    let (role, address) = (job.role, job.address);
    Ok(Running::new(
        Client::RTorrent,
        job,
        process,
        Box::new(move |_| match role {
            Role::Seed => Ok(finished.exists() && accepts(address)),
            Role::Leech => Ok(finished.exists()),
        }),
    ))
}

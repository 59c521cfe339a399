//! rTorrent 0.9.8: v1, with peers from trackers, peer exchange and the DHT. It cannot be told of one by address.

use super::{Client, Job, Role, Running, Speech, accepts};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::Program;
use anyhow::Result;
use std::fs;
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let state = lab.folder(&job.name(Client::RTorrent))?;
    let (session, reached) = (state.join("session"), state.join("reached"));
    fs::create_dir(&session)?;
    let (ip, port) = (job.address.ip(), job.address.port());
    let event = match job.role {
        Role::Seed => "hash_done",
        Role::Leech => "finished",
    };
    let encryption = match job.speech {
        Speech::Encrypted => {
            "protocol.encryption.set = allow_incoming,try_outgoing,require,require_RC4\n"
        }
        Speech::Usual | Speech::Clear => "",
    };
    let dht = match job.router {
        Some(router) => format!(
            "dht.mode.set = on\n\
             dht.port.set = {port}\n\
             schedule2 = router, 2, 5, \"dht.add_node={router}\"\n"
        ),
        None => "dht.mode.set = disable\n".to_owned(),
    };
    let exchange = if job.exchange.unwrap_or(true) {
        "yes"
    } else {
        "no"
    };
    // In KiB/s; 0 is none.
    let limit = job.download_limit.unwrap_or(0) / 1024;
    let settings = format!(
        "system.daemon.set = true\n\
         network.bind_address.set = {ip}\n\
         network.port_range.set = {port}-{port}\n\
         network.port_random.set = no\n\
         throttle.global_down.max_rate.set_kb = {limit}\n\
         protocol.pex.set = {exchange}\n\
         {dht}\
         {encryption}\
         directory.default.set = {}\n\
         session.path.set = {}\n\
         method.set_key = event.download.{event}, mark, \"branch=d.is_meta=,,\\\"execute2={{touch,{}}}\\\"\"\n\
         schedule2 = load, 1, 0, \"load.start={}\"\n",
        job.folder.display(),
        session.display(),
        reached.display(),
        job.source().to_string_lossy(),
    );
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
            Role::Seed => Ok(reached.exists() && accepts(address)),
            Role::Leech => Ok(reached.exists()),
        }),
    ))
}

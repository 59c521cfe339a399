//! libtorrent 2.1, in a Python script that leaves the session's defaults alone.

use super::{Client, Job, Role, Running, has_said};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::{Program, script};
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;

/// What runs it.
///
/// # Errors
///
/// It is not installed.
pub fn command(job: &Job<'_>) -> Result<Command> {
    let order = json!({
        "torrent": job.torrent,
        "magnet": job.magnet,
        "folder": job.folder,
        "listen": job.address.to_string(),
        "seed": job.role == Role::Seed,
        "connect": job.connect,
        "local": job.local,
        "upload_limit": job.upload_limit.unwrap_or(0),
        "speech": job.speech.word("usual", "clear", "encrypted"),
        "utp": job.utp,
        "router": job.router,
        "download_limit": job.download_limit.unwrap_or(0),
        "exchange": job.exchange.unwrap_or(true),
        "measured": job.measured,
    });
    let mut command = Command::new(Program::Libtorrent.find()?);
    command
        .arg(script("libtorrent_peer.py"))
        .arg(order.to_string());
    Ok(command)
}

/// A session of many torrents, as `libtorrent_session.py` says.
///
/// # Errors
///
/// It is not installed.
pub fn session(order: &Value) -> Result<Command> {
    let mut command = Command::new(Program::Libtorrent.find()?);
    command
        .arg(script("libtorrent_session.py"))
        .arg(order.to_string());
    Ok(command)
}

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let mut command = command(job)?;
    let process = Process::start(lab, &job.name(Client::Libtorrent), &mut command)?;
    let reached = match job.role {
        Role::Seed => has_said(r#"{"event": "ready"}"#),
        Role::Leech => has_said(r#"{"event": "complete"}"#),
    };
    Ok(Running::new(Client::Libtorrent, job, process, reached))
}

//! webtorrent 3 on Node.js, over TCP.

use super::{Client, Job, Role, Running, Speech, has_said};
use crate::lab::Lab;
use crate::process::Process;
use crate::program::{Program, node_folder, script};
use anyhow::Result;
use serde_json::json;
use std::process::Command;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let order = json!({
        "torrent": job.source().to_string_lossy(),
        "folder": job.folder,
        // It listens on every address, and can be told the port alone.
        "port": job.address.port(),
        "seed": job.role == Role::Seed,
        "connect": job.connect,
        // Off, allowed, or required with RC4.
        "secure": match job.speech {
            Speech::Clear => 0,
            Speech::Usual => 1,
            Speech::Encrypted => 2,
        },
        "exchange": job.exchange.unwrap_or(true),
        "router": job.router,
        // Less than nothing is no limit.
        "download_limit": job.download_limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1)),
        "modules": node_folder()?.join("node_modules"),
    });
    let mut command = Command::new(Program::WebTorrent.find()?);
    command
        .arg(script("webtorrent_peer.mjs"))
        .arg(order.to_string());
    let process = Process::start(lab, &job.name(Client::WebTorrent), &mut command)?;
    let reached = match job.role {
        Role::Seed => has_said(r#"{"event":"ready","progress":1}"#),
        Role::Leech => has_said(r#"{"event":"complete"}"#),
    };
    Ok(Running::new(Client::WebTorrent, job, process, reached))
}

//! Transmission 3.00: v1, and peers only through trackers. It begins a transfer some 15 to 25 seconds after its start.

use super::{Client, Job, Role, Running, Speech};
use crate::http;
use crate::lab::Lab;
use crate::process::{Process, eventually};
use crate::program::Program;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// How long its interface may take to answer for the first time.
const START_WITHIN: Duration = Duration::from_secs(20);
/// The state of a torrent that seeds (`TR_STATUS_SEED`).
const SEEDS: u64 = 6;

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let state = lab.folder(&job.name(Client::Transmission))?;
    let interface = SocketAddr::from(([127, 0, 0, 1], job.address.port() + 1000));
    let settings = json!({
        "bind-address-ipv4": job.address.ip().to_string(),
        "peer-port": job.address.port(),
        "dht-enabled": !job.dht.is_empty(),
        "lpd-enabled": job.local,
        "utp-enabled": false,
        // Preferred, only where the other side insists, or required.
        "encryption": match job.speech {
            Speech::Usual => 1,
            Speech::Clear => 0,
            Speech::Encrypted => 2,
        },
        "port-forwarding-enabled": false,
        "rpc-bind-address": interface.ip().to_string(),
        "rpc-port": interface.port(),
        "download-dir": job.folder,
    });
    fs::write(state.join("settings.json"), settings.to_string())?;
    // Where it begins in the DHT, before it asks the usual routers.
    let contacts = job.dht.iter();
    let contacts: String = contacts
        .map(|contact| format!("{} {}\n", contact.ip(), contact.port()))
        .collect();
    fs::write(state.join("dht.bootstrap"), contacts)?;
    let mut command = Command::new(Program::Transmission.find()?);
    command.args(["--foreground", "--config-dir"]).arg(&state);
    let process = Process::start(lab, &job.name(Client::Transmission), &mut command)?;
    eventually(START_WITHIN, "Transmission to answer", || {
        Ok(call(interface, "session-get", &json!({})).is_ok())
    })?;
    let order = json!({ "filename": job.source().to_string_lossy(), "download-dir": job.folder });
    let added = call(interface, "torrent-add", &order)?;
    ensure!(
        added["result"] == "success",
        "Transmission refuses: {added}"
    );
    let role = job.role;
    Ok(Running::new(
        Client::Transmission,
        job,
        process,
        Box::new(move |_| {
            let fields = json!({ "fields": ["percentDone", "status", "errorString"] });
            let reply = call(interface, "torrent-get", &fields)?;
            let torrent = &reply["arguments"]["torrents"][0];
            let seeds = torrent["status"].as_u64() == Some(SEEDS);
            Ok(torrent["percentDone"].as_f64() == Some(1.0) && (seeds || role == Role::Leech))
        }),
    ))
}

/// Calls its interface. The first reply of a session is a refusal that has the key for the next.
fn call(interface: SocketAddr, method: &str, arguments: &Value) -> Result<Value> {
    const KEY: &str = "X-Transmission-Session-Id";
    let body = json!({ "method": method, "arguments": arguments }).to_string();
    let post = |key: &str| {
        let headers = [(KEY, key)];
        http::post(interface, "/transmission/rpc", &headers, body.as_bytes())
    };
    let refusal = post("")?;
    let key = refusal.header(KEY).context("Transmission gives no key")?;
    Ok(serde_json::from_str(&post(key)?.into_body()?)?)
}

//! qBittorrent 4.5, steered by its web interface.

use super::{Client, Job, Role, Running};
use crate::http;
use crate::lab::Lab;
use crate::process::{Process, eventually};
use crate::program::Program;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long its interface may take to answer for the first time.
const START_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn start(lab: &Lab, job: &Job<'_>) -> Result<Running> {
    let profile = lab.folder(&job.name(Client::QBittorrent))?;
    let interface = SocketAddr::from(([127, 0, 0, 1], job.address.port() + 1000));
    write_settings(&profile, job, interface)?;
    let mut command = Command::new(Program::QBittorrent.find()?);
    command.arg(format!("--profile={}", profile.display()));
    let process = Process::start(lab, &job.name(Client::QBittorrent), &mut command)?;
    eventually(START_WITHIN, "qBittorrent to answer", || {
        Ok(http::get(interface, "/api/v2/app/version").is_ok())
    })?;
    add(interface, job)?;
    let mut hash = None;
    eventually(START_WITHIN, "qBittorrent to list the torrent", || {
        hash = torrent(interface)?["hash"].as_str().map(str::to_owned);
        Ok(hash.is_some())
    })?;
    if !job.connect.is_empty() {
        tell_of_peers(interface, &hash.context("it has a hash")?, job.connect)?;
    }
    let role = job.role;
    Ok(Running::new(
        Client::QBittorrent,
        job,
        process,
        Box::new(move |_| {
            let torrent = torrent(interface)?;
            let state = torrent["state"].as_str().unwrap_or_default();
            ensure!(state != "error", "qBittorrent gave the torrent up");
            let seeds = matches!(state, "uploading" | "stalledUP");
            Ok(torrent["progress"].as_f64() == Some(1.0) && (seeds || role == Role::Leech))
        }),
    ))
}

fn write_settings(profile: &Path, job: &Job<'_>, interface: SocketAddr) -> Result<()> {
    let folder = profile.join("qBittorrent").join("config");
    fs::create_dir_all(&folder)?;
    let settings = format!(
        "[LegalNotice]\n\
         Accepted=true\n\
         [BitTorrent]\n\
         Session\\Port={port}\n\
         Session\\InterfaceAddress={ip}\n\
         Session\\BTProtocol={protocol}\n\
         Session\\PeXEnabled={exchange}\n\
         Session\\GlobalDLSpeedLimit={limit}\n\
         Session\\Encryption={encryption}\n\
         Session\\DHTEnabled=false\n\
         Session\\LSDEnabled={local}\n\
         Session\\SSRFMitigation=false\n\
         Session\\MultiConnectionsPerIp=true\n\
         [Network]\n\
         PortForwardingEnabled=false\n\
         [Preferences]\n\
         WebUI\\Enabled=true\n\
         WebUI\\Address={interface_ip}\n\
         WebUI\\Port={interface_port}\n\
         WebUI\\LocalHostAuth=false\n\
         WebUI\\UseUPnP=false\n",
        local = job.local,
        protocol = if job.utp { "UTP" } else { "TCP" },
        exchange = job.exchange.unwrap_or(true),
        // In KiB/s; 0 is none.
        limit = job.download_limit.unwrap_or(0) / 1024,
        // Allowed, off, or required.
        encryption = job.speech.word("0", "2", "1"),
        port = job.address.port(),
        ip = job.address.ip(),
        interface_ip = interface.ip(),
        interface_port = interface.port(),
    );
    fs::write(folder.join("qBittorrent.conf"), settings)?;
    Ok(())
}

/// Hands it the torrent, as the form of its web page would.
fn add(interface: SocketAddr, job: &Job<'_>) -> Result<()> {
    const BOUNDARY: &str = "a boundary that is in no torrent";
    let mut body = Vec::new();
    let folder = job.folder.display().to_string();
    let skips_checking = (job.measured && job.role == Role::Seed).to_string();
    for (name, value) in [
        ("savepath", folder.as_str()),
        ("autoTMM", "false"),
        ("skip_checking", &skips_checking),
    ] {
        let field = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(field.as_bytes());
    }
    let disposition = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=");
    body.extend_from_slice(disposition.as_bytes());
    match job.magnet {
        Some(link) => body.extend_from_slice(format!("\"urls\"\r\n\r\n{link}").as_bytes()),
        None => {
            let file = "\"torrents\"; filename=\"a.torrent\"\r\nContent-Type: application/x-bittorrent\r\n\r\n";
            body.extend_from_slice(file.as_bytes());
            body.extend_from_slice(&fs::read(job.torrent)?);
        }
    }
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let form = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let headers = [("Content-Type", form.as_str())];
    let reply = http::post(interface, "/api/v2/torrents/add", &headers, &body)?.into_body()?;
    ensure!(reply == "Ok.", "qBittorrent refuses: {reply}");
    Ok(())
}

fn tell_of_peers(interface: SocketAddr, hash: &str, peers: &[SocketAddr]) -> Result<()> {
    let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
    let body = format!("hashes={hash}&peers={}", peers.join("%7C"));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let path = "/api/v2/torrents/addPeers";
    http::post(interface, path, &headers, body.as_bytes())?.into_body()?;
    Ok(())
}

/// The one torrent, or `null`.
fn torrent(interface: SocketAddr) -> Result<Value> {
    let reply = http::get(interface, "/api/v2/torrents/info")?.into_body()?;
    let list: Value = serde_json::from_str(&reply)?;
    Ok(list[0].clone())
}

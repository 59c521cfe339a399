//! What `get` and `seed` do while a node runs: they give it the torrent, and show how far it is.
//!
//! Invariant: a torrent that was handed over belongs to the node; whatever ends the command, the node goes on with it.

use std::path::Path;
use std::time::Duration;

use shoal_metainfo::InfoHash;
use shoal_node::message::{Add, ErrorKind, Reply, Request, State, Torrent};
use shoal_node::{Client, ClientError};

use super::Done;
use super::node::{folder, socket};
use super::transfer::runtime;
use crate::args::{NetworkArgs, StateArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Progress, Warning};
use crate::signals::Interrupt;

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// A torrent for a node.
pub(super) struct HandOver {
    /// What it is, and how it is to be run.
    pub(super) add: Add,
    /// Its .torrent file, where that is known here.
    pub(super) file: Vec<u8>,
    /// Its name, where that is known here.
    pub(super) info_hash: Option<InfoHash>,
}

/// Fills in what both commands have.
pub(super) fn add(data: &Path, network: &NetworkArgs) -> Result<Add, Failure> {
    let mut add = Add {
        directory: Some(folder(data)?),
        peers: network.peers.clone(),
        trackers: network.trackers.iter().map(ToString::to_string).collect(),
        ..Add::default()
    };
    let limits = network.limits();
    let rates = [
        ("down", limits.down_bytes_per_s),
        ("up", limits.up_bytes_per_s),
    ];
    for (word, rate) in rates {
        if let Some(rate) = rate {
            add.rules.insert(word.to_owned(), rate.to_string());
        }
    }
    Ok(add)
}

/// Gives `torrent` to the node that runs and follows it until it is done there; `None` where no node runs.
pub(super) fn run(
    network: &NetworkArgs,
    state: &StateArgs,
    torrent: impl FnOnce() -> Result<HandOver, Failure>,
    output: &mut Output,
) -> Option<Done> {
    let path = match socket(state) {
        Ok(path) => path,
        Err(failure) => return Some(Err(failure)),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return Some(Err(failure)),
    };
    runtime.block_on(async {
        let client = match Client::connect(&path).await {
            Ok(client) => client,
            Err(ClientError::Absent) => return None,
            Err(error) => return Some(Err(error.into())),
        };
        let handing = Handing {
            client,
            interrupt: Interrupt::watch(),
            output,
        };
        Some(handing.run(network, torrent).await)
    })
}

struct Handing<'a> {
    client: Client,
    interrupt: Interrupt,
    output: &'a mut Output,
}

impl Handing<'_> {
    async fn run(
        mut self,
        network: &NetworkArgs,
        torrent: impl FnOnce() -> Result<HandOver, Failure>,
    ) -> Done {
        if let Some(option) = network.of_its_own() {
            let message = format!(
                "a node runs, and this torrent would be one of its own, to which {option} does not apply; leave it out, or add --alone"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let added = self.hand_over(torrent()?).await?;
        self.follow(added).await
    }

    async fn hand_over(&mut self, torrent: HandOver) -> Result<Torrent, Failure> {
        let add = Request::Add(Box::new(torrent.add));
        let added = self.client.ask(&add, &torrent.file).await;
        let reply = match (added, torrent.info_hash) {
            (Ok(reply), _) => reply,
            // Whoever asks for what is there wants it to go on.
            (
                Err(ClientError::Refused {
                    kind: ErrorKind::Duplicate,
                    ..
                }),
                Some(hash),
            ) => {
                let torrents = vec![hash.to_string()];
                self.client.ask(&Request::Resume { torrents }, &[]).await?
            }
            (Err(error), _) => return Err(error.into()),
        };
        only(reply)
    }

    /// Until everything wanted is there, or it cannot go on, or the person has seen enough.
    async fn follow(&mut self, added: Torrent) -> Done {
        self.output
            .show(&Event::SessionTorrent(Box::new(added.clone().into())))?;
        let mut state = added.state;
        loop {
            let torrents = vec![added.id.to_string()];
            let torrent = only(self.client.ask(&Request::List { torrents }, &[]).await?)?;
            let there = torrent.state == State::Seeding || torrent.completed_at.is_some();
            if torrent.state != state || there {
                state = torrent.state;
                self.output
                    .show(&Event::SessionTorrent(Box::new(torrent.clone().into())))?;
            }
            if there {
                return self.there(&torrent).await;
            }
            match (&torrent.state, &torrent.message) {
                (State::Failed, Some(why)) => {
                    let message = format!("{why}; the node keeps the torrent: see `shoal list`");
                    return Err(Failure::new(Exit::Failure, message));
                }
                (State::Downloading | State::Suspended, _) => {
                    self.output.show(&Event::Progress(progress(&torrent)))?;
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.interrupt.wait() => return Err(Failure::interrupted()),
            }
        }
    }

    /// Of data that is only served there may be a part, or nothing, which is what nobody wants.
    async fn there(&mut self, torrent: &Torrent) -> Done {
        let (right, all) = (torrent.verified_bytes, torrent.wanted_bytes);
        if right == 0 && all > 0 {
            let remove = Request::Remove {
                torrents: vec![torrent.id.to_string()],
                data: None,
            };
            self.client.ask(&remove, &[]).await?;
            let path = Path::new(&torrent.directory).join(&torrent.name);
            let path = path.display();
            let message = format!("nothing to seed: {path}: no piece of it is right; check --data");
            return Err(Failure::new(Exit::Wrong, message));
        }
        if right < all {
            let message = format!(
                "only {right} of {all} bytes are right and are served; `shoal check` shows what is wrong"
            );
            self.output.show(&Event::Warning(Warning { message }))?;
        }
        Ok(Exit::Ok)
    }
}

fn only(reply: Reply) -> Result<Torrent, Failure> {
    let torrent = match reply {
        Reply::Torrents { mut torrents } => torrents.pop(),
        _ => None,
    };
    torrent.ok_or_else(|| {
        let message = "the torrent was removed from the node meanwhile";
        Failure::new(Exit::Failure, message)
    })
}

fn progress(torrent: &Torrent) -> Progress {
    let missing = torrent.wanted_bytes.saturating_sub(torrent.verified_bytes);
    Progress {
        phase: torrent.state.name(),
        wanted_bytes: torrent.wanted_bytes,
        verified_bytes: torrent.verified_bytes,
        downloaded_bytes: torrent.downloaded_bytes,
        uploaded_bytes: torrent.uploaded_bytes,
        wasted_bytes: torrent.wasted_bytes,
        failed_pieces: torrent.failed_pieces,
        download_rate_bytes_per_s: torrent.download_rate_bytes_per_s,
        upload_rate_bytes_per_s: torrent.upload_rate_bytes_per_s,
        peers: torrent.peers,
        seeds: torrent.seeds,
        time_left_s: missing.checked_div(torrent.download_rate_bytes_per_s),
    }
}

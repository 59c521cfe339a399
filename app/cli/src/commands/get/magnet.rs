//! From a magnet link to the torrent that it names.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use shoal_engine::{
    AddMagnet, AddTorrent, Engine, FoundTorrent, MagnetError, MagnetHandle, MagnetSnapshot,
};
use shoal_metainfo::{Magnet, Metainfo};

use crate::args::GetArgs;
use crate::commands::describe;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Metadata};
use crate::stored_torrent;

/// Bytes of a piece of metadata (BEP 9).
const METADATA_PIECE: u64 = 16 * 1024;

/// How often it is told how far the search is. The output has bounds of its own.
const TICK: Duration = Duration::from_millis(200);

/// Reads a link, and refuses one that cannot lead anywhere.
pub(super) fn parse(link: &str, args: &GetArgs) -> Result<Magnet, Failure> {
    let magnet = Magnet::parse(link)
        .map_err(|error| Failure::new(Exit::Refused, format!("magnet link refused: {error}")))?;
    for warning in &magnet.warnings {
        tracing::warn!(%warning, "odd magnet link");
    }
    let network = &args.network;
    let link_is_empty =
        magnet.trackers.is_empty() && magnet.peers.is_empty() && magnet.sources.is_empty();
    let nobody_is_named = link_is_empty && network.peers.is_empty() && network.trackers.is_empty();
    // Where others than those named may be spoken to, the local network and the DHT may have a peer.
    if nobody_is_named && network.is_isolated() && network.dht_routers().is_none() {
        let message = "the magnet link names no tracker and no peer to ask; \
             name some with --tracker or --peer";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(magnet)
}

/// Finds out what the torrent is, from before or from peers, shows it, and says how it is to be downloaded.
pub(super) async fn find(
    args: &GetArgs,
    magnet: Magnet,
    engine: &Engine,
    output: &mut Output,
) -> Result<AddTorrent, Failure> {
    let state_dir = args.state.state_dir.as_deref();
    let known = stored_torrent::load(&magnet, state_dir)?;
    let is_new = known.is_none();
    let selected = magnet.selected.clone();
    let mut search = engine
        .add_magnet(AddMagnet {
            magnet,
            peers: args.network.peers.clone(),
            trackers: args.network.trackers.clone(),
            known,
        })
        .await?;
    let found = wait(&mut search, args.metadata_timeout, output).await?;
    if is_new {
        stored_torrent::save(&found, state_dir);
    }
    let torrent = describe::torrent(&found.metainfo, false);
    output.show(&Event::Torrent(Box::new(torrent)))?;
    let mut add = super::plan(args, Arc::clone(&found.metainfo))?;
    if let (None, Some(selected)) = (&add.priorities, selected) {
        add = add.select(&select(&selected, &found.metainfo)?);
    }
    add.search = Some(search);
    Ok(add)
}

/// For each file whether the link selects it (BEP 53): indices count from 0, padding included.
fn select(selected: &[RangeInclusive<u32>], metainfo: &Metainfo) -> Result<Vec<bool>, Failure> {
    let is_selected = |index| selected.iter().any(|range| range.contains(&index));
    let wanted: Vec<bool> = (0u32..)
        .zip(metainfo.files())
        .map(|(index, file)| is_selected(index) && !file.padding)
        .collect();
    if wanted.contains(&true) {
        return Ok(wanted);
    }
    let message = format!(
        "the magnet link selects none of the {} files that the torrent has; \
         choose some with --select",
        wanted.len()
    );
    Err(Failure::new(Exit::Usage, message))
}

/// Waits for the torrent, and tells how far that is.
async fn wait(
    search: &mut MagnetHandle,
    timeout: Option<Duration>,
    output: &mut Output,
) -> Result<FoundTorrent, Failure> {
    let watched = search.watch();
    let mut tick = tokio::time::interval(TICK);
    let until = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let mut told = BTreeSet::new();
    loop {
        let late = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            found = search.found() => return found.map_err(|error| refused(&error)),
            () = late => {
                let tried = tried(&watched.borrow());
                let after = timeout.unwrap_or_default().as_secs_f64();
                let message = format!("no metadata within {after} s: {tried}");
                return Err(Failure::new(Exit::Failure, message));
            }
            _ = tick.tick() => {
                let snapshot = watched.borrow().clone();
                for event in failing(&snapshot, &mut told) {
                    output.show(&event)?;
                }
                output.show(&Event::Metadata(metadata(&snapshot)))?;
            }
        }
    }
}

fn refused(error: &MagnetError) -> Failure {
    match error {
        MagnetError::Refused(_) => Failure::new(Exit::Refused, error.to_string()),
        MagnetError::Duplicate => Failure::new(Exit::Failure, error.to_string()),
        MagnetError::Stopped => {
            let message = "the search ended by itself; run the command again with -v to see why";
            Failure::new(Exit::Failure, message)
        }
    }
}

fn metadata(snapshot: &MagnetSnapshot) -> Metadata {
    let total_bytes = snapshot.search.total_bytes.map(u64::from);
    let received_bytes = u64::from(snapshot.search.pieces) * METADATA_PIECE;
    Metadata {
        candidates: snapshot.search.candidates,
        failed_dials: snapshot.search.failed_dials,
        peers: snapshot.search.peers,
        offers: snapshot.search.offers,
        liars: snapshot.search.liars,
        received_bytes: received_bytes.min(total_bytes.unwrap_or(0)),
        total_bytes,
        wants_hashes: snapshot.search.wants_layers,
    }
}

/// What trackers complain of, each complaint once. Those that work say so when the torrent runs.
fn failing(snapshot: &MagnetSnapshot, told: &mut BTreeSet<(String, String)>) -> Vec<Event> {
    let failing = snapshot.trackers.iter().filter(|tracker| !tracker.working);
    let mut events = Vec::new();
    for tracker in failing {
        let Some(message) = &tracker.message else {
            continue;
        };
        if told.insert((tracker.host.clone(), message.clone())) {
            events.push(Event::Tracker(tracker.into()));
        }
    }
    events
}

/// What was tried in vain.
fn tried(snapshot: &MagnetSnapshot) -> String {
    let hosts = |working: bool| {
        let trackers = snapshot.trackers.iter();
        let like = trackers.filter(|tracker| tracker.working == working);
        like.map(|tracker| &tracker.host)
            .collect::<BTreeSet<_>>()
            .len()
    };
    let (answering, others) = (hosts(true), hosts(false));
    let peers = if snapshot.search.candidates == 0 {
        "no peer is known".to_owned()
    } else if snapshot.search.peers == 0 {
        format!(
            "none of {} known peers can be reached",
            snapshot.search.candidates
        )
    } else if snapshot.search.wants_layers {
        "nobody gives the hashes that its v2 files are verified with".to_owned()
    } else if snapshot.search.offers == 0 {
        format!("none of {} connected peers has it", snapshot.search.peers)
    } else {
        format!(
            "{} connected peers gave none that is right",
            snapshot.search.offers
        )
    };
    let liars = match snapshot.search.liars {
        0 => String::new(),
        liars => format!("; {liars} gave a wrong one"),
    };
    let trackers = match answering + others {
        0 => "no tracker was asked".to_owned(),
        all => format!("{answering} of {all} trackers answer"),
    };
    format!("{peers}{liars}; {trackers}; try again later, or name others with --peer or --tracker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_engine::SearchStanding;

    #[test]
    fn an_error_says_what_was_tried() {
        let state = |candidates, peers, offers, liars| MagnetSnapshot {
            search: SearchStanding {
                candidates,
                peers,
                offers,
                liars,
                ..SearchStanding::default()
            },
            ..MagnetSnapshot::default()
        };
        for (snapshot, words) in [
            (state(0, 0, 0, 0), "no peer is known; no tracker was asked"),
            (state(3, 0, 0, 0), "none of 3 known peers can be reached"),
            (
                state(3, 2, 0, 1),
                "none of 2 connected peers has it; 1 gave a wrong one",
            ),
            (
                state(3, 2, 1, 0),
                "1 connected peers gave none that is right",
            ),
        ] {
            let text = tried(&snapshot);
            assert!(text.contains(words), "{text}");
        }
    }
}

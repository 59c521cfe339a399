//! What a torrent shows of itself: a value, replaced as a whole, that anybody may look at without the engine waiting.

use crate::changes::Post;
use shoal_metainfo::InfoHash;
use shoal_storage::{Location, Reason};
pub use shoal_swarm::torrent::Origin as PeerOrigin;
pub use shoal_tracker::schedule::TrackerState;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use url::Url;

/// What a torrent is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It was just added.
    #[default]
    Starting,
    /// Files are read and hashed to find out what is there.
    Checking {
        /// Pieces that were checked.
        checked: u32,
        /// Pieces that are to be checked.
        total: u32,
    },
    /// Wanted pieces are missing.
    Downloading,
    /// Peers are served, and nothing is to be fetched: all that is wanted is verified, or the torrent only seeds.
    Seeding,
    /// Nothing can be written; it goes on by itself.
    Suspended {
        /// Why.
        reason: Reason,
        /// What could not be written.
        path: PathBuf,
    },
    /// Files are being moved. Peers are served meanwhile, and nothing is asked of them.
    Moving {
        /// Bytes that are in the new place.
        done_bytes: u64,
        /// Bytes that are to be.
        total_bytes: u64,
    },
    /// It ended, and nothing moves any more.
    Stopped,
    /// It cannot go on: what happened.
    Failed(String),
}

/// The state of a torrent at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is doing.
    pub phase: Phase,
    /// Why nothing of it can leave or come, where its route has ended for a while. It goes on by itself.
    pub no_route: Option<String>,
    /// Where its files are, once it runs. Not where it was said to be, where that was not heard of.
    pub location: Option<Arc<Location>>,
    /// Every wanted piece is verified; of a torrent that only seeds, every piece.
    pub complete: bool,
    /// Bytes of wanted pieces.
    pub wanted_bytes: u64,
    /// Bytes of wanted pieces that are verified.
    pub wanted_verified_bytes: u64,
    /// Bytes of all verified pieces.
    pub verified_bytes: u64,
    /// Verified pieces.
    pub verified_pieces: u32,
    /// Pieces that were verified from the journal, without reading or fetching them.
    pub resumed_pieces: u32,
    /// Payload bytes received from peers and web seeds, in this run.
    pub downloaded_bytes: u64,
    /// Payload bytes sent to peers, in this run.
    pub uploaded_bytes: u64,
    /// Payload bytes received that were of no use: duplicates and bad pieces.
    pub wasted_bytes: u64,
    /// Pieces that failed their check.
    pub failed_pieces: u64,
    /// Verified pieces that were lost in this run, because somebody else changed their file. What was found again counts too.
    pub lost_pieces: u64,
    /// Lost pieces that are being verified again.
    pub rechecking_pieces: u32,
    /// Payload bytes a second from peers and web seeds.
    pub download_rate: u64,
    /// Payload bytes a second to peers.
    pub upload_rate: u64,
    /// Connected peers.
    pub peers: Vec<PeerLine>,
    /// Web seeds that are or were asked.
    pub web_seeds: Vec<WebSeedLine>,
    /// Trackers, of each swarm.
    pub trackers: Vec<TrackerLine>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLine {
    /// Where it is.
    pub address: SocketAddr,
    /// What it calls itself, or what its peer id says. A claim, cleaned of what is not to be shown.
    pub client: Option<Arc<str>>,
    /// Who told us of it.
    pub origin: PeerOrigin,
    /// The connection is over uTP, not TCP.
    pub over_utp: bool,
    /// The connection is disguised (MSE).
    pub encrypted: bool,
    /// Since when it is connected.
    pub since: Instant,
    /// It has every piece.
    pub seed: bool,
    /// How many pieces it has.
    pub pieces: u32,
    /// We want something that it has.
    pub we_are_interested: bool,
    /// It does not let us fetch.
    pub chokes_us: bool,
    /// It wants something that we have.
    pub interested: bool,
    /// We do not let it fetch.
    pub choked: bool,
    /// It lets our requests lie.
    pub snubs_us: bool,
    /// Payload bytes from it, over this connection.
    pub downloaded_bytes: u64,
    /// Payload bytes to it, over this connection.
    pub uploaded_bytes: u64,
    /// Payload bytes a second from it.
    pub download_rate: u64,
    /// Payload bytes a second to it.
    pub upload_rate: u64,
}

/// One web seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSeedLine {
    /// Scheme, host and port: the rest of a URL may hold a secret.
    pub host: String,
    /// It is asked: it has not failed just now, and was not given up.
    pub working: bool,
    /// What went wrong with it last.
    pub message: Option<String>,
    /// Payload bytes from it, in this run.
    pub downloaded_bytes: u64,
    /// Payload bytes a second from it.
    pub download_rate: u64,
}

/// A URL of which a part may be a secret: it is shown to nobody who does not ask for it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(pub(crate) Url);

impl SecretUrl {
    /// The whole of it, which belongs into no log and no error.
    #[must_use]
    pub const fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretUrl")
    }
}

/// One tracker of one swarm. Its figures are of the last answer to an announce, or to a scrape where those have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerLine {
    /// Scheme, host and port: the rest of a URL may hold a secret.
    pub host: String,
    /// All of its URL.
    pub url: SecretUrl,
    /// The swarm: a hybrid torrent is in two.
    pub swarm: InfoHash,
    /// Its tier, from 0 (BEP 12).
    pub tier: usize,
    /// How things stand.
    pub state: TrackerState,
    /// When the next announce is due if nothing happens before; `None` where none is planned.
    pub next_announce: Option<Instant>,
    /// It answered the last announce.
    pub working: bool,
    /// Why it did not, or what it warns of.
    pub message: Option<String>,
    /// Complete peers, as it says.
    pub seeds: Option<u32>,
    /// Incomplete peers, as it says.
    pub leeches: Option<u32>,
    /// Completed downloads ever, as it says.
    pub completed: Option<u32>,
}

/// The owner's end of a torrent's snapshot.
///
/// Invariant: whoever watches learns the end, also where the owner was cut off; whoever follows all torrents learns of each change.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Goes first: whoever sees that the sender is gone finds the torrent gone.
    post: Post,
    sender: watch::Sender<Snapshot>,
}

impl Shown {
    pub(crate) fn new(sender: watch::Sender<Snapshot>, post: Post) -> Self {
        Shown { post, sender }
    }

    #[cfg(test)]
    pub(crate) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.sender.subscribe()
    }

    /// Whoever watches is woken by news alone.
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        self.change(|shown| {
            *shown != snapshot && {
                *shown = snapshot;
                true
            }
        });
    }

    pub(crate) fn trackers(&self, lines: Vec<TrackerLine>) {
        self.change(|shown| {
            shown.trackers = lines;
            true
        });
    }

    /// As they are shown.
    pub(crate) fn verified_pieces(&self) -> u32 {
        self.sender.borrow().verified_pieces
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.change(|shown| {
            shown.phase != phase && {
                shown.phase = phase;
                true
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        if self.sender.send_if_modified(change) {
            self.post.changed();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let told = matches!(
            self.sender.borrow().phase,
            Phase::Stopped | Phase::Failed(_)
        );
        if !told {
            let what = "it was cut off before it had taken its leave";
            self.phase(Phase::Failed(what.to_owned()));
        }
    }
}

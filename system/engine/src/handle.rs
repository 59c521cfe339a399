//! How a torrent that was added is spoken to.
//!
//! Invariant: nothing here waits for anything but room in the torrent's bounded channel and, where there is an answer, for that.

use crate::command::{Command, CommandError};
use crate::inbox::Sender;
use crate::lines::{FileLine, PieceLine};
use crate::priorities::FilePriority;
use crate::snapshot::Snapshot;
use crate::torrent::ToTorrent;
use shoal_session::TorrentKey;
use shoal_transport::{LimitGroup, RateLimits, TorrentLimiter};
use std::net::SocketAddr;
use tokio::sync::{oneshot, watch};
use url::Url;

/// A torrent that was added. Clones are the same torrent.
///
/// What it is told holds from when it is told, also while its files are still being checked. All methods fail with
/// [`CommandError::Gone`] where it has ended.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    pub(crate) id: TorrentKey,
    pub(crate) sender: Sender<ToTorrent>,
    pub(crate) watched: watch::Receiver<Snapshot>,
    pub(crate) limiter: TorrentLimiter,
}

impl TorrentHandle {
    /// Which it is, among all that this engine ever has.
    #[must_use]
    pub const fn id(&self) -> TorrentKey {
        self.id
    }

    /// The torrent's state, and news of it. The sender goes when the torrent has ended.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.watched.clone()
    }

    /// Takes leave of trackers and peers and ends. Nothing happens where it has ended already.
    pub async fn stop(&self) {
        drop(self.sender.send(ToTorrent::Stop).await);
    }

    /// The limits of this torrent from here on.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn set_limits(&self, limits: RateLimits) -> Result<(), CommandError> {
        self.limiter.set_limits(limits);
        self.is_here()
    }

    /// The limits that it shares with other torrents from here on, in place of those before. All hold at once, with its own and the one
    /// of everything.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn set_limit_groups(&self, groups: &[LimitGroup]) -> Result<(), CommandError> {
        self.limiter.set_groups(groups);
        self.is_here()
    }

    /// How much each file of the metainfo is wanted. Returns when that holds: a file that becomes wanted gets what there is of it, which
    /// can take a while. Where the torrent only seeds, it means nothing.
    ///
    /// # Errors
    /// Where they are not one for each file, the disk refuses, or others are given before they hold. Then those before still hold.
    pub async fn set_priorities(&self, priorities: Vec<FilePriority>) -> Result<(), CommandError> {
        self.ask(|reply| Command::Priorities(priorities, reply))
            .await
    }

    /// Whether pieces are fetched in order.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_sequential(&self, sequential: bool) -> Result<(), CommandError> {
        self.tell(Command::Sequential(sequential)).await
    }

    /// Whether the first and last pieces of each wanted file come first.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_first_last(&self, first_last: bool) -> Result<(), CommandError> {
        self.tell(Command::FirstLast(first_last)).await
    }

    /// Whether it is a super-seed (BEP 16). To become one, it must have every piece; those who are connected are shown everything all the
    /// same, as they know of it.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_super_seed(&self, super_seed: bool) -> Result<(), CommandError> {
        self.tell(Command::SuperSeed(super_seed)).await
    }

    /// Peers that may be worth a dial. Content that no torrent describes has none.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) -> Result<(), CommandError> {
        self.tell(Command::Peers(peers)).await
    }

    /// The most connections of this torrent; never more than the session allows a torrent, which is what `None` means. Those beyond it
    /// end.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_max_connections(&self, most: Option<u32>) -> Result<(), CommandError> {
        self.tell(Command::MaxConnections(most)).await
    }

    /// The most peers of this torrent that are served at a time; never more than the session allows a torrent, which is what `None` means.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_max_uploads(&self, most: Option<u32>) -> Result<(), CommandError> {
        self.tell(Command::MaxUploads(most)).await
    }

    /// These trackers in place of all, in tiers (BEP 12). Those that were there go on as they were, those that are not named are taken
    /// leave of, and new ones are a person's word, and hear of us at once.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn set_trackers(&self, tiers: Vec<Vec<Url>>) -> Result<(), CommandError> {
        self.tell(Command::Trackers(tiers)).await
    }

    /// Announces to one tracker, or to all and in the DHT, as soon as they allow: sooner than their interval, not sooner than their minimal
    /// one. The local network hears of us every five minutes whatever happens (BEP 14).
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn reannounce(&self, tracker: Option<Url>) -> Result<(), CommandError> {
        self.tell(Command::Reannounce(tracker)).await
    }

    /// A web seed more (BEP 19). One that was given up is asked again.
    ///
    /// # Errors
    /// Where there are too many.
    pub async fn add_web_seed(&self, url: Url) -> Result<(), CommandError> {
        self.ask(|reply| Command::AddWebSeed(url, reply)).await
    }

    /// Does without a web seed, of either kind (BEP 19, BEP 17).
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn remove_web_seed(&self, url: Url) -> Result<(), CommandError> {
        self.tell(Command::RemoveWebSeed(url)).await
    }

    /// Reads everything again, and loses what is wrong. Meanwhile nobody is connected; then it goes on by itself. Returns when it has
    /// begun: [`Phase::Checking`](crate::Phase::Checking) tells how far it is.
    ///
    /// # Errors
    /// Where there are no hashes to check it by.
    pub async fn verify(&self) -> Result<(), CommandError> {
        self.ask(Command::Verify).await
    }

    /// How far each file of the metainfo is, as of now.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn files(&self) -> Result<Vec<FileLine>, CommandError> {
        self.ask(Command::Files).await
    }

    /// How far each piece is, as of now.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn pieces(&self) -> Result<Vec<PieceLine>, CommandError> {
        self.ask(Command::Pieces).await
    }

    pub(crate) async fn tell(&self, command: Command) -> Result<(), CommandError> {
        let sent = self.sender.send(command.into()).await;
        sent.map_err(|_| CommandError::Gone)
    }

    /// Tells it, and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.unwrap_or(Err(CommandError::Gone))
    }

    fn is_here(&self) -> Result<(), CommandError> {
        match self.sender.is_closed() {
            true => Err(CommandError::Gone),
            false => Ok(()),
        }
    }
}

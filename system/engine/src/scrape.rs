//! The figures of a swarm, asked of trackers by who does not take part in it.
//!
//! Invariant: all trackers are asked at once, and nothing takes longer than the caller gave it.

use crate::clock::Clock;
use crate::tracker::{Target, TrackerClient};
use shoal_metainfo::InfoHash;
use shoal_tracker::schedule::MAX_TRACKERS;
use shoal_tracker::{Error, ScrapeReply};
use shoal_transport::{OriginClass, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use url::Url;

/// As many trackers as a running torrent announces to.
pub const MAX_SCRAPED_TRACKERS: usize = MAX_TRACKERS;

/// Answers of trackers that are on their way; dropped, nobody waits for them.
pub struct Scrapes {
    answers: JoinSet<(usize, Result<ScrapeReply, Error>)>,
}

impl Scrapes {
    /// Asks the first [`MAX_SCRAPED_TRACKERS`] of these trackers, which a torrent or a magnet link names, about these swarms
    /// ([`InfoHashes::swarms`](shoal_metainfo::InfoHashes::swarms)). Listens nowhere and announces nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO and time.
    #[must_use]
    pub fn start(
        transport: &Transport,
        trackers: impl IntoIterator<Item = Url>,
        swarms: impl IntoIterator<Item = InfoHash>,
        within: Duration,
    ) -> Scrapes {
        let client = TrackerClient::new(Clock::start(), transport.clone());
        let swarms: Arc<[InfoHash]> = swarms.into_iter().collect();
        let mut rng = fastrand::Rng::new();
        let mut answers = JoinSet::new();
        for (index, url) in trackers.into_iter().take(MAX_SCRAPED_TRACKERS).enumerate() {
            let origin = OriginClass::Metainfo;
            let tracker = Target { url, origin };
            let (client, swarms, rng) = (client.clone(), Arc::clone(&swarms), rng.fork());
            answers
                .spawn(async move { (index, client.scrape(&tracker, &swarms, within, rng).await) });
        }
        Scrapes { answers }
    }

    /// Waits for the next answer: which tracker, counted from zero, and what it says. `None` when all have come.
    pub async fn next(&mut self) -> Option<(usize, Result<ScrapeReply, Error>)> {
        loop {
            match self.answers.join_next().await? {
                Ok(answer) => return Some(answer),
                // The runtime ends, which nobody here can be waiting for.
                Err(error) => tracing::debug!(%error, "a scrape was cut off"),
            }
        }
    }
}

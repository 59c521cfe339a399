//! A second copy of a torrent that is here: what it knows of trackers and web seeds goes to the first.
//!
//! Invariant: a private torrent is asked for nowhere but where it says itself (BEP 27), whatever a copy says.

use super::{NodeError, Session, tracker, webseed};
use crate::entry::{Entry, Source};
use crate::message::{self, TrackerRequest, WebSeedRequest};
use shoal_metainfo::InfoHashes;

impl Session {
    /// The torrent that this is a copy of, where there is one that may learn from it.
    pub(super) fn copy_of(&self, hashes: &InfoHashes, source: &Source) -> Option<i64> {
        let same = |entry: &&Entry| {
            let v1 = hashes.v1().is_some() && hashes.v1() == entry.hashes.v1();
            !entry.removed && (v1 || hashes.v2().is_some() && hashes.v2() == entry.hashes.v2())
        };
        let is_private = matches!(source, Source::Metainfo(metainfo) if metainfo.is_private());
        let first = self.entries.values().find(same)?;
        (!is_private && !first.is_private()).then_some(first.id)
    }

    /// Trackers and web seeds of a copy, and those that were named with it, become the torrent's, each once.
    pub(super) async fn merge(
        &mut self,
        id: i64,
        source: &Source,
        add: message::Add,
    ) -> Result<i64, NodeError> {
        let (trackers, web_seeds): (Vec<String>, Vec<String>) = match source {
            Source::Metainfo(metainfo) => {
                let trackers = metainfo.trackers().iter().flatten();
                let trackers = trackers.map(|tracker| tracker.url.clone());
                (trackers.collect(), metainfo.web_seeds().to_vec())
            }
            Source::Magnet(magnet) => {
                let trackers = magnet.trackers.iter();
                let trackers = trackers.map(|tracker| tracker.url.clone());
                (trackers.collect(), magnet.web_seeds.clone())
            }
        };
        let torrents = vec![id.to_string()];
        // What of it cannot be asked is left out, as it would be in a torrent.
        let trackers = trackers.into_iter().chain(add.trackers);
        let urls: Vec<String> = trackers
            .filter_map(|url| tracker::readable(&[url]).ok()?.pop())
            .collect();
        if !urls.is_empty() {
            let (torrents, tier) = (torrents.clone(), None);
            let more = TrackerRequest::Add {
                torrents,
                urls,
                tier,
            };
            self.tracker(more).await?;
        }
        let urls: Vec<String> = (web_seeds.into_iter())
            .filter_map(|url| webseed::readable(&[url]).ok()?.pop())
            .collect();
        if !urls.is_empty() {
            self.web_seed(WebSeedRequest::Add { torrents, urls })
                .await?;
        }
        Ok(id)
    }
}

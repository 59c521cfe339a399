//! Web seeds of torrents: those that a torrent names, and what a person adds and takes away.
//!
//! Invariant: no URL is both added and taken away, and none is part of an error.

use super::{Answer, NodeError, Session};
use crate::entry::{Entry, Source};
use crate::message::{Reply, WebSeed, WebSeedRequest};
use crate::urls;
use shoal_store::TorrentOptions;
use std::collections::BTreeSet;
use url::Url;

/// So many does a person add to a torrent, and take from it.
const MAX_TOLD: usize = 100;

impl Session {
    pub(super) async fn web_seed(&mut self, request: WebSeedRequest) -> Answer {
        let (torrents, add, remove) = match request {
            WebSeedRequest::List { torrents } => (torrents, Vec::new(), Vec::new()),
            WebSeedRequest::Add { torrents, urls } => (torrents, readable(&urls)?, Vec::new()),
            WebSeedRequest::Set { torrents, url, to } => (torrents, readable(&[to])?, vec![url]),
            WebSeedRequest::Remove { torrents, urls } => (torrents, Vec::new(), urls),
        };
        let ids = self.resolve(&torrents)?;
        let mut told = Vec::new();
        for entry in ids.iter().filter_map(|id| self.entries.get(id)) {
            let options = changed(entry, &add, &remove);
            let options = options.map_err(|error| format!("{}: {error}", entry.name()));
            told.push((entry.id, options.map_err(NodeError::Usage)?));
        }
        self.database.set_options(&told).await?;
        for (id, options) in told {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let before = entry.web_seeds();
            entry.options = options.into();
            self.heed_web_seeds(id, &before);
        }
        let entries = ids.iter().filter_map(|id| self.entries.get(id));
        let seeds = entries.flat_map(|entry| {
            let torrent = entry.id;
            let urls = entry.web_seeds().into_iter();
            urls.map(move |url| WebSeed { torrent, url })
        });
        Ok(Reply::WebSeeds {
            web_seeds: seeds.collect(),
        })
    }

    /// The torrent hears which web seeds came and went.
    pub(super) fn heed_web_seeds(&mut self, id: i64, before: &BTreeSet<String>) {
        let now = self.entries.get(&id).map(Entry::web_seeds);
        let now = now.unwrap_or_default();
        let (gone, new) = (
            urls::parsed(&(before - &now)),
            urls::parsed(&(&now - before)),
        );
        if gone.is_empty() && new.is_empty() {
            return;
        }
        self.change_web_seeds(id, gone, new);
    }

    /// All that a person changed of them, as the torrent may have missed some.
    pub(super) fn tell_web_seeds(&mut self, id: i64) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let gone = urls::parsed(&entry.options.without_web_seeds);
        let new = urls::parsed(&entry.options.web_seeds);
        self.change_web_seeds(id, gone, new);
    }

    fn change_web_seeds(&mut self, id: i64, gone: Vec<Url>, new: Vec<Url>) {
        if let Some(handle) = self.engaged(id) {
            Session::tell_torrent(async move {
                for url in gone {
                    handle.remove_web_seed(url).await?;
                }
                for url in new {
                    handle.add_web_seed(url).await?;
                }
                Ok(())
            });
        }
    }
}

impl Entry {
    /// Those that the torrent names, of either kind (BEP 19, BEP 17).
    fn own_web_seeds(&self) -> BTreeSet<String> {
        let urls: Vec<&String> = match &self.source {
            Source::Metainfo(metainfo) => {
                let files = metainfo.web_seeds().iter();
                files.chain(metainfo.http_seeds()).collect()
            }
            Source::Magnet(magnet) => magnet.web_seeds.iter().collect(),
        };
        let urls = urls.into_iter().filter_map(|url| Url::parse(url).ok());
        urls.map(String::from).collect()
    }

    /// All of them, as they are parsed and written again.
    pub(super) fn web_seeds(&self) -> BTreeSet<String> {
        let mut all = self.own_web_seeds();
        all.extend(self.options.web_seeds.iter().cloned());
        all.retain(|url| !self.options.without_web_seeds.contains(url));
        all
    }
}

fn changed(entry: &Entry, add: &[String], remove: &[String]) -> Result<TorrentOptions, String> {
    let mut options = TorrentOptions::clone(&entry.options);
    let own = entry.own_web_seeds();
    for url in remove {
        let url = Url::parse(url).map(String::from).unwrap_or_default();
        let added = options.web_seeds.contains(&url);
        let named = own.contains(&url) && !options.without_web_seeds.contains(&url);
        if !added && !named {
            return Err("there is no such web seed; `shoal webseed list` shows them".to_owned());
        }
        options.web_seeds.retain(|other| *other != url);
        if own.contains(&url) {
            options.without_web_seeds.insert(url);
        }
    }
    for url in add {
        options.without_web_seeds.remove(url);
        if !own.contains(url) && !options.web_seeds.contains(url) {
            options.web_seeds.push(url.clone());
        }
    }
    let most = options.web_seeds.len().max(options.without_web_seeds.len());
    match most > MAX_TOLD {
        true => Err(format!(
            "{MAX_TOLD} web seeds are the most to add or remove"
        )),
        false => Ok(options),
    }
}

/// URLs of web seeds, as they are stored.
pub(super) fn readable(texts: &[String]) -> Result<Vec<String>, NodeError> {
    let what = "that is no web seed; write a URL like https://mirror.example/files/";
    urls::readable(texts, &["http", "https"], what)
}

//! Rates: those that a torrent has of its own, those that it shares with others of its category and tags, and those of everything.
//!
//! Invariant: the rates of one category or tag are one limit, which all torrents that are in it share.

use super::owner::Carriers;
use super::{Session, key};
use crate::entry::Run;
use shoal_session::queue;
use shoal_session::rules::{Rules, Told};
use shoal_store::{Carrier as Kind, TorrentOptions};
use shoal_transport::{LimitGroup, RateLimits};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// The limits that categories and tags share out, as far as any was ever asked for.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(Kind, String), LimitGroup>);

/// The rates of these rules alone.
pub(super) fn rates(rules: &Rules) -> RateLimits {
    let rate = |told| match told {
        Told::Some(rate) => NonZeroU64::new(rate),
        Told::Inherit | Told::None => None,
    };
    RateLimits {
        down_bytes_per_s: rate(rules.down_bytes_per_s),
        up_bytes_per_s: rate(rules.up_bytes_per_s),
    }
}

impl Groups {
    /// Those of a torrent of which this was told.
    pub(super) fn of(&mut self, carriers: &Carriers, options: &TorrentOptions) -> Vec<LimitGroup> {
        let mut groups = Vec::new();
        for (kind, name, rules) in carriers.of(options) {
            let limits = rates(rules);
            if limits != RateLimits::default() {
                let group = self.0.entry((kind, name.to_owned()));
                groups.push(group.or_insert_with(|| LimitGroup::new(limits)).clone());
            }
        }
        groups
    }

    /// What a category or tag says has changed, or it is gone.
    pub(super) fn changed(&mut self, kind: Kind, name: &str, rules: Option<&Rules>) {
        let place = (kind, name.to_owned());
        match rules {
            Some(rules) => {
                if let Some(group) = self.0.get(&place) {
                    group.set_limits(rates(rules));
                }
            }
            None => drop(self.0.remove(&place)),
        }
    }
}

impl Session {
    /// The rates of everything: as the session says, or else as the node was started.
    pub(super) fn limit_everything(&self) {
        self.engine.handle().set_limits(self.limits_of_everything());
    }

    /// Those that hold at this hour.
    pub(super) fn limits_of_everything(&self) -> RateLimits {
        let said = &self.carriers.session;
        let own = rates(said);
        let limits = RateLimits {
            down_bytes_per_s: match said.down_bytes_per_s {
                Told::Inherit => self.limits.down_bytes_per_s,
                _ => own.down_bytes_per_s,
            },
            up_bytes_per_s: match said.up_bytes_per_s {
                Told::Inherit => self.limits.up_bytes_per_s,
                _ => own.up_bytes_per_s,
            },
        };
        self.hours.limits(limits)
    }

    /// What holds for a torrent is perhaps something else, also while it runs.
    pub(super) fn rules_changed(&mut self, id: i64) {
        // Where it is about to run, it hears of its rates too.
        self.engaged(id);
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let held = self.carriers.effective(&entry.options, &self.settings);
        if let Run::Running(handle, _) = &entry.run {
            let (peers, slots) = (entry.options.max_peers, entry.options.max_slots);
            let torrent = handle.clone();
            Session::tell_torrent(async move {
                torrent.set_max_connections(peers).await?;
                torrent.set_max_uploads(slots).await
            });
            let groups = self.groups.of(&self.carriers, &entry.options);
            let limited = handle.set_limits(rates(&entry.options.rules));
            // Where it has ended, the next run begins with them.
            drop(limited.and_then(|()| handle.set_limit_groups(&groups)));
        }
        self.tell(queue::Input::Limits(key(id), held.own_limits()));
        self.follow_route(id);
    }
}

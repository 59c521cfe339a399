//! What the owner of the session has set for all of it: settings, and the categories, tags and session that torrents take rules from.
//!
//! Invariant: a category is there with all that it is below, and no torrent is in a category or has a tag that is not there.

use super::folders::Folders;
use super::{Answer, NodeError, Session};
use crate::connections::SessionLimits;
use crate::entry::Entry;
use crate::message::{Assignment, Carrier, CarrierKind, Reply};
use crate::rules_text;
use crate::settings::Settings;
use shoal_session::queue;
use shoal_session::rules::{self, CategoryName, Effective, Rules, TagName, Told};
use shoal_store::{Carrier as Kind, Database, StoreError, TorrentOptions};
use std::collections::BTreeMap;

/// More categories, or tags, than a person keeps apart.
const MAX_CARRIERS: usize = 10_000;

/// The list of what is said of connections, in the database.
const LIMITS: &str = "limits";

/// The only one in it.
const SESSION: &str = "session";

/// What was said of the slots and connections of everything.
pub(super) async fn read_connections(database: &Database) -> Result<SessionLimits, StoreError> {
    let stored = database.entries(LIMITS).await?;
    let text = stored.get(SESSION).map_or("{}", String::as_str);
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// What torrents take rules from, by name.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    pub(super) categories: BTreeMap<String, Rules>,
    pub(super) tags: BTreeMap<String, Rules>,
    pub(super) session: Rules,
}

impl Carriers {
    pub(super) async fn read(database: &Database) -> Result<Self, StoreError> {
        let mut session = database.carriers(Kind::Session).await?;
        Ok(Carriers {
            categories: database.carriers(Kind::Category).await?,
            tags: database.carriers(Kind::Tag).await?,
            session: session.remove("").unwrap_or_default(),
        })
    }

    /// What a torrent of which this was told takes rules from: its category, those that this is below, nearest first, and its tags by name.
    pub(super) fn of(&self, options: &TorrentOptions) -> Vec<(Kind, &str, &Rules)> {
        let category = options.category.as_deref();
        let category = category.and_then(|name| name.parse::<CategoryName>().ok());
        let lineage = category.iter().flat_map(CategoryName::lineage);
        let lineage = lineage.filter_map(|name| self.categories.get_key_value(name));
        let tags = options.tags.iter();
        let tags = tags.filter_map(|name| self.tags.get_key_value(name));
        let lineage = lineage.map(|(name, rules)| (Kind::Category, name.as_str(), rules));
        let tags = tags.map(|(name, rules)| (Kind::Tag, name.as_str(), rules));
        lineage.chain(tags).collect()
    }

    /// What holds for a torrent of which this was told.
    pub(super) fn effective(&self, options: &TorrentOptions, settings: &Settings) -> Effective {
        let all = self.of(options);
        let of = |kind| {
            let of_kind = all.iter().filter(move |(other, ..)| *other == kind);
            of_kind.map(|(_, _, rules)| *rules).collect::<Vec<&Rules>>()
        };
        let session = Rules {
            folder: settings.folder_data.clone(),
            incomplete: match &settings.folder_incomplete {
                Some(folder) => Told::Some(folder.clone()),
                None => Told::Inherit,
            },
            ..self.session.clone()
        };
        rules::effective(
            &options.rules,
            &of(Kind::Category),
            &of(Kind::Tag),
            &session,
        )
    }
}

const fn stored(kind: CarrierKind) -> Kind {
    match kind {
        CarrierKind::Category => Kind::Category,
        CarrierKind::Tag => Kind::Tag,
        CarrierKind::Session => Kind::Session,
    }
}

const fn word(kind: CarrierKind) -> &'static str {
    match kind {
        CarrierKind::Category => "category",
        CarrierKind::Tag => "tag",
        CarrierKind::Session => "session",
    }
}

impl Session {
    pub(super) async fn set(&mut self, assignments: &[Assignment]) -> Answer {
        let mut settings = self.settings.clone();
        let stored = settings.assign(assignments).map_err(NodeError::Usage)?;
        self.database.set(&stored).await?;
        let moves = self.settings.folder_data != settings.folder_data
            || self.settings.folder_incomplete != settings.folder_incomplete;
        let before = moves.then(|| self.all_folders());
        self.settings = settings;
        self.engine
            .handle()
            .filter_trackers(self.settings.filter_trackers);
        self.tell_queue_settings();
        if let Some(before) = before {
            let when = self.settings.when_session_moved;
            self.all_go_along(before, when).await?;
        }
        let settings = self.settings.shown();
        Ok(Reply::Settings { settings })
    }

    /// Slots and connections of everything, at once and from the next start on.
    async fn set_connections(&mut self, told: SessionLimits) -> Result<(), NodeError> {
        let text = serde_json::to_string(&told);
        let text = text.map_err(|error| NodeError::Refused(error.to_string()))?;
        self.database
            .set_entry(LIMITS, SESSION, Some(&text))
            .await?;
        self.connections = told;
        let settings = told.over(&self.started_with);
        // The engine's session alone hears of it, which waits for nobody.
        let told = self.engine.handle().set_session(settings).await;
        told.map_err(|_| NodeError::Stopped)
    }

    pub(super) fn tell_queue_settings(&mut self) {
        let mut settings = self.settings.queue(self.carriers.session.share_limits());
        if self.hours.hold_everything() {
            settings.max_active = Some(0);
        }
        self.tell(queue::Input::Settings(settings));
    }

    /// What the queue has to know of a torrent.
    pub(super) fn queued(&self, entry: &Entry) -> queue::Torrent {
        let held = self.carriers.effective(&entry.options, &self.settings);
        queue::Torrent {
            wish: self.wish_at_this_hour(entry.wish),
            ..entry.queued(held.own_limits())
        }
    }

    pub(super) fn shown_carriers(&self, kind: CarrierKind) -> Reply {
        let carrier = |name: &str, rules: &Rules, torrents| Carrier {
            name: name.to_owned(),
            rules: rules_text::shown(rules),
            torrents,
        };
        let present = || self.entries.values().filter(|entry| !entry.removed);
        let carriers = match kind {
            CarrierKind::Session => {
                let mut session = carrier("", &self.carriers.session, present().count());
                session.rules.extend(self.connections.shown());
                session.rules.extend(self.hours.alternative_words());
                vec![session]
            }
            CarrierKind::Category => {
                let is_in = |entry: &&Entry, name: &str| {
                    entry
                        .options
                        .category
                        .as_deref()
                        .is_some_and(|own| is_below(own, name))
                };
                let all = self.carriers.categories.iter();
                let count = |name: &str| present().filter(|entry| is_in(entry, name)).count();
                all.map(|(name, rules)| carrier(name, rules, count(name)))
                    .collect()
            }
            CarrierKind::Tag => {
                let count = |name: &str| {
                    present()
                        .filter(|entry| entry.options.tags.contains(name))
                        .count()
                };
                let all = self.carriers.tags.iter();
                all.map(|(name, rules)| carrier(name, rules, count(name)))
                    .collect()
            }
        };
        Reply::Carriers { carriers }
    }

    pub(super) async fn set_carrier(
        &mut self,
        kind: CarrierKind,
        name: &str,
        said: &BTreeMap<String, String>,
    ) -> Answer {
        let names = self.names_to_make(kind, name)?;
        let known = match kind {
            CarrierKind::Session => Some(&self.carriers.session),
            CarrierKind::Category => self.carriers.categories.get(name),
            CarrierKind::Tag => self.carriers.tags.get(name),
        };
        let mut rules = known.cloned().unwrap_or_default();
        let (mut said, mut connections) = (said.clone(), self.connections);
        if kind == CarrierKind::Session {
            connections.take(&mut said).map_err(NodeError::Usage)?;
        }
        let alternative = match kind {
            CarrierKind::Session => self.told_alternative(&mut said)?,
            CarrierKind::Category | CarrierKind::Tag => None,
        };
        rules_text::tell(&mut rules, &said).map_err(NodeError::Usage)?;
        self.routes.check(&said, &rules)?;
        let folders = rules.folder.is_some() || rules.incomplete != Told::Inherit;
        if kind == CarrierKind::Session && folders {
            let what =
                "the folders of the session are the settings folder.data and folder.incomplete";
            return Err(NodeError::Usage(what.to_owned()));
        }
        if let Some(alternative) = alternative {
            self.set_alternative(alternative).await?;
        }
        for above in names {
            let nothing = Rules::default();
            self.database
                .set_carrier(stored(kind), &above, Some(&nothing))
                .await?;
            self.carriers.categories.insert(above, nothing);
        }
        self.database
            .set_carrier(stored(kind), name, Some(&rules))
            .await?;
        if connections != self.connections {
            self.set_connections(connections).await?;
        }
        self.groups.changed(stored(kind), name, Some(&rules));
        let moves = said.contains_key("folder") || said.contains_key("incomplete");
        let before = moves.then(|| self.all_folders());
        match kind {
            CarrierKind::Session => self.carriers.session = rules,
            CarrierKind::Category => drop(self.carriers.categories.insert(name.to_owned(), rules)),
            CarrierKind::Tag => drop(self.carriers.tags.insert(name.to_owned(), rules)),
        }
        self.all_rules_changed(kind);
        if let Some(before) = before {
            let when = self.settings.when_category_moved;
            self.all_go_along(before, when).await?;
        }
        Ok(self.shown_carriers(kind))
    }

    /// Whether the name is one; gives the categories above it that are not there yet.
    fn names_to_make(&self, kind: CarrierKind, name: &str) -> Result<Vec<String>, NodeError> {
        let usage = |what: String| NodeError::Usage(what);
        let (carriers, above) = match kind {
            CarrierKind::Session if name.is_empty() => return Ok(Vec::new()),
            CarrierKind::Session => {
                return Err(usage("the session has no name".to_owned()));
            }
            CarrierKind::Category => {
                let category: CategoryName = name
                    .parse()
                    .map_err(|error| usage(format!("{name:?}: {error}")))?;
                let above = category.lineage().skip(1);
                let above = above.filter(|name| !self.carriers.categories.contains_key(*name));
                (
                    &self.carriers.categories,
                    above.map(str::to_owned).collect(),
                )
            }
            CarrierKind::Tag => {
                let tag: Result<TagName, _> = name.parse();
                tag.map_err(|error| usage(format!("{name:?}: {error}")))?;
                (&self.carriers.tags, Vec::new())
            }
        };
        if carriers.len() >= MAX_CARRIERS {
            return Err(usage(format!("{MAX_CARRIERS} are the most; remove some")));
        }
        Ok(above)
    }

    pub(super) async fn remove_carriers(&mut self, kind: CarrierKind, names: &[String]) -> Answer {
        let carriers = match kind {
            CarrierKind::Session => {
                return Err(NodeError::Usage("the session cannot be removed".to_owned()));
            }
            CarrierKind::Category => &self.carriers.categories,
            CarrierKind::Tag => &self.carriers.tags,
        };
        if let Some(name) = names.iter().find(|name| !carriers.contains_key(*name)) {
            return Err(NodeError::NoCarrier(word(kind), name.clone()));
        }
        let is_gone = |own: &str| match kind {
            CarrierKind::Category => names.iter().any(|name| is_below(own, name)),
            _ => names.iter().any(|name| name == own),
        };
        let gone: Vec<String> = carriers
            .keys()
            .filter(|own| is_gone(own.as_str()))
            .cloned()
            .collect();
        let mut told = Vec::new();
        for entry in self.entries.values() {
            let mut options = TorrentOptions::clone(&entry.options);
            match kind {
                CarrierKind::Category => {
                    options.category = options.category.filter(|own| !is_gone(own));
                }
                _ => options.tags.retain(|own| !is_gone(own)),
            }
            if options != *entry.options {
                let held = self.carriers.effective(&entry.options, &self.settings);
                let when = self.settings.when_category_set;
                let options = self.go_along(entry, &Folders::of(&held), options, when);
                told.push((entry.id, options));
            }
        }
        // Torrents first: cut off between the two, a carrier without torrents is left, and no torrent without its carrier.
        self.database.set_options(&told).await?;
        for name in gone {
            self.database.set_carrier(stored(kind), &name, None).await?;
            self.groups.changed(stored(kind), &name, None);
            match kind {
                CarrierKind::Category => drop(self.carriers.categories.remove(&name)),
                _ => drop(self.carriers.tags.remove(&name)),
            }
        }
        self.heed(told);
        Ok(self.shown_carriers(kind))
    }

    fn all_rules_changed(&mut self, kind: CarrierKind) {
        if kind == CarrierKind::Session {
            self.tell_queue_settings();
            self.limit_everything();
            for id in self.entries.keys().copied().collect::<Vec<i64>>() {
                self.follow_route(id);
            }
            return;
        }
        let ids: Vec<i64> = self.entries.keys().copied().collect();
        for id in ids {
            self.rules_changed(id);
        }
    }
}

/// Whether a category is this one or below it.
fn is_below(own: &str, name: &str) -> bool {
    own.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

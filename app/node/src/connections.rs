//! How many connections and upload slots a torrent or the session has, and whether a torrent is a super-seed, as people write it beside
//! rules: one word for each.
//!
//! Invariant: what is shown is read back as the same; of a torrent, nothing said is as many as the session allows one.

use crate::{rules_text, settings, values};
use serde::{Deserialize, Serialize};
use shoal_engine::{SeedingPolicy, SessionSettings, Slots};
use shoal_store::TorrentOptions;
use std::collections::BTreeMap;

/// Nothing is said here, and what others say holds.
const INHERIT: &str = "inherit";

/// Slots as many as the uplink feeds.
const AUTO: &str = "auto";

/// More connections than a process has files for.
const MAX: u32 = 1_000_000;

type Words = BTreeMap<String, String>;

/// What is said of a torrent: all of it, or nothing.
pub(crate) fn tell_torrent(options: &mut TorrentOptions, said: &Words) -> Result<(), String> {
    let mut told = options.clone();
    let mut rules = said.clone();
    if let Some(text) = rules.remove("peers") {
        told.max_peers = number("peers", &text)?;
    }
    if let Some(text) = rules.remove("slots") {
        told.max_slots = number("slots", &text)?;
    }
    if let Some(text) = rules.remove("super_seed") {
        let on = values::parse_switch(&text);
        told.super_seed = on.map_err(|error| format!("super_seed: {error}"))?;
    }
    rules_text::tell(&mut told.rules, &rules)?;
    *options = told;
    Ok(())
}

/// What a torrent was told of its own.
pub(crate) fn shown_of_torrent(options: &TorrentOptions) -> Words {
    let mut words = rules_text::shown(&options.rules);
    let own = [
        ("peers", options.max_peers.map(|most| most.to_string())),
        ("slots", options.max_slots.map(|most| most.to_string())),
        ("super_seed", options.super_seed.then(|| "on".to_owned())),
    ];
    let own = own.into_iter();
    words.extend(own.filter_map(|(word, text)| Some((word.to_owned(), text?))));
    words
}

/// What the session was told, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SessionLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers_per_torrent: Option<u32>,
    /// 0 is as many as the uplink feeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots_per_torrent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots_to: Option<SlotsTo>,
}

/// Who gets a seed's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SlotsTo {
    InTurn,
    Fastest,
    AntiLeech,
}

const SLOTS_TO: [(&str, SlotsTo); 3] = [
    ("in-turn", SlotsTo::InTurn),
    ("fastest", SlotsTo::Fastest),
    ("anti-leech", SlotsTo::AntiLeech),
];

impl From<SlotsTo> for SeedingPolicy {
    fn from(to: SlotsTo) -> Self {
        match to {
            SlotsTo::InTurn => SeedingPolicy::RoundRobin,
            SlotsTo::Fastest => SeedingPolicy::Fastest,
            SlotsTo::AntiLeech => SeedingPolicy::AntiLeech,
        }
    }
}

impl SessionLimits {
    /// Takes what is for it out of what is said.
    pub(crate) fn take(&mut self, said: &mut Words) -> Result<(), String> {
        let mut told = *self;
        let numbers = [
            ("peers", &mut told.peers),
            ("peers_per_torrent", &mut told.peers_per_torrent),
            ("slots", &mut told.slots),
            ("slots_per_torrent", &mut told.slots_per_torrent),
        ];
        for (word, place) in numbers {
            if let Some(text) = said.remove(word) {
                *place = match (word, text.as_str()) {
                    ("slots", AUTO) => Some(0),
                    (word, text) => number(word, text)?,
                };
            }
        }
        if let Some(text) = said.remove("slots_to") {
            told.slots_to = match text.as_str() {
                INHERIT => None,
                text => {
                    let to = settings::choice(text, &SLOTS_TO);
                    Some(to.map_err(|error| format!("slots_to: {error}"))?)
                }
            };
        }
        *self = told;
        Ok(())
    }

    /// What was said.
    pub(crate) fn shown(self) -> Words {
        let slots = |most: u32| match most {
            0 => AUTO.to_owned(),
            most => most.to_string(),
        };
        let all = [
            ("peers", self.peers.map(|most| most.to_string())),
            (
                "peers_per_torrent",
                self.peers_per_torrent.map(|most| most.to_string()),
            ),
            ("slots", self.slots.map(slots)),
            (
                "slots_per_torrent",
                self.slots_per_torrent.map(|most| most.to_string()),
            ),
            (
                "slots_to",
                self.slots_to.map(|to| settings::word(to, &SLOTS_TO)),
            ),
        ];
        let said = all.into_iter();
        said.filter_map(|(word, text)| Some((word.to_owned(), text?)))
            .collect()
    }

    /// What the engine goes by, where nothing said is as the node was started.
    pub(crate) fn over(self, started: &SessionSettings) -> SessionSettings {
        SessionSettings {
            max_connections: self.peers.unwrap_or(started.max_connections),
            max_connections_per_torrent: self
                .peers_per_torrent
                .unwrap_or(started.max_connections_per_torrent),
            slots: match self.slots {
                None => started.slots,
                Some(0) => Slots::Automatic,
                Some(most) => Slots::Fixed(most),
            },
            slots_per_torrent: self.slots_per_torrent.or(started.slots_per_torrent),
            seeding: self.slots_to.map_or(started.seeding, SeedingPolicy::from),
            ..started.clone()
        }
    }
}

fn number(word: &str, text: &str) -> Result<Option<u32>, String> {
    if text == INHERIT {
        return Ok(None);
    }
    let read = text.parse().ok();
    let read = read.filter(|most| (1..=MAX).contains(most));
    let what = || format!("{word}: write a number from 1, or `inherit`");
    read.map(Some).ok_or_else(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Words {
        let pairs = pairs.iter();
        pairs
            .map(|(word, text)| ((*word).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_said_of_a_torrent_is_shown_and_taken_back() {
        let mut options = TorrentOptions::default();
        let words = said(&[
            ("peers", "9"),
            ("slots", "3"),
            ("super_seed", "on"),
            ("down", "1MiB"),
        ]);
        tell_torrent(&mut options, &words).unwrap();
        assert_eq!(shown_of_torrent(&options), words);
        for wrong in [
            ("peers", "0"),
            ("slots", "auto"),
            ("super_seed", "yes"),
            ("down", "0"),
        ] {
            let before = options.clone();
            let both = said(&[("peers", "1"), wrong]);
            assert!(tell_torrent(&mut options, &both).is_err() || wrong.0 == "peers");
            assert_eq!(options, before, "{wrong:?}");
        }
        let back = ["peers", "slots", "down"].map(|word| (word, INHERIT));
        tell_torrent(
            &mut options,
            &said(&[&back[..], &[("super_seed", "off")]].concat()),
        )
        .unwrap();
        assert_eq!(options, TorrentOptions::default());
    }

    #[test]
    fn what_the_session_is_told_goes_before_how_it_was_started() {
        let mut limits = SessionLimits::default();
        let started = SessionSettings::default();
        let mut words = said(&[
            ("peers", "50"),
            ("slots", "auto"),
            ("slots_per_torrent", "4"),
            ("slots_to", "anti-leech"),
            ("up", "1MiB"),
        ]);
        limits.take(&mut words).unwrap();
        assert_eq!(words, said(&[("up", "1MiB")]));
        let shown = said(&[
            ("peers", "50"),
            ("slots", "auto"),
            ("slots_per_torrent", "4"),
            ("slots_to", "anti-leech"),
        ]);
        assert_eq!(limits.shown(), shown);
        let stored = serde_json::to_string(&limits).unwrap();
        assert_eq!(
            serde_json::from_str::<SessionLimits>(&stored).unwrap(),
            limits
        );
        let settings = limits.over(&started);
        assert_eq!(settings.seeding, SeedingPolicy::AntiLeech);
        for (word, policy) in [
            ("in-turn", SeedingPolicy::RoundRobin),
            ("fastest", SeedingPolicy::Fastest),
        ] {
            limits.take(&mut said(&[("slots_to", word)])).unwrap();
            assert_eq!(limits.over(&started).seeding, policy);
        }
        let wrong = limits.take(&mut said(&[("slots_to", "friends")]));
        assert!(wrong.unwrap_err().contains("anti-leech"));
        assert_eq!(
            (settings.max_connections, settings.slots_per_torrent),
            (50, Some(4))
        );
        assert_eq!(
            settings.max_connections_per_torrent,
            started.max_connections_per_torrent
        );
        assert!(
            limits
                .take(&mut said(&[("peers_per_torrent", "none")]))
                .is_err()
        );
    }
}

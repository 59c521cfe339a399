//! What a person has told of a torrent, in the form in which it is stored: one JSON object.
//!
//! Invariant: what is absent is as it was before anybody said something of it, so that a newer program reads what an older one wrote.

use crate::StoreError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shoal_session::rules::{Rules, Then, Told, When};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What was told of one torrent, besides what has a column of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TorrentOptions {
    /// Another name in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A remark, in place of the torrent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The category that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its tags.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Its own rules.
    #[serde(with = "StoredRules", skip_serializing_if = "is_nothing")]
    pub rules: Rules,
    /// First and last pieces of each file are fetched first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub first_last: bool,
    /// It is shown piece by piece once it is whole (BEP 16).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub super_seed: bool,
    /// Only what is there is served.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub seed_only: bool,
    /// The room on the disk is reserved first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preallocate: bool,
    /// The most connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// The most peers that are served at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_slots: Option<u32>,
    /// Files that are wanted more than as usual, by their index: 2 is high, 3 is highest. Whether a file is wanted at all, the selection of
    /// the torrent alone says; what it does not select has no priority here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub priorities: BTreeMap<u32, u8>,
    /// Tiers of trackers in place of the torrent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trackers: Option<Vec<Vec<String>>>,
    /// Trackers besides those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_trackers: Vec<String>,
    /// Web seeds besides the torrent's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub web_seeds: Vec<String>,
    /// Web seeds of the torrent that it does without.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub without_web_seeds: BTreeSet<String>,
    /// Peers that a person named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<SocketAddr>,
    /// Other paths of files, by their index.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<u32, Vec<String>>,
    /// The folder that its data goes to when everything wanted is there, where it lies in another one until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The name of its completion journal, where its info hash and folder do not say that any more: its data was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// Where its data is being moved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// The names of its files end with this until everything wanted is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Whether it is to have a folder of its own, where it is not known yet what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// When it is to stop by itself, as if a person paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<StopAt>,
}

/// When a torrent that was added is to stop by itself, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopAt {
    /// It is known what its magnet link means.
    Metadata,
    /// It is known which of its data is there.
    Checked,
}

/// A move of data that was asked for and has not ended: how things are when it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Moving {
    /// The folder that the data is in; absent is the one that it is in before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Other paths of files, by their index.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<u32, Vec<String>>,
    /// Where it goes when everything wanted is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The folder is the torrent's own, whatever others say.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

fn is_nothing(rules: &Rules) -> bool {
    *rules == Rules::default()
}

/// How rules are stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Rules", default = "Rules::default", deny_unknown_fields)]
pub struct StoredRules {
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    down_bytes_per_s: Told<u64>,
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    up_bytes_per_s: Told<u64>,
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    ratio_permille: Told<u64>,
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    seed_time_s: Told<u64>,
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    idle_time_s: Told<u64>,
    #[serde(with = "when", skip_serializing_if = "Option::is_none")]
    when: Option<When>,
    #[serde(with = "then", skip_serializing_if = "Option::is_none")]
    then: Option<Then>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(with = "told", skip_serializing_if = "is_inherited")]
    incomplete: Told<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
}

fn is_inherited<T>(told: &Told<T>) -> bool {
    matches!(told, Told::Inherit)
}

/// `null` is no limit; what is inherited is absent.
mod told {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Told};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        told: &Told<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match told {
            Told::Some(value) => serializer.serialize_some(value),
            Told::Inherit | Told::None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Told<T>, D::Error> {
        let told = Option::<T>::deserialize(deserializer)?;
        Ok(told.map_or(Told::None, Told::Some))
    }
}

/// A word for each.
macro_rules! words {
    ($module:ident, $what:ident, $($word:literal = $value:ident),+) => {
        mod $module {
            use super::{Deserialize, Deserializer, Serializer, $what};

            pub(super) fn serialize<S: Serializer>(
                value: &Option<$what>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                match value {
                    $(Some($what::$value) => serializer.serialize_str($word),)+
                    None => serializer.serialize_none(),
                }
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<$what>, D::Error> {
                let word = Option::<String>::deserialize(deserializer)?;
                match word.as_deref() {
                    $(Some($word) => Ok(Some($what::$value)),)+
                    Some(other) => Err(serde::de::Error::unknown_variant(other, &[$($word),+])),
                    None => Ok(None),
                }
            }
        }
    };
}

words!(when, When, "any" = Any, "all" = All);
words!(
    then,
    Then,
    "pause" = Pause,
    "rm" = Remove,
    "rm-data" = RemoveData,
    "super-seed" = SuperSeed
);

/// As it is stored.
pub(crate) fn to_text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// What is stored as this.
pub(crate) fn from_text<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("{error} in {text}")))
}

/// Rules as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RulesText(#[serde(with = "StoredRules")] pub(crate) Rules);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_comes_back_and_what_was_not_is_not_stored() {
        assert_eq!(to_text(&TorrentOptions::default()).unwrap(), "{}");
        let options = TorrentOptions {
            name: Some("other".to_owned()),
            tags: BTreeSet::from(["hd".to_owned()]),
            rules: Rules {
                down_bytes_per_s: Told::Some(5),
                up_bytes_per_s: Told::None,
                when: Some(When::All),
                then: Some(Then::RemoveData),
                folder: Some("/films".to_owned()),
                ..Rules::default()
            },
            priorities: BTreeMap::from([(3, 2)]),
            trackers: Some(vec![vec!["udp://a.example:1".to_owned()]]),
            home: Some("/films".to_owned()),
            journal: Some("a.journal".to_owned()),
            moving: Some(Moving {
                directory: Some("/films".to_owned()),
                renamed: BTreeMap::from([(1, vec!["a".to_owned(), "b".to_owned()])]),
                ..Moving::default()
            }),
            ..TorrentOptions::default()
        };
        let text = to_text(&options).unwrap();
        assert!(
            !text.contains("ratio") && text.contains(r#""up_bytes_per_s":null"#),
            "{text}"
        );
        assert_eq!(from_text::<TorrentOptions>(&text).unwrap(), options);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for text in [
            "",
            "3",
            r#"{"rules":{"then":"explode"}}"#,
            r#"{"nome":"x"}"#,
        ] {
            let refused = from_text::<TorrentOptions>(text).unwrap_err();
            assert!(matches!(refused, StoreError::Damaged(_)), "{text}");
        }
    }
}

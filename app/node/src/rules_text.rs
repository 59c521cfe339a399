//! Rules as people write them: one word for each thing that can be said, and its value as text.
//!
//! Invariant: what is shown is read back as the same rules.

use crate::route::checked_name;
use crate::values;
use shoal_engine::OWN_ROUTE;
use shoal_session::rules::{Rules, Then, Told, When};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// There is no limit, whatever others say.
const NONE: &str = "none";

/// Nothing is said here, and what others say holds.
const INHERIT: &str = "inherit";

const THEN: [(&str, Then); 4] = [
    ("pause", Then::Pause),
    ("rm", Then::Remove),
    ("rm-data", Then::RemoveData),
    ("super-seed", Then::SuperSeed),
];

const WHEN: [(&str, When); 2] = [("any", When::Any), ("all", When::All)];

/// Changes `rules` by all of what is said, or not at all.
pub(crate) fn tell(rules: &mut Rules, said: &BTreeMap<String, String>) -> Result<(), String> {
    let mut told = rules.clone();
    for (word, text) in said {
        one(&mut told, word, text).map_err(|error| format!("{word}: {error}"))?;
    }
    *rules = told;
    Ok(())
}

fn one(rules: &mut Rules, word: &str, text: &str) -> Result<(), String> {
    match word {
        "down" => rules.down_bytes_per_s = limit(text, rate)?,
        "up" => rules.up_bytes_per_s = limit(text, rate)?,
        "ratio" => rules.ratio_permille = limit(text, values::parse_permille)?,
        "time" => rules.seed_time_s = limit(text, seconds)?,
        "idle" => rules.idle_time_s = limit(text, seconds)?,
        "when" => rules.when = choice(text, &WHEN)?,
        "then" => rules.then = choice(text, &THEN)?,
        "folder" => rules.folder = said(text).map(folder).transpose()?,
        "incomplete" => rules.incomplete = limit(text, folder)?,
        "route" => rules.route = said(text).map(route).transpose()?,
        _ => return Err("nothing is called that".to_owned()),
    }
    Ok(())
}

fn rate(text: &str) -> Result<u64, String> {
    Ok(values::parse_rate(text)?.get())
}

fn seconds(text: &str) -> Result<u64, String> {
    Ok(values::parse_time(text)?.as_secs())
}

fn said(text: &str) -> Option<&str> {
    (text != INHERIT).then_some(text)
}

fn limit<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Told<T>, String> {
    match text {
        INHERIT => Ok(Told::Inherit),
        NONE => Ok(Told::None),
        text => {
            let value = read(text);
            let value = value.map_err(|error| format!("{error}, or `none` or `inherit`"))?;
            Ok(Told::Some(value))
        }
    }
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(text) = said(text) else {
        return Ok(None);
    };
    let found = choices.iter().find(|(word, _)| *word == text);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let what = || format!("write one of {} or inherit", words.join(", "));
    found.map(|(_, value)| Some(*value)).ok_or_else(what)
}

fn folder(text: &str) -> Result<String, String> {
    match Path::new(text).is_absolute() {
        true => Ok(text.to_owned()),
        false => Err(format!("write the folder {text:?} from the root")),
    }
}

/// Whether there is such a route is not known here.
fn route(text: &str) -> Result<String, String> {
    if text == NONE {
        return Ok(OWN_ROUTE.to_owned());
    }
    checked_name(text).map(|()| text.to_owned())
}

/// What is said, by its word.
pub(crate) fn shown(rules: &Rules) -> BTreeMap<String, String> {
    let time = |seconds: u64| values::show_time(Duration::from_secs(seconds));
    let word = |then: Then| {
        let found = THEN.iter().find(|(_, known)| *known == then);
        found.map(|(word, _)| (*word).to_owned())
    };
    let when = |when: When| {
        let found = WHEN.iter().find(|(_, known)| *known == when);
        found.map(|(word, _)| (*word).to_owned())
    };
    let all = [
        ("down", told(rules.down_bytes_per_s, values::show_size)),
        ("up", told(rules.up_bytes_per_s, values::show_size)),
        ("ratio", told(rules.ratio_permille, values::show_permille)),
        ("time", told(rules.seed_time_s, time)),
        ("idle", told(rules.idle_time_s, time)),
        ("when", rules.when.and_then(when)),
        ("then", rules.then.and_then(word)),
        ("folder", rules.folder.clone()),
        (
            "incomplete",
            told(rules.incomplete.clone(), |folder| folder),
        ),
        ("route", rules.route.clone()),
    ];
    let said = all.into_iter();
    said.filter_map(|(word, text)| Some((word.to_owned(), text?)))
        .collect()
}

fn told<T>(told: Told<T>, show: impl Fn(T) -> String) -> Option<String> {
    match told {
        Told::Inherit => None,
        Told::None => Some(NONE.to_owned()),
        Told::Some(value) => Some(show(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_told<T: std::fmt::Debug + Clone + 'static>(
        value: impl Strategy<Value = T> + 'static,
    ) -> impl Strategy<Value = Told<T>> {
        prop_oneof![
            Just(Told::Inherit),
            Just(Told::None),
            value.prop_map(Told::Some)
        ]
    }

    prop_compose! {
        fn any_rules()(
            down_bytes_per_s in any_told(1..1u64 << 50),
            up_bytes_per_s in any_told(1..1u64 << 50),
            ratio_permille in any_told(0..1u64 << 31),
            seed_time_s in any_told(0..1u64 << 40),
            idle_time_s in any_told(0..1u64 << 40),
            when in proptest::option::of(prop_oneof![Just(When::Any), Just(When::All)]),
            then in proptest::option::of(0..THEN.len()),
            folder in proptest::option::of("/[a-z ]{0,9}"),
            incomplete in any_told("/[a-z ]{0,9}"),
            route in proptest::option::of("[a-h]{1,5}"),
        ) -> Rules {
            Rules {
                down_bytes_per_s, up_bytes_per_s, ratio_permille, seed_time_s, idle_time_s, when,
                then: then.map(|then| THEN[then].1),
                folder, incomplete, route,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(rules in any_rules()) {
            let mut read = Rules::default();
            tell(&mut read, &shown(&rules)).unwrap();
            prop_assert_eq!(read, rules);
        }
    }

    #[test]
    fn all_is_told_or_nothing() {
        let said = |text: &str| {
            let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
            pairs
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let mut rules = Rules::default();
        for (wrong, about) in [
            ("down=1M ratio=much", "ratio"),
            ("down=0", "stop everything"),
            ("then=explode", "rm-data"),
            ("folder=here", "from the root"),
            ("colour=red", "nothing is called that"),
        ] {
            let refused = tell(&mut rules, &said(wrong)).unwrap_err();
            assert!(refused.contains(about), "{refused}");
            assert_eq!(rules, Rules::default());
        }
        tell(&mut rules, &said("down=1M up=none ratio=1.5")).unwrap();
        tell(&mut rules, &said("down=inherit time=10d")).unwrap();
        let expected = said("up=none ratio=1.5 time=10d");
        assert_eq!(shown(&rules), expected);
    }
}

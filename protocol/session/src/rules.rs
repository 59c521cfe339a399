//! What torrents, categories, tags and the session say of rates, share limits, folders and routes, and what holds of it.
//!
//! Rates hold all at once: each is that of a group, which is shared by the torrents in it, and a torrent moves only what all its
//! groups allow. Anything else comes from the first that says something of it: the torrent, its category, what that is below, its
//! tags by name, the session. Each thing is looked for by itself, so that a torrent with a ratio of its own has the times of its category.
//!
//! Invariant: what holds depends on what is said only, and for each part of it one who said it can be named.

mod names;

pub use crate::queue::{Then, Told, When};
pub use names::{CategoryName, MAX_CATEGORY_DEPTH, MAX_NAME_BYTES, NameError, TagName};

use crate::queue::{OwnLimits, ShareLimits};
use core::time::Duration;

/// What one torrent, category or tag says, or the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The most that comes in a second, in bytes. As rates of others hold all the same, no rate is as good as nothing said.
    pub down_bytes_per_s: Told<u64>,
    /// The most that goes in a second, in bytes.
    pub up_bytes_per_s: Told<u64>,
    /// What a seed gives, in thousandths of what it received.
    pub ratio_permille: Told<u64>,
    /// How long it seeds, in seconds.
    pub seed_time_s: Told<u64>,
    /// How long it seeds although nobody takes anything, in seconds.
    pub idle_time_s: Told<u64>,
    /// Which of these limits counts.
    pub when: Option<When>,
    /// What follows then.
    pub then: Option<Then>,
    /// Where the data lies.
    pub folder: Option<String>,
    /// Where it lies until it is complete, if not there.
    pub incomplete: Told<String>,
    /// The name of the route.
    pub route: Option<String>,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The torrent itself.
    Torrent,
    /// The category with this place among those that were given: 0 is the torrent's own.
    Category(usize),
    /// The tag with this place among those that were given.
    Tag(usize),
    /// The session.
    Session,
}

/// What holds, and who said so; nobody, where it holds because nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held<T> {
    /// What holds.
    pub value: T,
    /// Who said so.
    pub from: Option<Origin>,
}

/// A rate that the torrents of a group share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRate {
    /// Whose group it is.
    pub from: Origin,
    /// What they may move together in a second, in bytes.
    pub bytes_per_s: u64,
}

/// What holds for a torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// The rates of what comes, all of which hold, nearest first.
    pub down: Vec<GroupRate>,
    /// The rates of what goes.
    pub up: Vec<GroupRate>,
    /// Ratio in thousandths, `None` without limit.
    pub ratio_permille: Held<Option<u64>>,
    /// Time as a seed in seconds.
    pub seed_time_s: Held<Option<u64>>,
    /// Time as a seed that nobody asks, in seconds.
    pub idle_time_s: Held<Option<u64>>,
    /// Which of these limits counts.
    pub when: Held<When>,
    /// What follows then.
    pub then: Held<Then>,
    /// The folder, if anybody says one.
    pub folder: Held<Option<String>>,
    /// The folder until it is complete, if that is another.
    pub incomplete: Held<Option<String>>,
    /// The route, if it is not the default.
    pub route: Held<Option<String>>,
}

/// What holds for a torrent. Its category comes before those that it is below, as [`CategoryName::lineage`] has them, and its tags are
/// in the order of their names.
#[must_use]
pub fn effective(
    torrent: &Rules,
    categories: &[&Rules],
    tags: &[&Rules],
    session: &Rules,
) -> Effective {
    let said = Said {
        torrent,
        categories,
        tags,
        session,
    };
    Effective {
        down: said.rates(|rules| rules.down_bytes_per_s),
        up: said.rates(|rules| rules.up_bytes_per_s),
        ratio_permille: said.first(|rules| rules.ratio_permille),
        seed_time_s: said.first(|rules| rules.seed_time_s),
        idle_time_s: said.first(|rules| rules.idle_time_s),
        when: said.first_or_default(|rules| rules.when),
        then: said.first_or_default(|rules| rules.then),
        folder: said.first(|rules| rules.folder.as_deref().into()).owned(),
        incomplete: said.first(|rules| rules.incomplete.as_deref()).owned(),
        route: said.first(|rules| rules.route.as_deref().into()).owned(),
    }
}

impl Effective {
    /// What the queue has to know. What the session says is left to its settings, where a change is one for all torrents.
    #[must_use]
    pub fn own_limits(&self) -> OwnLimits {
        OwnLimits {
            ratio_permille: self.ratio_permille.own(permille),
            seeding: self.seed_time_s.own(Duration::from_secs),
            idle: self.idle_time_s.own(Duration::from_secs),
            when: self.when.is_own().then_some(self.when.value),
            then: self.then.is_own().then_some(self.then.value),
        }
    }
}

impl Rules {
    /// What the queue has to know where these are the session's.
    #[must_use]
    pub fn share_limits(&self) -> ShareLimits {
        ShareLimits {
            ratio_permille: self.ratio_permille.or(None).map(permille),
            seeding: self.seed_time_s.or(None).map(Duration::from_secs),
            idle: self.idle_time_s.or(None).map(Duration::from_secs),
            when: self.when.unwrap_or_default(),
            then: self.then.unwrap_or_default(),
        }
    }
}

/// A ratio as the queue has it: four million is never reached either.
fn permille(ratio: u64) -> u32 {
    u32::try_from(ratio).unwrap_or(u32::MAX)
}

impl<T> Held<T> {
    /// Whether it is not the same for all torrents of the session.
    fn is_own(&self) -> bool {
        !matches!(self.from, None | Some(Origin::Session))
    }
}

impl Held<Option<u64>> {
    fn own<T>(&self, convert: impl FnOnce(u64) -> T) -> Told<T> {
        match self.value {
            _ if !self.is_own() => Told::Inherit,
            None => Told::None,
            Some(value) => Told::Some(convert(value)),
        }
    }
}

impl Held<Option<&str>> {
    fn owned(self) -> Held<Option<String>> {
        Held {
            value: self.value.map(str::to_owned),
            from: self.from,
        }
    }
}

/// What is said of one torrent.
#[derive(Clone, Copy)]
struct Said<'a> {
    torrent: &'a Rules,
    categories: &'a [&'a Rules],
    tags: &'a [&'a Rules],
    session: &'a Rules,
}

impl<'a> Said<'a> {
    /// All of it, nearest first.
    fn by_all(self) -> impl Iterator<Item = (Origin, &'a Rules)> {
        let categories = self.categories.iter().enumerate();
        let tags = self.tags.iter().enumerate();
        core::iter::once((Origin::Torrent, self.torrent))
            .chain(categories.map(|(place, rules)| (Origin::Category(place), *rules)))
            .chain(tags.map(|(place, rules)| (Origin::Tag(place), *rules)))
            .chain(core::iter::once((Origin::Session, self.session)))
    }

    fn rates(self, of: impl Fn(&Rules) -> Told<u64>) -> Vec<GroupRate> {
        self.by_all()
            .filter_map(|(from, rules)| {
                let bytes_per_s = of(rules).or(None)?;
                Some(GroupRate { from, bytes_per_s })
            })
            .collect()
    }

    fn first<T>(self, of: impl Fn(&'a Rules) -> Told<T>) -> Held<Option<T>> {
        let said = self.by_all().find_map(|(from, rules)| match of(rules) {
            Told::Inherit => None,
            Told::None => Some((None, from)),
            Told::Some(value) => Some((Some(value), from)),
        });
        let (value, from) = said.unzip();
        Held {
            value: value.flatten(),
            from,
        }
    }

    fn first_or_default<T: Default>(self, of: impl Fn(&Rules) -> Option<T>) -> Held<T> {
        let held = self.first(|rules| of(rules).into());
        Held {
            value: held.value.unwrap_or_default(),
            from: held.from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratio(permille: u64) -> Rules {
        Rules {
            ratio_permille: Told::Some(permille),
            ..Rules::default()
        }
    }

    fn down(rate: Told<u64>) -> Rules {
        Rules {
            down_bytes_per_s: rate,
            ..Rules::default()
        }
    }

    #[test]
    fn the_first_that_says_something_decides() {
        let (nothing, session) = (Rules::default(), ratio(1_000));
        let (films, short, tag) = (ratio(3_000), ratio(2_000), ratio(4_000));
        let held = |torrent: &Rules, categories: &[&Rules], tags: &[&Rules]| {
            let held = effective(torrent, categories, tags, &session).ratio_permille;
            (held.value, held.from)
        };
        let own = held(&ratio(5_000), &[&short, &films], &[&tag]);
        assert_eq!(own, (Some(5_000), Some(Origin::Torrent)));
        let below = held(&nothing, &[&short, &films], &[&tag]);
        assert_eq!(below, (Some(2_000), Some(Origin::Category(0))));
        let inherited = held(&nothing, &[&nothing, &films], &[&tag]);
        assert_eq!(inherited, (Some(3_000), Some(Origin::Category(1))));
        let tagged = held(&nothing, &[&nothing], &[&nothing, &tag]);
        assert_eq!(tagged, (Some(4_000), Some(Origin::Tag(1))));
        let rest = held(&nothing, &[], &[]);
        assert_eq!(rest, (Some(1_000), Some(Origin::Session)));
    }

    #[test]
    fn none_ends_the_search_and_nothing_said_is_nobodys() {
        let without = Rules {
            ratio_permille: Told::None,
            incomplete: Told::None,
            ..Rules::default()
        };
        let session = Rules {
            incomplete: Told::Some("/tmp".to_owned()),
            ..ratio(1_000)
        };
        let held = effective(&without, &[], &[], &session);
        assert_eq!(held.ratio_permille.value, None);
        assert_eq!(held.ratio_permille.from, Some(Origin::Torrent));
        assert_eq!(held.incomplete.value, None);
        let nobody = effective(&Rules::default(), &[], &[], &Rules::default());
        assert_eq!(nobody, Effective::default());
    }

    #[test]
    fn rates_hold_all_at_once_and_no_rate_lifts_no_others() {
        let held = effective(
            &down(Told::None),
            &[&down(Told::Some(20)), &down(Told::Some(30))],
            &[&down(Told::Inherit), &down(Told::Some(10))],
            &down(Told::Some(40)),
        );
        let rates: Vec<(Origin, u64)> = held.down.iter().map(|r| (r.from, r.bytes_per_s)).collect();
        let expected = [
            (Origin::Category(0), 20),
            (Origin::Category(1), 30),
            (Origin::Tag(1), 10),
            (Origin::Session, 40),
        ];
        assert_eq!(rates, expected);
        assert_eq!(held.up, []);
    }

    #[test]
    fn the_queue_hears_what_is_not_the_sessions() {
        let category = Rules {
            seed_time_s: Told::Some(60),
            idle_time_s: Told::None,
            then: Some(Then::RemoveData),
            ..ratio(u64::MAX)
        };
        let session = Rules {
            when: Some(When::All),
            idle_time_s: Told::Some(5),
            ..ratio(1_500)
        };
        let held = effective(&Rules::default(), &[&category], &[], &session);
        let own = OwnLimits {
            ratio_permille: Told::Some(u32::MAX),
            seeding: Told::Some(Duration::from_secs(60)),
            idle: Told::None,
            when: None,
            then: Some(Then::RemoveData),
        };
        assert_eq!(held.own_limits(), own);
        let all = ShareLimits {
            ratio_permille: Some(1_500),
            seeding: None,
            idle: Some(Duration::from_secs(5)),
            when: When::All,
            then: Then::Pause,
        };
        assert_eq!(session.share_limits(), all);
    }

    fn any_told() -> impl Strategy<Value = Told<u64>> {
        prop_oneof![
            3 => Just(Told::Inherit),
            1 => Just(Told::None),
            2 => (0u64..100).prop_map(Told::Some)
        ]
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let limits = (any_told(), any_told(), any_told(), any_told(), any_told());
        let then = proptest::option::of(prop_oneof![
            Just(Then::Pause),
            Just(Then::Remove),
            Just(Then::SuperSeed)
        ]);
        let when = proptest::option::of(prop_oneof![Just(When::Any), Just(When::All)]);
        let text = || proptest::option::of("[ab]");
        (limits, when, then, (text(), any_told(), text())).prop_map(
            |((down, up, ratio, seeding, idle), when, then, (folder, incomplete, route))| Rules {
                down_bytes_per_s: down,
                up_bytes_per_s: up,
                ratio_permille: ratio,
                seed_time_s: seeding,
                idle_time_s: idle,
                when,
                then,
                folder,
                incomplete: match incomplete {
                    Told::Inherit => Told::Inherit,
                    Told::None => Told::None,
                    Told::Some(number) => Told::Some(number.to_string()),
                },
                route,
            },
        )
    }

    /// What holds for a torrent of a session that says this, if `rules` of `from` come before it: written over, one after another.
    fn say(mut held: Effective, from: Origin, rules: &Rules) -> Effective {
        fn over<T: Clone>(held: &mut Held<Option<T>>, from: Origin, said: &Told<T>) {
            if let Told::Some(value) = said {
                held.value = Some(value.clone());
                held.from = Some(from);
            } else if matches!(said, Told::None) {
                held.value = None;
                held.from = Some(from);
            }
        }
        fn over_plain<T: Clone>(held: &mut Held<T>, from: Origin, said: Option<&T>) {
            if let Some(value) = said {
                held.value = value.clone();
                held.from = Some(from);
            }
        }
        if let Told::Some(bytes_per_s) = rules.down_bytes_per_s {
            held.down.insert(0, GroupRate { from, bytes_per_s });
        }
        if let Told::Some(bytes_per_s) = rules.up_bytes_per_s {
            held.up.insert(0, GroupRate { from, bytes_per_s });
        }
        over(&mut held.ratio_permille, from, &rules.ratio_permille);
        over(&mut held.seed_time_s, from, &rules.seed_time_s);
        over(&mut held.idle_time_s, from, &rules.idle_time_s);
        over_plain(&mut held.when, from, rules.when.as_ref());
        over_plain(&mut held.then, from, rules.then.as_ref());
        let folder = rules.folder.clone().map(Some);
        over_plain(&mut held.folder, from, folder.as_ref());
        over(&mut held.incomplete, from, &rules.incomplete);
        let route = rules.route.clone().map(Some);
        over_plain(&mut held.route, from, route.as_ref());
        held
    }

    proptest! {
        #[test]
        fn what_holds_is_what_is_left_when_the_nearest_writes_last(
            torrent in any_rules(),
            categories in proptest::collection::vec(any_rules(), 0..4),
            tags in proptest::collection::vec(any_rules(), 0..4),
            session in any_rules(),
        ) {
            let mut naive = say(Effective::default(), Origin::Session, &session);
            for (place, rules) in tags.iter().enumerate().rev() {
                naive = say(naive, Origin::Tag(place), rules);
            }
            for (place, rules) in categories.iter().enumerate().rev() {
                naive = say(naive, Origin::Category(place), rules);
            }
            naive = say(naive, Origin::Torrent, &torrent);
            let categories: Vec<&Rules> = categories.iter().collect();
            let tags: Vec<&Rules> = tags.iter().collect();
            let held = effective(&torrent, &categories, &tags, &session);
            prop_assert_eq!(&held, &naive);
            // However the queue puts together the torrent's own limits and the session's, these come out.
            let (own, global) = (held.own_limits(), session.share_limits());
            let ratio = own.ratio_permille.or(global.ratio_permille).map(u64::from);
            prop_assert_eq!(ratio, held.ratio_permille.value);
            let idle = own.idle.or(global.idle).map(|idle| idle.as_secs());
            prop_assert_eq!(idle, held.idle_time_s.value);
            prop_assert_eq!(own.when.unwrap_or(global.when), held.when.value);
            prop_assert_eq!(own.then.unwrap_or(global.then), held.then.value);
        }
    }
}

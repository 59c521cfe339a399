//! What holds whatever happens, by what an owner knows of its torrents.

use super::*;
use proptest::prelude::*;

/// What an owner knows of a torrent, beside what the queue says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    wish: Wish,
    pub(super) work: Work,
    failed: bool,
    gave_enough: bool,
}

impl Fact {
    fn may_run(&self) -> bool {
        let held = self.wish == Wish::Paused || self.gave_enough;
        !self.failed && (!held || self.work == ASKED)
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) settings: Settings,
    pub(super) facts: BTreeMap<TorrentKey, Fact>,
}

impl Model {
    pub(super) fn note(&mut self, input: &Input) {
        match *input {
            Input::Added(key, torrent) => {
                self.facts.entry(key).or_insert(Fact {
                    wish: torrent.wish,
                    work: torrent.work,
                    failed: false,
                    gave_enough: false,
                });
            }
            Input::Removed(key) => {
                self.facts.remove(&key);
            }
            Input::Settings(settings) => self.settings = settings,
            Input::Wish(key, wish) => self.of(key, |fact| {
                fact.wish = wish;
                fact.gave_enough = false;
                if wish == Wish::Paused && fact.work == ASKED {
                    fact.work = CHECK;
                }
            }),
            Input::Work(key, work) => self.of(key, |fact| {
                fact.work = work;
                fact.gave_enough &= work != Work::Download;
            }),
            Input::Failed(key) => self.of(key, |fact| fact.failed = true),
            Input::Well(key) => self.of(key, |fact| fact.failed = false),
            _ => {}
        }
    }

    fn of(&mut self, key: TorrentKey, change: impl FnOnce(&mut Fact)) {
        self.facts.get_mut(&key).map(change);
    }

    pub(super) fn hear(&mut self, said: &[Output]) {
        for output in said {
            if let Output::LimitReached(key, _, action) = *output {
                let stops = action != Then::SuperSeed;
                self.of(key, |fact| fact.gave_enough |= stops);
            }
        }
    }

    /// What holds at any moment.
    pub(super) fn always(&self, owner: &Owner) {
        for (&key, fact) in &self.facts {
            let runs = owner.running.get(&key);
            assert!(
                runs.is_none() || fact.may_run(),
                "{key:?} must not run: {fact:?}"
            );
            let must = fact.wish == Wish::Forced && !fact.failed;
            assert!(runs.is_some() || !must, "{key:?} must run: {fact:?}");
            // By its outputs a download that completed is still one.
            let checks = runs.map(|&activity| activity == Activity::Check);
            let shall = fact.work.activity() == Activity::Check;
            assert_eq!(checks.unwrap_or(shall), shall, "{key:?}: {fact:?}");
            assert_eq!(
                runs.is_some(),
                matches!(owner.queue.standing(key), Some(Standing::Running { .. }))
            );
        }
    }

    /// What holds after a pass.
    pub(super) fn settled(&self, owner: &Owner) {
        let place = |key: &TorrentKey| {
            let fact = self.facts[key];
            let competes = fact.may_run() && fact.wish != Wish::Forced;
            competes.then(|| (fact.work.activity(), *key))
        };
        let order = owner.queue.order();
        assert_eq!(
            order.iter().copied().collect::<BTreeSet<_>>(),
            self.facts.keys().copied().collect()
        );
        let placed: Vec<(Activity, TorrentKey)> = order.iter().filter_map(place).collect();
        let runs = |key: &TorrentKey| owner.running.contains_key(key);
        let all = placed
            .iter()
            .filter(|(activity, key)| *activity != Activity::Check && runs(key))
            .count();
        let most_in_all = self.settings.most_in_all();
        assert!(all <= most_in_all, "{all} run");
        for activity in Activity::ALL {
            let of = || placed.iter().filter(move |(other, _)| *other == activity);
            let counts = |key: &TorrentKey| runs(key) && !owner.is_slow(key.0);
            let counted = of().filter(|(_, key)| counts(key)).count();
            let most = self.settings.most(activity);
            assert!(counted <= most, "{counted} of {activity:?} run");
            let Some(first) = of().position(|(_, key)| !runs(key)) else {
                continue;
            };
            let full = activity != Activity::Check && all == most_in_all;
            assert!(counted == most || full, "one waits though there is room");
            if activity == Activity::Download {
                let behind = of().skip(first).filter(|(_, key)| counts(key)).count();
                assert_eq!(behind, 0, "one with a better position waits");
                let seeds = placed
                    .iter()
                    .any(|(of, key)| *of == Activity::Seed && runs(key));
                assert!(counted == most || !seeds, "a seed holds its place");
            }
        }
    }
}

/// Every torrent is filed as it is, and has the timer that it says.
pub(super) fn filed(queue: &Queue) {
    let mut timers = BTreeSet::new();
    for (&key, state) in &queue.torrents {
        assert_eq!(state.place, state.wanted_place());
        timers.extend(state.timer.map(|at| (at, key)));
    }
    assert_eq!(timers, queue.timers);
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let limit = || proptest::option::of(0u32..4);
    let share = (
        proptest::option::of(0u32..3_000),
        proptest::option::of(0u64..2_000),
        proptest::option::of(0u64..500),
        (any_when(), any_action()),
    );
    let slow = proptest::option::of(Just(SlowRule::default()));
    (limit(), limit(), limit(), limit(), share, slow).prop_map(
        |(checks, downloads, seeds, all, (ratio_permille, seeding, idle, (when, then)), slow)| {
            Settings {
                max_checks: checks,
                slow,
                seed_turn: Duration::from_secs(200),
                share: ShareLimits {
                    ratio_permille,
                    seeding: seeding.map(Duration::from_secs),
                    idle: idle.map(Duration::from_secs),
                    when,
                    then,
                },
                ..limits(downloads, seeds, all)
            }
        },
    )
}

fn any_when() -> impl Strategy<Value = When> {
    prop_oneof![Just(When::Any), Just(When::All)]
}

fn any_action() -> impl Strategy<Value = Then> {
    prop_oneof![
        Just(Then::Pause),
        Just(Then::Remove),
        Just(Then::SuperSeed),
        Just(Then::RemoveData)
    ]
}

fn any_work() -> impl Strategy<Value = Work> {
    prop_oneof![
        Just(CHECK),
        Just(ASKED),
        Just(Work::Download),
        Just(Work::Download),
        Just(Work::Seed),
        Just(Work::Seed)
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        Just(Wish::Paused),
        Just(Wish::Queued),
        Just(Wish::Queued),
        Just(Wish::Forced)
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let key = || (0u64..12).prop_map(TorrentKey);
    let shift = prop_oneof![
        Just(Shift::Top),
        Just(Shift::Up),
        Just(Shift::Down),
        Just(Shift::Bottom)
    ];
    let progress = (
        prop_oneof![0u64..5_000, Just(FAST)],
        0u64..4_000,
        0u64..2_000,
        0u64..2_000,
        0u64..300,
    );
    let progress = progress.prop_map(|(rate, uploaded, downloaded, seeding, idle)| Progress {
        uploaded_bytes: uploaded,
        downloaded_bytes: downloaded,
        verified_bytes: 2_000,
        seeding: Duration::from_secs(seeding),
        idle: Duration::from_secs(idle),
        ..moving(rate)
    });
    let own = (proptest::option::of(0u32..3_000), any_when());
    let own = own.prop_map(|(ratio, when)| OwnLimits {
        ratio_permille: ratio.map_or(Told::None, Told::Some),
        when: Some(when),
        ..OwnLimits::default()
    });
    prop_oneof![
        4 => (key(), any_work(), any_wish()).prop_map(|(key, work, wish)| {
            Input::Added(key, Torrent { wish, ..torrent(work) })
        }),
        1 => key().prop_map(Input::Removed),
        2 => (key(), any_wish()).prop_map(|(key, wish)| Input::Wish(key, wish)),
        3 => (key(), any_work()).prop_map(|(key, work)| Input::Work(key, work)),
        1 => key().prop_map(Input::Failed),
        1 => key().prop_map(Input::Well),
        6 => (key(), progress).prop_map(|(key, progress)| Input::Progress(key, progress)),
        1 => (key(), 0u32..100, 0u32..100)
            .prop_map(|(key, seeds, leeches)| Input::Swarm(key, Swarm { seeds, leeches })),
        1 => (key(), own).prop_map(|(key, own)| Input::Limits(key, own)),
        1 => (proptest::collection::vec(key(), 0..5), shift)
            .prop_map(|(keys, shift)| Input::Move(keys, shift)),
        1 => any_settings().prop_map(Input::Settings),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_limits_hold_and_nobody_waits_in_vain(
        settings in any_settings(),
        inputs in proptest::collection::vec((any_input(), 0u64..120), 0..120),
    ) {
        let mut owner = Owner::new(settings);
        let mut model = Model { settings, ..Model::default() };
        for (input, wait) in inputs {
            model.note(&input);
            owner.tell(input);
            model.hear(&owner.said());
            model.always(&owner);
            filed(&owner.queue);
            for _ in 0..wait {
                owner.pass(1);
                model.hear(&owner.said());
                model.always(&owner);
                if owner.queue.pass_at.is_none() {
                    model.settled(&owner);
                }
            }
            filed(&owner.queue);
        }
        owner.pass(10 * HOUR);
        model.hear(&owner.said());
        model.always(&owner);
    }
}

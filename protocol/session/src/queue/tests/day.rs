//! A day of 2,000 torrents, in virtual time.

use super::model::{Model, filed};
use super::*;

/// Time between two looks at the swarms of the day.
const STEP: u64 = 10;

/// A session of 2,000 torrents, of which fifty have peers at a time.
struct Day {
    owner: Owner,
    model: Model,
    /// Those whose swarm gives and takes.
    busy: BTreeSet<TorrentKey>,
    starts: BTreeMap<TorrentKey, u32>,
    rng: fastrand::Rng,
}

impl Day {
    const TORRENTS: u64 = 2_000;
    const SIZE_BYTES: u64 = 2 << 30;

    fn new(settings: Settings) -> Self {
        let mut day = Day {
            owner: Owner::new(settings),
            model: Model {
                settings,
                ..Model::default()
            },
            busy: BTreeSet::new(),
            starts: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(7),
        };
        for key in (0..Day::TORRENTS).map(TorrentKey) {
            let work = match key.0 % 20 {
                0 => CHECK,
                1 | 2 => Work::Download,
                _ => Work::Seed,
            };
            day.tell(Input::Added(key, torrent(work)));
            if key.0 % 40 == 3 || key.0 % 400 == 2 {
                day.busy.insert(key);
            }
        }
        day
    }

    fn tell(&mut self, input: Input) {
        self.model.note(&input);
        self.owner.tell(input);
    }

    fn step(&mut self) {
        self.owner.pass(STEP);
        let said = self.owner.said();
        self.model.hear(&said);
        for output in &said {
            if let Output::Start(key, activity) = *output {
                *self.starts.entry(key).or_default() += 1;
                if activity == Activity::Check {
                    self.tell(Input::Work(key, Work::Download));
                }
            }
        }
        for key in self.busy.clone() {
            self.moves(key);
        }
    }

    /// A swarm dies, and another comes to life.
    fn churn(&mut self) {
        let index = self.rng.usize(..self.busy.len());
        let dies = self.busy.iter().nth(index).copied();
        if let Some(key) = dies.filter(|key| self.busy.remove(key)) {
            self.tell(Input::Progress(
                key,
                Progress {
                    upload_bytes_per_s: 0,
                    download_bytes_per_s: 0,
                    ..self.progress(key)
                },
            ));
        }
        let born = TorrentKey(self.rng.u64(..Day::TORRENTS));
        self.busy.insert(born);
    }

    fn progress(&self, key: TorrentKey) -> Progress {
        let stored = self.owner.queue.stored(self.owner.now, key);
        stored.unwrap().progress
    }

    /// What a torrent moves in a step.
    fn moves(&mut self, key: TorrentKey) {
        if !self.owner.running.contains_key(&key) {
            return;
        }
        let before = self.progress(key);
        let downloads = self.model.facts[&key].work == Work::Download;
        let (received, sent) = if downloads { (FAST, 0) } else { (0, FAST) };
        let progress = Progress {
            download_bytes_per_s: received,
            upload_bytes_per_s: sent,
            downloaded_bytes: before.downloaded_bytes + received * STEP,
            uploaded_bytes: before.uploaded_bytes + sent * STEP,
            verified_bytes: Day::SIZE_BYTES,
            idle: Duration::ZERO,
            ..before
        };
        self.tell(Input::Progress(key, progress));
        if downloads && progress.downloaded_bytes >= Day::SIZE_BYTES {
            self.tell(Input::Work(key, Work::Seed));
        }
    }

    fn count(&self, of: impl Fn(Standing) -> bool) -> usize {
        let standing = |key| self.owner.standing(key).is_some_and(&of);
        (0..Day::TORRENTS).filter(|&key| standing(key)).count()
    }
}

#[test]
fn a_day_of_two_thousand_torrents() {
    let settings = Settings {
        max_checks: Some(2),
        share: ShareLimits {
            ratio_permille: Some(2_000),
            idle: Some(Duration::from_secs(12 * HOUR)),
            ..ShareLimits::default()
        },
        ..limits(Some(5), Some(20), None)
    };
    let mut day = Day::new(settings);
    for step in 0..24 * HOUR / STEP {
        day.step();
        if step % 30 == 0 {
            day.churn();
        }
        if day.owner.queue.pass_at.is_none() && step % 50 == 0 {
            day.model.always(&day.owner);
            day.model.settled(&day.owner);
        }
    }
    filed(&day.owner.queue);
    let gave = |limit| day.count(|standing| standing == Standing::GaveEnough(limit));
    let (ratio, idle) = (gave(ShareLimit::Ratio), gave(ShareLimit::IdleTime));
    assert!(ratio > 100 && idle > 1_000, "{ratio} by ratio, {idle} idle");
    let running = day.owner.running.len();
    assert_eq!(ratio + idle + running, 2_000, "nobody waits at the end");
    assert_eq!(day.starts.len(), 2_000, "each had its time");
    let starts: u32 = day.starts.values().sum();
    assert!(starts < 2_500, "{starts} starts: they flap");
}

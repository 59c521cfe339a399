//! Which torrents of a session run: judged by what they send and receive, once a second, not by what the queue thinks of them.
//!
//! Invariant: a violation is told where a state that must not be has lasted longer than passes and leaves take.

use crate::setup::NodeId;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_session::queue::{Activity, Settings, Wish};
use std::collections::BTreeMap;

/// What must not be may last so long: a pass each second, a leave of two, and the seconds in which it is looked at.
const SOON: Duration = Duration::from_secs(5);

/// Starts of a torrent for the same thing within a minute.
const MAX_STARTS_A_MINUTE: usize = 2;

/// One torrent as it is in this second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) node: NodeId,
    pub(crate) wish: Wish,
    /// What it runs for, or would.
    pub(crate) activity: Activity,
    /// Payload that came in this second where it downloads, that went where it seeds.
    pub(crate) moved_bytes: u64,
    /// What it sent, in thousandths of its content.
    pub(crate) ratio_permille: u64,
}

#[derive(Clone, Debug, Default)]
struct Book {
    starts: Vec<(Moment, Activity)>,
    runs_since: Option<Moment>,
    /// When it last moved as much as counts, or began to run.
    moved_at: Moment,
    waits_since: Option<Moment>,
    wrong_since: Option<Moment>,
    gave_enough: bool,
    /// It runs to be read.
    checks: bool,
}

/// The books of one session.
#[derive(Debug)]
pub(super) struct Turns {
    settings: Settings,
    patience: Duration,
    books: BTreeMap<NodeId, Book>,
    crowded_since: BTreeMap<Activity, Moment>,
    idle_since: BTreeMap<Activity, Moment>,
}

impl Turns {
    pub(super) fn new(settings: Settings, patience: Duration) -> Self {
        Turns {
            settings,
            patience,
            books: BTreeMap::new(),
            crowded_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
        }
    }

    /// A person wants something else of a torrent: what it did before is forgotten.
    pub(super) fn asked(&mut self, node: NodeId) {
        let book = self.books.entry(node).or_default();
        book.starts.clear();
        book.gave_enough = false;
        (book.waits_since, book.wrong_since) = (None, None);
    }

    pub(super) fn started(
        &mut self,
        node: NodeId,
        activity: Activity,
        now: Moment,
    ) -> Result<(), String> {
        let book = self.books.entry(node).or_default();
        if book.runs_since.replace(now).is_some() {
            return Err("starts although it runs".to_owned());
        }
        if book.gave_enough {
            return Err("starts although it has given enough".to_owned());
        }
        (book.moved_at, book.waits_since) = (now, None);
        book.checks = activity == Activity::Check;
        let minute = Duration::from_secs(60);
        book.starts.retain(|(at, _)| now - *at < minute);
        book.starts.push((now, activity));
        let checks = self.books.values().filter(|book| book.checks).count();
        let most = self.most(Activity::Check);
        // Who stops is told so before others start.
        if activity == Activity::Check && checks > most {
            return Err(format!("is one of {checks} that are read, {most} may be"));
        }
        let book = self.books.entry(node).or_default();
        let same = book.starts.iter().filter(|(_, other)| *other == activity);
        match same.count() {
            0..=MAX_STARTS_A_MINUTE => Ok(()),
            count => Err(format!("starts {count} times in a minute for {activity:?}")),
        }
    }

    pub(super) fn stopped(&mut self, node: NodeId) -> Result<(), String> {
        let book = self.books.entry(node).or_default();
        book.checks = false;
        let ran = book.runs_since.take().is_some();
        ran.then_some(())
            .ok_or_else(|| "stops although it does not run".to_owned())
    }

    /// It has given enough, and rests from here on.
    pub(super) fn gave_enough(&mut self, node: NodeId) {
        self.books.entry(node).or_default().gave_enough = true;
    }

    /// A second has passed.
    pub(super) fn second(&mut self, now: Moment, turns: &[Turn]) -> Vec<(NodeId, String)> {
        let mut wrong = Vec::new();
        for turn in turns {
            if let Err(what) = self.judge(now, turn) {
                wrong.push((turn.node, what));
            }
        }
        for activity in [Activity::Check, Activity::Download, Activity::Seed] {
            let of: Vec<&Turn> = turns.iter().filter(|t| t.activity == activity).collect();
            if let Some(first) = of.first() {
                let results = [
                    self.crowds(now, activity, &of),
                    self.idles(now, activity, turns),
                ];
                let found = results.into_iter().filter_map(Result::err);
                wrong.extend(found.map(|what| (first.node, what)));
            }
        }
        wrong
    }

    fn judge(&mut self, now: Moment, turn: &Turn) -> Result<(), String> {
        let slow_below = self.slow_below(turn.activity);
        let limit = self.settings.share.ratio_permille.map(u64::from);
        let stops = self.settings.share.then == shoal_session::queue::Then::Pause;
        let book = self.books.entry(turn.node).or_default();
        let runs = book.runs_since.is_some();
        if turn.moved_bytes >= slow_below {
            book.moved_at = now;
        }
        let reached = limit.is_some_and(|most| turn.ratio_permille >= most);
        let has_enough = turn.activity == Activity::Seed && reached && stops;
        let wrong = match turn.wish {
            Wish::Paused => runs.then_some("runs although it is paused"),
            Wish::Forced => (!runs).then_some("waits although it is forced"),
            Wish::Queued if has_enough => runs.then_some("runs although it has given enough"),
            Wish::Queued => None,
        };
        lasts(&mut book.wrong_since, now, wrong.is_some())
            .then(|| wrong.unwrap_or_default().to_owned())
            .map_or(Ok(()), Err)?;
        let waits = turn.wish == Wish::Queued && !runs && !book.gave_enough;
        book.waits_since = waits.then(|| book.waits_since.unwrap_or(now));
        let starves = book.waits_since.is_some_and(|at| now - at > self.patience);
        match starves {
            true => Err(format!("waits since {:?}", book.waits_since)),
            false => Ok(()),
        }
    }

    fn slow_below(&self, activity: Activity) -> u64 {
        match (activity, &self.settings.slow) {
            (Activity::Check, _) | (_, None) => 0,
            (Activity::Download, Some(rule)) => rule.download_bytes_per_s,
            (Activity::Seed, Some(rule)) => rule.upload_bytes_per_s,
        }
    }

    fn most(&self, activity: Activity) -> usize {
        let limit = match activity {
            Activity::Check => self.settings.max_checks,
            Activity::Download => self.settings.max_downloads,
            Activity::Seed => self.settings.max_seeds,
        };
        limit.map_or(usize::MAX, |most| most as usize)
    }

    fn runs(&self, turn: &Turn) -> Option<&Book> {
        let book = self.books.get(&turn.node)?;
        (turn.wish != Wish::Forced && book.runs_since.is_some()).then_some(book)
    }

    /// No more run than may, of those that without any doubt count: they have just begun, or move twice as much as the slow.
    fn crowds(&mut self, now: Moment, activity: Activity, turns: &[&Turn]) -> Result<(), String> {
        let fast = self.slow_below(activity).saturating_mul(2);
        let after = self.settings.slow.map_or(Duration::MAX, |rule| rule.after);
        let counts = |turn: &&&Turn| {
            let book = self.runs(turn);
            let young = |book: &Book| book.runs_since.is_some_and(|at| now - at < after);
            book.is_some_and(|book| turn.moved_bytes >= fast || young(book))
        };
        let (count, most) = (turns.iter().filter(counts).count(), self.most(activity));
        let since = self.crowded_since.entry(activity).or_insert(now);
        if count <= most {
            *since = now;
        }
        match now - *since > SOON {
            true => Err(format!(
                "is one of {count} that run for {activity:?}, {most} may"
            )),
            false => Ok(()),
        }
    }

    /// Nobody waits while there is room for one more, all counted that perhaps count.
    fn idles(&mut self, now: Moment, activity: Activity, turns: &[Turn]) -> Result<(), String> {
        let most_in_all = self
            .settings
            .max_active
            .map_or(usize::MAX, |most| most as usize);
        let after = self.settings.slow.map_or(Duration::MAX, |rule| rule.after);
        let running = turns.iter().filter(|turn| self.runs(turn).is_some());
        let in_all = running
            .filter(|turn| turn.activity != Activity::Check)
            .count();
        let perhaps = |book: &Book| now - book.moved_at <= after.saturating_add(SOON);
        let of = || turns.iter().filter(|turn| turn.activity == activity);
        let count = of()
            .filter(|turn| self.runs(turn).is_some_and(perhaps))
            .count();
        let waits = |turn: &&Turn| {
            let book = self.books.get(&turn.node);
            book.is_some_and(|book| book.waits_since.is_some())
        };
        let room =
            count < self.most(activity) && (activity == Activity::Check || in_all < most_in_all);
        let wasted = room && of().any(|turn| waits(&turn));
        let since = self.idle_since.entry(activity).or_insert(now);
        if !wasted {
            *since = now;
        }
        match now - *since > SOON {
            true => Err(format!(
                "or another waits for {activity:?} while {count} run"
            )),
            false => Ok(()),
        }
    }
}

/// Whether something has been so for too long.
fn lasts(since: &mut Option<Moment>, now: Moment, is_so: bool) -> bool {
    *since = is_so.then(|| since.unwrap_or(now));
    since.is_some_and(|at| now - at > SOON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(node: u32, wish: Wish) -> Turn {
        Turn {
            node: NodeId(node),
            wish,
            activity: Activity::Download,
            moved_bytes: 1 << 20,
            ratio_permille: 0,
        }
    }

    fn seconds(turns: &mut Turns, list: &[Turn]) -> usize {
        let found = (1..=10).map(|s| turns.second(Moment::from_secs(s), list).len());
        found.sum()
    }

    #[test]
    fn one_too_many_is_found_and_a_forced_one_is_not_one() {
        for (wish, sound) in [(Wish::Queued, false), (Wish::Forced, true)] {
            let settings = Settings {
                max_downloads: Some(1),
                ..Settings::default()
            };
            let mut turns = Turns::new(settings, Duration::MAX);
            for node in 0..2 {
                turns
                    .started(NodeId(node), Activity::Download, Moment::ZERO)
                    .unwrap();
            }
            let list = [turn(0, Wish::Queued), turn(1, wish)];
            assert_eq!(seconds(&mut turns, &list) == 0, sound);
        }
    }

    #[test]
    fn who_waits_beside_an_empty_place_or_runs_while_paused_is_found() {
        let mut turns = Turns::new(Settings::default(), Duration::MAX);
        assert!(seconds(&mut turns, &[turn(0, Wish::Queued)]) > 0);
        let mut turns = Turns::new(Settings::default(), Duration::MAX);
        turns
            .started(NodeId(0), Activity::Download, Moment::ZERO)
            .unwrap();
        assert!(seconds(&mut turns, &[turn(0, Wish::Paused)]) > 0);
    }

    #[test]
    fn who_starts_again_and_again_or_twice_is_found() {
        let mut turns = Turns::new(Settings::default(), Duration::MAX);
        let node = NodeId(0);
        for s in 0..2 {
            turns
                .started(node, Activity::Seed, Moment::from_secs(s))
                .unwrap();
            turns.stopped(node).unwrap();
        }
        assert!(turns.stopped(node).is_err());
        let mut start = |activity, s| turns.started(node, activity, Moment::from_secs(s));
        assert!(start(Activity::Seed, 3).is_err(), "three times in a minute");
        assert!(start(Activity::Seed, 99).is_err(), "twice");
    }
}

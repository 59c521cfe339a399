//! When a seed has given enough.

use super::interface::Progress;
use core::time::Duration;

/// A limit on what a seed gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareLimit {
    /// What it sent, as a part of what it received.
    Ratio,
    /// How long it seeds.
    SeedingTime,
    /// How long it seeds although nobody takes anything.
    IdleTime,
}

/// Which of several limits counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The first that is reached.
    #[default]
    Any,
    /// The last: all that are set must be reached.
    All,
}

/// What follows when a seed has given enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// It stops, until a person resumes it.
    #[default]
    Pause,
    /// It is to be removed, its files stay.
    Remove,
    /// It is to be removed with its files.
    RemoveData,
    /// It goes on, as a super-seed.
    SuperSeed,
}

/// The limits of all torrents that have none of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareLimits {
    /// Ratio in thousandths: 2,000 is twice what was received.
    pub ratio_permille: Option<u32>,
    /// Time as a seed.
    pub seeding: Option<Duration>,
    /// Time as a seed since a byte was last sent.
    pub idle: Option<Duration>,
    /// Which of them counts.
    pub when: When,
    /// What follows.
    pub then: Then,
}

/// What somebody says of a limit, or of another thing that can be inherited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told<T> {
    /// Nothing: what others say holds.
    #[default]
    Inherit,
    /// That there is none, whatever others say.
    None,
    /// This.
    Some(T),
}

impl<T> Told<T> {
    /// What is said here, and where that is nothing, what others say.
    #[must_use]
    pub fn before(self, others: Told<T>) -> Told<T> {
        match self {
            Told::Inherit => others,
            said => said,
        }
    }

    /// What holds where others say this.
    pub fn or(self, others: Option<T>) -> Option<T> {
        match self {
            Told::Inherit => others,
            Told::None => None,
            Told::Some(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for Told<T> {
    /// Of somebody who cannot say that there is none.
    fn from(said: Option<T>) -> Self {
        said.map_or(Told::Inherit, Told::Some)
    }
}

impl Told<String> {
    /// The same, borrowed.
    #[must_use]
    pub fn as_deref(&self) -> Told<&str> {
        match self {
            Told::Inherit => Told::Inherit,
            Told::None => Told::None,
            Told::Some(text) => Told::Some(text),
        }
    }
}

/// One torrent's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// Ratio in thousandths.
    pub ratio_permille: Told<u32>,
    /// Time as a seed.
    pub seeding: Told<Duration>,
    /// Time as a seed since a byte was last sent.
    pub idle: Told<Duration>,
    /// Which of them counts, `None` as for all.
    pub when: Option<When>,
    /// What follows, `None` as for all.
    pub then: Option<Then>,
}

impl OwnLimits {
    /// The limits that hold.
    pub(super) fn over(self, global: &ShareLimits) -> ShareLimits {
        ShareLimits {
            ratio_permille: self.ratio_permille.or(global.ratio_permille),
            seeding: self.seeding.or(global.seeding),
            idle: self.idle.or(global.idle),
            when: self.when.unwrap_or(global.when),
            then: self.then.unwrap_or(global.then),
        }
    }
}

impl ShareLimits {
    /// The limit that is reached, and with it as many as have to be; the first of them by the order of [`ShareLimit`].
    pub(super) fn reached(&self, progress: &Progress) -> Option<ShareLimit> {
        let set = [
            (self.is_ratio_reached(progress), ShareLimit::Ratio),
            (
                self.seeding.map(|most| progress.seeding >= most),
                ShareLimit::SeedingTime,
            ),
            (
                self.idle.map(|most| progress.idle >= most),
                ShareLimit::IdleTime,
            ),
        ];
        let waits = set.iter().any(|&(reached, _)| reached == Some(false));
        if self.when == When::All && waits {
            return None;
        }
        set.into_iter()
            .find_map(|(reached, limit)| (reached == Some(true)).then_some(limit))
    }

    /// `None` where there is no such limit.
    fn is_ratio_reached(&self, progress: &Progress) -> Option<bool> {
        self.ratio_permille.map(|most| {
            let sent = u128::from(progress.uploaded_bytes) * 1_000;
            sent >= u128::from(received(progress)) * u128::from(most)
                && (progress.uploaded_bytes > 0 || most == 0)
        })
    }

    /// How long until enough is given by time alone, if all goes on as it does.
    pub(super) fn time_left(&self, progress: &Progress) -> Option<Duration> {
        let seeding = self
            .seeding
            .map(|most| most.saturating_sub(progress.seeding));
        let is_idle = progress.upload_bytes_per_s == 0;
        let idle = self.idle.map(|most| most.saturating_sub(progress.idle));
        if self.when == When::Any {
            return seeding.into_iter().chain(idle.filter(|_| is_idle)).min();
        }
        let never = self.is_ratio_reached(progress) == Some(false)
            || (!is_idle && idle.is_some_and(|left| !left.is_zero()));
        seeding.into_iter().chain(idle).max().filter(|_| !never)
    }
}

/// What a ratio is of. Who has the content from elsewhere received next to nothing, and would reach any ratio at once: as with
/// qBittorrent, below a hundredth of it what is there counts.
fn received(progress: &Progress) -> u64 {
    if progress.downloaded_bytes < progress.verified_bytes / 100 {
        progress.verified_bytes
    } else {
        progress.downloaded_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(permille: u32) -> ShareLimits {
        ShareLimits {
            ratio_permille: Some(permille),
            ..ShareLimits::default()
        }
    }

    fn moved(uploaded_bytes: u64, downloaded_bytes: u64, verified_bytes: u64) -> Progress {
        Progress {
            uploaded_bytes,
            downloaded_bytes,
            verified_bytes,
            ..Progress::default()
        }
    }

    #[test]
    fn a_ratio_is_of_what_was_received_and_of_the_content_where_that_came_from_elsewhere() {
        let reached = |limit, progress| ratio(limit).reached(&progress).is_some();
        assert!(!reached(2_000, moved(1_999, 1_000, 1_000)));
        assert!(reached(2_000, moved(2_000, 1_000, 1_000)));
        assert!(!reached(2_000, moved(1_999, 9, 1_000)));
        assert!(reached(2_000, moved(2_000, 9, 1_000)));
        assert!(reached(u32::MAX, moved(u64::MAX, 0, 1)));
        assert!(!reached(u32::MAX, moved(u64::MAX, u64::MAX, 1)));
    }

    #[test]
    fn who_has_sent_nothing_of_nothing_reaches_no_ratio_but_that_of_zero() {
        assert_eq!(ratio(1).reached(&moved(0, 0, 0)), None);
        assert_eq!(ratio(0).reached(&moved(0, 0, 0)), Some(ShareLimit::Ratio));
    }

    #[test]
    fn a_limit_of_its_own_replaces_the_global_one_and_no_limit_does_too() {
        let global = ShareLimits {
            seeding: Some(Duration::from_secs(10)),
            ..ratio(1_000)
        };
        let own = OwnLimits {
            ratio_permille: Told::None,
            idle: Told::Some(Duration::from_secs(3)),
            then: Some(Then::Remove),
            ..OwnLimits::default()
        };
        let hold = ShareLimits {
            ratio_permille: None,
            seeding: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_secs(3)),
            when: When::Any,
            then: Then::Remove,
        };
        assert_eq!(own.over(&global), hold);
        let progress = Progress {
            seeding: Duration::from_secs(4),
            idle: Duration::from_secs(2),
            ..Progress::default()
        };
        assert_eq!(hold.time_left(&progress), Some(Duration::from_secs(1)));
    }

    #[test]
    fn where_all_limits_count_time_leads_to_nothing_before_the_ratio_is_reached() {
        let all = ShareLimits {
            seeding: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_secs(3)),
            when: When::All,
            ..ratio(1_000)
        };
        let at = |uploaded_bytes, seeding, idle| Progress {
            seeding: Duration::from_secs(seeding),
            idle: Duration::from_secs(idle),
            ..moved(uploaded_bytes, 100, 100)
        };
        let both = |progress| (all.reached(&progress), all.time_left(&progress));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(both(at(99, 20, 20)), (None, None));
        assert_eq!(both(at(100, 4, 20)), (None, seconds(6)));
        assert_eq!(both(at(100, 9, 1)), (None, seconds(2)));
        assert_eq!(both(at(100, 10, 3)).0, Some(ShareLimit::Ratio));
        let busy = Progress {
            upload_bytes_per_s: 1,
            ..at(100, 9, 1)
        };
        assert_eq!(both(busy), (None, None));
        let nothing = ShareLimits {
            when: When::All,
            ..ShareLimits::default()
        };
        assert_eq!(nothing.reached(&at(100, 10, 3)), None);
        assert_eq!(nothing.time_left(&at(100, 10, 3)), None);
    }
}

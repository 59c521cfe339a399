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

/// What follows when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareAction {
    /// It stops, until a person resumes it.
    #[default]
    Stop,
    /// It is to be removed, its files stay.
    Remove,
    /// It is to be removed with its files.
    RemoveWithContent,
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
    /// What follows.
    pub action: ShareAction,
}

/// How a torrent's own limit and the global one go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Own<T> {
    /// The global one holds.
    #[default]
    Global,
    /// No limit, whatever the global one is.
    Unlimited,
    /// This one.
    Limit(T),
}

impl<T: Copy> Own<T> {
    fn or(self, global: Option<T>) -> Option<T> {
        match self {
            Own::Global => global,
            Own::Unlimited => None,
            Own::Limit(limit) => Some(limit),
        }
    }
}

/// One torrent's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// Ratio in thousandths.
    pub ratio_permille: Own<u32>,
    /// Time as a seed.
    pub seeding: Own<Duration>,
    /// Time as a seed since a byte was last sent.
    pub idle: Own<Duration>,
    /// What follows, `None` as for all.
    pub action: Option<ShareAction>,
}

impl OwnLimits {
    /// The limits that hold.
    pub(super) fn over(self, global: &ShareLimits) -> ShareLimits {
        ShareLimits {
            ratio_permille: self.ratio_permille.or(global.ratio_permille),
            seeding: self.seeding.or(global.seeding),
            idle: self.idle.or(global.idle),
            action: self.action.unwrap_or(global.action),
        }
    }
}

impl ShareLimits {
    /// The first limit that is reached.
    pub(super) fn reached(&self, progress: &Progress) -> Option<ShareLimit> {
        let ratio = self.ratio_permille.is_some_and(|most| {
            let sent = u128::from(progress.uploaded_bytes) * 1_000;
            sent >= u128::from(received(progress)) * u128::from(most)
                && (progress.uploaded_bytes > 0 || most == 0)
        });
        let seeding = self.seeding.is_some_and(|most| progress.seeding >= most);
        let idle = self.idle.is_some_and(|most| progress.idle >= most);
        [
            (ratio, ShareLimit::Ratio),
            (seeding, ShareLimit::SeedingTime),
            (idle, ShareLimit::IdleTime),
        ]
        .into_iter()
        .find_map(|(reached, limit)| reached.then_some(limit))
    }

    /// How long until a limit of time is reached if all goes on as it does.
    pub(super) fn time_left(&self, progress: &Progress) -> Option<Duration> {
        let seeding = self
            .seeding
            .map(|most| most.saturating_sub(progress.seeding));
        let idle = self.idle.filter(|_| progress.upload_bytes_per_s == 0);
        let idle = idle.map(|most| most.saturating_sub(progress.idle));
        seeding.into_iter().chain(idle).min()
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
            ratio_permille: Own::Unlimited,
            idle: Own::Limit(Duration::from_secs(3)),
            action: Some(ShareAction::Remove),
            ..OwnLimits::default()
        };
        let hold = ShareLimits {
            ratio_permille: None,
            seeding: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_secs(3)),
            action: ShareAction::Remove,
        };
        assert_eq!(own.over(&global), hold);
        let progress = Progress {
            seeding: Duration::from_secs(4),
            idle: Duration::from_secs(2),
            ..Progress::default()
        };
        assert_eq!(hold.time_left(&progress), Some(Duration::from_secs(1)));
    }
}

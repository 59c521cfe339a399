//! Which torrents have changed, for whoever follows all of them with one task.
//!
//! Every change of a torrent's snapshot gets the next number, and a follower remembers the last one that it has seen: what has changed since
//! is a walk from there on. So a change costs the same however many follow, and a follower that dawdles costs nothing.
//!
//! Invariant: each torrent has one number, that of its last change, so that what a follower has not seen is never more than there are
//! torrents, those included that it knew when it last looked and that have ended since, and [`MAX_BRIEF`] that have come and gone; and each
//! of these it sees once after its last change.

use crate::snapshot::Snapshot;
use shoal_session::TorrentKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Torrents that came and went since a follower last looked, of which it is told at the most: the last ones. Only one that sleeps through
/// thousands of them misses any, and their handles still show how they ended.
pub const MAX_BRIEF: usize = 4_096;

/// A torrent that has changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub torrent: TorrentKey,
    /// What it is like by now: this may be newer than the change. Of one that has ended, what it was at its end.
    pub state: watch::Receiver<Snapshot>,
    /// It has ended, and nothing more comes of it.
    pub ended: bool,
}

/// What has changed since it was last asked for. Drops nothing that lasts: who looks at a torrent after each change of it knows its state, also
/// its last one.
#[derive(Debug)]
pub struct Changes {
    board: Board,
    follower: u64,
}

impl Changes {
    /// Waits until something has changed, and gives all that has since the last time, each torrent once, in the order of the last change.
    /// `None` where the engine has stopped, and everything was given. May be cancelled without losing any.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            // Before looking, so that what comes while we look wakes us.
            let news = self.board.0.news.notified();
            let (changes, is_closed) = self.board.look(self.follower);
            if !changes.is_empty() {
                return Some(changes);
            }
            if is_closed {
                return None;
            }
            news.await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.board.lock().followers.remove(&self.follower);
    }
}

/// All torrents and when each has changed. Clones are the same; locked for the time of a change or of a look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Entries>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    /// The number of the last change.
    last: u64,
    torrents: BTreeMap<TorrentKey, Entry>,
    /// Who has changed last with which number.
    by_change: BTreeMap<u64, TorrentKey>,
    followers: BTreeMap<u64, Follower>,
    next_follower: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    state: watch::Receiver<Snapshot>,
    /// The number of its first change.
    born: u64,
    changed: u64,
}

#[derive(Debug, Default)]
struct Follower {
    /// The last change that it has seen.
    seen: u64,
    /// Torrents that have ended since.
    ended: BTreeMap<u64, Change>,
    /// Which of them it has never heard of, the first one first.
    brief: VecDeque<u64>,
}

/// A torrent's place on the board, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Post {
    board: Board,
    torrent: TorrentKey,
}

impl Board {
    pub(crate) fn post(&self, torrent: TorrentKey, state: watch::Receiver<Snapshot>) -> Post {
        let mut entries = self.lock();
        let number = entries.number(torrent);
        let (born, changed) = (number, number);
        let entry = Entry {
            state,
            born,
            changed,
        };
        entries.torrents.insert(torrent, entry);
        drop(entries);
        self.0.news.notify_waiters();
        let board = self.clone();
        Post { board, torrent }
    }

    /// Follows from here on: the first look gives all torrents that there are.
    pub(crate) fn follow(&self) -> Changes {
        let mut entries = self.lock();
        entries.next_follower += 1;
        let follower = entries.next_follower;
        entries.followers.insert(follower, Follower::default());
        drop(entries);
        let board = self.clone();
        Changes { board, follower }
    }

    /// All torrents.
    pub(crate) fn all(&self) -> Vec<(TorrentKey, Snapshot)> {
        let entries = self.lock();
        let states = entries.torrents.iter();
        let states: Vec<_> = states
            .map(|(&key, entry)| (key, entry.state.clone()))
            .collect();
        drop(entries);
        let look = |(key, state): (TorrentKey, watch::Receiver<Snapshot>)| {
            let snapshot = state.borrow().clone();
            (key, snapshot)
        };
        states.into_iter().map(look).collect()
    }

    /// Nothing changes any more but those that are there.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.0.news.notify_waiters();
    }

    fn look(&self, follower: u64) -> (Vec<Change>, bool) {
        let mut entries = self.lock();
        let entries = &mut *entries;
        let is_closed = entries.is_closed && entries.torrents.is_empty();
        let Some(follower) = entries.followers.get_mut(&follower) else {
            return (Vec::new(), is_closed);
        };
        let mut changes = std::mem::take(&mut follower.ended);
        follower.brief.clear();
        for (&number, &torrent) in entries.by_change.range(follower.seen + 1..) {
            if let Some(entry) = entries.torrents.get(&torrent) {
                let state = entry.state.clone();
                let ended = false;
                changes.insert(
                    number,
                    Change {
                        torrent,
                        state,
                        ended,
                    },
                );
            }
        }
        follower.seen = entries.last;
        (changes.into_values().collect(), is_closed)
    }

    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// The number of a change of this torrent, which is its last.
    fn number(&mut self, torrent: TorrentKey) -> u64 {
        self.last += 1;
        self.by_change.insert(self.last, torrent);
        self.last
    }
}

impl Post {
    /// Its snapshot is another one.
    pub(crate) fn changed(&self) {
        let mut entries = self.board.lock();
        let entries = &mut *entries;
        let Some(before) = entries
            .torrents
            .get(&self.torrent)
            .map(|entry| entry.changed)
        else {
            return;
        };
        entries.by_change.remove(&before);
        let number = entries.number(self.torrent);
        if let Some(entry) = entries.torrents.get_mut(&self.torrent) {
            entry.changed = number;
        }
        self.board.0.news.notify_waiters();
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut entries = self.board.lock();
        let entries = &mut *entries;
        let Some(Entry {
            state,
            born,
            changed,
        }) = entries.torrents.remove(&self.torrent)
        else {
            return;
        };
        entries.by_change.remove(&changed);
        entries.last += 1;
        let number = entries.last;
        for follower in entries.followers.values_mut() {
            if follower.seen < born {
                follower.brief.push_back(number);
            }
            if follower.brief.len() > MAX_BRIEF
                && let Some(oldest) = follower.brief.pop_front()
            {
                follower.ended.remove(&oldest);
            }
            let change = Change {
                torrent: self.torrent,
                state: state.clone(),
                ended: true,
            };
            follower.ended.insert(number, change);
        }
        self.board.0.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Phase, Shown};
    use proptest::prelude::*;

    fn shown(board: &Board, torrent: u64) -> Shown {
        let (sender, watched) = watch::channel(Snapshot::default());
        Shown::new(sender, board.post(TorrentKey(torrent), watched))
    }

    fn with_bytes(downloaded_bytes: u64) -> Snapshot {
        Snapshot {
            downloaded_bytes,
            ..Snapshot::default()
        }
    }

    fn look(changes: &Changes) -> Vec<(u64, u64, bool)> {
        let (news, _) = changes.board.look(changes.follower);
        let line = |change: &Change| {
            let bytes = change.state.borrow().downloaded_bytes;
            (change.torrent.0, bytes, change.ended)
        };
        news.iter().map(line).collect()
    }

    #[test]
    fn each_torrent_is_told_once_in_the_order_of_the_last_changes() {
        let board = Board::default();
        let (one, two, three) = (shown(&board, 1), shown(&board, 2), shown(&board, 3));
        let changes = board.follow();
        assert_eq!(look(&changes).len(), 3, "all that there are");
        assert_eq!(look(&changes), []);
        one.replace(with_bytes(1));
        two.replace(with_bytes(2));
        one.replace(with_bytes(3));
        three.replace(Snapshot::default());
        assert_eq!(
            look(&changes),
            [(2, 2, false), (1, 3, false)],
            "what is the same is no news"
        );
        two.replace(with_bytes(4));
        two.phase(Phase::Stopped);
        drop(two);
        drop(shown(&board, 4));
        assert_eq!(look(&changes), [(2, 4, true), (4, 0, true)]);
        let late = board.follow();
        assert_eq!(look(&late), [(3, 0, false), (1, 3, false)]);
        drop(late);
        assert_eq!(board.lock().followers.len(), 1);
        drop((one, three));
    }

    #[test]
    fn whoever_sleeps_holds_no_more_than_there_may_be() {
        let board = Board::default();
        let changes = board.follow();
        for torrent in 0..2 * MAX_BRIEF as u64 {
            drop(shown(&board, torrent));
        }
        let told = look(&changes);
        assert_eq!((told.len(), told[0].0), (MAX_BRIEF, MAX_BRIEF as u64));
        assert!(board.lock().by_change.is_empty());
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_news_and_by_the_end() {
        let board = Board::default();
        let mut changes = board.follow();
        let task = tokio::spawn(async move {
            let mut told = Vec::new();
            while let Some(news) = changes.next().await {
                told.extend(news.into_iter().map(|change| change.ended));
            }
            told
        });
        tokio::task::yield_now().await;
        let one = shown(&board, 1);
        tokio::task::yield_now().await;
        board.close();
        tokio::task::yield_now().await;
        drop(one);
        assert_eq!(task.await.unwrap(), [false, true]);
    }

    proptest! {
        #[test]
        fn who_follows_knows_how_things_are_whenever_it_looks(
            ops in proptest::collection::vec((0u8..8, 0u64..6), 0..200),
        ) {
            let board = Board::default();
            let mut torrents: BTreeMap<u64, Shown> = BTreeMap::new();
            let mut followers: Vec<(Changes, BTreeMap<u64, u64>)> = Vec::new();
            let mut bytes = 0;
            for (op, number) in ops {
                match op {
                    0 => { torrents.entry(number).or_insert_with(|| shown(&board, number)); }
                    1 => drop(torrents.remove(&number)),
                    2..=4 => if let Some(torrent) = torrents.get(&number) {
                        bytes += 1;
                        torrent.replace(with_bytes(bytes));
                    },
                    5 if followers.len() < 3 => followers.push((board.follow(), BTreeMap::new())),
                    _ => if let Some((changes, known)) = followers.get_mut(usize::try_from(number).unwrap()) {
                        let news = look(changes);
                        for &(torrent, bytes, ended) in &news {
                            if ended {
                                known.remove(&torrent);
                            } else {
                                known.insert(torrent, bytes);
                            }
                        }
                        let all = board.all().into_iter();
                        let truth: BTreeMap<u64, u64> =
                            all.map(|(key, state)| (key.0, state.downloaded_bytes)).collect();
                        prop_assert_eq!(&*known, &truth);
                        prop_assert!(look(changes).is_empty());
                    },
                }
            }
        }
    }
}

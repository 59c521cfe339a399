//! The time during which a route can be taken, and whoever takes it.
//!
//! A way ends when the interface or address that a transport is bound to goes, or the transport is closed. It ends for all that were
//! made on it at once: connections, listeners, requests under way. Another one opens when the interface is back, and all that was made
//! on the first has gone.
//!
//! Invariant: every socket, and every task that may open one, keeps a [`Hold`] of its way as long as it lives, and sends nothing when
//! that is over.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A part in a way.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    over: CancellationToken,
    _alive: watch::Receiver<()>,
}

/// What a way says of its end to whoever does not keep it from having gone: a socket that lies in wait to be used again.
#[derive(Clone, Debug)]
pub(crate) struct Ending(CancellationToken);

impl Ending {
    /// Whether nothing more may be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The work, unless the way ends before.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }
}

impl Hold {
    /// Its end, without a part in it.
    pub(crate) fn ending(&self) -> Ending {
        Ending(self.over.child_token())
    }

    /// Whether nothing more may be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for the end of the way.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// For something that looks often: what it waits on is its own, and not shared by thousands.
    pub(crate) fn branch(&self) -> Hold {
        Hold {
            over: self.over.child_token(),
            _alive: self._alive.clone(),
        }
    }

    /// The work, unless the way ends before.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.over.run_until_cancelled(work).await
    }
}

/// What a socket says whose way is over.
pub(crate) fn over() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the route has ended")
}

/// How things stand with a route.
#[derive(Clone, Debug)]
enum Standing {
    Open(Hold),
    /// Why, and whether for good.
    Shut(Arc<str>, bool),
}

/// The ways of a transport, one after the other.
#[derive(Debug)]
pub(crate) struct Ways {
    standing: watch::Sender<Standing>,
    /// Of the latest: closed when nobody holds it.
    latest: watch::Sender<watch::Sender<()>>,
}

fn opened() -> (Hold, watch::Sender<()>) {
    let (sender, alive) = watch::channel(());
    let over = CancellationToken::new();
    (
        Hold {
            over,
            _alive: alive,
        },
        sender,
    )
}

impl Ways {
    /// With one that is open, or none and why.
    pub(crate) fn new(shut: Option<String>) -> Self {
        let (hold, alive) = opened();
        let standing = match shut {
            None => Standing::Open(hold),
            Some(why) => Standing::Shut(why.into(), false),
        };
        Ways {
            standing: watch::Sender::new(standing),
            latest: watch::Sender::new(alive),
        }
    }

    /// A part in the one that is open, or why there is none.
    pub(crate) fn hold(&self) -> Result<Hold, Arc<str>> {
        match &*self.standing.borrow() {
            Standing::Open(hold) => Ok(hold.clone()),
            Standing::Shut(why, _) => Err(Arc::clone(why)),
        }
    }

    /// Waits for one; `None` where there will be none.
    pub(crate) async fn wait(&self) -> Option<Hold> {
        let mut standing = self.standing.subscribe();
        let decided = |standing: &Standing| !matches!(standing, Standing::Shut(_, false));
        match &*standing.wait_for(decided).await.ok()? {
            Standing::Open(hold) => Some(hold.clone()),
            Standing::Shut(..) => None,
        }
    }

    /// Ends the one that is open. What was shut for good stays so.
    pub(crate) fn shut(&self, why: &str, for_good: bool) {
        let mut ended = None;
        self.standing.send_if_modified(|standing| {
            if matches!(standing, Standing::Shut(_, true)) {
                return false;
            }
            ended = Some(std::mem::replace(
                standing,
                Standing::Shut(why.into(), for_good),
            ));
            true
        });
        if let Some(Standing::Open(hold)) = ended {
            hold.over.cancel();
        }
    }

    /// Whether there will be none any more.
    pub(crate) fn is_shut_for_good(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Shut(_, true))
    }

    /// Waits until all that was made on the last one has gone. May be cancelled, and called again.
    pub(crate) async fn emptied(&self) {
        let latest = self.latest.borrow().clone();
        latest.closed().await;
    }

    /// Opens another one, when the last has ended and was emptied.
    pub(crate) fn open(&self) {
        let (hold, alive) = opened();
        let mut is_new = false;
        self.standing.send_if_modified(|standing| {
            is_new = matches!(standing, Standing::Shut(_, false));
            if is_new {
                *standing = Standing::Open(hold);
            }
            is_new
        });
        if is_new {
            self.latest.send_replace(alive);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn is_done(work: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::ZERO, work).await.is_ok()
    }

    #[tokio::test]
    async fn a_way_ends_for_all_at_once_and_the_next_one_waits_for_the_last_to_leave() {
        let ways = Ways::new(None);
        let first = ways.hold().unwrap();
        let branch = first.branch();
        drop(first);
        assert!(!branch.is_over());
        assert!(!is_done(branch.over()).await);
        ways.shut("the interface is gone", false);
        assert!(branch.is_over());
        assert!(is_done(branch.over()).await);
        assert!(branch.during(std::future::pending::<()>()).await.is_none());
        assert_eq!(&*ways.hold().unwrap_err(), "the interface is gone");
        assert!(!is_done(ways.emptied()).await);
        drop(branch);
        assert!(is_done(ways.emptied()).await);
        ways.open();
        assert!(!ways.hold().unwrap().is_over());
        assert!(ways.wait().await.is_some());
        ways.shut("it was removed", true);
        ways.open();
        assert!(ways.hold().is_err());
        assert!(ways.wait().await.is_none());
    }
}

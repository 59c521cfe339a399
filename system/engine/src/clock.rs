//! The one place where the engine reads a clock.

use shoal_machine::Moment;
use std::time::Instant;

/// Turns the machine's monotonic clock into [`Moment`]s since the engine's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::ZERO + self.origin.elapsed()
    }

    /// When that is by the machine's clock; `None` where it is never, or so far off that the clock does not go there.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        let never = moment == Moment::NEVER;
        let since = moment.since(Moment::ZERO);
        self.origin.checked_add(since).filter(|_| !never)
    }

    /// Waits until `deadline`; for ever where there is none.
    pub(crate) async fn sleep_until(&self, deadline: Option<Moment>) {
        match deadline {
            Some(moment) if moment != Moment::NEVER => {
                let at = self.origin + moment.since(Moment::ZERO);
                tokio::time::sleep_until(at.into()).await;
            }
            _ => std::future::pending().await,
        }
    }
}

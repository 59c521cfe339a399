//! The moments at which a peer session wants to be woken, by reason.
//!
//! Invariant: a closed list; a reason that is not here cannot wake a session.

use shoal_machine::{Moment, earliest};

/// Why a session wants its tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// We have been silent for two minutes: say that the connection lives.
    KeepAlive,
    /// The remote has been silent for too long: end the connection.
    Idle,
    /// The remote has said nothing of its pieces since the handshake: take it to have none.
    Statement,
    /// No block came for too long although some are requested: the remote snubs us.
    Snub,
    /// The oldest request was overtaken by others for too long: give it up.
    Overdue,
    /// Bytes moved in the last second: report them.
    Report,
    /// Received or returned blocks have waited for company long enough: tell the torrent.
    Flush,
    /// The pause after rejected requests is over.
    Resume,
    /// The remote takes nothing of what it asked for: end the connection.
    Stalled,
    /// The remote may be told again whom we are connected to.
    Exchange,
}

impl Timer {
    const ALL: [Timer; 10] = [
        Timer::KeepAlive,
        Timer::Idle,
        Timer::Statement,
        Timer::Snub,
        Timer::Overdue,
        Timer::Report,
        Timer::Flush,
        Timer::Resume,
        Timer::Stalled,
        Timer::Exchange,
    ];
}

/// When each timer is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Moment>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Stops and returns a timer that is due.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Timer> {
        let due = |timer: &Timer| self.0[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.stop(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.iter().copied().fold(None, earliest)
    }
}

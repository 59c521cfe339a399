//! The timers of a connection: a closed list, and what each is for.
//!
//! Invariant: a timer fires once for each time that it was set.

use super::{Closed, Connection, KEEP_ALIVE, MAX_SYN_TIMEOUTS, MAX_TIMEOUTS, State};
use crate::packet::Kind;
use shoal_machine::{Moment, earliest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Nothing was acknowledged for too long.
    Retransmit,
    /// The last packets may be lost, where nothing behind them would tell.
    TailProbe,
    /// An acknowledgement has waited long enough.
    Acknowledge,
    /// NATs are about to forget us.
    KeepAlive,
    /// The remote's window has been closed for a while, and the packet that opened it may be lost.
    WindowProbe,
    /// Who is gone has waited long enough for what was written.
    Linger,
}

impl Timer {
    const ALL: [Timer; 6] = [
        Timer::Retransmit,
        Timer::TailProbe,
        Timer::Acknowledge,
        Timer::KeepAlive,
        Timer::WindowProbe,
        Timer::Linger,
    ];
}

/// When each of them is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: [Option<Moment>; Timer::ALL.len()],
}

impl Timers {
    pub(super) const fn set(&mut self, timer: Timer, at: Moment) {
        self.due[timer as usize] = Some(at);
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    pub(super) const fn is_set(&self, timer: Timer) -> bool {
        self.due[timer as usize].is_some()
    }

    pub(super) fn earliest(&self) -> Option<Moment> {
        self.due.iter().copied().fold(None, earliest)
    }

    fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let due = |timer: &Timer| self.due[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.stop(timer);
        Some(timer)
    }
}

impl Connection {
    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Moment) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Retransmit => self.time_out(now),
                Timer::TailProbe => {
                    self.tail_probed = true;
                    self.outgoing.give_up_last();
                }
                Timer::Acknowledge => self.owed.at_once = true,
                Timer::KeepAlive => {
                    self.timers.set(Timer::KeepAlive, now + KEEP_ALIVE);
                    self.owed.at_once |= matches!(self.state, State::Open);
                }
                Timer::WindowProbe => self.probe_window = true,
                Timer::Linger => self.close(Closed::TimedOut, Some(Kind::Reset)),
            }
        }
    }

    fn time_out(&mut self, now: Moment) {
        self.trip.back_off();
        self.silent_timeouts += 1;
        if let State::Opening { times, due, .. } = &mut self.state {
            *due = true;
            if *times >= MAX_SYN_TIMEOUTS {
                self.close(Closed::TimedOut, None);
            }
            return;
        }
        // A remote that has no room for a packet and says so is alive.
        let is_stalled = self.remote_window < self.packet_bytes();
        let is_gone = self.silent_timeouts >= MAX_TIMEOUTS
            || (self.trip.timeouts() >= MAX_TIMEOUTS && !is_stalled);
        if is_gone {
            return self.close(Closed::TimedOut, Some(Kind::Reset));
        }
        let round_trip = self.round_trip();
        self.congestion.timed_out(now, round_trip);
        let mtu = &mut self.mtu;
        self.outgoing.give_up_all(|sequence| {
            mtu.lost(sequence);
        });
        self.tail_probed = false;
    }
}

//! How long packets wait in queues: the delay beyond the least that the path ever had.
//!
//! One-way delays contain the difference of two clocks, which is unknown but nearly constant: nearly, because clocks drift by up to
//! 100 ppm, 6 ms a minute. Round trips are measured by one clock and contain the queues of the way back. So both are measured, each
//! against its own least value, and the smaller of the two counts: a drift that lets one-way delays grow is bounded by the
//! round trip, and one that lets them shrink takes their least value along.
//!
//! Invariant: the queue is never said to be longer than either measurement says.

use core::time::Duration;
use shoal_machine::Moment;

/// The least delay is that of so many bins (RFC 6817, `BASE_HISTORY`) ...
const BINS: usize = 10;
/// ... of a minute each, so that a route that became longer is not taken for a queue for ever.
const BIN: Duration = Duration::from_secs(60);
/// The delay of the moment is the least of so many samples (RFC 6817, `CURRENT_FILTER`): a single late packet is no queue.
const FILTER: usize = 4;

/// The least values of the last ten minutes, and of the last few samples.
#[derive(Clone, Debug)]
struct Series {
    bins: [i64; BINS],
    bin: usize,
    began: Moment,
    recent: [i64; FILTER],
    next: usize,
}

impl Series {
    fn new(now: Moment) -> Self {
        Series {
            bins: [i64::MAX; BINS],
            bin: 0,
            began: now,
            recent: [i64::MAX; FILTER],
            next: 0,
        }
    }

    fn add(&mut self, now: Moment, sample: i64) {
        if now - self.began >= BIN * 10 {
            self.bins = [i64::MAX; BINS];
            self.began = now;
        }
        while now - self.began >= BIN {
            self.began = self.began + BIN;
            self.bin = (self.bin + 1) % BINS;
            self.bins[self.bin] = i64::MAX;
        }
        self.bins[self.bin] = self.bins[self.bin].min(sample);
        self.recent[self.next] = sample;
        self.next = (self.next + 1) % FILTER;
    }

    fn base(&self) -> i64 {
        self.bins.iter().copied().min().unwrap_or(i64::MAX)
    }

    /// Microseconds above the base; `None` before the first sample.
    fn above_base(&self) -> Option<u64> {
        let current = self.recent.iter().copied().min()?;
        (current < i64::MAX).then(|| current.abs_diff(self.base().min(current)))
    }
}

/// The delays of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Delays {
    one_way: Series,
    round_trip: Series,
    /// What one-way samples are relative to, as their 32 bits wrap.
    reference_us: Option<u32>,
}

impl Delays {
    pub(crate) fn new(now: Moment) -> Self {
        Delays {
            one_way: Series::new(now),
            round_trip: Series::new(now),
            reference_us: None,
        }
    }

    /// What the remote measured for a packet of ours, by the difference of two clocks.
    pub(crate) fn one_way(&mut self, now: Moment, sample_us: u32) {
        let reference = *self.reference_us.get_or_insert(sample_us);
        let relative = sample_us.wrapping_sub(reference).cast_signed();
        self.one_way.add(now, i64::from(relative));
    }

    /// How long it took until a packet was acknowledged.
    pub(crate) fn round_trip(&mut self, now: Moment, sample: Duration) {
        let sample = i64::try_from(sample.as_micros()).unwrap_or(i64::MAX);
        self.round_trip.add(now, sample);
    }

    /// How long packets wait in queues, `None` before it was measured.
    pub(crate) fn queue(&self) -> Option<Duration> {
        let one_way = self.one_way.above_base()?;
        let round_trip = self.round_trip.above_base()?;
        Some(Duration::from_micros(one_way.min(round_trip)))
    }

    /// The least round trip, `None` before it was measured.
    pub(crate) fn base_round_trip(&self) -> Option<Duration> {
        let base = u64::try_from(self.round_trip.base()).ok()?;
        (self.round_trip.base() < i64::MAX).then_some(Duration::from_micros(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples every 10 ms of a path whose queue is `queue_us` long, with a remote clock that drifts.
    fn measure(delays: &mut Delays, from_s: u64, to_s: u64, queue_us: u32, drift_ppm: i64) {
        for at_ms in (from_s * 1_000..to_s * 1_000).step_by(10) {
            let now = Moment::from_millis(at_ms);
            let drift = i64::try_from(at_ms).unwrap() * drift_ppm / 1_000;
            let drift = i32::try_from(drift).unwrap().cast_unsigned();
            let sample = (u32::MAX - 1_000)
                .wrapping_add(queue_us)
                .wrapping_add(drift);
            delays.one_way(now, sample);
            delays.round_trip(now, Duration::from_micros(50_000 + u64::from(queue_us)));
        }
    }

    #[test]
    fn a_queue_is_what_lies_above_the_least_delay_across_the_wrap_of_the_clock() {
        let mut delays = Delays::new(Moment::ZERO);
        assert_eq!(delays.queue(), None);
        measure(&mut delays, 0, 1, 0, 0);
        measure(&mut delays, 1, 2, 30_000, 0);
        assert_eq!(delays.queue(), Some(Duration::from_millis(30)));
        assert_eq!(delays.base_round_trip(), Some(Duration::from_millis(50)));
    }

    #[test]
    fn a_clock_that_drifts_neither_way_looks_like_a_queue() {
        for drift_ppm in [-100, 100] {
            let mut delays = Delays::new(Moment::ZERO);
            measure(&mut delays, 0, 1_800, 0, drift_ppm);
            assert_eq!(delays.queue(), Some(Duration::ZERO), "{drift_ppm} ppm");
        }
    }

    #[test]
    fn a_path_that_became_longer_is_no_queue_after_ten_minutes() {
        let mut delays = Delays::new(Moment::ZERO);
        measure(&mut delays, 0, 60, 0, 0);
        measure(&mut delays, 60, 300, 40_000, 0);
        assert_eq!(delays.queue(), Some(Duration::from_millis(40)));
        measure(&mut delays, 300, 900, 40_000, 0);
        assert_eq!(delays.queue(), Some(Duration::ZERO));
    }

    #[test]
    fn one_late_packet_is_no_queue() {
        let mut delays = Delays::new(Moment::ZERO);
        measure(&mut delays, 0, 1, 0, 0);
        delays.one_way(Moment::from_secs(2), 500_000);
        delays.round_trip(Moment::from_secs(2), Duration::from_secs(1));
        assert_eq!(delays.queue(), Some(Duration::ZERO));
    }
}

//! Which trackers of which tiers are spoken to (BEP 12): an order of numbers that knows trackers only by how they stand.
//!
//! Invariant: a number is in exactly one tier, once.

/// How a tracker stands, as far as its tier is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is never spoken to.
    Unusable,
    /// It works, or was not tried.
    Sound {
        /// An announce is on its way.
        busy: bool,
    },
    /// It failed.
    Failing {
        /// An announce is on its way.
        busy: bool,
    },
}

impl Standing {
    fn is_busy(self) -> bool {
        matches!(
            self,
            Standing::Sound { busy: true } | Standing::Failing { busy: true }
        )
    }
}

/// Trackers by tier, in each the preferred first.
#[derive(Default)]
pub(super) struct Tiers(Vec<Vec<usize>>);

impl Tiers {
    /// Adds a tier after all others; an empty one is none.
    pub(super) fn push(&mut self, members: Vec<usize>) {
        if !members.is_empty() {
            self.0.push(members);
        }
    }

    /// All members with their tier, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let tiers = self.0.iter().enumerate();
        tiers.flat_map(|(tier, members)| members.iter().map(move |&member| (tier, member)))
    }

    /// Moves a tracker that answered to the front of its tier.
    pub(super) fn promote(&mut self, member: usize) {
        for tier in &mut self.0 {
            if let Some(position) = tier.iter().position(|&other| other == member) {
                tier[..=position].rotate_right(1);
            }
        }
    }

    /// Those that hear of us when their time has come, in order.
    ///
    /// In a tier these are the first that is sound and the failing ones before it, or all with `all_trackers`; none of the
    /// tier while one of it is busy, as its answer may make the others superfluous. A tier with a sound tracker keeps those
    /// after it from being served unless `all_tiers`; one whose trackers all fail does not, whether it is being retried or not.
    pub(super) fn served(
        &self,
        all_tiers: bool,
        all_trackers: bool,
        standing: impl Fn(usize) -> Standing,
    ) -> Vec<usize> {
        let mut served = Vec::new();
        for tier in &self.0 {
            let tier_is_busy = tier.iter().any(|&member| standing(member).is_busy());
            let mut sound = false;
            for &member in tier {
                let stands = standing(member);
                let free = !stands.is_busy() && (all_trackers || !tier_is_busy);
                if stands != Standing::Unusable && free {
                    served.push(member);
                }
                sound |= matches!(stands, Standing::Sound { .. });
                if sound && !all_trackers {
                    break;
                }
            }
            if sound && !all_tiers {
                break;
            }
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Standing = Standing::Sound { busy: false };
    const FAILING: Standing = Standing::Failing { busy: false };

    /// Two tiers, 0 to 2 and 3 to 4.
    fn served(all_tiers: bool, all_trackers: bool, standings: [Standing; 5]) -> Vec<usize> {
        let tiers = Tiers(vec![vec![0, 1, 2], vec![3, 4]]);
        tiers.served(all_tiers, all_trackers, |member| standings[member])
    }

    #[test]
    fn each_tier_is_served_by_its_first_sound_tracker_and_the_failing_ones_before_it() {
        let standings = [FAILING, SOUND, SOUND, SOUND, SOUND];
        assert_eq!(served(true, false, standings), [0, 1, 3]);
        assert_eq!(served(false, false, standings), [0, 1]);
        assert_eq!(served(true, true, standings), [0, 1, 2, 3, 4]);
        assert_eq!(served(false, true, standings), [0, 1, 2]);
    }

    #[test]
    fn a_later_tier_is_served_while_all_before_it_fail_or_are_unusable() {
        let standings = [FAILING, Standing::Unusable, FAILING, SOUND, SOUND];
        assert_eq!(served(false, false, standings), [0, 2, 3]);
        let retried = Standing::Failing { busy: true };
        let standings = [retried, FAILING, FAILING, SOUND, SOUND];
        assert_eq!(served(false, false, standings), [3]);
    }

    #[test]
    fn a_tier_waits_for_its_busy_tracker() {
        let busy = Standing::Sound { busy: true };
        assert_eq!(served(true, false, [busy, SOUND, SOUND, FAILING, busy]), []);
        assert_eq!(
            served(true, true, [busy, SOUND, SOUND, FAILING, busy]),
            [1, 2, 3]
        );
        assert_eq!(served(false, false, [busy, SOUND, SOUND, SOUND, SOUND]), []);
    }

    #[test]
    fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
        let mut tiers = Tiers(vec![vec![0, 1, 2], vec![3, 4]]);
        tiers.promote(2);
        tiers.promote(4);
        let order: Vec<_> = tiers.members().collect();
        assert_eq!(order, [(0, 2), (0, 0), (0, 1), (1, 4), (1, 3)]);
    }
}

//! Remotes that asked for a connection and have not shown yet that they receive what is sent to them.
//!
//! The source of a SYN may be forged. It is answered with one packet of its own length, once for each SYN, whose number the
//! remote has to acknowledge: who does not see the answer has to guess 16 bits. Nothing else is sent before.
//!
//! Invariant: at most [`MAX_HALF_OPEN`] are kept, each for at most [`LIFE`]; where it is full, the oldest makes room.

use crate::sequence::Sequence;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::{BTreeMap, VecDeque};

/// Entries, of less than a hundred bytes each. A thousand SYNs within the round trip of an honest peer are a flood.
pub(crate) const MAX_HALF_OPEN: usize = 1_024;

/// How long an answer may take: a lost packet and its repetition.
const LIFE: Duration = Duration::from_secs(6);

/// A remote and the id that its packets will carry.
pub(crate) type Name = (SocketAddr, u16);

/// What a SYN said and what it was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfOpen {
    /// The SYN's number.
    pub(crate) acknowledged: Sequence,
    /// The number of the answer, and of our first packet.
    pub(crate) sequence: Sequence,
    pub(crate) began: Moment,
    /// Whether it was answered more than once, so that the round trip is not known.
    pub(crate) repeated: bool,
    /// Sets an entry apart from an earlier one of the same name.
    serial: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct HalfOpens {
    entries: BTreeMap<Name, HalfOpen>,
    /// By age. Entries that are gone stay here until their turn comes.
    order: VecDeque<(u64, Name)>,
    serial: u64,
}

impl HalfOpens {
    /// Enters a SYN, or finds what it was answered before.
    pub(crate) fn syn(
        &mut self,
        now: Moment,
        name: Name,
        acknowledged: Sequence,
        dice: &mut fastrand::Rng,
    ) -> HalfOpen {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(&name)
            && entry.acknowledged == acknowledged
        {
            entry.repeated = true;
            return *entry;
        }
        while self.order.len() >= MAX_HALF_OPEN {
            self.drop_oldest();
        }
        self.serial += 1;
        let entry = HalfOpen {
            acknowledged,
            sequence: Sequence(dice.u16(..)),
            began: now,
            repeated: false,
            serial: self.serial,
        };
        self.entries.insert(name, entry);
        self.order.push_back((self.serial, name));
        entry
    }

    /// Takes the entry that a packet acknowledging `acknowledged` proves. Returns it and the number of our first packet: the field's
    /// initiators acknowledge the number before the answer's; those that follow BEP 29 to the letter acknowledge the answer,
    /// and expect the number after it.
    pub(crate) fn prove(
        &mut self,
        now: Moment,
        name: Name,
        acknowledged: Sequence,
    ) -> Option<(HalfOpen, Sequence)> {
        self.expire(now);
        let entry = *self.entries.get(&name)?;
        let proves = acknowledged == entry.sequence.previous() || acknowledged == entry.sequence;
        proves.then(|| {
            self.entries.remove(&name);
            (entry, acknowledged.next())
        })
    }

    /// Whether there is such an entry.
    pub(crate) fn contains(&self, name: Name) -> bool {
        self.entries.contains_key(&name)
    }

    fn expire(&mut self, now: Moment) {
        while let Some((serial, name)) = self.order.front() {
            let entry = self
                .entries
                .get(name)
                .filter(|entry| entry.serial == *serial);
            if entry.is_some_and(|entry| now - entry.began < LIFE) {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((serial, name)) = self.order.pop_front()
            && self
                .entries
                .get(&name)
                .is_some_and(|entry| entry.serial == serial)
        {
            self.entries.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(port: u16) -> Name {
        (SocketAddr::from(([192, 0, 2, 1], port)), 9)
    }

    #[test]
    fn a_repeated_syn_gets_the_same_answer_and_a_new_one_another() {
        let (mut dice, mut opens) = (fastrand::Rng::with_seed(1), HalfOpens::default());
        let first = opens.syn(Moment::ZERO, name(1), Sequence(5), &mut dice);
        let second = opens.syn(Moment::from_secs(1), name(1), Sequence(5), &mut dice);
        assert_eq!(first.sequence, second.sequence);
        assert!(second.repeated && !first.repeated);
        let other = opens.syn(Moment::from_secs(1), name(1), Sequence(6), &mut dice);
        assert_ne!(other.sequence, first.sequence);
    }

    #[test]
    fn an_entry_is_proved_once_and_by_its_number_only_and_for_a_short_time() {
        let (mut dice, mut opens) = (fastrand::Rng::with_seed(2), HalfOpens::default());
        let entry = opens.syn(Moment::ZERO, name(1), Sequence(5), &mut dice);
        let proof = entry.sequence.previous();
        let now = Moment::from_secs(1);
        assert!(opens.prove(now, name(1), proof.previous()).is_none());
        assert!(opens.prove(now, name(2), proof).is_none());
        let (_, first) = opens.prove(now, name(1), proof).unwrap();
        assert_eq!(first, entry.sequence);
        assert!(opens.prove(now, name(1), proof).is_none());
        let late = opens.syn(now, name(1), Sequence(5), &mut dice);
        let proof = late.sequence.previous();
        assert!(opens.prove(now + LIFE, name(1), proof).is_none());
        assert!(!opens.contains(name(1)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut dice, mut opens) = (fastrand::Rng::with_seed(3), HalfOpens::default());
        for port in 0..2_000 {
            opens.syn(Moment::ZERO, name(port), Sequence(5), &mut dice);
        }
        assert_eq!(opens.entries.len(), MAX_HALF_OPEN);
        assert_eq!(opens.order.len(), MAX_HALF_OPEN);
        assert!(!opens.contains(name(975)) && opens.contains(name(976)));
    }
}

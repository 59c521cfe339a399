//! Which addresses peers may have: none that a person banned, nor that a person's filter forbids.
//!
//! Invariant: asked for each peer that is dialled or connects, before anything is said to it, and once more when its connection is taken in:
//! what was forbidden in between is not taken in.

use crate::engine::EngineError;
use shoal_transport::AddressFilter;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// The most addresses that are banned one by one. Who forbids more has ranges of them, which are for a filter.
pub const MAX_BANS: usize = 65_536;

/// The rules. Clones are the same; locked for one look or one change.
#[derive(Clone, Default)]
pub(crate) struct Admission(Arc<RwLock<Rules>>);

#[derive(Default)]
struct Rules {
    banned: BTreeSet<IpAddr>,
    filter: Option<AddressFilter>,
    filters_trackers: bool,
}

impl Admission {
    /// Whether a tracker may have an address. A person bans peers.
    pub(crate) fn allows_tracker(&self, address: IpAddr) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let filter = rules.filter.as_ref();
        !rules.filters_trackers || filter.is_none_or(|allows| allows(address.to_canonical()))
    }

    pub(crate) fn filter_trackers(&self, holds: bool) {
        self.change(|rules| rules.filters_trackers = holds);
    }

    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !rules.banned.contains(&address)
            && rules.filter.as_ref().is_none_or(|allows| allows(address))
    }

    pub(crate) fn ban(&self, address: IpAddr) -> Result<(), EngineError> {
        self.change(|rules| {
            let address = address.to_canonical();
            if rules.banned.len() >= MAX_BANS && !rules.banned.contains(&address) {
                return Err(EngineError::TooManyBans);
            }
            rules.banned.insert(address);
            Ok(())
        })
    }

    pub(crate) fn unban(&self, address: IpAddr) {
        self.change(|rules| rules.banned.remove(&address.to_canonical()));
    }

    pub(crate) fn banned(&self) -> Vec<IpAddr> {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.banned.iter().copied().collect()
    }

    pub(crate) fn set_filter(&self, filter: Option<AddressFilter>) {
        // What the old one holds may be large, and is let go of outside the lock.
        let _old = self.change(|rules| std::mem::replace(&mut rules.filter, filter));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn bans_and_the_filter_hold_together_in_whatever_clothing() {
        let admission = Admission::default();
        let (one, two) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        admission.ban(one.to_ipv6_mapped().into()).unwrap();
        admission.set_filter(Some(Arc::new(move |address| address != two)));
        assert!(!admission.allows(one.into()) && !admission.allows(two.to_ipv6_mapped().into()));
        assert_eq!(admission.banned(), [IpAddr::from(one)]);
        admission.unban(one.into());
        assert!(admission.allows(one.into()) && !admission.allows(two.into()));
        admission.set_filter(None);
        assert!(admission.allows(two.into()));
    }

    #[test]
    fn bans_are_bounded() {
        let admission = Admission::default();
        let address = |n: usize| IpAddr::from(Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        for n in 0..MAX_BANS {
            admission.ban(address(n)).unwrap();
        }
        assert!(matches!(
            admission.ban(address(MAX_BANS)),
            Err(EngineError::TooManyBans)
        ));
        assert!(admission.ban(address(7)).is_ok(), "it is there already");
    }
}

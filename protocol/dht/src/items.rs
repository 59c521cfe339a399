//! The items that others have stored with us (BEP 44).
//!
//! Invariant: every item here is one that [`Item::verify`] accepts; at most [`MAX_ITEMS`], none given out after
//! [`ITEM_LIFETIME`]; a mutable one is only ever replaced by one with a higher number.

use crate::id::Id;
use crate::item::{Item, ItemError};
use crate::krpc::ErrorCode;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::BTreeMap;

/// Libtorrent keeps 700. About 1 MiB.
pub(crate) const MAX_ITEMS: usize = 700;

/// How long an item stays that nobody stores again (BEP 44).
pub(crate) const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Clone, Debug)]
struct Stored {
    item: Item,
    stored_at: Moment,
}

/// Items by where they are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemStore {
    items: BTreeMap<Id, Stored>,
}

impl ItemStore {
    /// Stores an item, or says why not. `near` tells how near a target is to us: where there is no room, what is nearest
    /// stays.
    pub(crate) fn put<D: Ord>(
        &mut self,
        now: Moment,
        item: Item,
        cas: Option<i64>,
        near: impl Fn(&Id) -> D,
    ) -> Result<(), ErrorCode> {
        let target = item.target();
        if let Some(known) = self.items.get(&target).filter(|known| known.is_here(now)) {
            check_order(&known.item, &item, cas)?;
        }
        item.verify().map_err(refusal)?;
        if self.items.len() >= MAX_ITEMS && !self.items.contains_key(&target) {
            self.expire(now);
            self.make_room(&target, near)?;
        }
        let stored = Stored {
            item,
            stored_at: now,
        };
        self.items.insert(target, stored);
        Ok(())
    }

    fn make_room<D: Ord>(&mut self, target: &Id, near: impl Fn(&Id) -> D) -> Result<(), ErrorCode> {
        if self.items.len() < MAX_ITEMS {
            return Ok(());
        }
        let farthest = self.items.keys().copied().max_by_key(|other| near(other));
        let farthest = farthest.filter(|other| near(other) > near(target));
        let farthest = farthest.ok_or(ErrorCode::Server)?;
        self.items.remove(&farthest);
        Ok(())
    }

    /// What is stored at `target`.
    pub(crate) fn get(&self, now: Moment, target: &Id) -> Option<&Item> {
        let stored = self.items.get(target)?;
        stored.is_here(now).then_some(&stored.item)
    }

    /// Forgets what nobody stored again.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.items.retain(|_, stored| stored.is_here(now));
    }
}

impl Stored {
    fn is_here(&self, now: Moment) -> bool {
        now - self.stored_at < ITEM_LIFETIME
    }
}

/// Whether a mutable item may take the place of what is known (BEP 44). The same again renews it.
fn check_order(known: &Item, item: &Item, cas: Option<i64>) -> Result<(), ErrorCode> {
    let (Item::Mutable(known), Item::Mutable(item)) = (known, item) else {
        return Ok(());
    };
    if cas.is_some_and(|cas| cas != known.seq) {
        return Err(ErrorCode::CasMismatch);
    }
    let is_same = item.seq == known.seq && item.value == known.value;
    if item.seq > known.seq || is_same {
        return Ok(());
    }
    Err(ErrorCode::SequenceTooLow)
}

fn refusal(error: ItemError) -> ErrorCode {
    match error {
        ItemError::ValueTooLong => ErrorCode::ValueTooLong,
        ItemError::SaltTooLong => ErrorCode::SaltTooLong,
        ItemError::NotCanonical | ItemError::NegativeSequence => ErrorCode::Protocol,
        ItemError::BadSignature => ErrorCode::BadSignature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::MutableItem;
    use ed25519_dalek::SigningKey;

    fn item(seq: i64, value: &[u8]) -> Item {
        let key = SigningKey::from_bytes(&[1; 32]);
        Item::Mutable(MutableItem::sign(&key, b"", seq, value.to_vec()).unwrap())
    }

    fn put(
        store: &mut ItemStore,
        at_s: u64,
        item: Item,
        cas: Option<i64>,
    ) -> Result<(), ErrorCode> {
        store.put(Moment::from_secs(at_s), item, cas, |id| id.0)
    }

    #[test]
    fn a_mutable_item_goes_forward_only() {
        let mut store = ItemStore::default();
        assert_eq!(
            put(&mut store, 0, item(2, b"i2e"), Some(9)),
            Ok(()),
            "cas of nothing"
        );
        assert_eq!(
            put(&mut store, 0, item(1, b"i1e"), None),
            Err(ErrorCode::SequenceTooLow)
        );
        assert_eq!(
            put(&mut store, 0, item(2, b"i3e"), None),
            Err(ErrorCode::SequenceTooLow)
        );
        assert_eq!(
            put(&mut store, 0, item(3, b"i3e"), Some(1)),
            Err(ErrorCode::CasMismatch)
        );
        assert_eq!(put(&mut store, 0, item(3, b"i3e"), Some(2)), Ok(()));
        let target = item(0, b"i0e").target();
        assert_eq!(
            store.get(Moment::ZERO, &target).and_then(Item::seq),
            Some(3)
        );
    }

    #[test]
    fn storing_the_same_again_renews_it() {
        let mut store = ItemStore::default();
        let target = item(1, b"i1e").target();
        let lifetime = ITEM_LIFETIME.as_secs();
        assert_eq!(put(&mut store, 0, item(1, b"i1e"), None), Ok(()));
        assert_eq!(put(&mut store, lifetime - 1, item(1, b"i1e"), None), Ok(()));
        assert!(store.get(Moment::from_secs(lifetime), &target).is_some());
        assert!(
            store
                .get(Moment::from_secs(2 * lifetime - 1), &target)
                .is_none()
        );
        let older = put(&mut store, 2 * lifetime - 1, item(0, b"i0e"), Some(7));
        assert_eq!(older, Ok(()), "nothing is left to be compared with");
    }

    #[test]
    fn what_is_not_signed_by_its_key_is_refused() {
        let mut store = ItemStore::default();
        let Item::Mutable(mut forged) = item(1, b"i1e") else {
            return;
        };
        forged.seq = 2;
        let refused = put(&mut store, 0, Item::Mutable(forged), None);
        assert_eq!(refused, Err(ErrorCode::BadSignature));
    }

    #[test]
    fn a_flood_keeps_what_is_nearest() {
        let mut store = ItemStore::default();
        let value = |number: usize| format!("i{number}e").into_bytes();
        for number in 0..2 * MAX_ITEMS {
            let stored = put(&mut store, 0, Item::Immutable(value(number)), None);
            assert!(stored.is_ok() || stored == Err(ErrorCode::Server));
        }
        let mut targets: Vec<Id> = (0..2 * MAX_ITEMS)
            .map(|number| Item::Immutable(value(number)).target())
            .collect();
        targets.sort();
        assert_eq!(store.items.len(), MAX_ITEMS);
        assert!(
            targets[..MAX_ITEMS]
                .iter()
                .all(|id| store.get(Moment::ZERO, id).is_some())
        );
    }
}

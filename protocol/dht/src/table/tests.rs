//! The table against a naive one, and the rules that keep strangers from filling it.

use super::*;
use core::net::Ipv4Addr;
use proptest::prelude::*;

const RULES: Rules = Rules {
    one_per_network: true,
    prefer_secure: true,
};

fn moment(minutes: u64) -> Moment {
    Moment::from_secs(minutes * 60)
}

/// A contact in a network of its own that shares `bits` bits with the zero id.
fn contact(number: u32, bits: u32) -> Contact {
    let mut rng = fastrand::Rng::with_seed(u64::from(number));
    let id = Id([0; 20]).flipped(bits).random_near(bits + 1, &mut rng);
    Contact {
        id,
        address: (Ipv4Addr::from_bits(0x0b00_0001 + (number << 8)), 6881).into(),
    }
}

fn table() -> Table {
    Table::new(Id([0; 20]), RULES)
}

#[test]
fn only_the_bucket_of_our_own_id_is_split() {
    let mut table = table();
    for number in 0..40 {
        table.answered(moment(0), contact(number, 0));
    }
    assert_eq!(table.len(), BUCKET, "the far half has room for eight");
    for number in 40..80 {
        table.answered(moment(0), contact(number, 3));
    }
    assert_eq!(table.len(), 2 * BUCKET);
    assert_eq!(table.buckets.len(), 5);
    for number in 80..90 {
        table.answered(moment(0), contact(number, number));
    }
    assert_eq!(table.len(), 2 * BUCKET + 10, "near us there is room");
}

#[test]
fn a_bucket_takes_one_contact_of_a_network() {
    let mut table = table();
    for last in 1..100 {
        let address = (Ipv4Addr::new(11, 1, 1, last), 6881).into();
        let mut rng = fastrand::Rng::with_seed(u64::from(last));
        let id = Id([0xff; 20]).random_near(1, &mut rng);
        table.heard_of(Contact { id, address });
        table.answered(moment(0), Contact { id, address });
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn an_address_with_ever_new_ids_has_one_place() {
    let mut table = table();
    for bits in 0..50 {
        let mut liar = contact(1, bits);
        liar.address = contact(1, 0).address;
        table.answered(moment(0), liar);
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn nobody_takes_over_the_id_of_a_contact_that_answers() {
    let mut table = table();
    let honest = contact(1, 0);
    table.answered(moment(0), honest);
    let thief = Contact {
        address: contact(2, 0).address,
        ..honest
    };
    table.answered(moment(1), thief);
    assert_eq!(table.closest(moment(1), &honest.id, 8), [honest]);
    table.failed(&honest);
    table.answered(moment(2), thief);
    assert_eq!(table.closest(moment(2), &honest.id, 8), [thief]);
}

#[test]
fn a_contact_that_fails_twice_gives_way_to_a_spare_one() {
    let mut table = table();
    for number in 0..9 {
        table.answered(moment(0), contact(number, 0));
    }
    let (lost, spare) = (contact(3, 0), contact(8, 0));
    assert!(table.is_known(&lost) && !table.is_known(&spare));
    table.failed(&lost);
    assert!(table.is_known(&lost), "it is tried once more");
    table.failed(&lost);
    assert!(!table.is_known(&lost) && table.is_known(&spare));
}

#[test]
fn an_hour_without_network_does_not_empty_the_table() {
    let mut table = table();
    for number in 0..8 {
        table.answered(moment(0), contact(number, 0));
    }
    for number in 0..8 {
        (0..7).for_each(|_| table.failed(&contact(number, 0)));
    }
    assert_eq!(table.len(), 0, "none of them is told to anybody");
    for number in 0..8 {
        table.answered(moment(60), contact(number, 0));
    }
    assert_eq!(table.len(), 8);
    assert!((0..8).all(|_| {
        table.failed(&contact(0, 0));
        true
    }));
    assert_eq!(table.contacts().count(), 7);
}

#[test]
fn who_was_only_heard_of_is_asked_and_told_to_nobody() {
    let mut table = table();
    let mut rng = fastrand::Rng::with_seed(1);
    table.heard_of(contact(1, 0));
    assert!(table.closest(moment(0), &Id([0; 20]), 8).is_empty());
    let (whom, _) = table.due(moment(0), &mut rng).unwrap();
    assert_eq!(whom, contact(1, 0));
    table.asked(moment(0), &whom);
    assert!(table.due(moment(0), &mut rng).is_none(), "once");
    table.answered(moment(0), whom);
    assert_eq!(table.closest(moment(0), &Id([0; 20]), 8), [whom]);
}

#[test]
fn a_silent_contact_is_asked_before_it_becomes_questionable() {
    let mut table = table();
    let mut rng = fastrand::Rng::with_seed(1);
    let whom = contact(1, 0);
    table.answered(moment(0), whom);
    assert_eq!(table.due_at(), Some(moment(14)));
    assert!(table.due(moment(13), &mut rng).is_none());
    assert_eq!(table.due(moment(14), &mut rng).map(|due| due.0), Some(whom));
    table.asked_us(moment(14), whom);
    assert_eq!(
        table.due_at(),
        Some(moment(28)),
        "asking shows that it is there"
    );
    assert!(table.closest(moment(28), &whom.id, 8).contains(&whom));
    assert!(table.closest(moment(30), &whom.id, 8).is_empty());
}

#[test]
fn an_id_that_follows_from_the_address_takes_the_place_of_one_that_does_not() {
    let mut table = table();
    for number in 0..8 {
        table.answered(moment(0), contact(number, 0));
    }
    let address: SocketAddr = (Ipv4Addr::new(80, 1, 1, 1), 6881).into();
    let mut rng = fastrand::Rng::with_seed(1);
    let ids = core::iter::repeat_with(|| crate::secure_id(address.ip(), &mut rng));
    let id = ids.take(100).find(|id| id.0[0] >= 0x80).unwrap();
    let secure = Contact { id, address };
    table.answered(moment(0), secure);
    assert!(table.is_known(&secure));
    assert_eq!(table.len(), 8);
}

proptest! {
    #[test]
    fn the_nearest_are_those_of_a_sorted_list(
        contacts in prop::collection::vec((0_u32..200, 0_u32..12), 0..120),
        near in 0_u32..12,
    ) {
        let mut table = table();
        for (number, bits) in contacts {
            table.answered(moment(0), contact(number, bits));
        }
        let mut rng = fastrand::Rng::with_seed(1);
        let target = Id([0; 20]).flipped(near).random_near(near + 1, &mut rng);
        let mut all: Vec<Contact> = table.buckets.iter().flat_map(|b| b.live.iter().chain(&b.spare)).map(|e| e.contact).collect();
        all.sort_by_key(|contact| target.distance(&contact.id));
        all.truncate(8);
        prop_assert_eq!(table.closest(moment(0), &target, 8), all);
    }

    #[test]
    fn every_bucket_holds_its_own_and_no_network_twice(
        events in prop::collection::vec((0_u32..60, 0_u32..20, 0_u8..5), 0..300),
    ) {
        let mut table = table();
        for (at, (number, bits, what)) in events.into_iter().enumerate() {
            let (now, whom) = (moment(at as u64), contact(number, bits));
            match what {
                0 => drop(table.heard_of(whom)),
                1 => table.asked_us(now, whom),
                2 => table.failed(&whom),
                _ => table.answered(now, whom),
            }
            let last = table.buckets.len() - 1;
            for (bits, bucket) in table.buckets.iter().enumerate() {
                prop_assert!(bucket.live.len() <= BUCKET && bucket.spare.len() <= BUCKET);
                let mut networks: Vec<_> = bucket.live.iter().filter(|e| !e.is_bad()).map(|e| e.network).collect();
                networks.sort();
                prop_assert!(networks.windows(2).all(|pair| pair[0] != pair[1]));
                for entry in bucket.live.iter().chain(&bucket.spare) {
                    let shared = table.own.common_bits(&entry.contact.id) as usize;
                    prop_assert!(shared == bits || (bits == last && shared > bits));
                }
                prop_assert!(bucket.live.iter().all(|entry| entry.answered_at.is_some()));
            }
        }
    }
}

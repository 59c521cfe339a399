//! Lists of addresses that people publish.
//!
//! Invariant: as for the whole crate.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use shoal_session::filter::{IpFilter, IpFilterBuilder, ListReport, MAX_TOLD};

/// The input is how it is cut, and a list. However it is cut, it says the same; and what forbids an address is a range that it is in, each
/// address of which the same line forbids.
pub fn address_list(input: &[u8]) {
    let Some((&length, list)) = input.split_first() else {
        return;
    };
    let (filter, report) = read(list.chunks(list.len().max(1)));
    let cut = read(list.chunks(usize::from(length).max(1)));
    assert_eq!((&filter, &report), (&cut.0, &cut.1));
    assert!(filter.len() as u64 + report.left_out <= report.ranges);
    assert!(report.first_bad.len() <= MAX_TOLD && report.first_bad.len() as u64 <= report.bad);
    let v4 = list.windows(4).filter_map(|bytes| bytes.try_into().ok());
    v4.map(|octets: [u8; 4]| Ipv4Addr::from(octets).into())
        .chain(written(list))
        .for_each(|address| check(&filter, address));
    let ends: [u128; 3] = [0, u128::MAX, 0xffff_0102_0304];
    for end in ends {
        check(&filter, Ipv6Addr::from_bits(end).into());
    }
}

fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (IpFilter, ListReport) {
    let mut builder = IpFilterBuilder::new();
    let report = match builder.list() {
        Ok(mut reader) => {
            parts.for_each(|part| reader.feed(part));
            reader.finish()
        }
        Err(_) => ListReport::default(),
    };
    (builder.build(), report)
}

/// What the list has that reads as an address.
fn written(list: &[u8]) -> impl Iterator<Item = IpAddr> {
    list.split(|byte| b"- ,/\n".contains(byte))
        .filter_map(|word| core::str::from_utf8(word).ok()?.parse().ok())
}

fn check(filter: &IpFilter, address: IpAddr) {
    let which = filter.which(address);
    assert_eq!(filter.allows(address), which.is_none());
    if let Some(which) = which {
        assert!((which.first..=which.last).contains(&address.to_canonical()));
        assert_eq!(filter.which(which.first), Some(which));
        assert_eq!(filter.which(which.last), Some(which));
    }
}

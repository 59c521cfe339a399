//! Whole filters, against a list of ranges that is searched from its beginning.

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A filter of these lists, and what became of each.
fn filter(lists: &[&[u8]]) -> (IpFilter, Vec<ListReport>) {
    let mut builder = IpFilterBuilder::new();
    let mut reports = Vec::new();
    for list in lists {
        let mut reader = builder.list().unwrap();
        reader.feed(list);
        reports.push(reader.finish());
    }
    (builder.build(), reports)
}

#[test]
fn an_address_is_forbidden_by_the_line_that_names_it() {
    let first = b"# a list\n\nSome company:1.2.3.0-1.2.3.255\n";
    let second = b"1.2.3.128/24\r\n2001:db8::/32\r\n9.9.9.9 - 9.9.9.9 , 200 , friend";
    let (filter, reports) = filter(&[first, second]);
    assert_eq!((reports[0].ranges, reports[1].ranges), (1, 2));
    assert_eq!(reports[1].let_pass, 1);
    assert!(filter.allows(ip("1.2.2.255")) && filter.allows(ip("1.2.4.0")));
    assert!(filter.allows(ip("9.9.9.9")));
    let which = filter.which(ip("1.2.3.200")).unwrap();
    assert_eq!((which.list, which.line), (0, 3), "the first of two");
    assert_eq!((which.first, which.last), (ip("1.2.3.0"), ip("1.2.3.255")));
    assert_eq!(filter.which(ip("::ffff:1.2.3.200")), Some(which));
    let which = filter.which(ip("2001:db8:1::7")).unwrap();
    assert_eq!((which.list, which.line), (1, 2));
    assert_eq!(filter.len(), 2);
}

#[test]
fn bad_lines_are_counted_and_the_first_are_told_and_the_rest_holds() {
    let mut list = b"nonsense\n".repeat(20);
    list.extend_from_slice(&b"x".repeat(MAX_LINE_BYTES + 1));
    list.extend_from_slice(b"1.2.3.4\n1.2.3.5\n");
    list.extend_from_slice("Soci\u{e9}t\u{e9}".to_owned().as_bytes());
    list.extend_from_slice(b"\xe9:1.2.3.7-1.2.3.7");
    let (filter, reports) = filter(&[&list]);
    assert_eq!(reports[0].bad, 21);
    let told: Vec<u32> = reports[0].first_bad.iter().map(|bad| bad.line).collect();
    assert_eq!(told, (1..=10).collect::<Vec<u32>>());
    assert!(filter.allows(ip("1.2.3.4")), "its line is too long");
    let line = |address| filter.which(ip(address)).map(|which| which.line);
    assert_eq!((line("1.2.3.5"), line("1.2.3.7")), (Some(22), Some(23)));
}

#[test]
fn a_line_of_the_longest_kind_is_read() {
    let range = ":1.2.3.4-1.2.3.4";
    let name = "x".repeat(MAX_LINE_BYTES - range.len());
    let (filter, reports) = filter(&[format!("{name}{range}\n").as_bytes()]);
    assert_eq!((reports[0].bad, filter.len()), (0, 1));
}

fn record(name: &[u8], first: &str, last: &str) -> Vec<u8> {
    let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    [name, &bits(first), &bits(last)].concat()
}

#[test]
fn binary_lists_of_all_versions_are_read() {
    let one = record(b"a\0", "1.2.3.4", "1.2.3.9");
    let two = record(b"b\0", "5.6.7.8", "5.6.7.8");
    for version in [1, 2] {
        let list = [b"\xff\xff\xff\xffP2B", &[version][..], &one, &two].concat();
        let (filter, reports) = filter(&[&list]);
        assert_eq!((reports[0].ranges, reports[0].bad), (2, 0));
        assert_eq!(filter.which(ip("5.6.7.8")).unwrap().line, 2);
        assert!(!filter.allows(ip("1.2.3.9")) && filter.allows(ip("1.2.3.10")));
    }
    let three = [
        b"\xff\xff\xff\xffP2B\x03\0\0\0\x02a\0\0\0\0\0\x02".to_vec(),
        record(b"\0\0\0\x01", "1.2.3.4", "1.2.3.9"),
        record(b"\0\0\0\0", "5.6.7.8", "5.6.7.7"),
    ]
    .concat();
    let (three_filter, reports) = filter(&[&three]);
    let bad = BadLine {
        line: 2,
        why: LineError::Backwards,
    };
    assert_eq!(
        (reports[0].ranges, &reports[0].first_bad[..]),
        (1, &[bad][..])
    );
    assert!(!three_filter.allows(ip("1.2.3.4")));
    let (_, reports) = filter(&[&three[..three.len() - 1]]);
    assert_eq!(reports[0].first_bad[0].why, LineError::Truncated);
    let (_, reports) = filter(&[b"\xff\xff\xff\xffP2B\x04abc"]);
    assert_eq!(reports[0].first_bad[0].why, LineError::Version(4));
}

#[test]
fn a_million_ranges_take_less_than_32_mib() {
    let (v4, v6) = (size_of::<Range<Ipv4Addr>>(), size_of::<Range<Ipv6Addr>>());
    assert_eq!((v4, v6), (16, 40));
    let most = MAX_V4_RANGES * v4 + MAX_V6_RANGES * v6;
    assert!(most < 32 << 20, "{most}");
    let mut collection = Collection::new(MAX_V4_RANGES);
    for number in 0..1_000_000 {
        let only = Ipv4Addr::from_bits(number * 2);
        assert!(collection.push(Range {
            first: only,
            last: only,
            line: number,
            list: 0
        }));
    }
    let ranges = collection.settled();
    assert_eq!(ranges.len(), 1_000_000);
    assert!(ranges.capacity() <= 1_000_000);
}

#[test]
fn what_lists_have_in_common_takes_no_room_and_what_does_not_fit_is_told() {
    let mut collection = Collection::new(80);
    let push = |collection: &mut Collection<Ipv4Addr>, number: u32| {
        let only = Ipv4Addr::from_bits(number * 2);
        collection.push(Range {
            first: only,
            last: only,
            line: 1,
            list: 0,
        })
    };
    for round in 0..10 {
        for number in 0..60 {
            assert!(push(&mut collection, number), "{round} {number}");
        }
    }
    let kept = (60..1_000)
        .filter(|&number| push(&mut collection, number))
        .count();
    assert!((10..=20).contains(&kept), "{kept}");
    assert_eq!(collection.settled().len(), 60 + kept);
}

#[test]
fn there_are_so_many_lists_and_no_more() {
    let mut builder = IpFilterBuilder::new();
    for _ in 0..MAX_LISTS {
        assert_eq!(builder.list().unwrap().finish(), ListReport::default());
    }
    assert_eq!(builder.list().map(ListReader::finish), Err(TooManyLists));
}

/// A range as the naive model has it.
#[derive(Clone, Debug)]
struct Naive {
    first: IpAddr,
    last: IpAddr,
    form: u8,
}

/// Addresses near each other and near both ends of their family.
fn any_address(v6: bool, number: u8) -> IpAddr {
    let offset = u32::from(number % 64);
    let v4 = match number / 64 {
        0 => offset,
        1 => u32::MAX - offset,
        _ => 0x0102_0300 + offset,
    };
    if v6 {
        Ipv6Addr::from_bits(match number / 64 {
            1 => u128::MAX - u128::from(offset),
            _ => u128::from(v4),
        })
        .into()
    } else {
        Ipv4Addr::from_bits(v4).into()
    }
}

fn any_range() -> impl Strategy<Value = Naive> {
    (any::<bool>(), any::<u8>(), any::<u8>(), 0u8..4).prop_map(|(v6, one, other, form)| {
        let (one, other) = (any_address(v6, one), any_address(v6, other));
        Naive {
            first: one.min(other),
            last: one.max(other),
            form,
        }
    })
}

impl Naive {
    fn line(&self) -> String {
        let (first, last) = (self.first, self.last);
        match self.form {
            0 => format!("a name: with-it:{first}-{last}"),
            1 => format!("{first} - {last} , 000 , a name"),
            2 => format!("{first}-{last}"),
            _ => format!("# {first}-{last}"),
        }
    }

    fn forbids(&self, address: IpAddr) -> bool {
        let same = address.is_ipv4() == self.first.is_ipv4();
        self.form < 3 && same && (self.first..=self.last).contains(&address)
    }
}

proptest! {
    #[test]
    fn an_address_is_forbidden_where_a_line_forbids_it(
        lists in proptest::collection::vec(proptest::collection::vec(any_range(), 0..20), 0..4),
        cut in 1usize..40,
    ) {
        let mut builder = IpFilterBuilder::new();
        for list in &lists {
            let text: String = list.iter().map(|range| range.line() + "\n").collect();
            let mut reader = builder.list().unwrap();
            text.as_bytes().chunks(cut).for_each(|bytes| reader.feed(bytes));
            let report = reader.finish();
            let forbid = list.iter().filter(|range| range.form < 3).count();
            prop_assert_eq!(report.ranges, forbid as u64);
            prop_assert_eq!(report.bad, 0);
        }
        let filter = builder.build();
        for (v6, number) in [false, true].into_iter().flat_map(|v6| (0..=255).map(move |n| (v6, n))) {
            let address = any_address(v6, number);
            let mut all = lists.iter().flatten();
            prop_assert_eq!(filter.allows(address), !all.any(|range| range.forbids(address)));
            if let Some(which) = filter.which(address) {
                prop_assert!(which.first <= address && address <= which.last);
                let range = &lists[which.list][which.line as usize - 1];
                prop_assert!(range.forbids(which.first) && range.forbids(which.last));
            }
        }
    }
}

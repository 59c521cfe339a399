//! Scenarios for the decoder, and the round trip.

use super::DecodeErrorKind as Kind;
use super::*;
use proptest::prelude::*;

const SMALL: Limits = Limits {
    bytes: 64,
    tokens: 8,
    depth: 3,
};

fn refused(input: &[u8]) -> (usize, Kind) {
    let error = decode(input, Limits::LOCAL).expect_err("must be refused");
    (error.offset, error.kind)
}

#[test]
fn values_are_read_where_they_stand() {
    let input = b"d3:inti-42e4:listl1:a0:e4:text4:teste";
    let document = decode_canonical(input, Limits::LOCAL).unwrap();
    let root = document.root();
    assert_eq!(root.get("int").unwrap().as_int(), Some(-42));
    assert_eq!(root.get("text").unwrap().as_str(), Some("test"));
    let list = root.get("list").unwrap();
    assert_eq!(list.raw(), b"l1:a0:e");
    assert_eq!(list.offset(), 17);
    let items: Vec<_> = list
        .as_list()
        .unwrap()
        .filter_map(|item| item.as_bytes())
        .collect();
    assert_eq!(items, [b"a".as_slice(), b""]);
    let keys: Vec<_> = root.as_dict().unwrap().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"int".as_slice(), b"list", b"text"]);
    assert!(root.get("absent").is_none());
    assert!(list.get("a").is_none() && list.as_int().is_none() && list.as_bytes().is_none());
    assert_eq!(root.raw(), input);
}

#[test]
fn numbers_have_one_spelling() {
    assert_eq!(refused(b"i03e"), (1, Kind::LeadingZero));
    assert_eq!(refused(b"i00e"), (1, Kind::LeadingZero));
    assert_eq!(refused(b"i-03e"), (2, Kind::LeadingZero));
    assert_eq!(refused(b"i-0e"), (0, Kind::NegativeZero));
    assert_eq!(refused(b"03:abc"), (0, Kind::LeadingZero));
    assert_eq!(refused(b"ie"), (1, Kind::UnexpectedByte(b'e')));
    assert_eq!(refused(b"i-e"), (2, Kind::UnexpectedByte(b'e')));
    assert_eq!(refused(b"i+1e"), (1, Kind::UnexpectedByte(b'+')));
    assert_eq!(refused(b"i1.5e"), (2, Kind::UnexpectedByte(b'.')));
    assert_eq!(refused(b"1x:a"), (1, Kind::UnexpectedByte(b'x')));
    assert_eq!(refused(b"i9223372036854775808e"), (0, Kind::Overflow));
    assert_eq!(refused(b"i-9223372036854775809e"), (0, Kind::Overflow));
    assert_eq!(refused(b"99999999999999999999:a"), (0, Kind::Overflow));
    for number in [0, 7, -1, i64::MIN, i64::MAX] {
        let input = Bencode::Int(number).encode();
        let document = decode_canonical(&input, Limits::LOCAL).unwrap();
        assert_eq!(document.root().as_int(), Some(number));
    }
}

#[test]
fn what_ends_too_early_is_refused_at_its_end() {
    assert_eq!(refused(b""), (0, Kind::UnexpectedEnd));
    assert_eq!(refused(b"i12"), (3, Kind::UnexpectedEnd));
    assert_eq!(refused(b"12"), (2, Kind::UnexpectedEnd));
    assert_eq!(refused(b"l"), (1, Kind::UnexpectedEnd));
    assert_eq!(refused(b"d1:a"), (4, Kind::UnexpectedEnd));
    assert_eq!(refused(b"5:abcd"), (0, Kind::StringTooLong));
    assert_eq!(refused(b"l4294967295:e"), (1, Kind::StringTooLong));
}

#[test]
fn structure_is_checked() {
    assert_eq!(refused(b"e"), (0, Kind::UnexpectedByte(b'e')));
    assert_eq!(refused(b"lx"), (1, Kind::UnexpectedByte(b'x')));
    assert_eq!(refused(b"di1ei2ee"), (1, Kind::KeyNotString));
    assert_eq!(refused(b"d1:ae"), (4, Kind::MissingValue));
    assert_eq!(refused(b"d1:ai1e1:ai2ee"), (7, Kind::DuplicateKey));
    // The double of a key need not be its neighbour.
    assert_eq!(refused(b"d1:bi1e1:ali0ee1:bi2ee"), (15, Kind::DuplicateKey));
}

#[test]
fn disorder_is_noted_or_refused_as_asked() {
    let input = b"ld1:ai1e1:bi2eed1:bi1e1:ai2eeejunk";
    let document = decode(input, Limits::LOCAL).unwrap();
    assert_eq!(document.rest(), b"junk");
    assert_eq!(document.root().unsorted(), Some(15));
    let mut items = document.root().as_list().unwrap();
    assert_eq!(items.next().unwrap().unsorted(), None);
    assert_eq!(items.next().unwrap().get("a").unwrap().as_int(), Some(2));
    let kind = |input| decode_canonical(input, Limits::LOCAL).unwrap_err();
    assert_eq!(kind(input).kind, Kind::UnsortedKeys);
    assert_eq!(kind(b"lei1e").kind, Kind::TrailingBytes);
    assert_eq!(kind(b"lei1e").offset, 2);
}

#[test]
fn limits_are_kept() {
    let kind = |input: &[u8]| decode(input, SMALL).unwrap_err().kind;
    assert_eq!(kind(&[b'1'; 65]), Kind::TooLong(64));
    assert_eq!(kind(b"llllee"), Kind::TooDeep(3));
    assert!(decode(b"lllee1:ae", SMALL).is_ok());
    assert_eq!(kind(b"l0:0:0:0:0:0:0:0:e"), Kind::TooManyTokens(8));
    assert!(decode(b"l0:0:0:0:0:0:0:e", SMALL).is_ok());
}

#[test]
fn a_million_open_lists_cost_no_stack() {
    let mut input = vec![b'l'; 1_000_000];
    let deep = Limits {
        depth: usize::MAX,
        ..Limits::LOCAL
    };
    assert_eq!(decode(&input, deep).unwrap_err().kind, Kind::UnexpectedEnd);
    input.resize(2_000_000, b'e');
    assert_eq!(decode(&input, deep).unwrap().root().raw().len(), 2_000_000);
}

#[test]
fn an_encoded_value_is_spliced_as_it_is() {
    let info = b"d1:zi1e1:ai2ee".to_vec();
    let encoded =
        Bencode::dict([("info", Bencode::Raw(info.clone())), ("a", 1i64.into())]).encode();
    assert_eq!(encoded, b"d1:ai1e4:infod1:zi1e1:ai2eee");
    let document = decode(&encoded, Limits::LOCAL).unwrap();
    assert_eq!(document.root().get("info").unwrap().raw(), info);
}

fn owned(value: Value<'_>) -> Bencode {
    if let Some(items) = value.as_list() {
        Bencode::List(items.map(owned).collect())
    } else if let Some(entries) = value.as_dict() {
        Bencode::dict(entries.map(|(key, value)| (key, owned(value))))
    } else if let Some(bytes) = value.as_bytes() {
        bytes.into()
    } else {
        Bencode::Int(value.as_int().unwrap())
    }
}

/// Any value of a few levels.
fn any_value() -> impl Strategy<Value = Bencode> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..12);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Bencode::Int),
        bytes().prop_map(Bencode::Bytes)
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Bencode::List),
            proptest::collection::btree_map(bytes(), inner, 0..6).prop_map(Bencode::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(value in any_value()) {
        let encoded = value.encode();
        let document = decode_canonical(&encoded, Limits::LOCAL).unwrap();
        prop_assert_eq!(owned(document.root()), value);
    }

    #[test]
    fn what_is_canonical_encodes_to_itself(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut encoded = value.encode();
        let at = at.index(encoded.len());
        encoded[at] = byte;
        if let Ok(document) = decode_canonical(&encoded, Limits::LOCAL) {
            prop_assert_eq!(owned(document.root()).encode(), encoded);
        }
    }

    #[test]
    fn a_truncated_value_is_refused(value in any_value(), cut in any::<prop::sample::Index>()) {
        let encoded = value.encode();
        prop_assert!(decode(&encoded[..cut.index(encoded.len())], Limits::LOCAL).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(
        prop_oneof![4 => proptest::sample::select(b"ilde0123456789:-".to_vec()), 1 => any::<u8>()], 0..200)) {
        if let Ok(document) = decode(&bytes, Limits::LOCAL) {
            let _ = owned(document.root());
        }
    }
}

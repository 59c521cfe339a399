//! Pickles by hand, and pickles that are more than values.

use super::*;

fn decode(bytes: &[u8]) -> Result<Pickle, PickleError> {
    Pickle::decode(bytes.to_vec())
}

fn kind(bytes: &[u8]) -> PickleErrorKind {
    decode(bytes).map(|_| ()).unwrap_err().kind
}

#[test]
fn numbers_of_every_width_are_read() {
    let pickle = decode(
        b"\x80\x02]q\0(K\x07M\x01\x02J\xff\xff\xff\xff\x8a\x02\xff\x7f\x8a\x01\x80\x8a\0G\x3f\xf8\0\0\0\0\0\0N\x88\x89e.",
    )
    .unwrap();
    let ints = [7, 0x201, -1, 0x7fff, -128, 0].map(Value::Int);
    let rest = [
        Value::Float(1.5),
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
    ];
    assert_eq!(
        pickle.items(pickle.root()).unwrap(),
        [&ints[..], &rest].concat()
    );
    assert_eq!(
        kind(b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01."),
        PickleErrorKind::Overflow
    );
}

#[test]
fn of_two_attributes_with_one_name_the_later_counts() {
    let pickle = decode(b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u.").unwrap();
    assert_eq!(pickle.get(pickle.root(), "a", 9), Some(Value::Int(2)));
    assert_eq!(pickle.get(pickle.root(), "a", 1), Some(Value::Int(1)));
    assert_eq!(pickle.get(pickle.root(), "b", 9), None);
}

/// What `pickle.dumps(datetime.datetime(2020, 1, 1), 2)` gives, which libtorrent's trackers had.
#[test]
fn instances_of_other_classes_are_nothing_in_particular() {
    let pickle = decode(
        b"\x80\x02]q\0cdatetime\ndatetime\nq\x01c_codecs\nencode\nq\x02X\x04\0\0\0\x07\x7f\x01\x01q\x03X\x06\0\0\0latin1q\x04\x86q\x05Rq\x06\
          \x85q\x07Rq\x08a.",
    )
    .unwrap();
    let items = pickle.items(pickle.root()).unwrap();
    assert_eq!((items.len(), pickle.entries(items[0])), (1, None));
}

#[test]
fn a_call_is_only_an_instance_that_says_nothing() {
    let pickle = decode(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.").unwrap();
    assert_eq!(pickle.bytes(pickle.root()), None);
    assert_eq!(pickle.entries(pickle.root()), None);
}

#[test]
fn opcodes_of_anything_else_are_refused() {
    // Protocol 0, persistent ids, extensions, buffers, sets, and instances by stack.
    for opcode in *b"IFLSVPQdlgpio02\x82\x83\x84\x8b\x8f\x90\x91\x92\x96\x97\x98" {
        assert_eq!(
            kind(&[0x80, 2, opcode, b'.']),
            PickleErrorKind::Opcode(opcode)
        );
    }
    assert_eq!(kind(b"\x80\x05N."), PickleErrorKind::Protocol(5));
}

#[test]
fn what_is_below_a_mark_belongs_to_it() {
    assert_eq!(kind(b"](a."), PickleErrorKind::Stack);
    assert_eq!(kind(b"]N(e"), PickleErrorKind::Stack);
    assert_eq!(kind(b"N}s."), PickleErrorKind::Stack);
    assert_eq!(kind(b"}(Nu."), PickleErrorKind::Stack);
    assert_eq!(kind(b"N)\x81."), PickleErrorKind::Stack);
    assert_eq!(kind(b"NNb."), PickleErrorKind::Stack);
    assert_eq!(kind(b"\x86."), PickleErrorKind::Stack);
    assert_eq!(kind(b"h\x07."), PickleErrorKind::Memo);
}

#[test]
fn lengths_beyond_the_end_are_refused_before_anything_is_made() {
    assert_eq!(kind(b"X\xff\xff\xff\x7f"), PickleErrorKind::UnexpectedEnd);
    assert_eq!(
        kind(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
        PickleErrorKind::UnexpectedEnd
    );
    assert_eq!(kind(b"cos\n"), PickleErrorKind::UnexpectedEnd);
    assert_eq!(kind(b""), PickleErrorKind::UnexpectedEnd);
}

#[test]
fn a_list_within_itself_is_read_and_dropped() {
    let pickle = decode(b"\x80\x02]q\0h\0a.").unwrap();
    assert_eq!(pickle.items(pickle.root()).unwrap(), [pickle.root()]);
}

//! Whole handshakes: against recordings of libtorrent, against each other however they are cut, and against those who lie.

use super::keys::Shared;
use super::*;
use crate::handshake::{HANDSHAKE_LENGTH, Handshake, Progress};
use crate::{Decoded, Decoder, Limits};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SKEY: InfoHash = InfoHash([0xab; 20]);
const NOT_LOOKED_UP: fn(SkeyHash) -> Option<InfoHash> = |_| panic!("nothing to look up yet");

fn find(name: SkeyHash) -> Option<InfoHash> {
    (name == SkeyHash::of(SKEY)).then_some(SKEY)
}

/// The values of a recording.
struct Recording(BTreeMap<&'static str, &'static str>);

impl Recording {
    fn of(name: &str) -> Self {
        let lines = include_str!("libtorrent.txt").lines();
        let own = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Recording(own.map(|line| line.split_once(' ').unwrap()).collect())
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        let digits = self.0[key].as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    fn skey(&self) -> InfoHash {
        InfoHash(self.bytes("info_hash").try_into().unwrap())
    }

    fn noise(&self) -> Noise {
        let secret = self.bytes("secret").try_into().unwrap();
        Noise::fixed(
            secret,
            self.bytes("pad"),
            self.0["crypto_pad"].parse().unwrap(),
        )
    }
}

/// What libtorrent says is its handshake, and messages behind it.
fn assert_is_libtorrents(plain: &[u8], skey: InfoHash) {
    let Ok(Progress::Complete(handshake)) = Handshake::decode(plain) else {
        panic!("no handshake");
    };
    assert_eq!(handshake.info_hash, skey);
    assert!(handshake.peer_id.0.starts_with(b"-LT"));
    let mut decoder = Decoder::new(Limits {
        piece_count: Some(4),
    });
    let first = decoder.decode(&plain[HANDSHAKE_LENGTH..]);
    assert!(matches!(first, Ok(Decoded::Message { .. })), "{first:?}");
}

#[test]
fn a_handshake_that_libtorrent_answered_is_byte_for_byte_ours() {
    for (name, ciphered) in [("initiator_rc4", true), ("initiator_plaintext", false)] {
        let recording = Recording::of(name);
        let (skey, initial) = (recording.skey(), recording.bytes("initial"));
        let mut sent = Vec::new();
        let mut ours = Initiator::new(skey, Methods::ALL, recording.noise(), &initial, &mut sent);
        let done = ours.receive(&recording.bytes("heard"), &mut sent).unwrap();
        let done = done.expect("the recording is whole");
        assert_eq!(sent, recording.bytes("sent"), "{name}");
        assert_eq!(done.received, recording.bytes("plain"), "{name}");
        assert_eq!(done.ciphers.is_some(), ciphered);
        assert_is_libtorrents(&done.received, skey);
    }
}

#[test]
fn a_handshake_that_libtorrent_began_is_answered_byte_for_byte_as_it_was() {
    for (name, methods, ciphered) in [
        ("responder_rc4", Methods::ALL, true),
        ("responder_plaintext", Methods::PLAINTEXT, false),
    ] {
        let recording = Recording::of(name);
        let skey = recording.skey();
        let find = |name| (name == SkeyHash::of(skey)).then_some(skey);
        let mut sent = Vec::new();
        let mut ours = Responder::new(methods, recording.noise());
        let done = ours.receive(&recording.bytes("heard"), find, &mut sent);
        let done = done.unwrap().expect("the recording is whole");
        assert_eq!(sent, recording.bytes("sent"), "{name}");
        assert_eq!(done.received, recording.bytes("plain"), "{name}");
        assert_eq!((done.ciphers.is_some(), done.skey), (ciphered, skey));
        assert_is_libtorrents(&done.received, skey);
    }
}

/// Two sides and the bytes between them, which arrive in pieces.
struct Pair {
    ours: Initiator,
    theirs: Responder,
    to_theirs: Vec<u8>,
    to_ours: Vec<u8>,
}

type Outcome = (Result<Established, MseError>, Result<Established, MseError>);

impl Pair {
    fn new(offered: Methods, allowed: Methods, noise: [Noise; 2], initial: &[u8]) -> Self {
        let [our_noise, their_noise] = noise;
        let mut to_theirs = Vec::new();
        Pair {
            ours: Initiator::new(SKEY, offered, our_noise, initial, &mut to_theirs),
            theirs: Responder::new(allowed, their_noise),
            to_theirs,
            to_ours: Vec::new(),
        }
    }

    /// Until both are done or one fails; `behind` is what the responder sends behind its handshake.
    fn run(mut self, mut cut: impl FnMut() -> usize, behind: &[u8]) -> Outcome {
        let (mut opened, mut accepted) = (None, None);
        loop {
            let mut part = |from: &mut Vec<u8>| {
                let count = cut().clamp(1, from.len().max(1)).min(from.len());
                from.drain(..count).collect::<Vec<u8>>()
            };
            if accepted.is_none() {
                let part = part(&mut self.to_theirs);
                match self.theirs.receive(&part, find, &mut self.to_ours) {
                    Ok(Some(mut done)) => {
                        let mut behind = behind.to_vec();
                        if let Some(ciphers) = &mut done.ciphers {
                            ciphers.send.apply(&mut behind);
                        }
                        self.to_ours.extend(behind);
                        accepted = Some(done);
                    }
                    Ok(None) => {}
                    Err(error) => return (Err(error), Err(error)),
                }
            }
            if opened.is_none() {
                let part = part(&mut self.to_ours);
                match self.ours.receive(&part, &mut self.to_theirs) {
                    Ok(Some(done)) => opened = Some(done),
                    Ok(None) => {}
                    Err(error) => return (Err(error), Err(error)),
                }
            }
            if let (Some(opened), Some(accepted)) = (&mut opened, &mut accepted) {
                // What has not arrived when the handshake is done is read by the connection.
                finish(opened, std::mem::take(&mut self.to_ours));
                finish(accepted, std::mem::take(&mut self.to_theirs));
            }
            (opened, accepted) = match (opened, accepted) {
                (Some(opened), Some(accepted)) => return (Ok(opened), Ok(accepted)),
                unfinished => unfinished,
            };
        }
    }
}

fn finish(side: &mut Established, mut rest: Vec<u8>) {
    if let Some(ciphers) = &mut side.ciphers {
        ciphers.receive.apply(&mut rest);
    }
    side.received.extend(rest);
}

fn methods() -> impl Strategy<Value = Methods> {
    proptest::sample::select(vec![Methods::ALL, Methods::RC4, Methods::PLAINTEXT])
}

fn noise() -> impl Strategy<Value = Noise> {
    let pad = proptest::collection::vec(any::<u8>(), 0..=MAX_PAD_LENGTH);
    (any::<[u8; 20]>(), pad, 0..=MAX_PAD_LENGTH)
        .prop_map(|(secret, pad, crypto_pad)| Noise::fixed(secret, pad, crypto_pad))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn two_sides_agree_however_their_bytes_are_cut(
        offered in methods(), allowed in methods(), ours in noise(), theirs in noise(),
        initial in proptest::collection::vec(any::<u8>(), 0..200), seed in any::<u64>(), most in 1..700_usize,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let pair = Pair::new(offered, allowed, [ours, theirs], &initial);
        let behind: &[u8] = b"what the responder says next";
        match pair.run(|| random.usize(1..=most), behind) {
            (Ok(mut opened), Ok(mut accepted)) => {
                prop_assert_eq!(&accepted.received, &initial);
                prop_assert_eq!(opened.received, behind);
                let plain = offered.0 & allowed.0 & PLAINTEXT != 0;
                prop_assert_eq!(opened.ciphers.is_none(), plain);
                prop_assert_eq!(accepted.ciphers.is_none(), plain);
                if let (Some(ours), Some(theirs)) = (&mut opened.ciphers, &mut accepted.ciphers) {
                    let mut message = *b"and on";
                    ours.send.apply(&mut message);
                    prop_assert_ne!(&message, b"and on");
                    theirs.receive.apply(&mut message);
                    prop_assert_eq!(&message, b"and on");
                }
            }
            (Err(error), _) => {
                prop_assert_eq!(error, MseError::Offer(offered.0));
                prop_assert_eq!(offered.0 & allowed.0, 0);
            }
            _ => prop_assert!(false, "one side alone is done"),
        }
    }

    #[test]
    fn noise_ends_in_an_error_and_not_in_memory(
        bytes in proptest::collection::vec(any::<u8>(), 1_200..2_000), cut in 1..600_usize,
    ) {
        let mut out = Vec::new();
        let mut random = fastrand::Rng::with_seed(3);
        let noise = |random: &mut fastrand::Rng| Noise::new([9; 20], random);
        let mut ours = Initiator::new(SKEY, Methods::ALL, noise(&mut random), b"", &mut out);
        let mut theirs = Responder::new(Methods::ALL, noise(&mut random));
        let failed = bytes.chunks(cut).find_map(|part| ours.receive(part, &mut out).err());
        prop_assert_eq!(failed, Some(MseError::Synchronisation));
        let failed = bytes.chunks(cut).find_map(|part| theirs.receive(part, find, &mut out).err());
        prop_assert_eq!(failed, Some(MseError::Synchronisation));
    }
}

fn plain_noise(secret: u8) -> Noise {
    Noise::fixed([secret; 20], Vec::new(), 0)
}

/// An initiator made by hand that speaks to a responder of `plain_noise(2)`: what it says up to its encrypted part, and the ciphers for that.
fn by_hand(pad: usize) -> (Vec<u8>, Vec<u8>, Shared, Box<Ciphers>) {
    let secret = Secret::new([3; 20]);
    let mut first = secret.public_key().to_vec();
    first.resize(first.len() + pad, 0x55);
    let shared = Shared(secret.shared(&plain_noise(2).secret.public_key()).unwrap());
    let mut second = shared.sync().to_vec();
    second.extend(shared.mask(SkeyHash::of(SKEY)).0);
    let ciphers = Box::new(shared.initiator(SKEY));
    (first, second, shared, ciphers)
}

/// What a responder makes of an encrypted part.
fn judged(offer: &[u8]) -> Result<Option<Established>, MseError> {
    let mut theirs = Responder::new(Methods::RC4, plain_noise(2));
    let (mut said, second, _, mut ciphers) = by_hand(0);
    let mut offer = offer.to_vec();
    ciphers.send.apply(&mut offer);
    said.extend(second);
    said.extend(offer);
    theirs.receive(&said, find, &mut Vec::new())
}

fn offer(methods: u32, pad_length: u16, pad: usize, initial_length: u16) -> Vec<u8> {
    let mut offer = vec![0; 8];
    offer.extend(methods.to_be_bytes());
    offer.extend(pad_length.to_be_bytes());
    offer.resize(offer.len() + pad, 0);
    offer.extend(initial_length.to_be_bytes());
    offer
}

#[test]
fn an_offer_is_judged_before_anything_that_it_claims_is_waited_for() {
    assert!(judged(&offer(2, 0, 0, 0)).unwrap().is_some());
    assert!(judged(&offer(2, 512, 512, 0)).unwrap().is_some());
    assert!(judged(&offer(0xffff_ffff, 0, 0, 0)).unwrap().is_some());
    assert!(judged(&offer(2, 0, 0, 1_024)).unwrap().is_none());
    let errors = [
        (offer(2, 513, 0, 0), MseError::PadLength(513)),
        (offer(2, u16::MAX, 0, 0), MseError::PadLength(u16::MAX)),
        (offer(2, 0, 0, 1_025), MseError::InitialPayload(1_025)),
        (offer(1, 0, 0, 0), MseError::Offer(1)),
        (offer(0, 0, 0, 0), MseError::Offer(0)),
        (offer(0xffff_fffd, 0, 0, 0), MseError::Offer(0xffff_fffd)),
    ];
    for (offer, expected) in errors {
        assert_eq!(judged(&offer).err(), Some(expected));
    }
    let mut wrong = offer(2, 0, 0, 0);
    wrong[7] = 1;
    assert_eq!(judged(&wrong).err(), Some(MseError::Verification));
}

#[test]
fn a_pad_of_512_bytes_is_skipped_and_one_of_513_is_not() {
    for (pad, accepted) in [(0, true), (512, true), (513, false), (5_000, false)] {
        let mut theirs = Responder::new(Methods::RC4, plain_noise(2));
        let (first, second, _, mut ciphers) = by_hand(pad);
        let mut offer = offer(2, 0, 0, 0);
        ciphers.send.apply(&mut offer);
        let said = [first, second, offer].concat();
        let whole = theirs.receive(&said, find, &mut Vec::new());
        assert_eq!(whole.is_ok(), accepted, "{pad}");
        // A byte at a time it comes to the same.
        let mut theirs = Responder::new(Methods::RC4, plain_noise(2));
        let single = said.iter().try_fold(false, |done, byte| {
            let step = theirs.receive(&[*byte], find, &mut Vec::new());
            step.map(|step| done || step.is_some())
        });
        assert_eq!(single.ok(), accepted.then_some(true), "{pad}");
    }
}

#[test]
fn a_stranger_who_names_no_torrent_of_ours_is_told_nothing_and_looked_up_once() {
    let mut theirs = Responder::new(Methods::ALL, plain_noise(2));
    let (first, second, _, _) = by_hand(4);
    let mut out = Vec::new();
    theirs.receive(&first, NOT_LOOKED_UP, &mut out).unwrap();
    let told = out.len();
    let mut asked = Vec::new();
    let unknown = |name| {
        asked.push(name);
        None
    };
    let failed = theirs.receive(&second, unknown, &mut out);
    assert_eq!(failed.err(), Some(MseError::UnknownTorrent));
    assert_eq!((asked, out.len()), (vec![SkeyHash::of(SKEY)], told));
    // A machine that has failed stays silent.
    let later = theirs.receive(&second, NOT_LOOKED_UP, &mut out);
    assert!(later.is_ok_and(|done| done.is_none()) && out.len() == told);
}

#[test]
fn a_degenerate_key_ends_a_handshake_on_both_sides_before_anything_is_told() {
    let mut out = Vec::new();
    let mut ours = Initiator::new(SKEY, Methods::ALL, plain_noise(1), b"", &mut out);
    let told = out.len();
    assert_eq!(
        ours.receive(&[0; 96], &mut out).err(),
        Some(MseError::PublicKey)
    );
    assert!(ours.is_answered() && out.len() == told);
    let mut theirs = Responder::new(Methods::ALL, plain_noise(2));
    let failed = theirs.receive(&[0xff; 96], NOT_LOOKED_UP, &mut Vec::new());
    assert_eq!(failed.err(), Some(MseError::PublicKey));
}

#[test]
fn a_remote_that_answers_in_the_clear_is_known_by_its_first_twenty_bytes() {
    let mut out = Vec::new();
    let mut ours = Initiator::new(SKEY, Methods::ALL, plain_noise(1), b"", &mut out);
    let said = b"\x13BitTorrent protocol";
    assert!(ours.receive(&said[..19], &mut out).unwrap().is_none());
    assert_eq!(
        ours.receive(&said[19..], &mut out).err(),
        Some(MseError::Plaintext)
    );
    assert!(!ours.is_answered());
}

/// What an initiator that offers `offered` makes of a responder's choice.
fn chosen(offered: Methods, choice: u32, pad_length: u16) -> Result<Option<Established>, MseError> {
    let mut out = Vec::new();
    let mut ours = Initiator::new(SKEY, offered, plain_noise(1), b"", &mut out);
    let secret = Secret::new([2; 20]);
    let shared = Shared(secret.shared(&plain_noise(1).secret.public_key()).unwrap());
    let mut answer = vec![0; 8];
    answer.extend(choice.to_be_bytes());
    answer.extend(pad_length.to_be_bytes());
    shared.responder(SKEY).send.apply(&mut answer);
    let said = [secret.public_key().to_vec(), answer].concat();
    ours.receive(&said, &mut out)
}

#[test]
fn a_choice_is_one_of_those_on_offer() {
    assert!(chosen(Methods::RC4, 2, 0).unwrap().is_some());
    assert!(chosen(Methods::ALL, 1, 0).unwrap().is_some());
    for (offered, choice) in [
        (Methods::RC4, 1),
        (Methods::PLAINTEXT, 2),
        (Methods::ALL, 0),
        (Methods::ALL, 3),
        (Methods::ALL, 4),
        (Methods::ALL, u32::MAX),
    ] {
        let failed = chosen(offered, choice, 0).err();
        assert_eq!(failed, Some(MseError::Choice(choice)));
    }
    assert_eq!(
        chosen(Methods::ALL, 2, 513).err(),
        Some(MseError::PadLength(513))
    );
    assert!(chosen(Methods::ALL, 2, 512).unwrap().is_none());
}

#[test]
fn the_first_twenty_bytes_tell_a_handshake_from_a_key() {
    let plain = *b"\x13BitTorrent protocol and more";
    for length in 0..plain.len() {
        let expected = match length {
            0..20 => Opening::Undecided,
            _ => Opening::Plaintext,
        };
        assert_eq!(Opening::of(&plain[..length]), expected);
    }
    for at in 0..20 {
        let mut other = plain;
        other[at] ^= 1;
        assert_eq!(Opening::of(&other[..=at]), Opening::Encrypted);
    }
}

#[test]
fn policies_offer_what_they_are_named_for() {
    assert_eq!(EncryptionPolicy::Enabled.methods(), Methods::ALL);
    assert_eq!(EncryptionPolicy::Forced.methods(), Methods::RC4);
    assert_eq!(choose(3, EncryptionPolicy::Disabled.methods()), None);
    assert_eq!(EncryptionPolicy::default(), EncryptionPolicy::Enabled);
}

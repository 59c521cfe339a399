//! Inputs for the replay on the stable compiler: noise, and seeds of a corpus changed a little.
//!
//! Invariant: the same generator state and corpus give the same inputs.

/// Where an input stops growing. The parsers' limits have tests of their own; here, many inputs are worth more than long
/// ones.
const MAX_LENGTH: usize = 4096;

/// The most changes made to one seed.
const MAX_CHANGES: usize = 6;

/// Bytes at the edges of ranges.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'0', b'9'];

/// Numbers at the edges of ranges, for the big-endian fields of the wire.
const EDGE_NUMBERS: [u32; 8] = [
    0,
    1,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
    0x4000,
    0x1_0000,
    0x10_0001,
];

/// The next input: one in eight is noise, the others come from `corpus`, changed by bytes, numbers, `words` and splices.
#[must_use]
pub fn input(random: &mut fastrand::Rng, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    if corpus.is_empty() || random.u8(..8) == 0 {
        let length = random.usize(..256);
        return core::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect();
    }
    let mut bytes = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..=MAX_CHANGES) {
        change(random, &mut bytes, corpus, words);
        bytes.truncate(MAX_LENGTH);
    }
    bytes
}

fn change(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]]) {
    let at = random.usize(..=bytes.len());
    let length = random.usize(..=(bytes.len() - at).min(64));
    match random.u8(..9) {
        0 => overwrite(bytes, at, &[1 << random.u8(..8)], |old, new| old ^ new),
        1 => overwrite(bytes, at, &[random.u8(..)], |_, new| new),
        2 => overwrite(
            bytes,
            at,
            &[EDGES[random.usize(..EDGES.len())]],
            |_, new| new,
        ),
        3 => {
            let number = EDGE_NUMBERS[random.usize(..EDGE_NUMBERS.len())];
            overwrite(bytes, at, &number.to_be_bytes(), |_, new| new);
        }
        4 => drop(bytes.drain(at..at + length)),
        5 => bytes.truncate(at),
        6 => {
            let copy = bytes[at..at + length].to_vec();
            insert(bytes, at, &copy);
        }
        7 if !words.is_empty() => insert(bytes, at, words[random.usize(..words.len())]),
        _ => {
            let other = &corpus[random.usize(..corpus.len())];
            let from = random.usize(..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8], merge: fn(u8, u8) -> u8) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = merge(*byte, *new);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_they_differ_from_each_other() {
        let corpus = [b"d1:ai1ee".to_vec(), b"l4:teste".to_vec()];
        let run = || {
            let mut random = fastrand::Rng::with_seed(1);
            let next = || input(&mut random, &corpus, &[b"word"]);
            core::iter::repeat_with(next).take(200).collect::<Vec<_>>()
        };
        let inputs = run();
        assert_eq!(inputs, run());
        let distinct: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(distinct.len() > 150);
        assert!(
            inputs
                .iter()
                .any(|bytes| bytes.windows(4).any(|part| part == b"word"))
        );
        assert!(inputs.iter().all(|bytes| bytes.len() <= MAX_LENGTH));
    }
}

//! The stream cipher RC4, as far as the machine lets it run: what it takes is what an encrypted transfer takes.
//!
//! It is written here because the library of the field takes twice as long (656 MB/s on a core where this one reaches 1,237 MB/s,
//! which docs/performance.md measures as the floor): its inner loop waits for a store before the load that comes next. RC4 looks
//! up its table by secret bytes, so that it leaks through caches what it leaks through its statistics anyway; nothing that matters
//! is trusted to it.
//!
//! Invariant: the table is a permutation of all bytes, and the key stream is in step with what was passed, however it was cut.

use core::fmt;

/// Bytes of key stream that are dropped before the first use: the first ones give away the key.
const DISCARDED_BYTES: usize = 1_024;

/// One direction of a connection. See the module.
#[derive(Clone)]
pub struct Rc4 {
    table: [u8; 256],
    x: u8,
    y: u8,
}

impl Rc4 {
    /// A cipher at the beginning of the key stream of `key`, whose first 256 bytes count. An empty one counts as a zero.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut table = [0; 256];
        for (entry, value) in table.iter_mut().zip(0..=u8::MAX) {
            *entry = value;
        }
        let key = if key.is_empty() { &[0] } else { key };
        let mut y = 0_u8;
        for (x, letter) in (0..table.len()).zip(key.iter().cycle()) {
            y = y.wrapping_add(table[x]).wrapping_add(*letter);
            table.swap(x, usize::from(y));
        }
        Rc4 { table, x: 0, y: 0 }
    }

    /// A cipher where MSE begins: behind the bytes that are discarded.
    #[must_use]
    pub fn for_mse(key: &[u8]) -> Self {
        let mut cipher = Rc4::new(key);
        cipher.apply(&mut [0; DISCARDED_BYTES]);
        cipher
    }

    /// Encrypts or decrypts `bytes` in place, which is the same.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let table = &mut self.table;
        let mut y = self.y;
        let mut x = self.x.wrapping_add(1);
        // The entry of the next step is loaded before this step stores, so that no load waits for a store; where both are the
        // same entry, what is stored is known.
        let mut entry = table[usize::from(x)];
        let mut step = || {
            y = y.wrapping_add(entry);
            let other = table[usize::from(y)];
            let next_x = x.wrapping_add(1);
            let loaded = table[usize::from(next_x)];
            table[usize::from(y)] = entry;
            table[usize::from(x)] = other;
            let key = table[usize::from(entry.wrapping_add(other))];
            entry = if next_x == y { entry } else { loaded };
            x = next_x;
            key
        };
        // Eight bytes of key stream go into one register and onto the payload at once.
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            let mut key = [0; 8];
            key.fill_with(&mut step);
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
        }
        for byte in rest {
            *byte ^= step();
        }
        self.x = x.wrapping_sub(1);
        self.y = y;
    }
}

/// Shows nothing of the key stream.
impl fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rc4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As RC4 is written down everywhere, a byte at a time.
    fn naive(key: &[u8], length: usize) -> Vec<u8> {
        let mut table: Vec<usize> = (0..256).collect();
        let mut y = 0;
        for x in 0..256 {
            y = (y + table[x] + usize::from(key[x % key.len()])) % 256;
            table.swap(x, y);
        }
        let (mut x, mut y) = (0, 0);
        let step = |_| {
            x = (x + 1) % 256;
            y = (y + table[x]) % 256;
            table.swap(x, y);
            u8::try_from(table[(table[x] + table[y]) % 256]).unwrap()
        };
        (0..length).map(step).collect()
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    #[test]
    fn the_vectors_of_rfc_6229() {
        let mut checked = 0;
        for section in include_str!("rfc6229.txt").split("\nkey ").skip(1) {
            let mut lines = section.lines();
            let key = bytes_of(lines.next().unwrap());
            let mut stream = vec![0; 5_000];
            Rc4::new(&key).apply(&mut stream);
            for (offset, expected) in lines.filter_map(|line| line.split_once(' ')) {
                let at: usize = offset.parse().unwrap();
                assert_eq!(stream[at..at + 16], bytes_of(expected), "{key:x?} at {at}");
                checked += 1;
            }
        }
        assert_eq!(checked, 14 * 18);
    }

    #[test]
    fn mse_begins_1024_bytes_in() {
        let key = [0x5a; 20];
        let mut stream = [0; 3_000];
        Rc4::for_mse(&key).apply(&mut stream);
        assert_eq!(stream[..], naive(&key, 4_024)[1_024..]);
    }

    #[test]
    fn what_is_printed_is_no_key() {
        assert_eq!(format!("{:?}", Rc4::new(b"secret")), "Rc4");
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_it_is_that_of_the_naive_cipher(
            key in proptest::collection::vec(any::<u8>(), 1..64),
            cuts in proptest::collection::vec(0..700_usize, 0..8),
        ) {
            let mut cipher = Rc4::new(&key);
            let mut stream = Vec::new();
            for cut in cuts {
                let mut part = vec![0; cut];
                cipher.apply(&mut part);
                stream.extend(part);
            }
            prop_assert_eq!(&stream, &naive(&key, stream.len()));
            let mut again = stream.clone();
            Rc4::new(&key).apply(&mut again);
            prop_assert!(again.iter().all(|byte| *byte == 0));
        }
    }
}

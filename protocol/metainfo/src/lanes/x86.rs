//! SHA-1 and SHA-256 of up to a handful of messages in lockstep, with the SHA extensions of x86-64.
//!
//! The instructions for four rounds of SHA-1 take several cycles until their result can be used, and another pair can start
//! before: one message leaves the unit idle most of the time, and messages that know nothing of each other fill it.
//!
//! Invariant: the functions that need the extensions are reached through [`ShaExtensions`] alone, and a value of it exists
//! only where the processor has them. This is the one module of the project with `unsafe` in it.

#![allow(
    unsafe_code,
    reason = "calling into functions for processor extensions and loading 16 bytes have no safe form"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "lanes are indexed in many arrays at once, and the compiler unrolls these loops"
)]

use super::Block;
use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32,
    _mm_set_epi64x, _mm_setzero_si128, _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32,
    _mm_sha1rnds4_epu32, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_xor_si128,
};

/// Says that the processor has the extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShaExtensions(());

impl ShaExtensions {
    /// Looks, which costs next to nothing after the first time.
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        all.then_some(ShaExtensions(()))
    }

    /// Compresses as many blocks of each lane as the shortest has with SHA-1 (FIPS 180-4).
    pub(super) fn sha1<const N: usize>(self, chains: [&mut [u32; 5]; N], blocks: [&[Block]; N]) {
        // SAFETY: `self` exists, so that `detect` found every feature that the function is compiled for.
        unsafe { sha1(chains, blocks) }
    }

    /// Compresses as many blocks of each lane as the shortest has with SHA-256 (FIPS 180-4).
    pub(super) fn sha256<const N: usize>(self, chains: [&mut [u32; 8]; N], blocks: [&[Block]; N]) {
        // SAFETY: `self` exists, so that `detect` found every feature that the function is compiled for.
        unsafe { sha256(chains, blocks) }
    }
}

/// The round constants of SHA-256, four rounds in a row.
const K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Sixteen bytes of a block, put in `order`.
#[inline]
#[target_feature(enable = "ssse3")]
fn load(block: &Block, quarter: usize, order: __m128i) -> __m128i {
    let bytes: &[u8; 16] = &block.as_chunks().0[quarter];
    // SAFETY: `bytes` are 16 bytes that can be read, and the load needs no alignment.
    let words = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm_shuffle_epi8(words, order)
}

/// The words of a vector, the highest first.
#[inline]
#[target_feature(enable = "sse4.1")]
fn words(vector: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32::<3>(vector).cast_unsigned(),
        _mm_extract_epi32::<2>(vector).cast_unsigned(),
        _mm_extract_epi32::<1>(vector).cast_unsigned(),
        _mm_extract_epi32::<0>(vector).cast_unsigned(),
    ]
}

/// The inverse of [`words`].
#[inline]
#[target_feature(enable = "sse4.1")]
fn vector([a, b, c, d]: [u32; 4]) -> __m128i {
    let [a, b, c, d] = [a, b, c, d].map(u32::cast_signed);
    _mm_set_epi32(a, b, c, d)
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha1<const N: usize>(chains: [&mut [u32; 5]; N], blocks: [&[Block]; N]) {
    // Big-endian words, the first one highest.
    let order = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    let mut abcd = [_mm_setzero_si128(); N];
    let mut e = [_mm_setzero_si128(); N];
    for lane in 0..N {
        let [first @ .., last] = *chains[lane];
        abcd[lane] = vector(first);
        e[lane] = vector([last, 0, 0, 0]);
    }
    let count = blocks.map(<[Block]>::len).into_iter().min().unwrap_or(0);
    for at in 0..count {
        let (abcd_before, e_before) = (abcd, e);
        let mut w = [[_mm_setzero_si128(); 4]; N];
        let here = blocks.map(|blocks| &blocks[at]);
        // Each line is four rounds in every lane: which, and with which of the four functions.
        macro_rules! rounds {
            ($($quad:literal $function:literal),*) => {$(
                for lane in 0..N {
                    const NEXT: [usize; 4] = [$quad & 3, ($quad + 1) & 3, ($quad + 2) & 3, ($quad + 3) & 3];
                    let w = &mut w[lane];
                    w[NEXT[0]] = if $quad < 4 {
                        load(here[lane], NEXT[0], order)
                    } else {
                        let mixed = _mm_sha1msg1_epu32(w[NEXT[0]], w[NEXT[1]]);
                        let mixed = _mm_xor_si128(mixed, w[NEXT[2]]);
                        _mm_sha1msg2_epu32(mixed, w[NEXT[3]])
                    };
                    let input = if $quad == 0 {
                        _mm_add_epi32(e[lane], w[NEXT[0]])
                    } else {
                        _mm_sha1nexte_epu32(e[lane], w[NEXT[0]])
                    };
                    e[lane] = abcd[lane];
                    abcd[lane] = _mm_sha1rnds4_epu32::<$function>(abcd[lane], input);
                }
            )*};
        }
        rounds!(0 0, 1 0, 2 0, 3 0, 4 0);
        rounds!(5 1, 6 1, 7 1, 8 1, 9 1);
        rounds!(10 2, 11 2, 12 2, 13 2, 14 2);
        rounds!(15 3, 16 3, 17 3, 18 3, 19 3);
        for lane in 0..N {
            e[lane] = _mm_sha1nexte_epu32(e[lane], e_before[lane]);
            abcd[lane] = _mm_add_epi32(abcd[lane], abcd_before[lane]);
        }
    }
    for (lane, chain) in chains.into_iter().enumerate() {
        let [a, b, c, d] = words(abcd[lane]);
        *chain = [a, b, c, d, words(e[lane])[0]];
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha256<const N: usize>(chains: [&mut [u32; 8]; N], blocks: [&[Block]; N]) {
    // Big-endian words, the first one lowest.
    let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = [_mm_setzero_si128(); N];
    for lane in 0..N {
        let [a, b, c, d, e, f, g, h] = *chains[lane];
        abef[lane] = vector([a, b, e, f]);
        cdgh[lane] = vector([c, d, g, h]);
    }
    let count = blocks.map(<[Block]>::len).into_iter().min().unwrap_or(0);
    for at in 0..count {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w = [[_mm_setzero_si128(); 4]; N];
        let here = blocks.map(|blocks| &blocks[at]);
        // Four rounds in every lane.
        macro_rules! rounds {
            ($($quad:literal),*) => {$(
                let [k0, k1, k2, k3] = K[$quad];
                let k = vector([k3, k2, k1, k0]);
                for lane in 0..N {
                    const NEXT: [usize; 4] = [$quad & 3, ($quad + 1) & 3, ($quad + 2) & 3, ($quad + 3) & 3];
                    let w = &mut w[lane];
                    w[NEXT[0]] = if $quad < 4 {
                        load(here[lane], NEXT[0], order)
                    } else {
                        let mixed = _mm_sha256msg1_epu32(w[NEXT[0]], w[NEXT[1]]);
                        let mixed = _mm_add_epi32(mixed, _mm_alignr_epi8::<4>(w[NEXT[3]], w[NEXT[2]]));
                        _mm_sha256msg2_epu32(mixed, w[NEXT[3]])
                    };
                    let input = _mm_add_epi32(w[NEXT[0]], k);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], input);
                    let input = _mm_shuffle_epi32::<0x0e>(input);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], input);
                }
            )*};
        }
        rounds!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for lane in 0..N {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for (lane, chain) in chains.into_iter().enumerate() {
        let ([a, b, e, f], [c, d, g, h]) = (words(abef[lane]), words(cdgh[lane]));
        *chain = [a, b, c, d, e, f, g, h];
    }
}

//! libFuzzer's way into `shoal_fuzz::metainfo::metalink`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::metainfo::metalink(input));

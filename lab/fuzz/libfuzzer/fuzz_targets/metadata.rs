//! libFuzzer's way into `shoal_fuzz::metadata::search`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::metadata::search(input));

//! libFuzzer's way into `shoal_fuzz::tracker::local`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::tracker::local(input));

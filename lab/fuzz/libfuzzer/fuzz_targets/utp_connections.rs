//! libFuzzer's way into `shoal_fuzz::utp::connections`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::utp::connections(input));

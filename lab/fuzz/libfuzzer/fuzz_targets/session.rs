//! libFuzzer's way into `shoal_fuzz::session::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::session::session(input));

//! libFuzzer's way into `shoal_fuzz::dht::krpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::dht::krpc(input));

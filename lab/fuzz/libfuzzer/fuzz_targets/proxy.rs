//! libFuzzer's way into `shoal_fuzz::proxy::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::proxy::proxy(input));

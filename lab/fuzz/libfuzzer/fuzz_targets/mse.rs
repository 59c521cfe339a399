//! libFuzzer's way into `shoal_fuzz::mse::mse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::mse::mse(input));

//! libFuzzer's way into `shoal_fuzz::import::import`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::import::import(input));

//! libFuzzer's way into `shoal_fuzz::wire::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::wire::messages(input));

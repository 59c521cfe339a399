//! libFuzzer's way into `shoal_fuzz::wire::extended_handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::wire::extended_handshake(input));

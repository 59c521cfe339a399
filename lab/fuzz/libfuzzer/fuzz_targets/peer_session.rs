//! libFuzzer's way into `shoal_fuzz::peer_session::peer_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::peer_session::peer_session(input));

//! libFuzzer's way into `shoal_fuzz::torrent::torrent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::torrent::torrent(input));

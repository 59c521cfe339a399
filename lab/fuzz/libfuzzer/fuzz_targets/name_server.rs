//! libFuzzer's way into `shoal_fuzz::proxy::name_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::proxy::name_server(input));

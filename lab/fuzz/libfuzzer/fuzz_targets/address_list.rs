//! libFuzzer's way into `shoal_fuzz::address_list::address_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shoal_fuzz::address_list::address_list(input));

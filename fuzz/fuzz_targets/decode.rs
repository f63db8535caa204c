//! Fuzz target: bytes of a ring. Not the check itself. It may call the crate's library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sensor_fuzz::targets::decode(bytes));

//! Fuzz target: what a kernel says of its types. Not the check itself. It may call the crate's library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sensor_fuzz::targets::btf(bytes));

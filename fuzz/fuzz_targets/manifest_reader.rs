//! Both copies of a manifest made of hostile bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::manifest_reader(data));

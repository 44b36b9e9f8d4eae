//! A segment made of hostile bytes: every read is right or an error.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::segment_reader(data));

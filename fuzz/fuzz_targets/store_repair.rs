//! A whole store, damaged: listed without a change, repaired, salvaged; what is there then is right.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::store_repair(data));

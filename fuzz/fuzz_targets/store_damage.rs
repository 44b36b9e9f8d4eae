//! A whole store, damaged: opened, read, scrubbed, mended, written to; every answer is right or a refusal.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::store_damage(data));

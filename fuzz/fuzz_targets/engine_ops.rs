//! Operations, crashes and damage, as the bytes say, against a model of what was promised.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::engine_ops(data));

//! Small files of a backup repository made of hostile bytes: read as they were written, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::snapshot_files(data));

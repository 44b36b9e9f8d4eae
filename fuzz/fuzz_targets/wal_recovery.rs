//! A log folder made of hostile bytes: recovery reports, and never panics or invents a record.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::wal_recovery(data));

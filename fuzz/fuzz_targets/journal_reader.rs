//! A journal and a scrubber's progress made of hostile bytes: whole lines are read, and no others.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::journal_reader(data));

//! Protected files and slots of parity, damaged: healed to the byte, or said to be lost.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kintsu::fuzzing::parity_heal(data));

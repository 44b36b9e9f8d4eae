//! Room memtable.

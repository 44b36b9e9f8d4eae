//! Small stores on a simulated disk, whose every limit is so low that everything happens all the time.

use std::sync::Arc;
use std::time::Duration;

use kintsu::testing::{FaultVfs, ManualClock, MemoryVfs, SeededEntropy, SeededRng};
use kintsu::vfs::Vfs;
use kintsu::{Append, Background, Codec, Compression, KeyspaceOptions, Options, Parity};

/// Where stores live on simulated disks.
pub const FOLDER: &str = "store";

/// A simulated disk with the power switch and the faults of one boot, and the machine's clock.
#[derive(Clone)]
pub struct Machine {
    pub memory: MemoryVfs,
    pub faults: FaultVfs,
    pub clock: Arc<ManualClock>,
    pub entropy: Arc<SeededEntropy>,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self::with_disk(MemoryVfs::new(), seed)
    }

    pub fn with_disk(memory: MemoryVfs, seed: u64) -> Self {
        Self {
            faults: FaultVfs::on_memory(&memory),
            memory,
            clock: Arc::new(ManualClock::new()),
            entropy: Arc::new(SeededEntropy::new(seed)),
        }
    }

    /// The same machine started again with what a crash has left; the clock goes on.
    pub fn rebooted(&self, memory: MemoryVfs) -> Self {
        Self {
            faults: FaultVfs::on_memory(&memory),
            memory,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        }
    }

    pub fn options(&self) -> Options {
        self.options_at(FOLDER)
    }

    /// For a store in another folder of the same disk.
    pub fn options_at(&self, folder: &str) -> Options {
        let vfs: Arc<dyn Vfs> = Arc::new(self.faults.clone());
        tiny_at(folder, vfs)
            .clock(self.clock.clone())
            .entropy(self.entropy.clone())
    }

    /// Every file with its bytes as programs see them, but for the lock.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.memory)
    }
}

/// Every file of a store with its bytes as programs see them, but for the lock.
pub fn files(memory: &MemoryVfs) -> Vec<(String, Vec<u8>)> {
    let names = memory.file_names(FOLDER).into_iter();
    names
        .filter(|name| name != "LOCK")
        .map(|name| {
            let bytes = memory.read_file(path(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// The smallest limits allowed, jobs stepped by the test.
pub fn tiny(vfs: Arc<dyn Vfs>) -> Options {
    tiny_at(FOLDER, vfs)
}

fn tiny_at(folder: &str, vfs: Arc<dyn Vfs>) -> Options {
    Options::new(folder)
        .vfs(vfs)
        .background(Background::Manual)
        .write_buffer_bytes(64 << 10)
        .log_file_bytes(64 << 10)
        .log_bytes_before_flush(64 << 10)
        .log_buffer_bytes(8 << 10)
        .conflict_window_bytes(8 << 10)
        .identifier_delay(Duration::from_millis(10))
        .block_bytes(256)
        .block_cache_bytes(32 << 10)
        .segment_bytes(4 << 10)
        .level_base_bytes(8 << 10)
        .level0_segments_compact(2)
        .level0_segments_stop(4)
        // What is damaged is to show, and scripts of what is done are to stay short.
        .parity(Parity::Off)
        .default_keyspace(default_keyspace(Compression::NONE))
}

/// Packed blocks would leave too little in the files for much to happen.
fn default_keyspace(compression: Compression) -> KeyspaceOptions {
    KeyspaceOptions::default()
        .merge_operator(Append::NAME)
        .compression(compression)
}

const CODECS: &[u64] = &[0, 1, 1, 2];

/// One of the codecs that this build has.
fn codec(number: u64) -> Codec {
    let codec = [Codec::None, Codec::Lz4, Codec::Zstd][number as usize];
    codec.missing_feature().map_or(codec, |_| Codec::Lz4)
}

/// [`tiny`] with whatever doesn't have to be so varied by the seed.
pub fn varied(options: Options, seed: u64) -> Options {
    let mut rng = SeededRng::new(seed ^ 0x0b71_0e5a);
    let mut pick = |choices: &[u64]| *rng.pick(choices).unwrap();
    let compact = pick(&[2, 2, 3, 4]);
    // The first is too little for anybody, the last holds all that a run writes.
    let retained_max = pick(&[0, 200 << 10, 1 << 30]);
    let retained_min = pick(&[0, 0, 100 << 10, 1 << 30]).min(retained_max);
    options
        .log_file_bytes(pick(&[64 << 10, 64 << 10, 100_000, 256 << 10]))
        .log_bytes_before_flush(pick(&[64 << 10, 64 << 10, 128 << 10]))
        .log_buffer_bytes(pick(&[0, 100, 8 << 10, 64 << 10]) as usize)
        .identifier_delay(Duration::from_millis(pick(&[0, 1, 10, 10])))
        .block_bytes(pick(&[256, 256, 1024, 4096]) as usize)
        .block_cache_bytes(pick(&[0, 4 << 10, 32 << 10, 8 << 20]))
        .filter_bits_per_key(pick(&[0, 1, 10]) as u32)
        .parity([Parity::Off, Parity::Standard, Parity::Strong][pick(&[0, 1, 1, 2]) as usize])
        .segment_bytes(pick(&[4 << 10, 4 << 10, 16 << 10]))
        .level_base_bytes(pick(&[4 << 10, 8 << 10, 32 << 10]))
        .level0_segments_compact(compact as usize)
        .level0_segments_stop((compact + pick(&[1, 2, 6])) as usize)
        .log_retained_bytes_max(retained_max)
        .log_retained_bytes_min(retained_min)
        .conflict_window_bytes(pick(&[500, 8 << 10, 8 << 10, 4 << 20]) as usize)
        .default_keyspace(default_keyspace(Compression::new(
            codec(pick(CODECS)),
            codec(pick(CODECS)),
        )))
        .pin_index_and_filter(pick(&[0, 1]) == 1)
        .map_segments(pick(&[0, 1]) == 1)
}

//! In place of Zstandard in a build without the feature `zstd`.

/// Bytes of blocks from which a dictionary would be trained.
pub const SAMPLE_BYTES: usize = 400 << 10;

/// There is none in this build.
#[derive(Clone, Debug)]
pub enum Dictionary {}

impl Dictionary {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_: &[u8]) -> Result<Self, String> {
        Err("dictionary: this build lacks the feature `zstd`".into())
    }
}

/// There is none in this build.
pub enum Encoder {}

impl Encoder {
    /// None.
    pub fn new(_: &[u8]) -> Option<Self> {
        None
    }

    /// Never called.
    pub fn encode(&mut self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        match *self {}
    }
}

/// Nothing.
pub fn decode(_: &[u8], _: &mut [u8], _: Option<&Dictionary>) -> Option<usize> {
    None
}

/// Nothing.
pub fn train(_: &[&[u8]]) -> Option<Vec<u8>> {
    None
}

//! Zstandard, with a dictionary trained from a segment's first blocks where that pays.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use zstd::bulk::Compressor;
use zstd::dict::DecoderDictionary;
use zstd::zstd_safe::DCtx;

/// Higher levels took two to five times as long for blocks that were at most a few hundredths smaller.
const LEVEL: i32 = 1;
/// Longest dictionary that is trained. Four times as much made blocks hardly smaller.
const DICTIONARY_BYTES: usize = 4 << 10;
/// Bytes of blocks from which a dictionary is trained.
pub const SAMPLE_BYTES: usize = 400 << 10;
/// Fewer blocks tell too little.
const SAMPLES_MIN: usize = 32;
/// One sample in so many is kept from the training, to judge the dictionary by.
const JUDGE_ONE_IN: usize = 4;

thread_local! {
    /// Some 100 KiB that zstd would else take and give back for each block.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// A dictionary, ready for decoding. Cloning shares it.
#[derive(Clone)]
pub struct Dictionary(Arc<DecoderDictionary<'static>>);

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").finish_non_exhaustive()
    }
}

impl Dictionary {
    /// Takes the body of a verified section for a dictionary.
    ///
    /// # Errors
    /// In words, if it is none.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let dictionary = DecoderDictionary::try_copy(body);
        let dictionary = dictionary.map_err(|error| format!("dictionary: {error}"))?;
        Ok(Self(Arc::new(dictionary)))
    }
}

/// Packs one block after the other.
pub struct Encoder(Compressor<'static>);

impl Encoder {
    /// One that packs against this dictionary; without one, if it is empty. `None` if memory is short or
    /// the dictionary isn't one.
    pub fn new(dictionary: &[u8]) -> Option<Self> {
        Compressor::with_dictionary(LEVEL, dictionary)
            .ok()
            .map(Self)
    }

    /// How many bytes of `out` it took; `None` if there was no room.
    pub fn encode(&mut self, body: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.compress_to_buffer(body, out).ok()
    }
}

/// How many bytes of `out` were filled; `None` if the bytes are malformed, or more than that.
pub fn decode(packed: &[u8], out: &mut [u8], dictionary: Option<&Dictionary>) -> Option<usize> {
    DECODER.with_borrow_mut(|decoder| {
        if decoder.is_none() {
            *decoder = DCtx::try_create();
        }
        let decoder = decoder.as_mut()?;
        match dictionary {
            Some(dictionary) => {
                decoder.decompress_using_ddict(out, packed, dictionary.0.as_ddict())
            }
            None => decoder.decompress(out, packed),
        }
        .ok()
    })
}

/// A dictionary for blocks like these bodies; `None` if it would not pay for itself.
pub fn train(bodies: &[&[u8]]) -> Option<Vec<u8>> {
    if bodies.len() < SAMPLES_MIN {
        return None;
    }
    let (judged, learnt): (Vec<_>, Vec<_>) = bodies
        .iter()
        .enumerate()
        .partition(|(at, _)| at % JUDGE_ONE_IN == 0);
    let learnt: Vec<&[u8]> = learnt.into_iter().map(|(_, body)| *body).collect();
    let dictionary = zstd::dict::from_samples(&learnt, DICTIONARY_BYTES).ok()?;
    let mut out = Vec::new();
    let mut packed_bytes = |dictionary: &[u8]| {
        let mut encoder = Encoder::new(dictionary)?;
        let packed = judged.iter().map(|(_, body)| {
            out.resize(body.len(), 0);
            // What does not fit is stored as it is.
            encoder.encode(body, &mut out).unwrap_or(body.len())
        });
        Some(packed.sum::<usize>())
    };
    let (without, with) = (packed_bytes(&[])?, packed_bytes(&dictionary)?);
    let saved = without.saturating_sub(with);
    (saved > without / 16).then_some(dictionary)
}

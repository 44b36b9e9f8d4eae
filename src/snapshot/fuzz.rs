//! Hostile bytes for the small files of a repository: sound ones that were damaged, and forged ones.
#![allow(clippy::panic, reason = "a check that fails must stop the fuzzer")]

use std::path::Path;

use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::testing::{Input, edit_bytes};
use crate::types::{Index, SegmentNumber, StoreId};

use super::format::{
    BackupContent, Kind, LoadContent, SegmentContent, VolumeContent, decode, encode,
};
use super::lineage::Lineage;

/// A small file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Repository,
    Lineage(Lineage),
    Backup(BackupContent),
    Volume(VolumeContent),
    Load(LoadContent),
}

const KINDS: [Kind; 5] = [
    Kind::Repository,
    Kind::Lineage,
    Kind::Backup,
    Kind::Volume,
    Kind::Load,
];

/// Reads small files made of these bytes: what was written is read as it was, any change of it is noticed,
/// and what a forged one says is said in one way only. Never a panic, never memory for what isn't there.
pub fn snapshot_files(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 | 1 => damaged(&mut input),
        2 => forged(&mut input),
        _ => raw(&mut input),
    }
}

/// A sound file is read as it was written; a changed one isn't read at all.
fn damaged(input: &mut Input<'_>) {
    let (number, store_id) = (input.number(), StoreId(input.u64().into()));
    let edits = input.below(4);
    let mut decided = Input::new(input.bytes(120));
    let content = content(input, number);
    let bytes = write(&content, number, store_id);
    let read_back = read(content.kind(), number, Some(store_id), &bytes);
    assert!(
        read_back.as_ref().is_ok_and(|read| *read == content),
        "{read_back:?} instead of {content:?}"
    );
    for kind in KINDS {
        let taken = read(kind, number, Some(store_id), &bytes).is_ok();
        assert_eq!(taken, kind == content.kind(), "taken for a {kind:?}");
    }
    let elsewhere = read(content.kind(), number.wrapping_add(1), None, &bytes);
    assert!(matches!(elsewhere, Err(Error::Damaged(_))), "{elsewhere:?}");
    let other = Some(StoreId(!store_id.0));
    let foreign = read(content.kind(), number, other, &bytes);
    assert!(
        matches!(foreign, Err(Error::ForeignFile { .. })),
        "{foreign:?}"
    );
    let mut changed = bytes.clone();
    for _ in 0..edits {
        edit_bytes(&mut decided, &mut changed);
    }
    let found = read(content.kind(), number, Some(store_id), &changed);
    match found {
        Ok(_) => assert!(changed == bytes, "a change that nobody notices"),
        Err(Error::Damaged(damage)) => {
            assert!(changed != bytes, "a sound file is refused: {damage:?}");
            assert!(damage.iter().all(|one| one.path == path()));
        }
        Err(error) => panic!("neither right nor Damaged: {error}"),
    }
}

/// Any body under a right checksum.
fn forged(input: &mut Input<'_>) {
    let (number, store_id) = (input.number(), StoreId(input.u64().into()));
    let mut body = match input.flag() {
        true => input.bytes(300).to_vec(),
        false => {
            let mut decided = Input::new(input.bytes(60));
            let sound = write(&content(input, number), number, store_id);
            // Without the frame and the store id.
            let mut body = sound.get(48..sound.len() - 16).unwrap_or_default().to_vec();
            edit_bytes(&mut decided, &mut body);
            body
        }
    };
    body.truncate(1 << 16);
    for kind in KINDS {
        let bytes = encode(kind, number, store_id, |out| out.extend_from_slice(&body));
        match read(kind, number, Some(store_id), &bytes) {
            Ok(content) => {
                let again = write(&content, number, store_id);
                assert!(again == bytes, "{content:?} can be written in two ways");
            }
            Err(Error::Damaged(_)) => {}
            Err(error) => panic!("neither right nor Damaged: {error}"),
        }
    }
}

/// Bytes as they come, under any name.
fn raw(input: &mut Input<'_>) {
    let number = input.number();
    let bytes = input.rest();
    for kind in KINDS {
        let found = read(kind, number, None, bytes);
        assert!(matches!(found, Err(Error::Damaged(_))), "{found:?}");
        let mut reader = Reader::new(bytes);
        let _ = take(kind, number, &mut reader);
    }
}

fn path() -> &'static Path {
    Path::new("repository/file")
}

fn read(kind: Kind, number: u64, store_id: Option<StoreId>, bytes: &[u8]) -> Result<Content> {
    decode(path(), kind, number, store_id, bytes, |reader| {
        take(kind, number, reader)
    })
}

fn take(kind: Kind, number: u64, reader: &mut Reader<'_>) -> Option<Content> {
    Some(match kind {
        Kind::Repository => Content::Repository,
        Kind::Lineage => Content::Lineage(Lineage::take(reader)?),
        Kind::Backup => Content::Backup(BackupContent::take(reader)?),
        Kind::Volume => Content::Volume(VolumeContent::take(reader)?),
        Kind::Load => Content::Load(LoadContent::take(reader, Index(number))?),
    })
}

fn write(content: &Content, number: u64, store_id: StoreId) -> Vec<u8> {
    match content {
        Content::Repository => encode(Kind::Repository, number, store_id, |_| {}),
        Content::Lineage(lineage) => {
            encode(Kind::Lineage, number, store_id, |out| lineage.put(out))
        }
        Content::Backup(backup) => backup.encode(number, store_id),
        Content::Volume(volume) => volume.encode(number, store_id),
        Content::Load(load) => load.encode(store_id),
    }
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Self::Repository => Kind::Repository,
            Self::Lineage(_) => Kind::Lineage,
            Self::Backup(_) => Kind::Backup,
            Self::Volume(_) => Kind::Volume,
            Self::Load(_) => Kind::Load,
        }
    }
}

fn content(input: &mut Input<'_>, number: u64) -> Content {
    match input.pick(&KINDS) {
        Kind::Repository => Content::Repository,
        Kind::Lineage => Content::Lineage(lineage(input)),
        Kind::Backup => Content::Backup(BackupContent {
            lineage: lineage(input),
            index: Index(input.number()),
            time_us: input.number(),
            made_us: input.number(),
            segments: segments(input, 0),
            state: input.bytes(100).to_vec(),
        }),
        Kind::Volume => Content::Volume(VolumeContent {
            lineage: lineage(input),
            first: Index(input.number()),
            earlier_last: Index(input.number()),
        }),
        Kind::Load => Content::Load(LoadContent {
            volume: input.number(),
            index: Index(number),
            segments: segments(input, 1),
        }),
    }
}

fn lineage(input: &mut Input<'_>) -> Lineage {
    let mut lineage = Lineage::original(StoreId(input.u64().into()));
    for _ in 0..input.below(5) {
        lineage = lineage.branch(Index(input.number()), u128::from(input.u64()) << 17);
    }
    lineage
}

fn segments(input: &mut Input<'_>, least: u64) -> Vec<SegmentContent> {
    let count = least + input.below(6);
    let one = |_| SegmentContent {
        digest: u128::from(input.u64()) << 40,
        bytes: input.number(),
        number: SegmentNumber(input.number()),
    };
    (0..count).map(one).collect()
}

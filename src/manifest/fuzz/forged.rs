//! Manifests under right checksums of which nothing else need be right, and raw bytes.

use super::changes::{changes, empty_state};
use super::{dir, go_on, look_around, open};
use crate::error::Error;
use crate::manifest::encoding::{decode_edit, decode_state, put_edit, put_state};
use crate::manifest::format::{FrameKind, Header, Side, encode_frame, encode_header, path};
use crate::manifest::{ManifestAccess, ManifestState};
use crate::testing::{Input, MemoryVfs, edit_bytes, edit_file};
use crate::types::{FileId, StoreId, UNIT};

const FILE: FileId = FileId(0xf11e);
/// The longest file that is made.
const BYTES_MAX: usize = 16 * UNIT;

/// The input as it stands, as two copies, and as what stands in a frame.
pub(super) fn raw(input: &mut Input<'_>) {
    let disk = MemoryVfs::new();
    let both = input.flag();
    let a = input.bytes(8 << 10);
    let rest = input.rest();
    disk.write_file(path(dir(), 1, Side::A), a);
    if both {
        disk.write_file(path(dir(), 1, Side::B), rest);
    }
    use_all(&disk);
    // What decodes has one encoding.
    if let Some(state) = decode_state(rest) {
        let mut out = Vec::new();
        put_state(&mut out, &state);
        assert_eq!(out, rest, "a state with two encodings");
    }
    if let Some(changes) = decode_edit(rest) {
        let mut out = Vec::new();
        put_edit(&mut out, &changes);
        assert_eq!(out, rest, "an edit with two encodings");
    }
}

/// Frames with right checksums, in both copies or in one, of states and edits that were changed.
pub(super) fn frames(input: &mut Input<'_>) {
    let disk = MemoryVfs::new();
    let mut state = empty_state();
    let generation = match input.u8() {
        255 => u64::MAX,
        _ => 1 + input.below(2),
    };
    let mut header = Header {
        store_id: state.store_id,
        file_id: FILE,
        generation,
        capacity: BYTES_MAX as u64,
    };
    twist_header(input, &mut header);
    let mut copies = Side::BOTH.map(|_| encode_header(&header));
    let mut sequence = input.number();
    let count = 1 + input.below(7);
    for nth in 0..count {
        let mut kind = FrameKind::Edit;
        let mut payload = Vec::new();
        if nth == 0 {
            kind = FrameKind::State;
            twist_state(input, &mut state);
            put_state(&mut payload, &state);
        } else {
            let changes = changes(input, &state);
            put_edit(&mut payload, &changes);
            if let Ok(next) = state.with(&changes) {
                state = next;
            }
        }
        let what = input.u8();
        match what {
            0..24 => edit_bytes(input, &mut payload),
            24..32 => payload.extend_from_slice(input.bytes(20)),
            32..40 => sequence = input.number(),
            40..44 => kind = input.pick(&[FrameKind::State, FrameKind::Edit]),
            _ => {}
        }
        payload.truncate(4 * UNIT);
        let sides: &[usize] = match what {
            44..52 => &[0],
            52..56 => &[1],
            _ => &[0, 1],
        };
        for &side in sides {
            let copy = &mut copies[side];
            let frame = encode_frame(FILE, copy.len(), kind, sequence, |out| {
                out.extend_from_slice(&payload);
            });
            copy.extend_from_slice(&frame.expect("a short frame"));
        }
        sequence = sequence.wrapping_add(1);
    }
    for (side, mut copy) in Side::BOTH.into_iter().zip(copies) {
        copy.resize(BYTES_MAX, 0);
        disk.write_file(path(dir(), generation, side), copy);
    }
    for _ in 0..input.below(3) {
        let side = input.pick(&Side::BOTH);
        edit_file(input, &disk, &path(dir(), generation, side));
    }
    use_all(&disk);
}

fn twist_header(input: &mut Input<'_>, header: &mut Header) {
    match input.u8() {
        0..10 => header.capacity = input.number(),
        10..16 => header.generation = input.number(),
        16..20 => header.store_id = StoreId(input.u64().into()),
        _ => {}
    }
}

fn twist_state(input: &mut Input<'_>, state: &mut ManifestState) {
    match input.u8() {
        0..10 => state.next_segment.0 = input.number(),
        10..20 => state.next_keyspace.0 = input.u32(),
        20..30 => state.catalog_index.0 = input.number(),
        30..34 => state.keyspaces.clear(),
        34..40 => state.member_id = input.number(),
        _ => {}
    }
}

/// Nothing panics; and what can be opened can be gone on with.
fn use_all(disk: &MemoryVfs) {
    look_around(disk);
    for access in [ManifestAccess::ReadOnly, ManifestAccess::ReadWrite] {
        match open(disk, access) {
            Ok(manifest) if access == ManifestAccess::ReadWrite => {
                let mut out = Vec::new();
                put_state(&mut out, manifest.state());
                assert_eq!(decode_state(&out).as_ref(), Some(manifest.state()));
                go_on(disk.clone(), manifest);
            }
            Ok(_) | Err(Error::Damaged(_) | Error::NewerFormat { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

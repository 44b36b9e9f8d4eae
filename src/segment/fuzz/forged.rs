//! Segments under right checksums of which nothing else need be right.

use std::sync::Arc;

use super::rows::Rows;
use super::{FILE, KEYSPACE, NUMBER, STORE, build, codec_of, damage_of, open, path, show};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::segment::format::{
    Extent, FOOTER_BYTES, FRAME_BYTES, Footer, Frame, HEADER_BYTES, Identity, SectionKind, seal,
    seal_packed,
};
use crate::segment::properties::Properties;
use crate::segment::{Segment, SegmentOptions, Wreck};
use crate::testing::{Input, MemoryVfs, edit_bytes};
use crate::types::{Codec, Index, Parity, SegmentMeta, Version};

/// Raw bytes for a file, some of the time with header and footer put right.
pub(super) fn raw(input: &mut Input<'_>) {
    let fixed = input.u8();
    let layout = [input.u16(), input.u16(), input.u16(), input.u16()].map(u64::from);
    let mut bytes = input.rest().to_vec();
    if fixed & 1 == 1 {
        bytes.splice(..0, identity().encode_header());
    }
    if fixed & 2 == 2 {
        let end = bytes.len() as u64;
        let mut starts = layout.map(|at| HEADER_BYTES as u64 + at % (end + 1));
        starts.sort_unstable();
        let between = |from: u64, to: u64| Extent {
            offset: from,
            bytes: to.saturating_sub(from),
        };
        let mut footer = Footer {
            identity: identity(),
            content_bytes: end + FOOTER_BYTES as u64,
            filter: between(starts[0], starts[1]),
            index: between(starts[1], starts[2]),
            properties: between(starts[2], end),
            dictionary: Extent::default(),
        };
        let before = starts[0].saturating_sub(HEADER_BYTES as u64);
        let dictionary_bytes = layout[3] % (before + 1);
        if fixed & 16 == 16 && dictionary_bytes > 0 {
            footer.dictionary = between(starts[0] - dictionary_bytes, starts[0]);
        }
        if fixed & 4 == 4 {
            footer.index.bytes = u64::MAX - layout[3];
        }
        // Sections with right checksums where they can have them.
        for (kind, place) in [
            (SectionKind::Dictionary, footer.dictionary),
            (SectionKind::Filter, footer.filter),
            (SectionKind::Index, footer.index),
            (SectionKind::Properties, footer.properties),
        ] {
            let range = place.offset as usize..place.end() as usize;
            if let Some(section) = bytes.get_mut(range).filter(|_| fixed & 8 == 8) {
                let _ = seal(FILE, place.offset, kind, section);
            }
        }
        bytes.extend_from_slice(&footer.encode());
    }
    use_all(&bytes, &[]);
}

/// A sound segment whose sections are changed and given right checksums again.
pub(super) fn sections(input: &mut Input<'_>) {
    let disk = MemoryVfs::new();
    let shape = input.u8();
    let options = SegmentOptions {
        block_bytes: 32 << (shape % 4),
        restart_interval: 1 + input.place(4),
        filter_bits_per_key: input.pick(&[0, 10]),
        codec: codec_of(shape / 4),
        parity: Parity::Off,
    };
    let rounds = 1 + input.place(4);
    let decided = input.bytes(200);
    let rows = Rows::of(input);
    let meta = build(&disk, options, &rows);
    let segment = open(&disk, &meta, (0, true)).expect("it is sound");
    let mut bytes = disk.read_file(path()).expect("it is there");
    let mut places: Vec<(SectionKind, Extent)> =
        (0..segment.index().expect("it is sound").blocks())
            .map(|number| (SectionKind::Data, segment.extent(number)))
            .collect();
    let footer = segment.footer;
    places.push((SectionKind::Index, footer.index));
    places.push((SectionKind::Properties, footer.properties));
    if footer.filter.bytes > 0 {
        places.push((SectionKind::Filter, footer.filter));
    }
    let mut decided = Input::new(decided);
    for _ in 0..rounds {
        let (kind, place) = places[decided.place(places.len())];
        let section = &mut bytes[place.offset as usize..place.end() as usize];
        let mut body = section[FRAME_BYTES..].to_vec();
        change(&mut decided, &mut body);
        body.resize(section.len() - FRAME_BYTES, 0);
        section[FRAME_BYTES..].copy_from_slice(&body);
        let codec = match kind {
            // Most often as it was, else as something else.
            SectionKind::Data => match decided.u8() {
                number @ 0..64 => codec_of(number),
                _ => Frame::peek(section).map_or(Codec::None, |frame| frame.codec),
            },
            _ => Codec::None,
        };
        let sealed = seal_packed(FILE, place.offset, kind, codec, section);
        assert!(sealed, "a small section");
    }
    let keys: Vec<Vec<u8>> = rows.all().iter().map(|row| row.key.clone()).collect();
    use_all(&bytes, &keys);
}

/// Numbers where lengths stand, or any edit.
fn change(input: &mut Input<'_>, body: &mut Vec<u8>) {
    let at = input.place(body.len().min(64));
    let width = input.u8();
    let number = match width & 0x40 {
        0 => input.number(),
        _ => u64::from(input.u8()),
    };
    let bytes = number.to_le_bytes();
    match width % 4 {
        0 => edit_bytes(input, body),
        width => {
            let width = 1 << width;
            for (to, from) in body.iter_mut().skip(at).zip(&bytes[..width.min(8)]) {
                *to = *from;
            }
        }
    }
}

fn identity() -> Identity {
    Identity {
        store_id: STORE,
        keyspace: KEYSPACE,
        number: NUMBER,
        file_id: FILE,
    }
}

/// What a manifest would have to say so that the file is opened: its own properties, if it has any.
fn meta_for(bytes: &[u8]) -> SegmentMeta {
    let properties = || {
        let at = bytes.len().checked_sub(FOOTER_BYTES)?;
        let footer = Footer::decode(&bytes[at..], at as u64).ok()?;
        let from = usize::try_from(footer.properties.offset).ok()? + FRAME_BYTES;
        Properties::decode(bytes.get(from..at)?)
    };
    let properties = properties().unwrap_or_default();
    let mut meta = SegmentMeta {
        number: NUMBER,
        file_id: FILE,
        bytes: bytes.len() as u64,
        content_bytes: bytes.len() as u64,
        parity: Parity::Off,
        ..SegmentMeta::default()
    };
    properties.bound(&mut meta);
    meta
}

/// Uses a file in every way there is; nothing panics, and nothing goes on for ever.
fn use_all(bytes: &[u8], keys: &[Vec<u8>]) {
    let disk = MemoryVfs::new();
    disk.write_file(path(), bytes);
    show(&disk);
    salvage_all(&disk, bytes);
    for pins in [true, false] {
        use_opened(&disk, bytes, keys, pins);
    }
}

fn salvage_all(disk: &MemoryVfs, bytes: &[u8]) {
    for known in [None, Some(&meta_for(bytes))] {
        let mut wreck = match Wreck::open(disk, &path(), NUMBER, known) {
            Ok(wreck) => wreck,
            Err(Error::NewerFormat { .. }) => continue,
            Err(error) => panic!("who salvages goes on: {error}"),
        };
        let mut shown = 0;
        loop {
            wreck.next().expect("who salvages goes on");
            if wreck.entry().is_none() {
                break;
            }
            shown += 1;
            assert!(shown <= bytes.len(), "it finds no end");
        }
    }
}

fn use_opened(disk: &MemoryVfs, bytes: &[u8], keys: &[Vec<u8>], pins: bool) {
    let segment = match open(disk, &meta_for(bytes), (1 << 20, pins)) {
        Ok(segment) => segment,
        Err(Error::NewerFormat { .. } | Error::ForeignFile { .. }) => return,
        Err(error) => {
            damage_of::<()>(Err(error));
            return;
        }
    };
    segment.verify(&mut |_| {}).expect("a simulated disk reads");
    let shortest: [&[u8]; 4] = [b"", b"a", b"\xff", b"\x00\x00"];
    for key in keys.iter().map(Vec::as_slice).chain(shortest) {
        ask(&segment, key);
    }
    for one in segment.range_deletes().all() {
        assert!(!one.is_empty(), "{one:?}");
    }
    for forward in [true, false] {
        let _ = damage_of(super::walk(&segment, forward, bytes.len()));
    }
}

/// A lookup, and a cursor around it.
fn ask(segment: &Arc<Segment>, key: &[u8]) {
    for index in [0, 1, 100, u64::MAX] {
        let at = Version::newest_at(Index(index));
        damage_of(segment.get(key, at));
        let deleted = segment.range_deletes().newest(key, at);
        assert!(deleted.is_none_or(|version| version <= at));
    }
    let mut cursor = segment.cursor();
    damage_of(cursor.seek(key, Version::MAX));
    damage_of(cursor.prev());
    damage_of(cursor.next());
    damage_of(cursor.next());
    damage_of(cursor.seek_before(key));
    let mut steps = 0;
    while cursor.entry().is_some() && steps < 3 {
        let moved = if steps == 1 {
            cursor.next()
        } else {
            cursor.prev()
        };
        damage_of(moved);
        steps += 1;
    }
}

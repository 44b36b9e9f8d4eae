use super::*;
use crate::engine::batch::{Expiry, WriteBatch};
use crate::engine::catalog::encode_options;
use crate::types::{Lsn, StreamId, Term};

fn record(kind: RecordKind, payload: &[u8]) -> Record {
    Record {
        lsn: Lsn(4096),
        stream: StreamId(0),
        kind,
        index: Index(7),
        term: Term(0),
        time_us: 1000,
        client: 0,
        sequence: 0,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn batch() -> Vec<u8> {
    let mut batch = WriteBatch::new();
    let (here, there) = (KeyspaceId(0), KeyspaceId(9));
    batch.add(here, b"a", Effect::Put(b"1"));
    batch.add(here, b"", Effect::PutUntil(Expiry::After(24), b"v"));
    batch.add(there, b"b", Effect::PutUntil(Expiry::At(5), b""));
    batch.add(there, b"c", Effect::Delete);
    batch.add(there, b"d", Effect::Merge(b"o"));
    batch.add(here, b"e", Effect::DeleteTo(Some(b"f")));
    batch.add(here, b"e", Effect::DeleteTo(None));
    batch.finish().unwrap().0
}

fn effects(decoded: Decoded) -> FeedRecord {
    match decoded {
        Decoded::Effects(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_change_is_told_and_shares_the_payload() {
    let mut decoder = Decoder::new([(KeyspaceId(0), "default")]);
    let payload = batch();
    let record = record(RecordKind::Batch, &payload);
    let told = effects(decoder.decode(&record));
    assert_eq!((told.index, told.time_us), (Index(7), 1000));
    let texts: Vec<String> = told.changes.iter().map(|one| format!("{one:?}")).collect();
    let here = "FeedKeyspace { id: KeyspaceId(0), name: Some(\"default\") }";
    let there = "FeedKeyspace { id: KeyspaceId(9), name: None }";
    let expected = [
        format!("Put {{ keyspace: {here}, key: b\"a\", value: b\"1\" }}"),
        format!("PutExpiring {{ keyspace: {here}, key: b\"\", value: b\"v\", expires_us: 1024 }}"),
        format!("PutExpiring {{ keyspace: {there}, key: b\"b\", value: b\"\", expires_us: 5 }}"),
        format!("Delete {{ keyspace: {there}, key: b\"c\" }}"),
        format!("Merge {{ keyspace: {there}, key: b\"d\", operand: b\"o\" }}"),
        format!("DeleteRange {{ keyspace: {here}, from: b\"e\", to: Some(b\"f\") }}"),
        format!("DeleteRange {{ keyspace: {here}, from: b\"e\", to: None }}"),
    ];
    assert_eq!(texts, expected);
    let FeedChange::Put { value, .. } = &told.changes[0] else {
        panic!("{told:?}");
    };
    assert!(record.payload.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn names_come_from_records_of_creation_and_stay() {
    let mut decoder = Decoder::default();
    let options = KeyspaceOptions::default().merge_operator("counter");
    let id = KeyspaceId(3);
    let create = CatalogOperation::Create {
        id,
        name: "users".into(),
        options: encode_options(&options),
    };
    let drop = record(RecordKind::Catalog, &CatalogOperation::Drop { id }.encode());
    let nameless = effects(decoder.decode(&drop));
    assert_eq!(nameless.changes[0].keyspace().to_string(), "#3");
    let created = effects(decoder.decode(&record(RecordKind::Catalog, &create.encode())));
    assert!(matches!(&created.changes[..],
        [FeedChange::KeyspaceCreated { options: o, .. }] if *o == options));
    let dropped = effects(decoder.decode(&drop));
    assert_eq!(dropped.changes[0].keyspace().to_string(), "users");
}

#[test]
fn hostile_payloads_are_malformed_and_other_records_are_nothing() {
    let mut decoder = Decoder::default();
    let payload = batch();
    for cut in 1..payload.len() {
        let whole = effects(decoder.decode(&record(RecordKind::Batch, &payload)));
        match decoder.decode(&record(RecordKind::Batch, &payload[..cut])) {
            Decoded::Malformed("batch") => {}
            Decoded::Effects(part) => assert!(whole.changes.starts_with(&part.changes)),
            other => panic!("{other:?}"),
        }
    }
    let odd = decoder.decode(&record(RecordKind::Catalog, &[9, 9]));
    assert!(matches!(odd, Decoded::Malformed("catalog")));
    let noop = decoder.decode(&record(RecordKind::Noop, b"x"));
    assert!(matches!(noop, Decoded::Nothing));
}

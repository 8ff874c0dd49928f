//! How fast records are decoded. Run alone, in a build with optimizations:
//! `cargo test --release --lib avro::tests::speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use arrow::array::BinaryViewArray;

use super::encode::{Datum, text};
use crate::decode::avro::{AvroDecoder, AvroOptions, Framing};
use crate::decode::payload::{PayloadDecoder, Wanted};
use crate::decode::registry::tests::stub::{Reply, Stub};
use crate::decode::registry::{Registry, RegistryConfig};

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"long"},{"name":"customer","type":"string"},
    {"name":"amount","type":"double"},
    {"name":"placed","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"]}]}"#;

const ROWS: usize = 8_192;

fn orders() -> BinaryViewArray {
    let payloads = (0..ROWS as i64).map(|n| {
        let order = Datum::Record(vec![
            Datum::Long(1_000_000 + n),
            text(&format!("customer-{n:08}")),
            Datum::Double(n as f64 / 4.0),
            Datum::Long(1_700_000_000_000 + n),
            Datum::Union(1, Box::new(text("leave it at the door"))),
        ]);
        let mut payload = vec![0, 0, 0, 0, 1];
        payload.extend(order.encode());
        Some(payload)
    });
    payloads
        .collect::<Vec<_>>()
        .iter()
        .map(Option::as_deref)
        .collect()
}

#[tokio::test]
#[ignore = "measures"]
async fn records_per_second() {
    let stub = Stub::new(|_, _| Reply::schema(ORDER)).await;
    let config = RegistryConfig::from_options([("schema.registry.url", stub.url.as_str())]);
    let registry = Registry::new(config.unwrap().unwrap()).unwrap();
    let decoder = AvroDecoder::new(AvroOptions {
        reader: ORDER,
        references: &[],
        reader_id: None,
        declared: None,
        framing: Framing::Registry(registry),
    })
    .unwrap();
    let payloads = orders();
    let bytes = payloads.iter().flatten().map(<[u8]>::len).sum::<usize>() / ROWS;
    for fields in [&[0usize, 1, 2, 3, 4][..], &[0, 2], &[]] {
        let wanted = Wanted {
            fields,
            check_all: true,
            schema_ids: false,
        };
        let (mut least, started) = (Duration::MAX, Instant::now());
        while started.elapsed() < Duration::from_secs(2) {
            let batch = Instant::now();
            decoder.prepare(&payloads).await.unwrap();
            let decoded = decoder.decode(&payloads, &wanted).unwrap();
            least = least.min(batch.elapsed());
            assert!(decoded.bad.is_empty());
        }
        println!(
            "{bytes} bytes, {} of 5 fields: {:.2} million records/s",
            fields.len(),
            ROWS as f64 / least.as_secs_f64() / 1e6
        );
    }
}

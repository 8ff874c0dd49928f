#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| datafusion_kafka_fuzz::protobuf(data));

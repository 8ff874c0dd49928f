//! Every implementation of `KafkaClient` under the same suite.

#[macro_use]
mod conformance;

mod memory {
    conformance_suite!(crate::conformance::memory::MemoryFixture::new());
}

//! Jobs and questions over exact Kafka offset ranges, as one service.

pub mod pg;

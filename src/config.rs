//! Connection settings: librdkafka keys, Java `client.properties`, secrets redacted.

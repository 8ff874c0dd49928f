//! Connection settings: librdkafka keys, Java `client.properties`, secrets redacted.
#![allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionConfig(String);
impl ConnectionConfig {
    pub fn new(s: impl Into<String>) -> Self { Self(s.into()) }
    pub fn empty() -> Self { Self(String::new()) }
    pub fn set(&mut self, k: &str, v: &str) -> crate::Result<()> { if k == "bootstrap.servers" { self.0 = v.to_owned(); } Ok(()) }
    pub fn bootstrap_servers(&self) -> &str { &self.0 }
    pub fn isolation(&self) -> crate::range::IsolationLevel { Default::default() }
    pub fn is_secret(k: &str) -> bool { k.contains("password") }
}

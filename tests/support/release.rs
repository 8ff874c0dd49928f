//! Releases of Kafka, and how their brokers are started.

use super::options::{BROKER_PROPERTIES, LOG4J, LOG4J_OLD, NODE_PROPERTIES};

/// A release whose jars `scripts/kafka-libs` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Release {
    V0_10,
    V0_11,
    V1_1,
    V2_1,
    V2_8,
    V3_3,
    V3_9,
    #[default]
    V4_1,
}

impl Release {
    pub const ALL: [Self; 8] = [
        Self::V0_10,
        Self::V0_11,
        Self::V1_1,
        Self::V2_1,
        Self::V2_8,
        Self::V3_3,
        Self::V3_9,
        Self::V4_1,
    ];

    /// The release with this version, or the beginning of one, such as `2.8`.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(version: &str) -> Self {
        let found = Self::ALL
            .into_iter()
            .find(|release| release.version().starts_with(version));
        found.unwrap_or_else(|| panic!("the tests know no release {version}"))
    }

    pub fn version(self) -> &'static str {
        match self {
            Self::V0_10 => "0.10.2.2",
            Self::V0_11 => "0.11.0.3",
            Self::V1_1 => "1.1.1",
            Self::V2_1 => "2.1.1",
            Self::V2_8 => "2.8.2",
            Self::V3_3 => "3.3.2",
            Self::V3_9 => "3.9.1",
            Self::V4_1 => "4.1.1",
        }
    }

    /// Whether the broker needs a ZooKeeper beside it.
    pub(super) fn has_zookeeper(self) -> bool {
        self < Self::V3_3
    }

    /// Whether a node can be the only one without `controller.quorum.voters`.
    pub(super) fn stands_alone(self) -> bool {
        self >= Self::V4_1
    }

    /// The properties of a node apart from its addresses and folders.
    pub(super) fn properties(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let of_node: &[_] = if self.has_zookeeper() {
            &[]
        } else {
            NODE_PROPERTIES
        };
        of_node.iter().chain(BROKER_PROPERTIES)
    }

    /// The property of Java that names the configuration of the logs, and that configuration.
    pub(super) fn logging(self) -> (&'static str, &'static str) {
        if self >= Self::V4_1 {
            ("log4j2.configurationFile", LOG4J)
        } else {
            ("log4j.configuration", LOG4J_OLD)
        }
    }
}

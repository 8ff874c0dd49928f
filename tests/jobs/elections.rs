//! Jobs on a cluster of several nodes that loses records together with a leader.

use datafusion_kafka::driver::LostBecause;
use datafusion_kafka::{Error, ErrorKind};

use super::driver::World;
use crate::support::{admin, cluster};

/// Both clients have reached 60 when an unclean election cuts the log to 30. It then grows to 75.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_an_unclean_election_has_cut_is_never_read_on_in_silence() {
    let mut cluster = cluster::shared().await;
    let bootstrap = cluster.bootstrap();
    let topic = admin::unique_topic("elections");
    let settings = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    admin::create_replicated_topic(&bootstrap, &topic, &[&[1, 2]], &settings);
    let mut worlds =
        ["wire", "librdkafka"].map(|client| World::reading(&bootstrap, &topic, client));
    worlds[0].produce(0, 30);
    // The follower has 30 records and is down while the leader accepts 30 more.
    cluster.node_mut(2).kill();
    worlds[0].produce(0, 30);
    for world in &worlds {
        world.run().await.unwrap();
        assert_eq!(world.held().len(), 60);
    }
    // Node 3 and the follower form a quorum, and only the follower still has the log.
    cluster.node_mut(1).kill();
    cluster.node_mut(2).restart();
    cluster.wait_for_leader(&topic, 0, 2);
    worlds[0].produce(0, 45);
    for world in &mut worlds {
        let error = world.run().await.unwrap_err();
        let Error::Truncated { offset, cut, .. } = &error else {
            panic!("{}: {error}", world.client);
        };
        assert_eq!((*offset, *cut), (60, 30), "{}", world.client);
        assert_eq!(error.kind(), ErrorKind::DataUnavailable);
        assert_eq!(world.held().len(), 60);

        world.options = "OPTIONS ('on.data.loss' 'skip')".to_owned();
        let progress = world.step().await;
        let lost = &progress.sources[0].lost[0];
        let found = (lost.from, lost.to, lost.reason);
        assert_eq!(found, (60, 30, LostBecause::Truncated), "{}", world.client);
        assert_eq!(world.held().len(), 60 + 45);
    }
}

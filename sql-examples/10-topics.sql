-- The topics of the cluster.

SELECT topic, partitions, replication_factor, internal
FROM kafka_topics()
ORDER BY topic;
-- expect: 4 rows

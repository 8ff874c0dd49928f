-- EXPLAIN ANALYZE runs the query and counts what became of the offsets that it read. The flag
-- --ledger (\ledger in the shell) shows these counts for each range.

EXPLAIN ANALYZE SELECT count(*) FROM kafka('orders', '0=10:110,1=:50');
-- expect: 1 row

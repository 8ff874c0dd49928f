-- The plan names every range that it reads and the columns that it builds.

EXPLAIN SELECT key, count(*) FROM kafka('payments', '0=10:20,1=:5') GROUP BY key;
-- expect: 2 rows

-- The plan names every range that is read, and the columns that are built.

EXPLAIN SELECT key, count(*) FROM kafka('payments', '0=10:20,1=:5') GROUP BY key;
-- expect: 2 rows

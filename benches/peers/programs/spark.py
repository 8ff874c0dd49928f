"""The race's Spark peer: one session that answers a question a line, as JSON.

`spark.py BROKER JARS` prints `{"ready": seconds, "pid": pid of the JVM}` and then, for each line
`{"topic", "partitions", "start", "end", "headers", "columns"}` of its standard input, what the query found and took.
`end` is an offset that holds for each partition; with `limit`, so many rows are taken instead; with
`columns`, values are decoded as JSON into these and grouped.
"""

import json
import os
import sys
import time

BEGUN = time.perf_counter()
# The session's own messages must not be taken for answers.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from pyspark.sql import SparkSession  # noqa: E402  (it is part of what is timed)
from pyspark.sql.functions import from_json  # noqa: E402


def offsets(topic: str, partitions: list, offset: int) -> str:
    return json.dumps({topic: {str(number): offset for number in partitions}})


def main():
    broker, jars = sys.argv[1:]
    spark = (
        SparkSession.builder.master("local[*]")
        .appName("race")
        .config("spark.jars", jars)
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    answer({"ready": time.perf_counter() - BEGUN, "pid": pid})
    for line in sys.stdin:
        try:
            answer(run(spark, broker, **json.loads(line)))
        except Exception as error:  # the race says what failed and goes on
            answer({"error": str(error)[:500]})
    spark.stop()


def run(
    spark, broker, topic, partitions, start, end, headers=False, limit=None, columns=None
) -> dict:
    begun = time.perf_counter()
    rows = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", broker)
        .option("kafka.isolation.level", "read_committed")
        .option("includeHeaders", str(headers).lower())
        .option("assign", json.dumps({topic: partitions}))
        .option("startingOffsets", offsets(topic, partitions, start))
        .option("endingOffsets", offsets(topic, partitions, end))
        .load()
    )
    if limit is not None:
        found = {"records": len(rows.limit(limit).collect())}
    elif columns is not None:
        decoded = from_json(rows.value.cast("string"), columns).alias("v")
        groups = rows.select(decoded).select("v.*").groupBy("country", "event")
        totals = groups.agg({"*": "count", "price": "sum"})
        row = totals.selectExpr("sum(`count(1)`)", "max(`sum(price)`)").collect()[0]
        found = {"records": row[0], "most": row[1]}
    else:
        more = ["sum(size(headers))"] if headers else []
        wanted = ["count(*)", "sum(octet_length(value))", "max(offset)", *more]
        row = rows.selectExpr(*wanted).collect()[0]
        found = {"records": row[0], "bytes": row[1], "last": row[2]}
    return found | {"seconds": time.perf_counter() - begun}


def answer(value: dict):
    ANSWERS.write(json.dumps(value) + "\n")


main()

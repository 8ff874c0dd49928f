"""The topics to read, and the queries that kafka-sql answers about them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A topic. `share` is its number of records as a part of `--records`."""

    name: str
    title: str
    partitions: int
    share: float
    fill: tuple
    queries: tuple = ("sum", "columns", "offsets")
    compressed: bool = False
    # Whether values become columns. Only contestants that can do that are measured.
    decoded: bool = False
    # Whether a text is looked for. Only contestants that do that are measured.
    searched: bool = False

    def records(self, most: int) -> int:
        """A multiple of the partitions, so that each has the same number."""
        return int(most * self.share) // self.partitions * self.partitions


# What the topics do not hold.
ABSENT = "-no-such-text-"

# Kafka's producer closes a batch by its size after compression, so more text fits into it.
_PACKED = ("--payload", "json", "--batch-bytes", str(160 << 10))

CASES = (
    Case(
        "b100",
        "100 B, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "100"),
        ("count", "sum", "columns", "offsets", "text", "pieces", "parquet"),
    ),
    Case("b1k", "1 KiB, 4 partitions", 4, 0.2, ("--value-bytes", "1024")),
    Case(
        "lz4",
        "100 B JSON, lz4, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "100", "--codec", "lz4", *_PACKED),
        compressed=True,
    ),
    Case(
        "zstd",
        "100 B JSON, zstd, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "100", "--codec", "zstd", *_PACKED),
        compressed=True,
    ),
    Case(
        "headers",
        "10 B with 8 B keys and two headers, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "10", "--key-bytes", "8", "--headers", "2"),
    ),
    Case(
        "json",
        "100 B JSON into seven columns, 4 partitions",
        4,
        0.5,
        ("--value-bytes", "100", "--payload", "json"),
        ("group",),
        decoded=True,
    ),
    Case(
        "find",
        "a text in 100 B that no record has, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "100"),
        ("find", "rows", "sum"),
        searched=True,
    ),
    Case(
        "findzstd",
        "a text in 100 B JSON that no record has, zstd, 4 partitions",
        4,
        1.0,
        ("--value-bytes", "100", "--codec", "zstd", *_PACKED),
        ("find", "rows", "sum"),
        compressed=True,
        searched=True,
    ),
    Case("p1", "100 B, 1 partition", 1, 1.0, ("--value-bytes", "100"), ("sum",)),
    Case("p64", "100 B, 64 partitions", 64, 1.0, ("--value-bytes", "100"), ("sum",)),
)


@dataclass(frozen=True)
class Query:
    """A statement; `{table}` stands for the topic or a piece of it."""

    name: str
    title: str
    sql: str
    # The share of the topic's records that it reads, if not all of them.
    share: float = field(default=1.0)


QUERIES = {
    query.name: query
    for query in (
        Query("count", "count(*)", "SELECT count(*) AS records FROM {table}"),
        Query(
            "sum",
            "sum(octet_length(value)), max(offset)",
            'SELECT sum(octet_length(value)) AS bytes, max("offset") AS last FROM {table}',
        ),
        Query(
            "columns",
            "all columns",
            'SELECT sum(octet_length(topic)), sum(partition), max("offset"), max("timestamp"),'
            " sum(octet_length(timestamp_type)), sum(octet_length(key)), sum(octet_length(value)) AS bytes,"
            " sum(cardinality(headers)), max(leader_epoch) FROM {table}",
        ),
        Query(
            "offsets",
            "offset and timestamp",
            'SELECT max("offset") AS last, max("timestamp") FROM {table}',
        ),
        Query(
            "text",
            "octet_length(CAST(value AS VARCHAR))",
            "SELECT sum(octet_length(CAST(value AS VARCHAR))) AS bytes FROM {table}",
        ),
        Query(
            "pieces",
            "1,000 small ranges, sum as above",
            'SELECT sum(octet_length(value)) AS bytes, max("offset") AS last FROM {table}'
            " WHERE {pieces}",
            share=0.5,
        ),
        Query(
            "group",
            "records and sum of price by country and event",
            "SELECT sum(records) AS records, max(total) AS most FROM (SELECT country, event,"
            " count(*) AS records, sum(price) AS total FROM {table} GROUP BY country, event)",
        ),
        Query(
            "find",
            "count(*) with value LIKE '%…%'",
            f"SELECT count(*) AS found FROM {{table}} WHERE value LIKE '%{ABSENT}%'",
        ),
        Query(
            "rows",
            "SELECT * with value LIKE '%…%'",
            f"SELECT count(*) AS found, max(\"offset\"), max(octet_length(key)), max(\"timestamp\"), max(cardinality(headers)),"
            f" max(octet_length(value)) FROM {{table}} WHERE value LIKE '%{ABSENT}%'",
        ),
        Query("parquet", "all rows into a parquet file", "SELECT * FROM {table}", share=0.25),
    )
}


# The columns of the JSON that the topics hold.
JSON_COLUMNS = 'id BIGINT, "user" VARCHAR, event VARCHAR, country VARCHAR, price DOUBLE, ok BOOLEAN, s VARCHAR'


def main_query(case_queries) -> str:
    """The query that all contestants run."""
    return next(name for name in ("group", "find", "sum") if name in case_queries)


def pieces(case: Case, records: int, count: int = 1000) -> tuple:
    """A condition that selects every other one of 2 x `count` equal pieces, and how many records
    these have."""
    each = records // case.partitions
    in_partition = count // case.partitions
    length = max(each // (2 * in_partition), 1)
    terms = [
        f'partition = {partition} AND "offset" BETWEEN {2 * n * length} AND {(2 * n + 1) * length - 1}'
        for partition in range(case.partitions)
        for n in range(in_partition)
    ]
    return " OR ".join(f"({term})" for term in terms), len(terms) * length


# Run repeatedly in a warm session, and once in a new process.
SHORT = (
    ("range", "1,000 records from an offset", 5000, 1000),
    ("limit", "10 records (LIMIT 10)", 0, 10),
)

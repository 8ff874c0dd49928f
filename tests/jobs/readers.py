"""Reads a folder or a bucket of parquet files as people do, knowing nothing of manifests.

Prints a line of JSON: by reader, the column that is asked for, sorted.
"""

import json
import sys

import pandas
import pyarrow.dataset
import pyarrow.fs

location, column = sys.argv[1:3]
found = {}
if len(sys.argv) > 3:
    key, secret, endpoint = sys.argv[3:6]
    files = pyarrow.fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=False,
    )
    data = pyarrow.dataset.dataset(
        location, filesystem=files, format="parquet", partitioning="hive"
    )
    found["pyarrow"] = data.to_table(columns=[column])[column].to_pylist()
else:
    import glob

    import duckdb

    # As a shell or pathlib would: hidden folders do not count.
    if glob.glob(location + "/**/*.parquet", recursive=True):
        sql = f"SELECT {column} FROM read_parquet('{location}/**/*.parquet', hive_partitioning = true)"
        found["duckdb"] = [row[0] for row in duckdb.sql(sql).fetchall()]
        found["pandas"] = pandas.read_parquet(location, columns=[column])[column].tolist()
    else:
        found = {"duckdb": [], "pandas": []}
print(json.dumps({reader: sorted(values) for reader, values in found.items()}))

"""What programs do with psycopg: psycopg.py CONNINFO, with the password in the environment."""

import sys

import psycopg

conninfo = sys.argv[1]
with psycopg.connect(conninfo, autocommit=True) as connection:
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    row = connection.execute("SELECT id, name, price, at FROM typed WHERE id = %s", [3]).fetchone()
    assert row[:3] == (3, "n3", 3.5) and row[3].second == 3, row
    assert notices == ["read 5 offsets of typed: 1 record, 4 filtered"], notices

    # More often than prepare_threshold: then statements are prepared.
    for n in range(10):
        found = connection.execute("SELECT name FROM typed WHERE id = %s", [n % 5]).fetchone()
        assert found == (f"n{n % 5}",), found
    with connection.cursor(binary=True) as cursor:
        cursor.execute("SELECT partition, \"offset\", value FROM orders WHERE \"offset\" = 7 ORDER BY 1")
        assert cursor.fetchall() == [(0, 7, b"7"), (1, 7, b"7")]

    try:
        connection.execute("INSERT INTO orders (value) VALUES ('x')")
        raise AssertionError("INSERT")
    except psycopg.errors.ReadOnlySqlTransaction:
        pass
    try:
        connection.execute("SELECT * FROM nowhere")
        raise AssertionError("nowhere")
    except psycopg.errors.UndefinedTable:
        pass

    with connection.cursor().copy("COPY (SELECT id, name FROM typed ORDER BY id) TO STDOUT") as copy:
        assert list(copy.rows()) == [(str(n), f"n{n}") for n in range(5)]

with psycopg.connect(conninfo) as connection:
    with connection.pipeline():
        first = connection.execute("SELECT 1")
        second = connection.execute("SELECT count(*) FROM few")
    assert (first.fetchone(), second.fetchone()) == ((1,), (3,))
print("done")

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

with psycopg.connect(conninfo) as connection:
    # Server-side cursors: DECLARE, a description of its portal, FETCH FORWARD, CLOSE.
    with connection.cursor("rows") as cursor:
        cursor.execute("SELECT \"offset\", value FROM orders WHERE partition = %s ORDER BY 1", [1])
        assert [column.name for column in cursor.description] == ["offset", "value"], cursor.description
        assert cursor.fetchone() == (0, b"0")
        assert cursor.fetchmany(2) == [(1, b"1"), (2, b"2")]
        cursor.itersize = 7
        assert [offset for offset, _ in cursor] == list(range(3, 100))
        assert cursor.fetchall() == []
    with connection.cursor("binary", binary=True) as cursor:
        cursor.execute("SELECT id, price, at FROM typed ORDER BY id")
        first, rest = cursor.fetchmany(2), cursor.fetchall()
        assert [row[:2] for row in first + rest] == [(n, n + 0.5) for n in range(5)], (first, rest)
        assert rest[2][2].second == 4, rest
    # Rows that no memory would hold.
    with connection.cursor("endless") as cursor:
        cursor.execute("SELECT value, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(value)")
        found = 0
        for row in cursor:
            found += 1
            if found == 1000:
                break
        assert row[0] == 1000, row
    connection.commit()
    # One that outlives its transaction.
    with connection.cursor("kept", withhold=True) as cursor:
        cursor.execute("SELECT name FROM typed ORDER BY id")
        connection.commit()
        assert cursor.fetchmany(2) == [("n0",), ("n1",)]
    try:
        connection.cursor("back", scrollable=True).execute("SELECT 1")
        raise AssertionError("SCROLL")
    except psycopg.errors.FeatureNotSupported:
        connection.rollback()
print("done")

#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, but not those of Fetch answers and record batches; crates/kafka-arrow/src/decode/laws/ says what an input is made of.

Run from the repository's root: python3 fuzz/seeds.py
"""

import pathlib
import shutil
import struct

SEEDS = pathlib.Path("fuzz/seeds")
NULL = object()


def payloads(*each):
    out = b""
    for payload in each:
        if payload is NULL:
            out += b"\xff"
        elif len(payload) < 254:
            out += bytes([len(payload)]) + payload
        else:
            out += b"\xfe" + struct.pack("<H", len(payload)) + payload
    return out


def write(target, seeds):
    folder = SEEDS / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)


def case(choice, *each, options=0, mask=0x35):
    return bytes([choice, options, mask]) + payloads(*each)


def zigzag(value):
    return varint(((value << 1) ^ (value >> 63)) & ((1 << 64) - 1))


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


# JSON and CSV

FLAT = (
    b'{"i":1e3,"s":"a\\u00e4\\n\\ud83d\\ude00","b":true,"t":-128,"u":18446744073709551615,"f":1.5,'
    b'"d":-12.50,"at":"2026-01-14T11:00:00.123+01:00","day":"1969-12-31","time":"23:59:59.5",'
    b'"bin":"aGk=","ns":1768384800123,"v":[1, {"x": null}],"h":86399,"big":1.0000000001}'
)
NESTED = (
    b'{"a":1,"l":[1,null,3],"p":{"x":1,"name":"n","more":["y"]},"ps":[{"X":2},null,{}],'
    b'"m":{"k":1,"k":2},"mp":{"k":{"x":3}},"ll":[[true],[],null],"s":{"y": [1.50]},"z":0}'
)
LINE = (
    b"1,text,true,-7,5,1.5,12.25,2026-01-14T10:00:00Z,2026-01-14,10:00:00.5,aGk=,"
    b"2026-01-14 10:00:00,v,0,1e3"
)

write(
    "json",
    {
        "flat": case(0, FLAT, b'{"i":1.5}', NULL, b"", b'{"t":300}', b"[1]"),
        "nested": case(1, NESTED, b'{"l":[1,"x"]}', NESTED[:-1], b'{"ps":[{"x":1}]} x'),
        "twice": case(1, b'{"a":1,"A":2,"a":3,"p":{"x":1},"p":{"name":null},"l":[1],"L":[2]}'),
        "deep": case(1, b'{"s":' + b"[" * 127 + b"]" * 127 + b"}", b'{"z":' + b'{"a":' * 140),
        "names": case(2, '{"f3":1,"F3":2,"id":"x","ID":"y","Id":0,"\u00e4":"z","i\u0307":"w"}'.encode()),
        "framed": case(3, b"\x00" + NESTED, b"\x00\x00\x00\x00\x08{", b"\x00\x00", b"{}"),
        "empty": case(4, b"{}", b'{"a":"\xff"}', b'{"a":"\\ud83d"}', b" { } "),
        "sparse": case(5, b'{"w":[' + b",".join([b"{}"] * 90) + b"]}", options=1),
    },
)
write(
    "csv",
    {
        "flat": case(0, LINE, b"," * 14, LINE + b",1", LINE.replace(b"true", b"yes"), NULL, b""),
        "quoted": case(1, b'1;"a;""b""\n";t\r\n', b"1;a;t\n2;b;f", b'1;"a', b"1;\xff;t", options=1),
        "tabs": case(2, b"-5\t\t0", b"\t\t", b"9223372036854775808\ta\t1"),
        "single": case(3, b"a", b"\n", b'""', b"a,b"),
        "none": case(4, b"", b"a", b"\n"),
    },
)
UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
write(
    "scalar",
    {
        "text": case(0, "\u00e4\U0001f600".encode(), b"\xc3", b"", NULL, b"a longer text than twelve bytes"),
        "int32": case(1, b"\x00\x00\x00\x07", b"", b"123", NULL),
        "int64": case(2, b"\xff" * 8, b"\x00" * 4, b"\x00" * 9),
        "float": case(3, struct.pack(">f", 1.5), struct.pack(">f", float("nan")), b"1"),
        "double": case(4, struct.pack(">d", -0.0), struct.pack(">d", float("inf")), b""),
        "uuid": case(5, UUID.encode(), bytes(16), UUID.encode()[:-1], b"{" + UUID.encode() + b"}", b""),
    },
)

# Avro


def text(value):
    return zigzag(len(value)) + value


INNER = text(b"p") + zigzag(1) + text(b"k") + zigzag(7) + b"\x00"
RICH = b"".join(
    [
        b"\x01",
        b"\x02" + zigzag(-5),
        zigzag(1 << 40),
        struct.pack("<f", 0.5),
        b"\x00" + struct.pack("<d", 0.25),
        text(b"\x00\xff"),
        text("g\u00e4".encode()),
        b"\x02",
        b"\x01\x02\x03",
        zigzag(2) + b"\x00" + b"\x02" + INNER + b"\x00",
        # A block with its length.
        zigzag(-1) + zigzag(5) + text(b"k") + zigzag(1) + b"\x00" + b"\x00" + b"\x00",
        b"\x04" + zigzag(3),
        text(b"\x04\xd2"),
        b"\x02" + struct.pack("<III", 1, 2, 3),
        zigzag(86_399_999),
        zigzag(3) + b"\x00",
        zigzag(1_700_000_000_000_000),
        b"\x02" + bytes(range(16)),
    ]
)
HUGE = RICH.replace(b"\x02" + INNER, varint((1 << 63) - 1), 1)
RECURSIVE = b"\x02" * 70 + b"\x00" + zigzag(1) * 71
SPARSE = zigzag(60) + b"\x00" * 61 + zigzag(4000) + b"\x00" + zigzag(9) + b"\x00" * 10 + b"\x00\x00"

write(
    "avro",
    {
        "rich": case(0, RICH, RICH[:-1], RICH + b"\x00", NULL, b"", HUGE),
        "other": case(1, RICH, RICH[:40], HUGE, options=1),
        "recursive": case(2, b"\x00\x02", RECURSIVE, b"\x04\x04" + b"\x00\x02" * 2 + b"\x00\x02"),
        "sparse": case(3, SPARSE, zigzag(1 << 40), SPARSE[:50]),
        "defaults": case(4, b"\x02\x02\x00\x00\x00\x00\x06\x00", zigzag(4096), b"\x00\x00\x00\x00" + zigzag(4096) + b"\x00"),
        "single": case(5, b"\x00\x06", b"\x01" + RICH, b"\x02\x00", b"\xc3\x01"),
        "registry": case(6, b"\x00" + RICH, b"\x01\x02", b"\x02", b"\x03\x00", b"\x04", b"\x05", NULL),
    },
)

# Protobuf


def tag(number, wire):
    return varint(number << 3 | wire)


def number(field, value):
    return tag(field, 0) + varint(value & (1 << 64) - 1)


def block(field, value):
    return tag(field, 2) + varint(len(value)) + value


PERSON = number(1, 7) + block(2, b"s") + number(3, 0) + block(4, varint(1) + varint(300))
TIME = number(1, 1_700_000_000) + number(2, 5_000)
THREE = b"".join(
    [
        number(1, -1),
        number(2, 3),
        tag(3, 5) + bytes(4),
        tag(4, 1) + struct.pack("<d", 0.5),
        block(5, b"e"),
        number(7, -7),
        block(9, PERSON),
        block(10, b"\x01\x02\x03"),
        block(11, b"k") * 2,
        block(12, PERSON) + block(12, b""),
        block(13, block(1, b"key") + block(2, PERSON)),
        block(14, number(1, 5) + number(2, 1)) * 2,
        block(16, PERSON) + number(15, 9) + block(300, b"r"),
        block(21, TIME),
        block(22, number(1, 1)),
        block(23, number(1, 5)),
        block(24, block(1, b"y")),
        block(25, b"\x00\x01\x05\x63"),
        block(26, number(1, 1) + block(2, TIME)),
        block(28, block(2, PERSON) + block(4, block(1, b"\x01\x00"))),
        number(500, 1),
    ]
)
TWO = b"".join(
    [
        number(1, 5),
        block(2, b"b"),
        number(3, 1) + block(3, b"\x01\x02"),
        block(4, b"\x07\x08"),
        tag(6, 3) + block(1, number(1, 1)) + tag(2, 3) + block(1, b"b") + tag(2, 4) + tag(6, 4),
        (tag(7, 3) + tag(1, 1) + bytes(8) + tag(7, 4)) * 2,
        block(8, number(1, 1) + block(2, number(1, 1))),
        number(9, 1) + tag(10, 3) + block(1, b"s") + tag(10, 4),
        tag(150, 3) * 5 + tag(150, 4) * 5,
    ]
)

write(
    "protobuf",
    {
        "three": case(0, THREE, THREE[:-1], b"", NULL, block(5, b"\xff"), number(9, 1)),
        "merged": case(0, THREE + THREE, block(9, PERSON) + block(9, number(3, 1)), options=1),
        "sparse": case(4, block(2, b"") * 50, block(3, b"") * 40, (block(5, b"") + number(6, 1)) * 3, block(4, number(3, 1)) * 2),
        "two": case(1, TWO, TWO[:-2], tag(6, 3) * 120, tag(6, 4), options=1),
        "declared": case(2, THREE, block(21, number(1, 253_402_300_799)), block(28, b"")),
        "framed": case(3, b"\x00" + TWO, b"\x01", b"\x05" + TWO, b"\x0a", b"\x03", b"\x04", b"\x0f\x02\x00" + TWO),
    },
)

# Schemas

AVRO = (
    b'{"type":"record","name":"n.R","aliases":["Q"],"fields":[{"name":"a","type":["null","long"],"default":null},'
    b'{"name":"b","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["X"]}},"default":["X"]},'
    b'{"name":"c","type":{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9,"scale":2}},'
    b'{"name":"d","type":["string","int",{"type":"map","values":"E"}]}]}'
)
WRITER = b'{"type":"record","name":"n.R","fields":[{"name":"a","type":"int"},{"name":"c","type":"D"}]}'
PROTO = (
    b'syntax = "proto3"; package p; import "other.proto"; import "google/protobuf/timestamp.proto";\n'
    b"message M { int32 a = 1 [deprecated = true]; repeated O b = 2; map<string, M.N> c = 3;\n"
    b"oneof d { string e = 4; google.protobuf.Timestamp f = 5; } enum E { X = 0; } E g = 6;\n"
    b"message N { optional E e = 1; reserved 5 to 9; } }"
)
OTHER = b'syntax = "proto2"; message O { optional group G = 1 { required fixed32 n = 1; } }'
FIELD = block(1, b"a") + number(3, 1) + number(4, 1) + number(5, 5)
FILE = block(1, b"m.proto") + block(4, block(1, b"M") + block(2, FIELD)) + block(12, b"proto3")
write(
    "schemas",
    {
        "avro": b"\x00" + AVRO,
        "avro-writer": b"\x01" + AVRO + b"\xff" + WRITER.replace(b'"D"', b'{"type":"fixed","name":"D","size":4}'),
        "avro-reference": b"\x02" + WRITER + b"\xff" + b'{"type":"fixed","name":"n.D","size":4}',
        "avro-declared": b"\x03" + bytes([3, 0, 0, 2, 4, 9, 25, 18, 24, 1, 18, 12]),
        "proto": b"\x04" + PROTO + b"\xff" + OTHER,
        "proto-deep": b"\x04" + b'syntax = "proto3";' + b"message M { " * 40 + b"}" * 40,
        "set": b"\x05" + block(1, FILE),
        "base64": b"\x06" + FILE,
        "proto-declared": b"\x07" + bytes([3, 0, 4, 5, 11, 11, 25, 18, 24, 1, 12, 4]),
        "json-declared": b"\x08" + bytes([4, 0, 4, 1, 20, 1, 2, 25, 0, 24, 1, 0, 4, 3, 26, 1, 4]),
        "csv-declared": b"\x09" + bytes([3, 0, 21, 9, 2, 1, 16, 2, 18, 1]),
    },
)

# A request, a version, and arrays of one element in both encodings of lengths.
write(
    "answers",
    {
        f"{request}-{version}-{kind}": bytes([request, version]) + body
        for request in range(10)
        for version in range(0, 12, 3)
        for kind, body in (("plain", b"\0\0\0\1" * 24), ("compact", b"\2" * 96), ("none", b"\0" * 48))
    },
)

PLAIN = "\x00"
RANGE = "\x01"
SNAPSHOT = "\x02"
TEXTS = {
    "librdkafka": PLAIN + "bootstrap.servers=a:9092,[::1]:9093\nsecurity.protocol = sasl_ssl\n# x\nsasl.password=\\é\n",
    "java": PLAIN
    + "bootstrap.servers: a:9092, \\\n  b:9092\nsecurity.protocol SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
    + "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
    + '  username="u\\u0041" password="p;\\"";\nssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\n',
    "offsets": RANGE + "start:100,2=+5:-7,3=50:",
    "times": RANGE + "@2026-01-14T10:00:00.123+01:00:1h30m",
    "spark": RANGE + '{"t":{"0":-2,"1":23}}',
    "snapshot": SNAPSHOT
    + '{"version":1,"cluster_id":"abc","isolation_level":"read_committed","created_ms":5,'
    + '"topics":[{"topic":"orders","topic_id":"Vx","log_append_time":false}],'
    + '"ranges":[{"topic":"orders","partition":0,"start":10,"end":20,"from_ms":7,'
    + '"log_start":0,"log_end":30,"leader":2,"leader_epoch":4}]}',
}
write("texts", {name: text.encode() for name, text in TEXTS.items()})

"""Records as Confluent's serializers write and read them: typed.py BOOTSTRAP REGISTRY_URL TOPIC CASE."""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, timestamp_pb2

bootstrap, url, topic, case = sys.argv[1:]
registry = SchemaRegistryClient({"url": url})
producer = Producer({"bootstrap.servers": bootstrap})
value_of_topic = SerializationContext(topic, MessageField.VALUE)


def send(value):
    producer.produce(topic, value=value, partition=0)


def record(*fields):
    return json.dumps({"type": "record", "name": "Order", "fields": list(fields)})


def field(name, kind, **more):
    return {"name": name, "type": kind, **more}


def avro(schema, *values):
    serialize = AvroSerializer(registry, schema)
    for value in values:
        send(serialize(value, value_of_topic))


def evolution():
    optional = dict(default=None)
    avro(record(field("id", "int"), field("name", "string")), {"id": 1, "name": "a"})
    avro(
        record(field("id", "long"), field("name", "string"), field("amount", ["null", "double"], **optional)),
        {"id": 2, "name": "b", "amount": 2.5},
        {"id": 3, "name": "c", "amount": None},
    )
    total = field("total", ["null", "double"], aliases=["amount"], **optional)
    avro(record(field("id", "long"), total), {"id": 2**40, "total": 4.5})
    avro(record(field("id", "string")), {"id": "x"})
    send(b"\0\x7f\xff\xff\xff\x02")
    send(b"plain")
    send(b"")
    send(None)


def references():
    item = json.dumps({"type": "record", "name": "Item", "namespace": "shop", "fields": [field("sku", "string")]})
    registry.register_schema(f"{topic}-item", Schema(item, "AVRO"))
    order = json.dumps(
        {
            "type": "record",
            "name": "Order",
            "namespace": "shop",
            "fields": [field("id", "long"), field("items", {"type": "array", "items": "shop.Item"})],
        }
    )
    from confluent_kafka.schema_registry import SchemaReference

    schema = Schema(order, "AVRO", [SchemaReference("shop.Item", f"{topic}-item", 1)])
    avro(schema, {"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2, "items": []})


def cards():
    card = "Zq7mCarrotVw93kT"
    avro(record(field("id", "long"), field("card", ["null", "string"], default=None)), {"id": 1, "card": card})


def maps():
    avro(record(field("counts", {"type": "map", "values": "int"})), {"counts": {"a": 1}})


def messages():
    """A file that imports another one and has two messages, the second with a nested one."""
    common = descriptor_pb2.FileDescriptorProto(name=f"{topic}/common.proto", package="shop", syntax="proto3")
    money = common.message_type.add(name="Money")
    money.field.add(name="cents", number=1, type=3, label=1)
    file = descriptor_pb2.FileDescriptorProto(name=f"{topic}/order.proto", package="shop", syntax="proto3")
    file.dependency.extend([common.name, "google/protobuf/timestamp.proto"])
    file.message_type.add(name="Other").field.add(name="x", number=1, type=5, label=1)
    order = file.message_type.add(name="Order")
    order.field.add(name="id", number=1, type=3, label=1)
    order.field.add(name="price", number=2, type=11, type_name=".shop.Money", label=1)
    order.field.add(name="at", number=3, type=11, type_name=".google.protobuf.Timestamp", label=1)
    order.field.add(name="lines", number=4, type=11, type_name=".shop.Order.Line", label=3)
    order.nested_type.add(name="Line").field.add(name="sku", number=1, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(common)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("shop.Other", "shop.Order", "shop.Order.Line", "shop.Money")
    }


def protobuf():
    of = messages()
    settings = {"use.deprecated.format": False}
    order, line = of["shop.Order"], of["shop.Order.Line"]
    serialize = ProtobufSerializer(order, registry, settings)
    first = order(id=1, price=of["shop.Money"](cents=250), lines=[line(sku="a"), line(sku="b")])
    first.at.seconds = 1768384800
    send(serialize(first, value_of_topic))
    send(serialize(order(id=2), value_of_topic))
    send(ProtobufSerializer(line, registry, settings)(line(sku="z"), value_of_topic))
    send(ProtobufSerializer(of["shop.Other"], registry, settings)(of["shop.Other"](x=1), value_of_topic))


def json_schema():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
    }
    serialize = JSONSerializer(json.dumps(schema), registry)
    send(serialize({"id": 1, "name": "a"}, value_of_topic))
    send(b'{"id": 2}')


def json_columns():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "integer"},
            "note": {"oneOf": [{"type": "null"}, {"type": "string"}]},
            "placed": {"type": "string", "format": "date-time"},
            "lines": {"type": "array", "items": {"$ref": "#/definitions/Line"}},
            "stock": {"type": "object", "additionalProperties": {"type": "integer"}},
            "extra": {},
        },
        "definitions": {"Line": {"type": "object", "properties": {"sku": {"type": "string"}, "n": {"type": "number"}}}},
    }
    serialize = JSONSerializer(json.dumps(schema), registry)
    lines = [{"sku": "a", "n": 1}, {"sku": "b"}]
    first = {"id": 1, "note": None, "placed": "2026-01-14T10:00:00Z", "lines": lines, "stock": {"x": 3}, "extra": [1]}
    send(serialize(first, value_of_topic))
    send(serialize({"id": 2, "note": "n", "unknown": True}, value_of_topic))
    send(None)
    # A version with other columns.
    changed = {**schema, "properties": {"id": {"type": "integer"}, "total": {"type": "number"}}}
    registry.register_schema(f"{topic}-value", Schema(json.dumps(changed), "JSON"))


def debezium():
    micros = {"type": "long", "connect.version": 1, "connect.name": "io.debezium.time.MicroTimestamp"}
    row = {"type": "record", "name": "Value", "fields": [field("id", "long"), field("at", ["null", micros], default=None)]}
    source = {"type": "record", "name": "Source", "fields": [field("db", "string"), field("lsn", "long")]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "namespace": "shop.orders",
        "fields": [
            field("before", ["null", row], default=None),
            field("after", ["null", "Value"], default=None),
            field("source", source),
            field("op", "string"),
            field("ts_ms", ["null", "long"], default=None),
        ],
    }
    of = {"source": {"db": "shop", "lsn": 7}, "ts_ms": 1768384800123}
    first, second = {"id": 1, "at": 1768384800123456}, {"id": 1, "at": None}
    avro(
        json.dumps(envelope),
        {"before": None, "after": first, "op": "c", **of},
        {"before": first, "after": second, "op": "u", **of},
        {"before": second, "after": None, "op": "d", **of},
    )
    send(None)


def receive():
    """Keys and values of partition 0, as a reader of committed records sees them."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "typed",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    partition = TopicPartition(topic, 0, 0)
    consumer.assign([partition])
    end = consumer.get_watermark_offsets(partition, timeout=60)[1]
    while consumer.position([partition])[0].offset < end:
        message = consumer.poll(10)
        # The end of a transaction has an offset but no record.
        if message is None:
            break
        if message.error():
            sys.exit(str(message.error()))
        yield message.key(), message.value()
    consumer.close()


def show(value):
    print(json.dumps(value, default=str, sort_keys=True, ensure_ascii=False))


def read_avro():
    read_key = AvroDeserializer(registry)
    read_value = AvroDeserializer(registry)
    key_of_topic = SerializationContext(topic, MessageField.KEY)
    for key, value in receive():
        show([read_key(key, key_of_topic), read_value(value, value_of_topic)])


def read_protobuf():
    read = ProtobufDeserializer(messages()["shop.Order"], {"use.deprecated.format": False})
    for key, value in receive():
        message = read(value, value_of_topic)
        show([key.decode(), message and json_format.MessageToDict(message)])


def read_json():
    schema = {"title": "Order", "type": "object", "required": ["id", "name"]}
    read = JSONDeserializer(json.dumps(schema))
    for key, value in receive():
        show([int.from_bytes(key, "big"), read(value, value_of_topic)])


{
    "read-avro": read_avro,
    "read-protobuf": read_protobuf,
    "read-json": read_json,
    "evolution": evolution,
    "references": references,
    "maps": maps,
    "cards": cards,
    "protobuf": protobuf,
    "json": json_schema,
    "json_columns": json_columns,
    "debezium": debezium,
}[case]()
if producer.flush(60) > 0:
    sys.exit("not all records were delivered")

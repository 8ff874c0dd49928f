"""The race's Python peer: reads a topic with confluent-kafka as a script would, in lists of messages.

`confluent.py scan BROKER TOPIC RECORDS` reads so many records; `confluent.py range BROKER TOPIC START
COUNT TIMES` reads a piece of partition 0, again and again with one consumer. Prints one JSON object.
"""

import json
import resource
import sys
import time
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition


def consumer(broker: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": broker,
            # Needed by the library; no group is joined where partitions are assigned.
            "group.id": "race",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 4 << 20,
            # With the default of a second, full queues stand still.
            "fetch.queue.backoff.ms": 10,
        }
    )


def scan(broker: str, topic: str, wanted: int) -> dict:
    begun = time.perf_counter()
    reader = consumer(broker)
    partitions = reader.list_topics(topic, timeout=30).topics[topic].partitions
    reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    records = total = last = 0
    while records < wanted:
        for message in take(reader, 20_000):
            records += 1
            total += len(message.value())
            last = max(last, message.offset())
    seconds = time.perf_counter() - begun
    return {"records": records, "bytes": total, "last": last, "seconds": seconds}


def pieces(broker: str, topic: str, start: int, count: int, times: int) -> dict:
    reader = consumer(broker)
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        reader.assign([TopicPartition(topic, 0, start)])
        read = 0
        while read < count:
            read += len(take(reader, count - read))
        took.append(time.perf_counter() - begun)
        reader.unassign()
    return {"records": count, "times": took}


def take(reader: Consumer, most: int) -> list:
    messages = reader.consume(most, timeout=0.1)
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    return messages


def peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main():
    command, broker, topic, *numbers = sys.argv[1:]
    result = {"scan": scan, "range": pieces}[command](broker, topic, *map(int, numbers))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result |= {"user": usage.ru_utime, "system": usage.ru_stime, "peak_kib": peak_kib()}
    print(json.dumps(result))


main()

"""Who else runs: each peer reads so many records of a topic, as its users would have it read.

A peer says in `does` what it does besides reading and what its times hold; the report quotes it.
"""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from broker import end_with_parent
from cases import ABSENT, JSON_COLUMNS
from measure import Failure, Finished, Sample, peak_mib, processor_seconds, run


class Peer:
    """What all peers have; by default a peer is no good for short reads."""

    name = title = does = ""
    short_does = None
    # How many times as long its runs are, and how many come before them: Java is fast when warm.
    patience = 1
    warm_ups = 1
    # Whether it makes columns of JSON, and whether it looks for a text.
    decodes = searches = False

    def start(self, broker):
        """Called once the broker answers."""
        self.broker = broker
        self.bootstrap = broker.bootstrap

    def close(self):
        """Called when the race is over, even if it ends early."""

    def scan(self, case, query, of: int, records: int) -> Sample:
        raise NotImplementedError

    def warm(self, topic: str, start: int, count: int, times: int) -> list | None:
        return None

    def cold(self, topic: str, start: int, count: int) -> Finished | None:
        return None


def check(records: int, found: dict, case):
    """Rejects the measurement of a peer that read something else."""
    if found["records"] < records:
        raise Failure(f"read {found['records']} of {records} records of {case.name}")


def of_process(found: dict) -> Sample:
    """The sample of a program that measures itself."""
    peak = found["peak_kib"] / 1024
    return Sample(found["records"], found["seconds"], found["user"], found["system"], peak)


class Drain(Peer):
    """The limit: `kafka-drain read`."""

    name = "drain"
    title = "raw Fetch drain"
    does = (
        "Fetch responses are received, the headers of record batches walked; no checksum, no record,"
        " no column. From the first connection to the last byte, process start not included."
    )

    # Connections and bytes for each partition; the best for a topic is found out first.
    SETTINGS = ((2, 1 << 20), (2, 4 << 20), (4, 4 << 20))

    def __init__(self, program: Path, decompress: bool = False):
        self.program = program
        self.decompress = decompress
        self.settings = {}
        if decompress:
            self.name = "inflate"
            self.title = "decompress-only drain"
            self.does = (
                "The raw drain which decompresses each batch as well (lz4_flex, libzstd) and reads"
                " the offset of each record. The limit for compressed topics."
            )

    def tune(self, case, runs: int = 3):
        """Finds the settings that drain this topic fastest."""
        rates = {}
        for setting in self.SETTINGS:
            self.settings[case.name] = setting
            rates[setting] = max(self.scan(case, None, 0, 0).rate for _ in range(runs))
        self.settings[case.name] = max(rates, key=rates.get)

    def scan(self, case, query, of, records) -> Sample:
        connections, fetch_bytes = self.settings.get(case.name, self.SETTINGS[1])
        command = [self.program, "read", "--bootstrap", self.bootstrap, "--topic", case.name]
        command += ["--connections", connections, "--fetch-bytes", fetch_bytes]
        if self.decompress:
            command += ["--decompress", "yes"]
        return of_process(json.loads(run(command).out))


class PerfTest(Peer):
    name = "perf-test"
    title = "kafka-consumer-perf-test"
    patience = 2
    does = (
        "Java's consumer in a group, with the tool's defaults; read_uncommitted; checksums not verified (the tool turns that off);"
        " a ConsumerRecord is made of each record, keys and values stay bytes. Its own fetch time is"
        " used, which leaves the start of Java and the rebalance out; the processor time and memory"
        " are the whole process's, Java's compilers included."
    )

    def scan(self, case, query, of, records) -> Sample:
        tool = "org.apache.kafka.tools.ConsumerPerformance"
        arguments = ["--bootstrap-server", self.bootstrap, "--topic", case.name]
        arguments += ["--messages", str(records), "--timeout", "60000"]
        done = run(self.broker.java(tool, *arguments, options=()))
        columns = [column.strip() for column in done.out.strip().splitlines()[-1].split(",")]
        if len(columns) != 10:
            raise Failure(f"kafka-consumer-perf-test printed {done.out.strip()[-300:]}")
        found, fetch_ms = int(columns[4]), float(columns[7])
        check(records, {"records": found}, case)
        return Sample(found, fetch_ms / 1000, done.user, done.system, done.peak_mib)


class Kcat(Peer):
    name = "kcat"
    title = "kcat"
    does = (
        "Whole processes of kcat (librdkafka), which print the offset of each record into a file. No"
        " group; read_committed; checksums not verified (librdkafka's default). The queue is as long"
        " as it may be: with the default one, librdkafka's pause of a second when it is full decides."
    )
    short_does = "Whole processes."

    def scan(self, case, query, of, records) -> Sample:
        done = self._run(case.name, "-o", "beginning", "-c", records)
        check(records, {"records": done.out.count("\n")}, case)
        return Sample(records, done.seconds, done.user, done.system, done.peak_mib)

    def cold(self, topic, start, count) -> Finished:
        return self._run(topic, "-p", 0, "-o", start, "-c", count)

    def _run(self, topic, *arguments, shown="%o\n", pipe=None) -> Finished:
        queue = ["-X", "queued.min.messages=10000000", "-X", "queued.max.messages.kbytes=2097151"]
        quiet = ["-X", "isolation.level=read_committed", "-e", "-q", "-f", shown]
        return run(["kcat", "-C", "-b", self.bootstrap, "-t", topic, *arguments, *quiet, *queue], pipe=pipe)


class Grep(Kcat):
    name = "grep"
    title = "kcat | grep"
    searches = True
    does = (
        "kcat as above, which prints the value of each record into a pipe, and GNU grep -F -c, which counts the lines with the"
        " text, both with LC_ALL=C. The whole of both processes, and the processor time of kcat alone."
    )

    def scan(self, case, query, of, records) -> Sample:
        grep = subprocess.Popen(
            ["grep", "-F", "-c", "-e", ABSENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            preexec_fn=end_with_parent,
        )
        try:
            done = self._run(case.name, "-o", "beginning", "-c", records, shown="%s\n", pipe=grep.stdin)
        finally:
            found, _ = grep.communicate()
        if int(found) != 0:
            raise Failure(f"kcat | grep found {int(found)} records of {case.name}")
        return Sample(records, done.seconds, done.user, done.system, done.peak_mib)

    def cold(self, topic, start, count) -> None:
        return None


class Program(Peer):
    """A program of ours on top of a peer's library: `scan` and `range`, see programs/ and franz/."""

    def __init__(self, command: list):
        self.command = command

    def scan(self, case, query, of, records) -> Sample:
        done = run([*self.command, "scan", self.bootstrap, case.name, records])
        found = json.loads(done.out)
        check(records, found, case)
        return of_process(found)

    def warm(self, topic, start, count, times) -> list:
        arguments = [self.bootstrap, topic, start, count, times + 1]
        # The first run connects.
        return json.loads(run([*self.command, "range", *arguments]).out)["times"][1:]

    def cold(self, topic, start, count) -> Finished:
        return run([*self.command, "range", self.bootstrap, topic, start, count, 1])


class Confluent(Program):
    name = "confluent"
    title = "confluent-kafka for Python"
    does = (
        "consume() with lists of up to 20,000 messages (librdkafka): a Python object of each record, the"
        " lengths of the values summed. No group; read_committed; checksums not verified; a pause of"
        " 10 ms when the queue is full. Python's start is not included."
    )
    short_does = "The same consumer, assigned again each time; in a new process Python's start is included."


class Franz(Program):
    name = "franz"
    title = "franz-go"
    does = (
        "PollFetches with 4 MiB for each partition: a struct of each record, the lengths of the values"
        " summed. No group; read_committed; checksums verified. Process start is not included."
    )
    short_does = "The same client, which is given the partition again each time."


# Spark uses other quotes, and has no VARCHAR without a length.
_SPARK_COLUMNS = JSON_COLUMNS.replace('"', "`").replace("VARCHAR", "STRING")


class Spark(Peer):
    name = "spark"
    title = "Spark's batch source"
    patience = 2
    warm_ups = 3
    decodes = True
    does = (
        "spark.read.format('kafka') in a warm local[*] session: count(*), the sum of octet_length(value)"
        " and max(offset), all columns being built as Spark's source does; of JSON, from_json with the same"
        " columns and the same groups; read_committed; checksums verified by Java's consumer, groups made up"
        " for each query. Neither the start of the session nor its first queries are included; memory is"
        " Java's, with a heap of up to 4 GB."
    )
    short_does = "In the warm session."

    def __init__(self, python: Path, jars: Path):
        self.python = python
        self.jars = jars
        self.ready_seconds = None
        self._process = None

    def close(self):
        if self._process is not None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._log.close()

    def scan(self, case, query, of, records) -> Sample:
        self._ensure()
        partitions = list(range(case.partitions))
        end = records // case.partitions
        headers = case.name == "headers"
        user, system = processor_seconds(self.jvm)
        found = self._ask(
            topic=case.name,
            partitions=partitions,
            start=0,
            end=end,
            headers=headers,
            columns=_SPARK_COLUMNS if case.decoded else None,
        )
        user_after, system_after = processor_seconds(self.jvm)
        check(records, found, case)
        spent = (user_after - user, system_after - system)
        return Sample(found["records"], found["seconds"], *spent, peak_mib(self.jvm))

    def warm(self, topic, start, count, times) -> list:
        self._ensure()
        limit = {"limit": count} if start == 0 else {}
        end = 1_000 if limit else start + count
        ask = {"topic": topic, "partitions": [0], "start": start, "end": end, **limit}
        for _ in range(3):
            self._ask(**ask)
        return [self._ask(**ask)["seconds"] for _ in range(min(times, 10))]

    def _ensure(self):
        """Starts the session on first use, because it takes memory that earlier measurements do not need."""
        if self._process is not None:
            return
        jars = ",".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))
        program = Path(__file__).parent.parent / "programs" / "spark.py"
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(self.python), str(program), self.bootstrap, jars],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            cwd=self.broker.folder,
            env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        ready = self._answer(120)
        self.ready_seconds, self.jvm = ready["ready"], ready["pid"]

    def _ask(self, **question) -> dict:
        self._process.stdin.write(json.dumps(question) + "\n")
        return self._answer(300)

    def _answer(self, timeout: float) -> dict:
        killer = threading.Timer(timeout, self._process.kill)
        killer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            killer.cancel()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip()[-500:]
            self._process.wait()
            self._process = None
            raise Failure(f"Spark ended: {said}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(f"Spark: {answer['error']}")
        return answer

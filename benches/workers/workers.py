#!/usr/bin/env python3
"""What workers cost, next to one process in the same run: scans, short statements, bytes between the machines.

Starts a broker, fills a topic, and measures one and the other in turn, so that a machine that changes its speed changes
both. What counts are the ratios, the medians over the pairs. `make bench-workers` builds what it needs.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches" / "peers" / "race"))

from broker import Broker, end_with_parent  # noqa: E402
from measure import processor_seconds, run  # noqa: E402
from ours import Shell  # noqa: E402
from race import CACHE, built  # noqa: E402

SCANS = {
    "sum": 'SELECT count(*), sum(octet_length(value)), max("offset") FROM scanned',
    "group": "SELECT substr(value, 1, 1) AS first, count(*) FROM scanned GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
}
SHORT = "SELECT count(*) FROM kafka('scanned', '0=0:1000,1=0:1000')"


class Worker:
    """A worker with one core."""

    def __init__(self, program: Path, core: int):
        command = ["taskset", "-c", str(core), program, "worker", "--listen", "127.0.0.1:0", "--streams", "1"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TOKIO_WORKER_THREADS": "1"},
            preexec_fn=end_with_parent,
        )
        self.address = re.search(r"listens on (\S+)", self.process.stderr.readline())[1]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Counter:
    """Passes connections on to an address and counts the bytes of each direction."""

    def __init__(self, to: str):
        self.to = to
        self.sent = self.received = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            host, port = self.to.rsplit(":", 1)
            far = socket.create_connection((host, int(port)))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(near, far, "sent"), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, "received"), daemon=True).start()

    def _pass(self, source, target, direction):
        try:
            while data := source.recv(1 << 16):
                setattr(self, direction, getattr(self, direction) + len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One side has ended.


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=8_000_000, help="records of 100 bytes")
    parser.add_argument("--pairs", type=int, default=15, help="runs of each")
    parser.add_argument("--kafka-sql", type=Path, default=built("kafka-sql"))
    parser.add_argument("--drain", type=Path, default=built("kafka-drain"))
    options = parser.parse_args()
    libs = Path(os.environ.get("KAFKA_LIBS") or CACHE / "kafka-libs-4.1.1")
    broker, workers = Broker(libs, options.drain), []
    with tempfile.TemporaryDirectory() as folder:
        try:
            fill = [options.drain, "fill", "--bootstrap", broker.bootstrap, "--topic", "scanned"]
            run([*fill, "--partitions", "4", "--records", options.records, "--value-bytes", "100"])
            os.sync()
            workers += [Worker(options.kafka_sql, core) for core in range(2)]
            measure(options, broker, workers, Path(folder))
        finally:
            for worker in workers:
                worker.stop()
            broker.stop()


def measure(options, broker, workers, folder):
    addresses = ",".join(worker.address for worker in workers)

    def shell(name, *more):
        (folder / name).mkdir()
        return Shell(options.kafka_sql, broker.bootstrap, "wire", folder / name, *more)

    alone = shell("alone")
    together = shell("together", "--workers", addresses)
    pids = {alone: [alone.pid], together: [together.pid, *(worker.process.pid for worker in workers)]}

    def used(shell):
        return sum(sum(processor_seconds(pid)) for pid in pids[shell])

    print(f"{options.records:,} records of 100 B, {options.pairs} pairs, medians")
    for name, sql in SCANS.items():
        times, processor = {alone: [], together: []}, {alone: [], together: []}
        for turn in range(options.pairs + 1):
            for one in (alone, together) if turn % 2 else (together, alone):
                before = used(one)
                seconds, _ = one.run(sql)
                if turn:
                    times[one].append(seconds)
                    processor[one].append(used(one) - before)
        rates = ratio(times[alone], times[together])
        costs = ratio(processor[together], processor[alone])
        print(
            f"scan {name}: one process {statistics.median(times[alone]):.3f} s, two workers"
            f" {statistics.median(times[together]):.3f} s; rate of the workers {rates}; their processor time {costs}"
        )

    short = shell("short", "--workers", addresses, "--offsets-per-task", "1")
    for title, one in (("below --offsets-per-task", together), ("on workers", short)):
        more = []
        for _ in range(options.pairs):
            near = statistics.median(alone.repeat(SHORT, 10))
            more.append(statistics.median(one.repeat(SHORT, 10)) - near)
        print(f"short statement in a session, {title}: {in_ms(more)} more than {near * 1000:.1f} ms")
    command = [options.kafka_sql, "-b", broker.bootstrap, "query", SHORT]
    for title, flags in (
        ("below --offsets-per-task", ["--workers", addresses]),
        ("on workers", ["--workers", addresses, "--offsets-per-task", "1"]),
    ):
        more = []
        for _ in range(options.pairs):
            near = run(command).seconds
            more.append(run([*command, *flags]).seconds - near)
        print(f"short statement as a process, {title}: {in_ms(more)} more than {near * 1000:.1f} ms")

    counters = [Counter(worker.address) for worker in workers]
    through = ["--workers", ",".join(counter.address for counter in counters)]
    for name, sql in SCANS.items():
        before = [(counter.sent, counter.received) for counter in counters]
        run([options.kafka_sql, "-b", broker.bootstrap, *through, "query", sql])
        sent = sum(c.sent - b[0] for c, b in zip(counters, before))
        received = sum(c.received - b[1] for c, b in zip(counters, before))
        print(
            f"bytes of scan {name}, which reads {options.records * 100 / 1e6:,.0f} MB:"
            f" {sent / 1000:.1f} kB to the workers, {received / 1000:.1f} kB from them"
        )
    for one in (alone, together, short):
        one.close()


def ratio(ones, others) -> str:
    return spread([one / other for one, other in zip(ones, others)], "{:.2f}")


def in_ms(seconds) -> str:
    return spread([1000 * one for one in seconds], "{:.1f}") + " ms"


def spread(values, shape) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{shape.format(statistics.median(values))} (quartiles {shape.format(low)}..{shape.format(high)})"


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A cluster to try: three brokers in racks, three workers and a coordinator, all on this machine.

Runs a query, a job and an export on the workers, kills one of them in the middle of each, and compares what
comes out with what one machine finds. Exit code 0: nothing is lost and nothing is there twice.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machines import RACKS, Machines, end_with_parent

HERE = Path(__file__).resolve()
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datafusion-kafka"
LIBS = Path(os.environ.get("KAFKA_LIBS") or CACHE / "kafka-libs-4.1.1")

TABLE = (
    "CREATE EXTERNAL TABLE sales (customer BIGINT, cents BIGINT, note TEXT) STORED AS KAFKA LOCATION 'sales' "
    "OPTIONS ('value.format' 'json');\n"
)
QUERY = TABLE + (
    "SELECT customer, count(*) AS sales, sum(cents) AS cents, max(octet_length(note)) AS longest FROM sales "
    "GROUP BY customer ORDER BY customer"
)
TOTALS = "SELECT count(*) AS n, sum(cents) AS cents, count(DISTINCT (partition, offset)) AS offsets FROM"
BATCHES = 8
# About as many files, of six partitions.
PIECES = 60
# What a coordinator and a driver say when a worker is gone and they go on.
MISSED = ("running the statement again", "trying again in", "goes to another worker")


class Lost(Exception):
    """Workers gave something else than one machine."""


class Lab:
    """The shell as a coordinator, or alone, on the demo's cluster."""

    def __init__(self, machines: Machines, kafka_sql: Path):
        self.machines, self._kafka_sql = machines, kafka_sql
        self._next = 0
        self.report = []

    def command(self, *arguments, workers=True) -> list:
        # A coordinator asks for rows over again only when told how often.
        there = ["--workers", ",".join(self.machines.workers), "--offsets-per-task", "10000"]
        there += ["--retries", "3", "--verbose"]
        command = [self._kafka_sql, "-b", self.machines.bootstrap, *(there if workers else [])]
        return [*map(str, command), *map(str, arguments)]

    def run(self, *arguments, workers=True) -> "Ended":
        ended = Started(self.command(*arguments, workers=workers)).end()
        return ended.succeeded()

    def killed(self, arguments, usual_s: float) -> "tuple[Ended, int, str]":
        """Runs a command and kills a worker in the middle. Repeats until the command has missed the worker.
        `arguments` gives those of the n-th attempt, which are of another target each."""
        for attempt, share in enumerate((0.5, 0.7, 0.3, 0.6, 0.4, 0.2)):
            number = self._next % len(self.machines.workers)
            self._next += 1
            started = Started(self.command(*arguments(attempt)))
            time.sleep(usual_s * share)
            is_running, after_s = started.runs(), started.seconds()
            self.machines.kill_worker(number)
            ended = started.end()
            self.machines.start_worker(number)
            again = sum(ended.err.count(said) for said in MISSED)
            if is_running and (again or ended.code == 3):
                name = f"worker {number + 1} ({RACKS[number]})"
                ran = "what it had was read again" if again else "it ended with exit code 3"
                return ended, attempt, f"{name} killed after {after_s:.1f} s: {ran}"
        raise Lost(f"no worker was missed by: {' '.join(arguments(0))}")


class Started:
    """A run of the shell."""

    # To end it with the demo: there is one at a time.
    last: "Started | None" = None

    def __init__(self, command: list):
        self._begun = time.monotonic()
        self._command = command
        # Files, since nobody reads pipes while the demo waits.
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KAFKA_SQL_")}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        Started.last = self

    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self):
        if self.runs():
            self._process.kill()
            self._process.wait()

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def end(self) -> "Ended":
        try:
            self._process.wait(timeout=600)
        finally:
            self.kill()
        return Ended(self._command, self._process.returncode, self.seconds(), self._out, self._err)


class Ended:
    """What came of it."""

    def __init__(self, command, code, seconds, out, err):
        self.command, self.code, self.seconds = command, code, seconds
        self.out, self.err = (_read(file) for file in (out, err))

    def succeeded(self) -> "Ended":
        if self.code != 0:
            raise Lost(f"exit code {self.code} of {' '.join(self.command)}:\n{self.err}")
        return self

    def ledger(self) -> list[str]:
        """The ledger's lines, without what another run reads in another time."""
        return sorted(line for line in self.err.splitlines() if " offsets: " in line)


def _read(file) -> str:
    file.seek(0)
    with file:
        return file.read().decode(errors="replace")


def expect(what: str, found, expected):
    if found != expected:
        raise Lost(f"{what}: expected {expected}, found {found}")


def query(lab: Lab, folder: Path):
    receipt = folder / "receipt.json"
    arguments = ["--format", "csv", "--ledger", "query", QUERY]
    one = lab.run(*arguments, workers=False)
    three = lab.run(*arguments)
    expect("the rows of three workers", three.out, one.out)
    expect("the ledger of three workers", three.ledger(), one.ledger())
    noted = [*arguments, "--receipt", str(receipt)]

    def again(_attempt: int) -> list:
        receipt.unlink(missing_ok=True)
        return noted

    ended, _, killed = lab.killed(again, three.seconds)
    ended.succeeded()
    expect("the rows after a worker was killed", ended.out, one.out)
    expect("the ledger after a worker was killed", ended.ledger(), one.ledger())
    rerun = lab.run("rerun", receipt, workers=False)
    if "identical" not in rerun.out + rerun.err:
        raise Lost(f"the receipt is not that of the log:\n{rerun.out}{rerun.err}")
    took = f"{one.seconds:.1f} s on one machine, {three.seconds:.1f} s on three workers"
    how = f"{killed}, {ended.seconds:.1f} s in all"
    rows = len(one.out.splitlines()) - 1
    found = f"{rows} rows and the ledger are equal, the receipt is identical"
    lab.report.append(("query", took, how, found))


def job(lab: Lab, folder: Path, records: int):
    landing = "CREATE EXTERNAL TABLE landing STORED AS PARQUET LOCATION '{}'"
    insert = "INSERT INTO landing SELECT partition, offset, customer, cents FROM sales"

    def arguments(attempt: int) -> list:
        name = f"landing-{attempt}"
        file = folder / f"{name}.sql"
        text = f"{TABLE}{landing.format(folder / name)};\n{insert};\n"
        file.write_text(text)
        limits = ["--available-now", "--max-offsets", str(records // BATCHES)]
        return ["run", str(file), *limits, "--progress", str(folder / f"{name}.progress")]

    three = lab.run(*arguments(-1))
    ended, attempt, killed = lab.killed(arguments, three.seconds)
    ended.succeeded()
    batches = len((folder / f"landing-{attempt}.progress").read_text().splitlines())
    found = []
    for number in (-1, attempt):
        sql = f"{landing.format(folder / f'landing-{number}')}; {TOTALS} landing"
        found.append(lab.run("--format", "csv", "query", sql, workers=False).out)
    kafka = lab.run("--format", "csv", "query", f"{TABLE}{TOTALS} sales", workers=False).out
    expect("rows, sum and distinct offsets of the job", found[0], kafka)
    expect("rows, sum and distinct offsets after a worker was killed", found[1], kafka)
    took = f"{three.seconds:.1f} s on three workers"
    how = f"{killed}, {ended.seconds:.1f} s in all"
    found = f"{records:,} rows in {batches} batches of Parquet, each offset once"
    lab.report.append(("job", took, how, found))


def export(lab: Lab, folder: Path, records: int):
    def arguments(attempt: int) -> list:
        target = ["-o", str(folder / f"sales-{attempt}"), "--max-file-offsets", str(records // PIECES)]
        return ["export", "sales", *target, "--option", "value.format=json"]

    three = lab.run(*arguments(-1))
    ended, attempt, killed = lab.killed(arguments, three.seconds)
    ended.succeeded()
    verified = lab.run("verify", folder / f"sales-{attempt}", "--against-kafka", workers=False)
    same = f"{records:,} rows the same in Kafka"
    expect("what verify says", same in verified.err, True)
    took = f"{three.seconds:.1f} s on three workers"
    how = f"{killed}, {ended.seconds:.1f} s in all"
    lab.report.append(("export", took, how, f"{same}, and no others"))


def build() -> Path:
    """The shell with workers, beside the usual one, which stays what it was."""
    release = Path(os.environ.get("CARGO_TARGET_DIR") or "target") / "release"
    usual, kept, ours = (release / name for name in ("kafka-sql", "kafka-sql.usual", "kafka-sql-workers"))
    for old in (kept, ours):
        old.unlink(missing_ok=True)
    if usual.exists():
        usual.rename(kept)
    try:
        packages = ["--package", "kafka-sql", "--package", "datafusion-kafka-distributed"]
        features = ["--features", "kafka-sql/distributed"]
        command = ["cargo", "build", "--release", *packages, *features, "--bin", "kafka-sql"]
        subprocess.run(command, check=True)
        usual.rename(ours)
    finally:
        if kept.exists():
            kept.rename(usual)
    return ours.resolve()


def sales(count: int) -> list[str]:
    chosen = random.Random(15)
    return [
        json.dumps(
            {
                "customer": chosen.randrange(100),
                "cents": chosen.randrange(1, 100_000),
                "note": "x" * chosen.randrange(40),
            }
        )
        for _ in range(count)
    ]


def demonstrate(lab: Lab, arguments):
    machines, folder = lab.machines, lab.machines.folder
    say(f"starting three brokers in {', '.join(RACKS)} and three workers beside them")
    machines.start_brokers()
    for number in range(len(RACKS)):
        machines.start_worker(number)
    say(f"producing {arguments.records:,} records into six partitions, each on three brokers")
    machines.create_topic("sales")
    machines.fill_topic("sales", arguments.records, sales(1000))
    explained = lab.run("--format", "csv", "query", f"{TABLE}EXPLAIN {TOTALS} sales").out
    for address, ranges in re.findall(r"task \d+ -> worker ([^ ]*): ([^;]*)", explained):
        number = machines.workers.index(address)
        say(f"  worker {number + 1} in {RACKS[number]} reads {ranges}")
    say("a query, with a worker killed in the middle")
    query(lab, folder)
    say("a job, likewise")
    job(lab, folder, arguments.records)
    say("an export, likewise")
    export(lab, folder, arguments.records)
    print()
    for what, took, how, found in lab.report:
        print(f"{what:<8}{took}\n        {how}\n        {found}")
    print("\nNothing is lost, and nothing is there twice.")
    if arguments.keep:
        print("\nThe cluster runs until Ctrl-C. Ask it, for example:\n")
        print(" ", " ".join(lab.command("query", "'SELECT count(*) FROM sales'")), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


def say(text: str):
    print(f"demo-cluster: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-cluster", description=__doc__)
    parser.add_argument("--records", type=int, default=3_000_000, help="records to read [3000000]")
    parser.add_argument("--keep", action="store_true", help="let the cluster run until Ctrl-C")
    parser.add_argument("--kafka-sql", type=Path, help="a shell with workers; one is built without it")
    arguments = parser.parse_args()
    # What ends the demo ends the machines first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machines = folder = None
    try:
        kafka_sql = arguments.kafka_sql.resolve() if arguments.kafka_sql else build()
        folder = Path(tempfile.mkdtemp(prefix="kafka-sql-cluster-"))
        machines = Machines(folder, LIBS, kafka_sql)
        demonstrate(Lab(machines, kafka_sql), arguments)
        return 0
    except KeyboardInterrupt:
        return 130
    except (Lost, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"demo-cluster: {error}", file=sys.stderr)
        return 1
    finally:
        if machines:
            say("stopping workers and brokers")
            if Started.last:
                Started.last.kill()
            machines.stop()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(HERE.parents[2])
    sys.exit(main())

#!/usr/bin/env python3
"""The race: kafka-sql beside what else reads Kafka, on one broker, with the same topics, in one run.

Starts a broker, fills it, and measures. Before each run of anybody the raw Fetch drain is measured,
since the speed of a machine changes within minutes: what counts are the ratios. A contestant that
fails is named in the report and does not end the race. See docs/benchmarks.md, which this writes.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import cases
import report
from broker import Broker
from measure import Failure, Meter, Sample, median, run
from others import Confluent, Drain, Franz, Grep, Kcat, PerfTest, Spark
from ours import Ours

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datafusion-kafka"
CLIENTS = ("wire", "librdkafka")
PEERS = (PerfTest, Kcat, Grep, Confluent, Franz, Spark)
# Names that `--only` accepts, even of missing contestants.
EVERYONE = {"drain", "inflate", *CLIENTS, *(peer.name for peer in PEERS)}


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    race = Race(options)
    try:
        race.run()
    except KeyboardInterrupt:
        sys.exit("race: interrupted; nothing was written")
    finally:
        race.close()
    race.results["minutes"] = round((time.monotonic() - begun) / 60, 1)
    results = report.added(options.out, race.results) if options.add else race.results
    text = report.markdown(results)
    if options.only and not options.add:
        print(text)
    else:
        report.write(options.out, results, text)
        print(f"race: wrote {options.out}/benchmarks.md, .svg and .json")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000_000, help="records of 100 bytes in a topic")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run may take")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, after one to warm up")
    parser.add_argument("--quick", action="store_true", help="two million records, short runs")
    parser.add_argument(
        "--only",
        default="",
        help="contestants, cases and queries by name, as a comma list (wire,franz,b100,sum);\n"
        "'short' are the short reads. Prints the report and writes no file",
    )
    parser.add_argument(
        "--add", action="store_true", help="adds the topics that --only names to the report that is there"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where the report goes")
    parser.add_argument("--data", type=Path, help="where the broker's folder is made")
    parser.add_argument("--kafka-sql", type=Path, default=built("kafka-sql"))
    parser.add_argument("--drain", type=Path, default=built("kafka-drain"))
    options = parser.parse_args()
    if options.quick:
        options.records = min(options.records, 2_000_000)
        options.seconds = min(options.seconds, 0.5)
    options.only = [name for name in options.only.split(",") if name]
    names = {"short", *EVERYONE, *cases.QUERIES, *(case.name for case in cases.CASES)}
    if unknown := set(options.only) - names:
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    for program in (options.kafka_sql, options.drain):
        if not program.exists():
            parser.error(f"{program} is not built: run `make bench-peers`, it builds it")
    return options


def built(name: str) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / "release" / name


class Race:
    def __init__(self, options):
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-race-work-"))
        self.broker = None
        self.drain = Drain(options.drain)
        self.inflate = Drain(options.drain, decompress=True)
        self.ours = [Ours(options.kafka_sql, client, self.folder) for client in CLIENTS]
        self.peers, missing = contestants()
        self.results = {
            "machine": report.machine(),
            "quick": options.quick,
            "records": options.records,
            "runs": options.runs,
            "cases": {},
            "short": {},
            "missing": missing,
            "failed": {},
        }

    def close(self):
        for peer in [*self.ours, *self.peers]:
            peer.close()
        if self.broker is not None:
            self.broker.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wants(self, kind: set, name: str) -> bool:
        """Whether `--only` leaves this one of its kind in: a kind of which nothing is named, does."""
        named = kind & set(self.options.only)
        return not named or name in named

    def run(self):
        say("starting a broker")
        libs = Path(os.environ.get("KAFKA_LIBS") or CACHE / "kafka-libs-4.1.1")
        if not (libs / ".complete").exists():
            raise SystemExit(f"race: no jars of Kafka in {libs}: run `make setup`, it fetches them")
        self.broker = Broker(libs, self.options.drain, self.options.data)
        for peer in [self.drain, self.inflate, *self.peers]:
            peer.start(self.broker)
        for ours in self.ours:
            ours.start(self.broker.bootstrap)
        self.results["titles"] = {p.name: p.title for p in [self.drain, self.inflate, *self.peers]}
        self.results["does"] = {p.name: p.does for p in [self.drain, self.inflate, *self.peers]}
        self.results["short_does"] = {p.name: p.short_does for p in self.peers if p.short_does}

        names = {case.name for case in cases.CASES}
        only_short = self.options.only == ["short"]
        chosen = [c for c in cases.CASES if self.wants(names, c.name)]
        for case in chosen:
            if only_short and case.name != "b100":
                continue
            self.fill(case)
        # Writes everything to disk first, so that this does not happen during a measurement.
        os.sync()
        for case in chosen if not only_short else []:
            self.measure_case(case)
        if chosen[0].name == "b100" and (not self.options.only or "short" in self.options.only):
            self.measure_short("b100")
        spark = next((peer for peer in self.peers if peer.name == "spark"), None)
        if spark is not None and spark.ready_seconds is not None:
            self.results["spark_start_seconds"] = round(spark.ready_seconds, 1)

    def fill(self, case):
        records = case.records(self.options.records)
        command = [self.options.drain, "fill", "--bootstrap", self.broker.bootstrap]
        command += ["--topic", case.name, "--partitions", case.partitions, "--records", records]
        done = json.loads(run([*command, *case.fill]).out)
        if done["records"] != records:
            raise SystemExit(f"race: {done['records']} records of {case.name} were written, not {records}")
        say(f"{case.name}: {records:,} records, {done['bytes'] / 1e6:,.0f} MB, {done['seconds']:.0f} s")
        self.results["cases"][case.name] = {
            "title": case.title,
            "records": records,
            "bytes": done["bytes"],
            "value_bytes": done["value_bytes"],
            "entries": {},
        }

    # Scans.

    def measure_case(self, case):
        self.drain.tune(case)
        self.inflate.settings = dict(self.drain.settings)
        connections, fetch_bytes = self.drain.settings[case.name]
        self.results["cases"][case.name]["drain"] = {
            "connections": connections,
            "fetch_bytes": fetch_bytes,
        }
        limits = [self.drain, self.inflate] if case.compressed else [self.drain]
        for limit in limits:
            if limit is self.drain or self.wants(EVERYONE, limit.name):
                self.measure(case, limit, None)
        for ours in self.ours:
            if self.wants(EVERYONE, ours.name):
                for name in case.queries:
                    if self.wants(set(cases.QUERIES), name):
                        self.measure(case, ours, cases.QUERIES[name])
        for peer in self.peers:
            can = (peer.decodes or not case.decoded) and peer.searches == case.searched
            if can and self.wants(EVERYONE, peer.name):
                self.measure(case, peer, None)

    def measure(self, case, contestant, query):
        """One to warm up, which tells how many records a run should read, and then the runs."""
        of = case.records(self.options.records)
        most = int(of * query.share) if query else of
        key = f"{contestant.name}/{query.name}" if query else contestant.name
        entry = {"samples": []}
        self.results["cases"][case.name]["entries"][key] = entry
        limit = contestant in (self.drain, self.inflate)
        try:
            if isinstance(contestant, Ours):
                # A separate process for each query, to measure its memory alone.
                contestant.close()
            # Long enough that the fixed costs of a run do not matter.
            seconds = self.options.seconds * getattr(contestant, "patience", 1)
            least = min(most, max(int(of * 0.05), 200_000) // case.partitions * case.partitions)
            records = least
            for _ in range(getattr(contestant, "warm_ups", 1)):
                warm = contestant.scan(case, query, of, records)
                records = size(case, least, most, warm.rate * seconds)
            # The first run of a process may be slow, and measuring the rate again costs little.
            if not limit and warm.seconds < seconds / 2:
                warm = contestant.scan(case, query, of, records)
                records = size(case, least, most, warm.rate * seconds)
            for _ in range(self.options.runs):
                drained = None
                if contestant is not self.drain:
                    drained = self.drain.scan(case, None, of, of).rate
                with Meter(self.broker.pid) as meter:
                    sample = contestant.scan(case, query, of, records)
                sample = meter.note(sample)
                sample.drain_rate = drained
                entry["samples"].append(sample.as_json())
                self.check_answer(case, contestant, query, sample, of)
            rate = median(s["records"] / s["seconds"] for s in entry["samples"])
            say(f"{case.name:8} {key:22} {rate / 1e6:8.2f} M records/s")
        except (Failure, OSError, ValueError, KeyError) as error:
            entry["failed"] = shown(error)
            say(f"{case.name:8} {key:22} failed: {shown(error)}")
            contestant.close()

    def check_answer(self, case, contestant, query, sample, of):
        """Rejects a measurement whose answer is wrong."""
        if not isinstance(contestant, Ours) or query.name == "parquet":
            return
        whole = self.results["cases"][case.name]
        expected = {
            "records": sample.records,
            "bytes": whole["value_bytes"] * sample.records // of,
            "last": sample.records // case.partitions - 1,
            "found": 0,
        }
        if query.name == "pieces":
            del expected["last"]  # the pieces do not begin at the first offset
        answer = {name: contestant.answer[name] for name in expected if name in contestant.answer}
        if not answer:
            raise Failure("kafka-sql gave no answer")
        for name, found in answer.items():
            if found != expected[name]:
                raise Failure(f"the answer has {name} = {found:,}, expected is {expected[name]:,}")

    # Short reads.

    def measure_short(self, topic: str):
        for name, title, start, count in cases.SHORT:
            part = self.results["short"][name] = {"title": title, "entries": {}}
            for contestant in [*self.ours, *(peer for peer in self.peers if not peer.searches)]:
                if not self.wants(EVERYONE, contestant.name):
                    continue
                entry = {}
                try:
                    if isinstance(contestant, Ours):
                        contestant.close()
                    warm = contestant.warm(topic, start, count, 10 if self.options.quick else 30)
                    if warm is not None:
                        entry["warm_ms"] = [round(seconds * 1000, 2) for seconds in warm]
                    runs = 3 if self.options.quick else 10
                    cold = [contestant.cold(topic, start, count) for _ in range(runs + 1)][1:]
                    if cold[0] is not None:
                        entry["cold_ms"] = [round(done.seconds * 1000, 2) for done in cold]
                        entry["cold_cpu_ms"] = round(median(d.user + d.system for d in cold) * 1000, 1)
                        entry["cold_peak_mib"] = round(median(d.peak_mib for d in cold), 1)
                except (Failure, OSError, ValueError, KeyError) as error:
                    entry["failed"] = shown(error)
                    contestant.close()
                if entry:
                    part["entries"][contestant.name] = entry
                    warm, cold = median(entry.get("warm_ms", [])), median(entry.get("cold_ms", []))
                    say(f"{name:8} {contestant.name:12} warm {in_ms(warm)}, process {in_ms(cold)} {entry.get('failed', '')}")


def size(case, least: int, most: int, records: float) -> int:
    """How many records a run reads: all if it can read nearly all."""
    if records > most * 0.6:
        return most
    return max(int(records) // case.partitions * case.partitions, least)


def contestants() -> tuple:
    """The available peers, and why the others are missing."""
    folder = Path(os.environ.get("KAFKA_SQL_PEERS") or CACHE / "peers")
    python = folder / "python" / "bin" / "python"
    programs = Path(__file__).resolve().parent.parent / "programs"
    confluent = Confluent([python, programs / "confluent.py"])
    franz = Franz([folder / "franz-go"])
    spark = Spark(python, folder / "spark")
    needed = {"confluent": ["python"], "franz": ["franz"], "spark": ["python", "spark"]}
    peers, missing = [], {}
    for peer in (PerfTest(), Kcat(), Grep(), confluent, franz, spark):
        absent = [part for part in needed.get(peer.name, []) if not (folder / f"{part}.complete").exists()]
        if isinstance(peer, Kcat) and shutil.which("kcat") is None:
            missing[peer.name] = f"{peer.title}: there is no kcat on the path"
        elif absent:
            why = folder / f"{absent[0]}.missing"
            reason = why.read_text().strip() if why.exists() else "scripts/peers was not run"
            missing[peer.name] = f"{peer.title}: {shown(reason)}"
        else:
            peers.append(peer)
    return peers, missing


def in_ms(value) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def shown(error) -> str:
    """One line of an error, without paths of this machine."""
    text = " ".join(str(error).split())
    for place in (str(ROOT), str(CACHE), str(Path.home()), tempfile.gettempdir()):
        text = text.replace(place, "…")
    return text[:300].replace("|", "/")


def say(text: str):
    print(f"race: {text}", flush=True)


if __name__ == "__main__":
    main()

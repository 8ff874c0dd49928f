"""The report: Markdown tables between the markers of docs/benchmarks.md, a chart, and the raw results."""

import datetime
import json
import os
import re
import subprocess
from pathlib import Path

import chart
from cases import QUERIES, main_query
from measure import median

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
SOURCES = Path(__file__).resolve().parent.parent
PEERS = ("perf-test", "kcat", "grep", "confluent", "franz", "spark")


def machine() -> dict:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / (1 << 30)),
        "date": datetime.date.today().isoformat(),
    }


def write(folder: Path, results: dict, text: str):
    page = folder / "benchmarks.md"
    old = page.read_text() if page.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    (folder / "benchmarks.svg").write_text(chart.svg(results))
    (folder / "benchmarks.json").write_text(compact(results))


def added(folder: Path, new: dict) -> dict:
    """The existing results, including topics that were measured separately."""
    results = json.loads((folder / "benchmarks.json").read_text())
    for name, case in new["cases"].items():
        results["cases"][name] = case | {"measured": new["machine"]["date"]}
    for part in ("titles", "does"):
        results[part] |= new[part]
    return results


def compact(results: dict) -> str:
    """JSON with one line per entry."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\n {5,}\s*|\n {4}(?=[}\]])", " ", text) + "\n"


class Entry:
    """The medians over the runs of one contestant."""

    def __init__(self, case: dict, entry: dict):
        samples = entry.get("samples") or []
        self.failed = entry.get("failed") or (None if samples else "no run was finished")
        if self.failed:
            return
        self.rates = [s["records"] / s["seconds"] for s in samples]
        self.rate = median(self.rates)
        self.records = samples[0]["records"]
        self.bytes_rate = self.rate * case["bytes"] / case["records"]
        self.of_drain = median(
            s["records"] / s["seconds"] / s["drain_rate"] for s in samples if s["drain_rate"]
        )
        self.client_ns = median((s["user"] + s["system"]) / s["records"] * 1e9 for s in samples)
        self.kernel_ns = median(s["system"] / s["records"] * 1e9 for s in samples)
        self.broker_ns = median(s["broker"] / s["records"] * 1e9 for s in samples)
        self.peak_mib = max(s["peak_mib"] for s in samples)


def markdown(results: dict) -> str:
    parts = [
        _head(results),
        _ratios(results),
        *(_case(results, case) for case in results["cases"].values() if case["entries"]),
        _short(results),
        _does(results),
        _not_measured(results),
    ]
    return "\n".join(part for part in parts if part)


def _head(results: dict) -> str:
    machine = results["machine"]
    lines = []
    if results["quick"]:
        lines += [
            "> **To be regenerated.** These tables come from a quick run with small topics, on a machine"
            " that was busy with other work: they show what is measured, not how fast anything is.",
            "",
        ]
    foreign = [
        sample["foreign"]
        for case in results["cases"].values()
        for entry in case["entries"].values()
        for sample in entry.get("samples", [])
    ]
    load = ""
    if foreign:
        load = (
            f" Other processes and the kernel's own work took {median(foreign):.2f} processors"
            f" (median; at most {max(foreign):.2f}) while it was measured."
        )
    lines.append(
        f"One run on {machine['date']}, of {results.get('minutes', 0):.0f} minutes, on a machine with"
        f" {machine['cores']} cores, which the broker and its clients share, and"
        f" {machine['memory_gib']} GiB of memory. {versions()}{load}"
    )
    return "\n".join(lines) + "\n"


def versions() -> str:
    """The contestants, with their versions."""
    python = dict(re.findall(r"^([\w-]+)==(\S+)$", (SOURCES / "requirements.txt").read_text(), re.M))
    go = re.search(r"franz-go v(\S+)", (SOURCES / "franz" / "go.mod").read_text())[1]
    try:
        said = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
        found = re.search(r"Version (\S+).*librdkafka (\d[\d.]*)", said)
        kcat = f", kcat {found[1]} (librdkafka {found[2]})" if found else ""
    except OSError:
        kcat = ""
    return (
        f"Apache Kafka 4.1.1 and its kafka-consumer-perf-test{kcat}, confluent-kafka"
        f" {python['confluent-kafka']}, franz-go {go}, Spark {python['pyspark']}."
    )


def _entries(case: dict) -> dict:
    return {key: Entry(case, entry) for key, entry in case["entries"].items()}


def _queries(entries: dict) -> set:
    return {key.partition("/")[2] for key in entries}


def _ratios(results: dict) -> str:
    """What the query with the sum is, measured by the limit and by each peer."""
    titles = results["titles"]
    rows = []
    for case in results["cases"].values():
        entries = _entries(case)
        for client in ("wire", "librdkafka"):
            ours = entries.get(f"{client}/{main_query(_queries(entries))}")
            if ours is None or ours.failed:
                continue
            cells = [case["title"], client, f"{ours.rate / 1e6:.2f}", percent(ours.of_drain)]
            inflate = entries.get("inflate")
            cells.append(percent(ours.rate / inflate.rate) if inflate and not inflate.failed else "")
            for name in PEERS:
                peer = entries.get(name)
                cells.append(f"{ours.rate / peer.rate:.1f}x" if peer and not peer.failed else "–")
            rows.append(cells)
    if not rows:
        return ""
    head = ["topic", "client", "M records/s", "of the drain", "of decompress-only"]
    head += [titles.get(name, name) for name in PEERS]
    sql, group, find = (QUERIES[name].title for name in ("sum", "group", "find"))
    return (
        f"### How many times as fast\n\n`{sql}` of kafka-sql (of the decoded topic: {group}; where a text is looked for: {find}), and what it is of the limits and of each peer"
        f" (times its rate; who is compared was measured minutes apart):\n\n{table(head, rows)}"
    )


def _case(results: dict, case: dict) -> str:
    rows = []
    for key, entry in _entries(case).items():
        name, _, query = key.partition("/")
        title = results["titles"].get(name, f"kafka-sql, {name}")
        if query:
            title += f": {QUERIES[query].title}"
        if entry.failed:
            rows.append([title, f"failed: {entry.failed}", *[""] * 6])
            continue
        low, high = min(entry.rates) / 1e6, max(entry.rates) / 1e6
        rows.append(
            [
                title,
                f"**{entry.rate / 1e6:.2f}** ({low:.2f}–{high:.2f})",
                f"{entry.bytes_rate / 1e6:,.0f}",
                percent(entry.of_drain),
                f"{entry.client_ns:,.0f} ({entry.kernel_ns:,.0f})",
                f"{entry.broker_ns:,.0f}",
                f"{entry.peak_mib:,.0f}",
                f"{entry.records / 1e6:,.2f}",
            ]
        )
    head = ["", "M records/s", "MB/s", "of the drain", "client CPU ns/record (kernel)"]
    head += ["broker CPU ns/record", "peak RSS MiB", "M records read"]
    size = f"{case['records']:,} records, {case['bytes'] / 1e6:,.0f} MB as stored"
    drain = case.get("drain")
    how = ""
    if drain:
        how = f"; the drain has {drain['connections']} connections and fetches {drain['fetch_bytes'] >> 20} MiB a partition"
    if measured := case.get("measured"):
        how += f"; measured by itself on {measured}"
    return f"### {case['title']}\n\n{size}{how}.\n\n{table(head, rows)}"


def _short(results: dict) -> str:
    parts = []
    for part in results["short"].values():
        rows = []
        for name, entry in part["entries"].items():
            title = results["titles"].get(name, f"kafka-sql, {name}")
            if "failed" in entry:
                rows.append([title, f"failed: {entry['failed']}", "", "", ""])
                continue
            warm, cold = median(entry.get("warm_ms", [])), median(entry.get("cold_ms", []))
            rows.append(
                [
                    title,
                    f"**{warm:.1f}** ({min(entry['warm_ms']):.1f}–{max(entry['warm_ms']):.1f})" if warm else "–",
                    f"{cold:.0f}" if cold else "–",
                    f"{entry['cold_cpu_ms']:.0f}" if cold else "–",
                    f"{entry['cold_peak_mib']:.0f}" if cold else "–",
                ]
            )
        head = ["", "warm, ms", "whole process, ms", "its CPU, ms", "its peak RSS, MiB"]
        parts.append(f"### {part['title']}\n\n{table(head, rows)}")
    if not parts:
        return ""
    notes = "".join(
        f"- {results['titles'][name]}: {text}\n"
        for name, text in results["short_does"].items()
        if any(name in part["entries"] for part in results["short"].values())
    )
    spark = results.get("spark_start_seconds")
    if spark:
        notes += f"- Before Spark answers, its session takes {spark} s to start.\n"
    return (
        "\n".join(parts)
        + "\nFrom the topic with 100 B and 4 partitions. *Warm* is the time from the end of one statement to the"
        " end of the next in one session of the shell; *whole process* begins with the start of a new one. The"
        f" median of {len_of(results)} each. kafka-consumer-perf-test reads no piece of a topic.\n\n{notes}"
    )


def len_of(results: dict) -> str:
    return "10 and 3" if results["quick"] else "30 and 10"


def _does(results: dict) -> str:
    lines = [
        f"- **{results['titles'][name]}**: {text}" for name, text in results["does"].items()
    ]
    return "### What each of them does\n\n" + "\n".join(lines) + "\n"


def _not_measured(results: dict) -> str:
    lines = [f"- not measured: {reason}" for reason in results["missing"].values()]
    for name, case in results["cases"].items():
        for key, entry in case["entries"].items():
            if "failed" in entry:
                lines.append(f"- {case['title']}, {key}: failed: {entry['failed']}")
    for part in results["short"].values():
        for name, entry in part["entries"].items():
            if "failed" in entry:
                lines.append(f"- {part['title']}, {name}: failed: {entry['failed']}")
    if not lines:
        return ""
    return "### Not measured\n\n" + "\n".join(lines) + "\n"


def percent(value) -> str:
    if value is None:
        return ""
    return f"{value * 100:.0f} %" if value >= 0.1 else f"{value * 100:.1f} %"


def table(head: list, rows: list) -> str:
    def line(cells: list) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [line(head), "|" + "---|" * len(head), *map(line, rows)]
    return "\n".join(lines) + "\n"

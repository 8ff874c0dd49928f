"""kafka-sql: statements in a warm session of the shell, and whole processes."""

import json
import os
import pty
import queue
import re
import subprocess
import termios
import threading
import time
from pathlib import Path

import cases
from broker import end_with_parent
from measure import Failure, Sample, peak_mib, processor_seconds, run

# What the shell says after a statement: `1 row, 0.512 s`.
_SUMMARY = re.compile(r"^(?:OK|[\d,]+ rows?)\b.*?, (\d+\.\d{3}) s$")
# What it says about the offsets that were read: `4 ranges, 20,000 offsets: 20,000 delivered`.
_LEDGER = re.compile(r"^[\d,]+ ranges?, [\d,]+ offsets?: ")


class Shell:
    """An interactive session of kafka-sql, as on a terminal."""

    def __init__(self, program: Path, bootstrap: str, client: str, folder: Path, *flags):
        self._script = folder / "statement.sql"
        self._lines = queue.SimpleQueue()
        self._rows = queue.SimpleQueue()
        master, terminal = pty.openpty()
        settings = termios.tcgetattr(terminal)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, settings)
        # A plain terminal without a line editor, and a separate history.
        env = os.environ | {"TERM": "dumb", "XDG_DATA_HOME": str(folder)}
        command = [program, "-b", bootstrap, "-X", f"kafka.client={client}", *flags]
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        os.close(terminal)
        self._master = master
        self._followers = [
            self._follow(self._process.stderr, self._lines),
            self._follow(self._process.stdout, self._rows),
        ]
        # It prints how to get help before its first prompt. Later lines belong to the race's statements.
        self._line(time.monotonic() + 30)

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, sql: str, timeout: float = 300) -> tuple:
        """Runs a statement; returns its time as the shell gives it, and its first row."""
        times, _ = self._include(sql + ";\n", 1, timeout)
        return times[0], self._row()

    def execute(self, sql: str, timeout: float = 60):
        """Runs a statement that returns no rows."""
        self._include(sql + ";\n", 1, timeout)

    def repeat(self, sql: str, times: int, timeout: float = 120) -> list:
        """Runs a statement so many times; returns the times between one end and the next."""
        _, ends = self._include((sql + ";\n") * (times + 1), times + 1, timeout)
        return [later - earlier for earlier, later in zip(ends, ends[1:])]

    def close(self):
        os.close(self._master)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for follower in self._followers:
            follower.join()
        self._process.stdout.close()
        self._process.stderr.close()

    def _include(self, text: str, statements: int, timeout: float) -> tuple:
        while not self._rows.empty():
            self._rows.get()
        # A file: lines on a terminal may have 4096 bytes.
        self._script.write_text(text)
        os.write(self._master, f"\\i {self._script}\n".encode())
        times, ends, deadline = [], [], time.monotonic() + timeout
        while len(times) < statements:
            at, line = self._line(deadline)
            if found := _SUMMARY.match(line):
                times.append(float(found[1]))
                ends.append(at)
            elif line and not _LEDGER.match(line):
                raise Failure(line)
        return times, ends

    def _line(self, deadline: float) -> tuple:
        """The next line that the shell says about statements, and when it came."""
        try:
            at, line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise Failure("kafka-sql did not answer in time") from None
        if line is None:
            raise Failure(f"kafka-sql ended with {self._process.wait()}")
        return at, line

    def _row(self) -> dict:
        """The row that was printed before the summary; it may come through its pipe later."""
        while True:
            try:
                _, line = self._rows.get(timeout=5)
            except queue.Empty:
                return {}
            # The prompt precedes the row.
            if line and "{" in line:
                return json.loads(line[line.index("{") :])

    def _follow(self, pipe, lines):
        def follow():
            for line in pipe:
                lines.put((time.perf_counter(), line.decode(errors="replace").rstrip("\r\n")))
            lines.put((time.perf_counter(), None))

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        return follower


class Ours:
    """kafka-sql with one of its clients, answering one query."""

    def __init__(self, program: Path, client: str, folder: Path):
        self.name = client
        self.program = program
        self.folder = folder
        self._shell = None

    def start(self, bootstrap: str):
        self.close()
        self.bootstrap = bootstrap

    def close(self):
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def scan(self, case: cases.Case, query: cases.Query, of: int, records: int) -> Sample:
        """Reads the first `records` of the topic's `of` records."""
        if query.name == "pieces":
            condition, records = cases.pieces(case, of)
            return self._statement(query.sql.format(table=f'"{case.name}"', pieces=condition), records)
        table = f'"{case.name}"'
        if records < of:
            table = f"kafka('{case.name}', ':+{records // case.partitions}')"
        if case.decoded:
            table = self._typed(case, records)
        if query.name == "parquet":
            return self._parquet(query.sql.format(table=table), records)
        return self._statement(query.sql.format(table=table), records)

    def _typed(self, case: cases.Case, records: int) -> str:
        """A table with the columns of the topic's JSON."""
        if self._shell is None:
            self._shell = Shell(self.program, self.bootstrap, self.name, self.folder)
        self._shell.execute("DROP TABLE IF EXISTS typed")
        self._shell.execute(
            f"CREATE EXTERNAL TABLE typed ({cases.JSON_COLUMNS}) STORED AS KAFKA LOCATION '{case.name}'"
            f" OPTIONS ('value.format' 'json', 'range' ':+{records // case.partitions}')"
        )
        return "typed"

    def _statement(self, sql: str, records: int) -> Sample:
        if self._shell is None:
            self._shell = Shell(self.program, self.bootstrap, self.name, self.folder)
        user, system = processor_seconds(self._shell.pid)
        seconds, row = self._shell.run(sql)
        user_after, system_after = processor_seconds(self._shell.pid)
        self.answer = row
        return Sample(
            records,
            max(seconds, 0.001),
            user_after - user,
            system_after - system,
            peak_mib(self._shell.pid),
        )

    def _parquet(self, sql: str, records: int) -> Sample:
        file = self.folder / "rows.parquet"
        done = self._process(sql, "--overwrite", "-o", file)
        file.unlink(missing_ok=True)
        self.answer = {}
        return Sample(records, done.seconds, done.user, done.system, done.peak_mib)

    def _process(self, sql: str, *more):
        connection = ["-b", self.bootstrap, "-X", f"kafka.client={self.name}"]
        return run([self.program, *connection, "query", sql, *more])

    # Short statements.

    def short_sql(self, topic: str, start: int, count: int) -> str:
        if count == 10:
            return f'SELECT * FROM "{topic}" LIMIT 10'
        sums = 'count(*), max("offset"), sum(octet_length(value))'
        return f"SELECT {sums} FROM kafka('{topic}', '0={start}:{start + count}')"

    def warm(self, topic: str, start: int, count: int, times: int) -> list:
        if self._shell is None:
            self._shell = Shell(self.program, self.bootstrap, self.name, self.folder)
        return self._shell.repeat(self.short_sql(topic, start, count), times)

    def cold(self, topic: str, start: int, count: int):
        return self._process(self.short_sql(topic, start, count))

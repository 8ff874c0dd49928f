"""Measures time, processors and memory of the contestants, and of the broker at the same time."""

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from broker import end_with_parent

_TICK = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """A measurement that failed. The race continues."""


@dataclass
class Sample:
    """One run of one contestant. Times in seconds."""

    records: int
    seconds: float
    user: float
    system: float
    peak_mib: float
    # The broker's processor time, and how many processors the rest of the machine used.
    broker: float = 0.0
    foreign: float = 0.0
    # The raw drain's rate, measured just before.
    drain_rate: float | None = None

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    def as_json(self) -> dict:
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass
class Finished:
    """A process that has succeeded."""

    seconds: float
    user: float
    system: float
    peak_mib: float
    out: str
    err: str


def median(values) -> float | None:
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def processor_seconds(pid: int) -> tuple:
    """User and system time of a process, its threads and the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, of_children, system_of_children = (int(field) / _TICK for field in fields[11:15])
    return user + of_children, system + system_of_children


def peak_mib(pid: int) -> float:
    """The most memory that a process had resident; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def busy_seconds() -> float:
    """The processor time that the whole machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / _TICK


class Meter:
    """What the broker and the rest of the machine use during a measurement."""

    def __init__(self, broker_pid: int):
        self._broker_pid = broker_pid

    def __enter__(self):
        self._broker = sum(processor_seconds(self._broker_pid))
        self._busy = busy_seconds()
        self._wall = time.perf_counter()
        return self

    def __exit__(self, *_):
        self._wall = time.perf_counter() - self._wall
        self._broker = sum(processor_seconds(self._broker_pid)) - self._broker
        self._busy = busy_seconds() - self._busy

    def note(self, sample: Sample) -> Sample:
        sample.broker = self._broker
        own = self._broker + sample.user + sample.system
        sample.foreign = max(self._busy - own, 0.0) / self._wall
        return sample


def run(command: list, timeout: float = 600, env: dict | None = None, pipe=None) -> Finished:
    """Runs a process to its end. With a pipe it prints there."""
    command = [str(part) for part in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=pipe or out,
            stderr=err,
            env=env,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        watch = _Watch(process.pid, timeout)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.stop()
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        finished = Finished(
            seconds,
            usage.ru_utime,
            usage.ru_stime,
            watch.peak_mib,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
        )
    if watch.timed_out:
        raise Failure(f"{os.path.basename(command[0])} took more than {timeout:.0f} s")
    if process.returncode != 0:
        said = (finished.err or finished.out).strip()[-500:]
        raise Failure(f"{os.path.basename(command[0])} failed ({process.returncode}): {said}")
    return finished


class _Watch:
    """Looks at a process's memory while it runs and kills it when it takes too long.

    `ru_maxrss` would not do: a child starts with what its parent had.
    """

    def __init__(self, pid: int, timeout: float):
        self._pid = pid
        self._deadline = time.monotonic() + timeout
        self._ended = threading.Event()
        self.peak_mib = 0.0
        self.timed_out = False
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self):
        self._ended.set()
        self._thread.join()

    def _look(self):
        pause = 0.001
        while not self._ended.wait(pause):
            self.peak_mib = max(self.peak_mib, peak_mib(self._pid))
            pause = min(pause * 1.5, 0.02)
            if time.monotonic() > self._deadline and not self.timed_out:
                self.timed_out = True
                try:
                    os.killpg(self._pid, signal.SIGKILL)
                except ProcessLookupError:
                    return

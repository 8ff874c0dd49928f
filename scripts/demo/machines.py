"""The machines of the demo, as processes on this one: brokers in racks, and workers of the shell."""

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches/peers/race"))
from broker import LOG4J, PROPERTIES, end_with_parent, free_ports, output  # noqa: E402

RACKS = ["rack-a", "rack-b", "rack-c"]

# As the last lines, since the last one of a key wins.
CLUSTER = """\
broker.rack={rack}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
"""

# Small, since there are three of them beside three workers.
HEAP = ["-Xms384m", "-Xmx384m", "-XX:+UseSerialGC"]


class Process:
    """A process of the demo, with its log. It ends with the demo, and Ctrl-C in the terminal is not for it."""

    def __init__(self, name: str, command: list, log: Path):
        self.name, self.log = name, log
        with open(log, "ab") as to:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def check(self):
        if self.has_ended():
            end = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} has ended:\n{end}")

    def kill(self):
        self._process.kill()
        self._process.wait()

    def ask_to_end(self):
        if not self.has_ended():
            self._process.terminate()

    def wait(self, timeout_s: float = 20):
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()


class Machines:
    """Three brokers and three workers. `stop` ends them by their own process ids."""

    def __init__(self, folder: Path, libs: Path, kafka_sql: Path):
        self.folder, self._libs, self._kafka_sql = folder, libs, kafka_sql
        self._running: dict[str, Process] = {}
        ports = free_ports(9)
        self._brokers, self._controllers, self._workers = ports[:3], ports[3:6], ports[6:]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self._brokers)
        self.workers = [f"127.0.0.1:{port}" for port in self._workers]
        (folder / "log4j2.properties").write_text(LOG4J)

    def start_brokers(self):
        voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(self._controllers, 1))
        cluster = output(self.java("kafka.tools.StorageTool", "random-uuid")).split()[-1]
        for node in (1, 2, 3):
            properties = PROPERTIES.format(
                node=node,
                quorum=f"controller.quorum.voters={voters}",
                port=self._brokers[node - 1],
                controller=self._controllers[node - 1],
                folder=self.folder / f"broker-{node}",
            )
            file = self.folder / f"broker-{node}.properties"
            file.write_text(properties + CLUSTER.format(rack=RACKS[node - 1]))
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file)]
            output(self.java(*tool))
            command = self.java("kafka.Kafka", str(file), options=HEAP)
            self._start(f"broker-{node}", command)
        # Ready is who answers the shell.
        for port in self._brokers:
            self._until_success(["-b", f"127.0.0.1:{port}", "-X", "request.timeout.ms=2000", "topics"])

    def start_worker(self, number: int):
        """Starts a worker, in the rack of the broker with this number, and waits until it listens."""
        address = self.workers[number]
        name = f"worker-{number + 1}"
        command = [self._kafka_sql, "worker", "--listen", address, "--rack", RACKS[number]]
        # On one machine all hosts are the same; racks are to decide here.
        log = self._start(name, [*command, "--host", name, "--streams", "1"]).log
        self._until(lambda: f"listens on {address}" in log.read_text(), name)

    def kill_worker(self, number: int):
        process = self._running.pop(f"worker-{number + 1}")
        process.kill()
        process.log.unlink()

    def java(self, class_name: str, *arguments, options=("-Xmx256m",)) -> list:
        """The command that runs one of the classes in Kafka's jars."""
        log4j = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        jars = f"{self._libs}/*"
        return ["java", *options, "-XX:-UsePerfData", log4j, "-cp", jars, class_name, *arguments]

    def create_topic(self, topic: str):
        """Six partitions, two led by each broker, each on all three."""
        replicas = "1:2:3,2:3:1,3:1:2,1:3:2,2:1:3,3:2:1"
        create = ["--create", "--topic", topic, "--replica-assignment", replicas]
        tool = "org.apache.kafka.tools.TopicCommand"
        output(self.java(tool, "--bootstrap-server", self.bootstrap, *create))

    def fill_topic(self, topic: str, records: int, lines: list[str]):
        """Produces records, each of them one of `lines`."""
        file = self.folder / "payloads"
        file.write_text("\n".join(lines))
        producer = ["acks=all", "compression.type=lz4", "linger.ms=20", "batch.size=50000"]
        # Partitions are to have about as many records each.
        producer.append("partitioner.adaptive.partitioning.enable=false")
        output(
            self.java(
                "org.apache.kafka.tools.ProducerPerformance",
                *["--topic", topic, "--num-records", str(records), "--throughput", "-1"],
                *["--payload-file", str(file), "--producer-props"],
                *[f"bootstrap.servers={self.bootstrap}", *producer],
            )
        )

    def stop(self):
        """Ends what is running: workers first, so that no broker misses its clients."""
        for process in reversed(self._running.values()):
            process.ask_to_end()
        for process in reversed(self._running.values()):
            process.wait()
        self._running.clear()

    def _start(self, name: str, command: list) -> Process:
        process = Process(name, command, self.folder / f"{name}.log")
        self._running[name] = process
        return process

    def _until_success(self, arguments: list):
        def succeeds() -> bool:
            return subprocess.run([self._kafka_sql, *arguments], capture_output=True).returncode == 0

        self._until(succeeds, " ".join(arguments))

    def _until(self, holds, what: str, limit_s: float = 120):
        deadline = time.monotonic() + limit_s
        while not holds():
            for process in self._running.values():
                process.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {limit_s:.0f} s in vain: {what}")
            time.sleep(0.1)

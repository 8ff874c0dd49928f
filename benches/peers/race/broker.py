"""One Kafka broker (KRaft, both broker and controller) in a temporary folder."""

import ctypes
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
{quorum}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.ms=-1
"""

LOG4J = """\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
"""

# As in production: Java chooses collector and compilers, and there is room on the heap.
HEAP = ["-Xms1g", "-Xmx1g"]


class Broker:
    """A running broker; `stop` ends it and removes its data."""

    def __init__(self, libs: Path, drain: Path, parent: Path | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix="kafka-race-", dir=parent)
        self.folder = Path(self._folder.name)
        self._libs = libs
        self._process = None
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        try:
            quorum = f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}"
            properties = PROPERTIES.format(
                node=1, quorum=quorum, port=port, controller=controller, folder=self.folder
            )
            self._start(properties)
            waited = subprocess.run(
                [drain, "wait", "--bootstrap", self.bootstrap], capture_output=True, text=True
            )
            if waited.returncode != 0:
                raise RuntimeError(f"the broker did not start: {waited.stderr}{self.log()}")
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def java(self, class_name: str, *arguments, options=("-Xmx256m",)) -> list:
        """The command that runs one of the classes in Kafka's jars."""
        log4j = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        jars = f"{self._libs}/*"
        return ["java", *options, "-XX:-UsePerfData", log4j, "-cp", jars, class_name, *arguments]

    def log(self) -> str:
        """The end of the broker's log."""
        log = self.folder / "broker.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def _start(self, properties: str):
        configuration = self.folder / "server.properties"
        configuration.write_text(properties)
        (self.folder / "log4j2.properties").write_text(LOG4J)
        tool = "kafka.tools.StorageTool"
        cluster = output(self.java(tool, "random-uuid")).strip().splitlines()[-1]
        output(self.java(tool, "format", "--standalone", "-t", cluster, "-c", str(configuration)))
        with open(self.folder / "broker.log", "wb") as log:
            self._process = subprocess.Popen(
                self.java("kafka.Kafka", str(configuration), options=HEAP),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is meant for the race, which then stops the broker itself.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )


def end_with_parent():
    """Asks the kernel to kill this process when the race is killed (Linux's PR_SET_PDEATHSIG)."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass  # Elsewhere a killed race leaves its broker behind.


def output(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[-4:]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def free_ports(count: int) -> list:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports

"""Training jobs and Ray clusters as processes of their own, and a way to harm them."""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.patience import PATIENCE_S, wait_until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SMALL = [
    "--widths", "4", "4", "8", "8", "--validation-size", "100", "--global-batch-size", "48", "--deterministic",
    "--precision", "float32", "--min-accuracy", "0.1", "--checkpoint-every-steps", "7",
]  # fmt: skip
# Ray puts its workers behind everything else on the machine; a test that waits for them must not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0", "PYTHONUNBUFFERED": "1"}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}  # what opens the clusters below


class Job:
    """A running `python -m train`; what it printed goes to a file."""

    def __init__(self, folder, *arguments, command=(sys.executable, "-m", "train"), environment=ENVIRONMENT):
        self.log = folder / f"log-{time.monotonic_ns()}.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *map(str, arguments)],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def output(self):
        return self.log.read_text()

    def wait(self, timeout=PATIENCE_S):
        """The exit status and all that was printed."""
        try:
            return self.process.wait(timeout), self.output()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not done after {timeout} s: {self.output()}") from None

    def wait_for(self, pattern):
        wait_until(lambda: re.search(pattern, self.output()) or self.process.poll() is not None, self.output)
        assert re.search(pattern, self.output()), self.output()

    def kill(self):
        """SIGKILL to the driver and, since nobody else will, to the Ray processes that it started."""
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.process.wait()

    def train_workers(self):
        """Ray's training workers below the driver's own Ray, by process id."""
        return find_train_workers(psutil.Process(self.process.pid))


def find_train_workers(parent):
    found = []
    for process in parent.children(recursive=True):
        try:
            if any("RayTrainWorker" in word for word in process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.pid)


def checkpoint_steps(run):
    """The steps whose checkpoints are whole, in the folder of a run."""
    return sorted(int(path.parent.name.removeprefix("step_")) for path in run.glob("checkpoints/*/checkpoint.json"))


class Cluster:
    """`ray start --head`, and further nodes, in an interpreter that has Ray and TensorFlow but not Inkling."""

    def __init__(self, folder):
        self.folder, self.nodes = folder, []
        # Not in the test's folder: Ray's sockets lie 70 characters deeper, and may have 107 in all.
        self.temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self.address, self.dashboard = f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.client_address = f"ray://127.0.0.1:{free_port()}"
        self.agent = f"http://127.0.0.1:{free_port()}"  # of the head's node, which KubeRay probes

    def start(self, num_cpus=2):
        host, port = self.address.split(":")
        head = ["--head", "--port", port, "--node-ip-address", host, "--temp-dir", self.temporary.name]
        head += ["--include-dashboard", "true", "--dashboard-port", self.dashboard.rpartition(":")[2]]
        # By default one that other Rays of this machine take as well; jobs are submitted through it.
        head += ["--dashboard-agent-listen-port", self.agent.rpartition(":")[2]]
        self.add(*head, "--ray-client-server-port", self.client_address.rpartition(":")[2], num_cpus=num_cpus)
        wait_until(lambda: "Ray runtime started" in self.nodes[0].output(), self.nodes[0].output)

    def add(self, *arguments, num_cpus=1):
        arguments = arguments or ("--address", self.address)
        start = ["start", "--block", *arguments, "--num-cpus", str(num_cpus), "--disable-usage-stats"]
        command = [sys._base_executable, "-c", "from ray.scripts.scripts import main; main()"]
        self.nodes.append(Job(self.folder, *start, command=command, environment=bare_environment()))

    def join(self, *, num_cpus):
        """Add a node and wait until it has joined; Ray gives up a start that takes too long on a busy machine."""

        def joined():
            node = self.nodes[-1]
            if node.process.poll() is not None:
                self.add(num_cpus=num_cpus)
            return "Ray runtime started" in node.output()

        self.add(num_cpus=num_cpus)
        wait_until(joined, lambda: self.nodes[-1].output())

    def requested(self):
        """What an autoscaler of this cluster is asked for: the resources of each place for a worker."""
        script = (
            "import sys; from ray._raylet import GcsClient;"
            "print((GcsClient(sys.argv[1]).internal_kv_get(b'autoscaler_resource_request') or b'[]').decode())"
        )
        command = [sys._base_executable, "-c", script, self.address]
        done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return [entry.get("resources", entry) for entry in json.loads(done.stdout)]

    def train_workers(self):
        return [worker for node in self.nodes for worker in node.train_workers()]

    def stop(self):
        for node in reversed(self.nodes):
            node.kill()
        self.temporary.cleanup()


def bare_environment():
    """The packages of this environment without its editable install: `import train` fails there."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return {
        **os.environ,
        "PYTHONPATH": packages,
        "PATH": f"{Path(sys._base_executable).parent}:{os.environ['PATH']}",
        "RAY_worker_niceness": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(PATIENCE_S),  # on SIGTERM, for a node to be left
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **TOKEN,
    }


@contextmanager
def cluster(folder, num_cpus=2):
    started = Cluster(folder)
    try:
        started.start(num_cpus)
        yield started
    finally:
        started.stop()

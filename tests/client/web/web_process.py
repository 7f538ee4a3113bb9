"""The web page in a process of its own, for tests that meet it as a browser does."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.patience import PATIENCE_S, POLL_S
from tests.ports import free_port

ROOT = Path(__file__).parents[3]


class WebProcess:
    """`python -m client web` with `flags` on a free port, from `with` to the end of its block."""

    def __init__(self, *flags, port=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "client", "web", "--port", str(self.port), *flags]
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115

    def __enter__(self):
        self.process = self._start()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=10):
                    return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(POLL_S)
        log = Path(self._log.name).read_text()
        self.__exit__()
        raise AssertionError(f"the page did not start: {log}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)
        self._log.close()

    def run_to_the_end(self):
        """Exit status and what was logged, of a start that is to fail."""
        with self._log:
            code = self._start().wait(PATIENCE_S)
            return code, Path(self._log.name).read_text()

    def _start(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(self._command, env=environment, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT)

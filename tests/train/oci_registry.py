"""A real OCI registry: the reference implementation, `distribution`, on a port of this machine.

The binary is the one on the PATH (Debian's package is docker-registry), or built once by Go from its module proxy and
kept in the user's cache.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.patience import wait_until
from tests.ports import free_port

MODULE, VERSION = "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"
NAMES = ("docker-registry", "registry")


def binary() -> str:
    """The path of the registry's binary; skips the test where there is none and none can be built."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "inkling-tests", f"registry-{VERSION}")
    if not (cache / "registry").exists():
        _build(cache)
    return str(cache / "registry")


def _build(folder: Path) -> None:
    if not shutil.which("go"):
        pytest.skip(f"no registry to push to: neither {' nor '.join(NAMES)} is installed, nor Go to build one")
    environment = {**os.environ, "GOBIN": str(folder)}
    done = subprocess.run(["go", "install", f"{MODULE}@{VERSION}"], capture_output=True, text=True, env=environment)
    if done.returncode:
        pytest.skip(f"no registry to push to: Go could not build one: {done.stderr.strip().splitlines()[-1]}")


@dataclass(frozen=True)
class RunningRegistry:
    """A registry that answers."""

    host: str
    log: Path


@contextlib.contextmanager
def running(folder: Path, *, auth: dict[str, Any] | None = None, tls: tuple[bytes, bytes] | None = None) -> Iterator:
    """Start a registry and stop it at the end; yields a RunningRegistry.

    Args:
        folder: an empty one, for what it keeps.
        auth: the section of its configuration.
        tls: key and certificate in PEM, for localhost.
    """
    port = free_port()
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "of a test", "relativeurls": True}
    if tls:
        (folder / "tls.key").write_bytes(tls[0])
        (folder / "tls.crt").write_bytes(tls[1])
        http["tls"] = {"key": str(folder / "tls.key"), "certificate": str(folder / "tls.crt")}
    config = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": http,
    } | ({"auth": auth} if auth else {})
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary(), "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port) or process.poll() is not None, (folder / "log").read_text)
        assert process.poll() is None, (folder / "log").read_text()
        yield RunningRegistry(f"localhost:{port}", folder / "log")
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
    except urllib.error.HTTPError:
        return True  # as one with TLS does, told that this has none
    except OSError:
        return False
    return True


def htpasswd(folder: Path) -> dict[str, Any]:
    """The configuration in which somebody named `trainer` may push, with the password `secret`."""
    path = folder / "htpasswd"
    path.write_text("trainer:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    return {"htpasswd": {"realm": "Registry Realm", "path": str(path)}}


@contextlib.contextmanager
def cut_once(host: str, *, after_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """A way to a registry that breaks off the first connection by which that many bytes went there.

    Yields (its address, a list in which that connection's bytes are once it is broken).
    """
    broken: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket, *, is_request: bool) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                sent += len(chunk)
                if is_request and sent > after_bytes and not broken:
                    broken.append(sent)
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])))
                sockets.extend((client, server))
                for ends, is_request in (((client, server), True), ((server, client), False)):
                    threads.append(threading.Thread(target=pump, args=ends, kwargs={"is_request": is_request}))
                    threads[-1].start()

    accepting = threading.Thread(target=serve)
    accepting.start()
    try:
        yield f"localhost:{listener.getsockname()[1]}", broken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in (listener, *sockets):
            end.close()

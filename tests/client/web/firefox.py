"""Debian's Firefox without a window, by Marionette, its own remote control: JSON over a socket, without a driver."""

import itertools
import json
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.patience import PATIENCE_S, wait_until
from tests.ports import free_port

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # https://www.w3.org/TR/webdriver2/#elements


class Firefox:
    """One window at a page, from `with` to the end of its block."""

    def __init__(self, url, *, width=1180, height=900):
        self._url = url
        self._size = width, height
        self._numbers = itertools.count()
        self._stream = None

    def __enter__(self):
        self._profile = tempfile.TemporaryDirectory()
        port = free_port()
        Path(self._profile.name, "user.js").write_text(f'user_pref("marionette.port", {port});\n')
        size = [f"--width={self._size[0]}", f"--height={self._size[1]}"]
        self._process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", self._profile.name, *size],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: self._connect(port))
            self._receive()  # who it is
            self.ask("WebDriver:NewSession", capabilities={})
            self.ask("WebDriver:Navigate", url=self._url)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._stream:
            self._stream.close()
            self._socket.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._profile.cleanup()

    def ask(self, command, **parameters):
        """A command's answer."""
        message = json.dumps([0, next(self._numbers), command, parameters])
        self._socket.sendall(f"{len(message)}:{message}".encode())
        _, _, error, result = self._receive()
        assert error is None, error
        return result

    def run(self, script, *arguments):
        """What a function body in JavaScript returns."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=list(arguments))["value"]

    def find(self, selector):
        return self.ask("WebDriver:FindElement", using="css selector", value=selector)["value"]

    def click(self, selector):
        self.ask("WebDriver:ElementClick", id=self.find(selector)[ELEMENT])

    def type(self, selector, text):
        self.ask("WebDriver:ElementSendKeys", id=self.find(selector)[ELEMENT], text=text)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def draw(self, stroke):
        """A stroke of a mouse through points of the window."""
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0} for x, y in stroke]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        self.ask("WebDriver:PerformActions", actions=[{"type": "pointer", "id": "mouse", "actions": actions}])

    def _connect(self, port):
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        except ConnectionError:
            assert self._process.poll() is None, "Firefox ended"
            return False
        self._stream = self._socket.makefile("rb")
        return True

    def _receive(self):
        length = b""
        while (byte := self._stream.read(1)) != b":":
            assert byte, "Firefox has closed the connection"
            length += byte
        return json.loads(self._stream.read(int(length)))

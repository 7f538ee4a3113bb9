"""The file of --model_config_file: read at the start, then polled, if the server is to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..errors import ServingError
from . import files

logger = logging.getLogger(__name__)

Apply = Callable[[ModelServerConfig], Awaitable[None]]


class ModelConfigFile:
    """The file and what of it is in effect."""

    def __init__(self, path: str) -> None:
        """Read the file.

        Raises: ServingError.
        """
        text = files.read_text(path)
        self.models = files.parse_models(text, path)  # what it said at the start
        self._path = path
        self._applied: str | None = text
        self._refused: tuple[str | None, str] | None = None

    async def poll_forever(self, apply: Apply, interval_s: float) -> None:
        """Poll the file every `interval_s` seconds."""
        while True:
            await asyncio.sleep(interval_s)
            await self.poll_once(apply)

    async def poll_once(self, apply: Apply) -> None:
        """Have the file's models applied unless they are; what fails is tried again each time, and logged once."""
        text = None
        try:
            text = await asyncio.to_thread(files.read_text, self._path)
            if text != self._applied:
                models = files.parse_models(text, self._path)
                self._applied = None  # half of it may be in effect if it fails
                await apply(models)
                self._applied = text
                logger.info("applied the changed %s", self._path)
        except ServingError as error:
            refused = (text, str(error))
            if refused != self._refused:
                logger.error("%s is not applied: %s", self._path, error)
            self._refused = refused
        else:
            self._refused = None

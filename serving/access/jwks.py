"""An issuer's keys at a URL, asked for anew from time to time, and when a token names one that is not there yet."""

import asyncio
import http.client
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from ..errors import invalid_argument

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
RETRY_S = 10.0  # between two requests, whatever tokens name
TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")
Keys = TypeVar("Keys", bound=Mapping[str, Any])


def is_url(text: str) -> bool:
    """Whether `text` is no path."""
    return "://" in text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from the place that was named."""

    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        return None


class RemoteKeys(Generic[Keys]):
    """What is made of the document at a URL; `value` is what it was when it could last be read."""

    def __init__(self, url: str, parse: Callable[[str], Keys], empty: Keys) -> None:
        """Keys that were not asked for yet.

        Args:
            url: https, or http on this machine.
            parse: makes keys of the document; raises ValueError.
            empty: what `value` is until then.

        Raises: ServingError INVALID_ARGUMENT for another kind of URL.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme, parts.hostname in LOOPBACK) != ("http", True):
            raise invalid_argument(f"{url} is not usable for keys: expected a file or an https URL")
        self.value = empty
        self._url = url
        self._parse = parse
        self._asked = -REFRESH_S
        self._asking: asyncio.Task[None] | None = None
        self._complaint = ""

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked >= (REFRESH_S if self.value else RETRY_S)

    async def refresh(self) -> None:
        """Ask, together with whoever asks already; not more often than every RETRY_S."""
        if self._asking is None or self._asking.done():
            if time.monotonic() - self._asked < RETRY_S:
                return
            self._asked = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            self.value = self._parse(await asyncio.to_thread(self._fetch))
            self._complaint = ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            complaint = f"{self._url} gives no keys: {error}"
            if complaint != self._complaint:
                logger.error("%s; those that are known still count", complaint)
            self._complaint = complaint

    def _fetch(self) -> str:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(self._url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has over {MAX_BYTES} bytes")
        return content.decode()

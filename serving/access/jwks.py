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
RETRY_S = 10.0
TIMEOUT_S = 5.0  # for an answer to begin, and for its end
MAX_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
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

    def __init__(
        self,
        url: str,
        parse: Callable[[str], Keys],
        empty: Keys,
        *,
        retry_s: float = RETRY_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Keys that were not asked for yet.

        Args:
            url: https, or http on this machine.
            parse: makes keys of the document; raises ValueError.
            empty: what `value` is until then.
            retry_s: between two requests, whatever tokens name.
            timeout_s: for an answer to begin, and for its end.

        Raises: ServingError INVALID_ARGUMENT for another kind of URL.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme, parts.hostname in LOOPBACK) != ("http", True):
            raise invalid_argument(f"{url} is not usable for keys: expected a file or an https URL")
        self.value = empty
        self._url = url
        self._parse = parse
        self._retry_s = retry_s
        self._timeout_s = timeout_s
        self._asked = -REFRESH_S
        self._asking: asyncio.Task[None] | None = None
        self._complaint = ""

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked >= (REFRESH_S if self.value else self._retry_s)

    async def refresh(self) -> None:
        """Ask, together with whoever asks already; not more often than every `retry_s`."""
        if self._asking is None or self._asking.done():
            if time.monotonic() - self._asked < self._retry_s:
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
        content = bytearray()
        with opener.open(self._url, timeout=self._timeout_s) as response:
            end = time.monotonic() + self._timeout_s
            while chunk := response.read1(CHUNK_BYTES):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ValueError(f"it has over {MAX_BYTES} bytes")
                if time.monotonic() > end:  # it comes byte by byte, which would take a thread for ever
                    raise TimeoutError(f"it takes over {self._timeout_s:g} s")
        return content.decode()

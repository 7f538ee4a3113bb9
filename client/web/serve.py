"""Runs the page's server until it is interrupted; `commands.web` is the command for it."""

import socket

import uvicorn

from ..aio import AsyncClient
from .app import WebConfig, make_app
from .connections import MAX_CONNECTIONS, BoundedConnection


def serve(client: AsyncClient, *, host: str, port: int) -> int:
    """Serve the page until it is interrupted.

    Returns: the exit status: 0, or 1 if the address cannot be bound.
    """
    config = WebConfig(host=host, port=port)
    model, server_address = client.settings.model, client.settings.server
    server = _Server(
        f"Inkling is at {config.url} (model {model} on {server_address}); stop it with Ctrl+C",
        uvicorn.Config(
            make_app(client, config),
            host=host,
            port=port,
            log_level="warning",
            ws="none",
            http=BoundedConnection,
            backlog=MAX_CONNECTIONS,
            server_header=False,
            timeout_graceful_shutdown=5,
        ),
    )
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # uvicorn has logged why it cannot listen
        return 1
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Prints where it is once it is there."""

    def __init__(self, words: str, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._words, flush=True)

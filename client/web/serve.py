"""Runs the page's server until it is interrupted; `commands.web` is the command for it."""

import uvicorn

from ..aio import AsyncClient
from .app import make_app
from .config import WebConfig


def serve(client: AsyncClient, *, host: str, port: int) -> int:
    """Returns the exit status: 0, or 1 if the address is not to be had."""
    config = WebConfig(host=host, port=port)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(client, config),
            host=host,
            port=port,
            log_level="warning",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    print(f"Inkling is at {config.url} (model {client.model} on {client.server}); stop it with Ctrl+C", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # uvicorn has logged why it cannot listen
        return 1
    return 0 if server.started else 1

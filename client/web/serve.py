"""Runs the page's server until it is interrupted; `commands.web` is the command for it."""

import uvicorn

from ..aio import AsyncClient
from .app import WebConfig, make_app
from .connections import MAX_CONNECTIONS, BoundedConnection


def serve(client: AsyncClient, *, host: str, port: int) -> int:
    """Serve the page until it is interrupted.

    Returns: the exit status: 0, or 1 if the address cannot be bound.
    """
    config = WebConfig(host=host, port=port)
    server = uvicorn.Server(
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
        )
    )
    model, server_address = client.settings.model, client.settings.server
    print(f"Inkling is at {config.url} (model {model} on {server_address}); stop it with Ctrl+C", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # uvicorn has logged why it cannot listen
        return 1
    return 0 if server.started else 1

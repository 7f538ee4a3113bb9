"""`python -m client web`: serves the page on this machine, in front of a model server."""

import argparse
import os
import sys
from collections.abc import Sequence

from client.settings import TLS
from client.web.config import WebConfig

DESCRIPTION = """Serve a page to draw numbers on, which are read as they are drawn.

The page talks to the model server by gRPC; the browser needs nothing but this address."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns 0, 1 if the address is not to be had, or 2 on wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        import cv2  # noqa: F401 - found missing now rather than at the first drawing
        import uvicorn

        from client.web.app import make_app
    except ImportError as error:
        print(f"inkling web: {error.name} is not installed; pip install 'inkling[web]'", file=sys.stderr)
        return 2
    config = WebConfig(
        server=options.server,
        model=options.model,
        host=options.host,
        port=options.port,
        timeout_s=options.timeout,
        tls=TLS(ca=options.ca or None) if options.tls or options.ca else None,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(config),
            host=config.host,
            port=config.port,
            log_level="warning",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    print(f"Inkling is at {config.url} (model {config.model} on {config.server}); stop it with Ctrl+C", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # uvicorn has logged why it cannot listen
        return 1
    return 0 if server.started else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inkling web", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server",
        default=os.environ.get("INKLING_SERVER", "localhost:8500"),
        help="the model server's gRPC address; INKLING_SERVER, or localhost:8500",
    )
    parser.add_argument("--model", default="mnist", help="the model to ask (mnist)")
    parser.add_argument("--host", default="127.0.0.1", help="listen here; 0.0.0.0 for other machines too (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8600, help="(8600)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="for an answer of the server (5)")
    parser.add_argument("--tls", action="store_true", help="speak TLS with the model server")
    parser.add_argument("--ca", default="", metavar="FILE", help="authorities to trust for that, PEM; implies --tls")
    return parser

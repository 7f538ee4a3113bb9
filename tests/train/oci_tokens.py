"""A token server as registries send their callers to: a token for the scope that was asked for, and no other."""

import base64
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.client.certificates import Authority

SERVICE, ISSUER = "registry of a test", "token server of a test"
CREDENTIALS = base64.b64encode(b"trainer:secret").decode()


def _part(value) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Tokens:
    """Signs tokens, and keeps the scopes that were asked for."""

    def __init__(self):
        self._authority = Authority()
        self.scopes: list[str] = []

    def token(self, scope: str) -> str:
        """A JSON web token for a scope such as `repository:models/mnist:pull,push`."""
        self.scopes.append(scope)
        der = self._authority.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        now, access = int(time.time()), []
        if scope:
            kind, name, actions = scope.split(":")
            access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        claims = {"iss": ISSUER, "sub": "trainer", "aud": SERVICE, "jti": uuid.uuid4().hex, "access": access}
        claims |= {"iat": now - 60, "nbf": now - 60, "exp": now + 600}
        signed = f"{_part(header)}.{_part(claims)}"
        r, s = decode_dss_signature(self._authority.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[dict]:
        """Answer while the context lasts; yields the registry's configuration."""
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.headers.get("Authorization") != f"Basic {CREDENTIALS}":
                    self.send_error(401)
                    return
                scope = parse_qs(urlparse(self.path).query).get("scope", [""])[0]
                content = json.dumps({"token": tokens.token(scope)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        bundle = folder / "authority.pem"
        bundle.write_bytes(self._authority.certificate.public_bytes(serialization.Encoding.PEM))
        realm = f"http://127.0.0.1:{server.server_port}/token"
        try:
            yield {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}}
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

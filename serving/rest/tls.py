"""Certificates for the REST API, from the same kind of file as gRPC's."""

import os
import ssl
import tempfile

from ..config.files import TlsConfig
from ..errors import invalid_argument


def ssl_context(tls: TlsConfig) -> ssl.SSLContext:
    """What a port needs to speak TLS 1.2 or later with these certificates.

    Raises: ServingError INVALID_ARGUMENT if they are not usable.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load(context, tls)
        if tls.client_verify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=tls.custom_ca.decode())
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise invalid_argument(
            f"The certificates of --rest_ssl_config_file are not usable: {error}; expected PEM texts, of which "
            f"server_key is that of server_cert"
        ) from error
    return context


def _load(context: ssl.SSLContext, tls: TlsConfig) -> None:
    # OpenSSL takes a chain and its key from a file only: one that nobody else can read, for a moment.
    file, path = tempfile.mkstemp(prefix="inkling-tls-")
    try:
        with os.fdopen(file, "wb") as pem:
            pem.write(tls.server_key + b"\n" + tls.server_cert)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)

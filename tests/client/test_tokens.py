"""Bearer tokens: when they are sent, and that they are never shown."""

import grpc
import numpy as np
import pytest

from inkling.client import TLS, AccessDenied, AsyncClient, Client, InvalidInput
from tests.client.both import IMAGES, call
from tests.client.certificates import secure_server
from tests.client.stub_server import StubServer, failing


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_goes_with_every_call_and_is_asked_for_anew(authority, kind):
    tokens = iter(["first", "second", "third"])
    with secure_server(authority, "127.0.0.1") as server:
        settings = {"tls": TLS(ca=authority.pem()), "token": lambda: next(tokens)}
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        seen = [dict(context.invocation_metadata())["authorization"] for context in server.contexts]
    assert seen == ["Bearer first", "Bearer second"]


def test_a_token_crosses_plaintext_only_when_told():
    with StubServer() as server, Client(server.address, token="secret", token_over_plaintext=True) as client:
        client.predict(IMAGES)
        assert dict(server.contexts[0].invocation_metadata())["authorization"] == "Bearer secret"
        assert "secret" not in repr(client)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_from_a_file_may_end_with_a_newline(kind):
    for token in ("secret\n", lambda: "secret\n"):
        with StubServer() as server:
            call(kind, server.address, lambda client: client.predict(IMAGES), token=token, token_over_plaintext=True)
            assert dict(server.contexts[0].invocation_metadata())["authorization"] == "Bearer secret"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["a\nsecret", "gehe\u00edm secret", " "], ids=["two lines", "not ASCII", "empty"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(kind, token):
    for given in (token, lambda: token):
        with StubServer() as server, pytest.raises(InvalidInput, match="the token is empty, or not print") as caught:
            call(kind, server.address, lambda client: client.predict(IMAGES), token=given, token_over_plaintext=True)
        assert "secret" not in str(caught.value) and not server.requests


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_a_function_for_tokens_raises_reaches_the_caller(kind):
    def token():
        raise ValueError("the vault is locked")

    for rows in (1, 4):
        images = np.zeros((rows, 28, 28), np.uint8)
        settings = {"token": token, "token_over_plaintext": True, "max_rows": 1}
        with StubServer() as server, pytest.raises(ValueError, match="^the vault is locked$"):
            call(kind, server.address, lambda client, images=images: client.predict(images), **settings)


def test_a_refused_token_is_access_denied():
    refusal = failing((grpc.StatusCode.UNAUTHENTICATED, "expired"))
    with (
        StubServer(Predict=refusal) as server,
        Client(server.address) as client,
        pytest.raises(AccessDenied, match="expired.*give a valid token= or api_key="),
    ):
        client.predict(IMAGES)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_api_key_goes_with_every_call_beside_a_token(authority, kind):
    keys = iter(["first\n", "second"])
    with secure_server(authority, "127.0.0.1") as server:
        settings = {"tls": TLS(ca=authority.pem()), "token": "proxy", "api_key": lambda: next(keys)}
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
        seen = [dict(context.invocation_metadata()) for context in server.contexts]
    assert [(each["authorization"], each["x-api-key"]) for each in seen] == [
        ("Bearer proxy", "first"),
        ("Bearer proxy", "second"),
    ]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_api_key_crosses_plaintext_only_when_told_and_is_never_shown(kind):
    with pytest.raises(InvalidInput, match="an API key was given, but no tls"):
        kind("localhost:8500", api_key="secret")
    with pytest.raises(InvalidInput, match="the API key is empty, or not printable") as caught:
        kind("localhost:8500", api_key="geheim\u00edsecret", token_over_plaintext=True)
    client = kind("localhost:8500", api_key="secret", token_over_plaintext=True)
    assert "secret" not in f"{client!r} {client.settings!r} {caught.value}"

"""From gRPC's statuses, and the words beside them, to the errors of the client."""

import grpc
import pytest

from inkling.client import (
    AsyncClient,
    Client,
    InvalidInput,
    MessageTooLarge,
    ModelNotFound,
    ServerError,
    ServerOverloaded,
    SignatureNotFound,
    VersionNotFound,
)
from tests.client.both import FAST, IMAGES, SIX_IMAGES, UNAVAILABLE, call
from tests.client.stub_server import StubServer, failing

CODES = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "words", "kind", "hint"),
    [
        (CODES.NOT_FOUND, "Servable not found for request: Latest(mnist)", ModelNotFound, "--model_name"),
        (CODES.NOT_FOUND, "Servable not found for request: Specific(mnist, 7)", VersionNotFound, "inkling status"),
        (CODES.INVALID_ARGUMENT, "Unrecognized servable version label: x", VersionNotFound, "version_labels"),
        (CODES.FAILED_PRECONDITION, 'Serving signature key "x" not found.', SignatureNotFound, "inkling metadata"),
        (CODES.INVALID_ARGUMENT, "input size does not match signature: 0!=1", InvalidInput, "inkling metadata"),
        (CODES.INTERNAL, "kernel\nfailed", ServerError, "server's log"),
        (CODES.UNKNOWN, "", ServerError, "server's log"),
    ],
)
def test_a_status_becomes_an_error_of_the_tree(start, make_client, code, words, kind, hint):
    server = start(Predict=failing((code, words)))
    with pytest.raises(kind) as caught:
        make_client(server).predict(SIX_IMAGES)
    error = caught.value
    assert type(error) is kind and error.status is code and hint in error.hint
    assert error.details == " ".join(words.split()) or "no details from" in error.details
    assert str(error).startswith(f"model mnist at {server.address}: ") and "\n" not in str(error)
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("settings", "options", "side", "message"),
    [
        ({"max_message_bytes": 1000}, (), "client", "this client refused the request: raise max_message_bytes"),
        (
            {},
            (("grpc.max_receive_message_length", 1000),),
            "server",
            "the server refused the request: send smaller batches",
        ),
        ({}, (("grpc.max_send_message_length", 60),), "server", "the server refused the response"),
    ],
    ids=["own limit on requests", "server's on requests", "server's on responses"],
)
def test_a_size_limit_says_whose_it_is(kind, settings, options, side, message):
    with StubServer(options=options) as server, pytest.raises(MessageTooLarge, match=message) as caught:
        call(kind, server.address, lambda client: client.predict(IMAGES), **settings)
    assert caught.value.side == side


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_response_over_the_clients_limit_is_refused_by_the_client(kind):
    with StubServer() as server, pytest.raises(MessageTooLarge, match="this client refused the response") as caught:
        call(kind, server.address, lambda client: client.predict(IMAGES[:, :1, :1]), max_message_bytes=120)
    assert caught.value.side == "client"


def test_a_full_queue_is_told_from_an_absent_server():
    words = "The batch scheduling queue to which this task was submitted is full; currently 10 batches enqueued"
    with (
        StubServer(Predict=failing(*[(UNAVAILABLE, words)] * 9)) as server,
        Client(server.address, retry=FAST) as client,
        pytest.raises(ServerOverloaded, match="send fewer calls at once"),
    ):
        client.predict(IMAGES)

"""Interceptors that a user gives."""

import grpc
import numpy as np
import pytest

from inkling.client import AsyncClient, Client, InvalidInput
from tests.client.both import IMAGES, call
from tests.client.interceptors import AsyncStamp, Stamp
from tests.client.stub_server import StubServer, failing


@pytest.mark.parametrize(("kind", "interceptor"), [(Client, Stamp()), (AsyncClient, AsyncStamp())])
def test_interceptors_see_messages(kind, interceptor):
    with StubServer() as server:
        call(kind, server.address, lambda client: client.predict(IMAGES), interceptors=[interceptor])
        call(
            kind,
            server.address,
            lambda client: client.predict(np.zeros((9, 28, 28), np.uint8)),
            max_rows=3,
            interceptors=[interceptor],
        )
    assert {request.model_spec.signature_name for request in server.requests} == {"stamped"}
    with pytest.raises(InvalidInput, match="interceptors: .* takes grpc"):
        call(kind, server.address, lambda client: client.predict(IMAGES), interceptors=[object()])


def test_interceptors_do_not_hide_errors():
    with (
        StubServer(Predict=failing((grpc.StatusCode.INTERNAL, "inside"))) as server,
        pytest.raises(Exception, match="inside"),
    ):
        call(Client, server.address, lambda client: client.predict(IMAGES), interceptors=[Stamp()])

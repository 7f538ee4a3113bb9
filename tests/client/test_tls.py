"""TLS: authorities, names, and the client's own certificate."""

import numpy as np
import pytest

from inkling.client import TLS, AsyncClient, Client, InvalidInput, Retry, ServerUnavailable
from tests.client.both import IMAGES, call
from tests.client.certificates import Authority, secure_server


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_tls_trusts_the_authority_it_is_given(authority, tmp_path, kind):
    (tmp_path / "ca.pem").write_bytes(authority.pem())
    with secure_server(authority, "127.0.0.1") as server:
        for ca in (authority.pem(), tmp_path / "ca.pem", str(tmp_path / "ca.pem")):
            assert len(call(kind, server.address, lambda client: client.predict(IMAGES), tls=TLS(ca=ca))) == 2


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("name", ["", "inkling.example"], ids=["the first one's", "given"])
def test_tls_holds_all_servers_of_a_list_to_one_name(authority, kind, name):
    with (
        secure_server(authority, name or "127.0.0.1") as first,
        secure_server(authority, name or "127.0.0.1") as second,
    ):
        addresses = [first.address, second.address]
        tls = TLS(ca=authority.pem(), server_name=name)

        def ask(client):
            return client.predict(np.zeros((200, 28, 28), np.uint8))

        assert len(call(kind, addresses, ask, tls=tls, max_rows=1, wait_for_ready=True)) == 200
        assert len(call(kind, addresses[::-1], ask, tls=tls, max_rows=1, wait_for_ready=True)) == 200
        assert first.requests and second.requests


def test_tls_refuses_a_stranger(authority):
    with (
        secure_server(Authority(), "127.0.0.1") as server,
        Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
        pytest.raises(ServerUnavailable, match="certificate for this name and from an authority"),
    ):
        client.predict(IMAGES)


def test_tls_refuses_another_name_unless_told(authority):
    with secure_server(authority, "inkling.example") as server:
        with (
            Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.predict(IMAGES)
        with Client(server.address, tls=TLS(ca=authority.pem(), server_name="inkling.example")) as client:
            assert len(client.predict(IMAGES)) == 2


def test_mutual_tls_shows_the_clients_certificate(authority):
    key, certificate = authority.issue("client.example")
    with secure_server(authority, "127.0.0.1", mutual=True) as server:
        with Client(server.address, tls=TLS(ca=authority.pem(), key=key, certificate=certificate)) as client:
            assert len(client.predict(IMAGES)) == 2
            assert server.contexts[0].auth_context()["x509_common_name"] == [b"client.example"]
        with (
            Client(server.address, tls=TLS(ca=authority.pem()), retry=Retry(attempts=1)) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.predict(IMAGES)
    with pytest.raises(InvalidInput, match="one of certificate and key; mutual TLS needs both"):
        TLS(certificate=certificate)
    with pytest.raises(InvalidInput, match="tls ca '/no/such.pem' cannot be read: No such file"):
        Client(server.address, tls=TLS(ca="/no/such.pem"))

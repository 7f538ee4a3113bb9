"""Settings and options: their keywords, and that those that make no sense are refused."""

from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import get_type_hints

import numpy as np
import pytest

from inkling.client import AsyncClient, Client, InvalidInput, Retry, Settings
from inkling.client.settings import SettingsKeywords


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout_s": 0}, "timeout_s=0; expected more than 0"),
        ({"timeout_s": float("inf")}, "timeout_s=inf; expected more than 0, and 1,000,000,000 at most"),
        ({"timeout_s": float("nan")}, "timeout_s=nan"),
        ({"keepalive_s": float("inf")}, "keepalive_s=inf"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"keepalive_s": -1}, "keepalive_s=-1"),
        ({"token": "secret"}, "no tls: it would cross the network in the clear"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InvalidInput, match=message):
        Client("localhost:8500", **settings)
    with pytest.raises(InvalidInput, match="attempts=6; expected 1"):
        Retry(attempts=6)


def test_the_keywords_of_both_clients_are_the_fields_of_the_settings():
    """Their types are spelled twice, as Python has no other way to take a dataclass's fields as keywords."""
    fields = get_type_hints(Settings)
    assert fields.pop("address") == str | Sequence[str] and fields.pop("_") is KW_ONLY
    assert get_type_hints(SettingsKeywords) == fields


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_has_its_settings_and_shows_its_server_only(kind):
    client = kind("somewhere:8500", model="letters", token="secret", token_over_plaintext=True)
    assert (client.settings.model, client.settings.token) == ("letters", "secret")
    assert repr(client) == f"{kind.__name__}('somewhere:8500')" and not hasattr(client, "token")
    with pytest.raises(TypeError, match="modle"):
        kind("somewhere:8500", modle="letters")


@pytest.mark.parametrize("call", ["predict", "read", "run", "classify", "metadata"])
def test_a_misspelt_option_of_a_call_is_refused(call):
    needed = {"metadata": ["mnist"], "run": ["mnist", {}]}.get(call, [np.zeros((28, 28), np.uint8)])
    with Client() as client, pytest.raises(TypeError, match="timeout"):
        getattr(client, call)(*needed, timeout=3)
    assert "timeout_s" in getattr(Client, call).__doc__ and "timeout_s" in getattr(AsyncClient, call).__doc__

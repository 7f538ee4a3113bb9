"""Keep passwords and tokens out of what is printed and written down."""

import os
import re
from urllib.parse import urlsplit

_USER_IN_URI = re.compile(r"(?<=://)[^/@\s]+@")
_NAME_OF_A_SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY")
_SHORTEST = 8  # characters: a shorter value, such as `true`, would be found in what is no secret


def has_user(uri: str) -> bool:
    """Whether a URI has a user, a password or a token before its host."""
    return "@" in urlsplit(uri).netloc


def without_secrets(text: str) -> str:
    """`text` with stars for what stands before a host in a URI, and for the values of secret environment variables."""
    text = _USER_IN_URI.sub("***@", text)
    secrets = [value for name, value in os.environ.items() if _NAME_OF_A_SECRET.search(name.upper())]
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return text

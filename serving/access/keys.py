"""API keys: how they look, how they are made, and the file that knows them by their hashes.

A key is `ink_NAME_SECRET`. Its name finds its line in the file: a check is one hash, however many keys there are. The
secret is 256 random bits, which nobody tries through: a salted SHA-256 of it, a microsecond's work, gives away
nothing. Slow hashes are for what people can remember, and would be paid for by each request.
"""

import hashlib
import hmac
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from .callers import NO_LIMITS, Caller, Limits

PREFIX = "ink_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
HASH = re.compile(r"sha256:([0-9a-f]{32}):([0-9a-f]{64})")
SALT_BYTES, SECRET_BYTES = 16, 32
LIMITS = ("requests_per_second", "concurrent_requests")
NO_SUCH_KEY = (b"\0" * SALT_BYTES, b"\0" * 32)  # compared with for names that are not there: as long as for others

SaltedHash = tuple[bytes, bytes]


class KeyFileError(ValueError):
    """A line of a key file cannot be read; the message has its number, and nothing of a hash."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file says: callers by name, and the hashes of their keys, of which there may be several."""

    callers: Mapping[str, Caller]
    hashes: Mapping[str, tuple[SaltedHash, ...]]
    verified: dict[str, Caller] = field(default_factory=dict, repr=False)  # keys that have come; no more than there are

    def find(self, key: str) -> Caller | None:
        """Whose `key` it is; None if it is nobody's."""
        if (caller := self.verified.get(key)) is None and (caller := self._verify(key)) is not None:
            self.verified[key] = caller
        return caller

    def _verify(self, key: str) -> Caller | None:
        name = key.removeprefix(PREFIX).partition("_")[0]
        matches = [_is_of(key, *known) for known in self.hashes.get(name, (NO_SUCH_KEY,))]
        return self.callers.get(name) if any(matches) else None


def is_key(text: str) -> bool:
    """Whether `text` means to be a key, and not a token."""
    return text.startswith(PREFIX)


def make_key(name: str) -> str:
    """A new key.

    Raises: ValueError if a key cannot have this name.
    """
    _check_name(name)
    return f"{PREFIX}{name}_{secrets.token_urlsafe(SECRET_BYTES)}"


def line_of(key: str, limits: Limits = NO_LIMITS) -> str:
    """The line of a key file that knows `key`, without a newline."""
    name = key.removeprefix(PREFIX).partition("_")[0]
    salt = secrets.token_bytes(SALT_BYTES)
    options = [f"{option}={getattr(limits, option):g}" for option in LIMITS if getattr(limits, option)]
    return " ".join([name, f"sha256:{salt.hex()}:{_hash(key, salt).hex()}", *options])


def parse(text: str, *, is_admin: bool, limits: Limits = NO_LIMITS) -> KeyFile:
    """A key file: a line for each key, `NAME sha256:SALT:HASH`, and limits as `requests_per_second=50`.

    Empty lines, and those that begin with `#`, are passed over. Two lines of one name are two keys of one caller, whose
    limits must agree.

    Args:
        text: the file.
        is_admin: whether its callers are administrators.
        limits: of those whose lines have none.

    Raises: KeyFileError.
    """
    callers: dict[str, Caller] = {}
    hashes: defaultdict[str, tuple[SaltedHash, ...]] = defaultdict(tuple)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, own_limits, salted = _parse_line(line.split())
            caller = Caller(name, "key", is_admin, own_limits or limits)
            if callers.setdefault(caller.name, caller) != caller:
                raise ValueError(f"{caller.name} has other limits in a line above; one caller has one set of them")
        except ValueError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        hashes[caller.name] += (salted,)
    return KeyFile(callers, dict(hashes))


def _parse_line(words: list[str]) -> tuple[str, Limits, SaltedHash]:
    name, salted, *options = *words, *[""] * (2 - len(words))
    _check_name(name)
    found = HASH.fullmatch(salted)
    if found is None:
        raise ValueError("expected NAME sha256:SALT:HASH, as `python -m serving keys new NAME` writes it")
    limits = Limits(**dict(map(_parse_option, filter(None, options))))  # type: ignore[arg-type]
    return name, limits, (bytes.fromhex(found[1]), bytes.fromhex(found[2]))


def _parse_option(word: str) -> tuple[str, float]:
    option, _, value = word.partition("=")
    if option not in LIMITS:
        raise ValueError(f"{option!r} is no limit; expected {' or '.join(LIMITS)}")
    kind = int if option == "concurrent_requests" else float
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ValueError(f"{option}={value} is not usable: expected a number from 0, which is no limit")
    return option, number


def _check_name(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name: expected up to 64 letters, digits, points and hyphens")


def _is_of(key: str, salt: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(_hash(key, salt), expected)


def _hash(key: str, salt: bytes) -> bytes:
    return hashlib.sha256(salt + key.encode("utf-8", "replace")).digest()

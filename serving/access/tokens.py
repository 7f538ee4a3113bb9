"""JSON Web Tokens: whom a token of the configured issuer is about, by the public keys of its JWKS.

A signature takes tens of microseconds to verify, a token comes with many requests: what was verified is remembered, by
the token's hash, until it expires or the issuer's keys change. Needs PyJWT and cryptography, an optional extra.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from ..errors import ServingError, unavailable
from .callers import NO_LIMITS, Caller, Limits, UnknownKey, unauthenticated

logger = logging.getLogger(__name__)

# By the kind of key. None in which a secret is shared: whoever verifies those can also make them.
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
REQUIRED = ("aud", "exp", "iss", "sub")
SCOPES = ("scope", "scp")  # RFC 9068's claim, and the one of some identity providers
LEEWAY_S = 30.0  # by which clocks may differ
MAX_TOKEN_LENGTH = 8192
MAX_SUBJECT_LENGTH = 256
MAX_REMEMBERED = 4096
NEVER = 1 << 53  # seconds, which a float holds; an issuer may write any number
REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired; ask its issuer for a new one",
    jwt.ImmatureSignatureError: "the token is not valid yet; do the clocks agree?",
    jwt.InvalidIssuerError: "the token is of another issuer than this server's",
    jwt.InvalidAudienceError: "the token is for another audience than this server",
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.InvalidAlgorithmError: "the token is signed by another algorithm than its key is for",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say."""

    issuer: str
    audience: str
    admin_scope: str = ""  # that makes an administrator; empty: none does
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of an issuer, and the algorithms it is for."""

    material: Any
    algorithms: tuple[str, ...]


def parse_jwks(text: str) -> dict[str, PublicKey]:
    """The public keys of a JWKS by their `kid`.

    Keys for other ends than signatures are left out, and so are those of kinds and curves that are not known, as RFC
    7517 has it: an issuer's newest key must not take its others away. Where none is left there are none: an issuer that
    takes its keys back means it.

    Raises: ValueError if it is no JWKS.
    """
    try:
        entries = [entry for entry in json.loads(text)["keys"] if _is_for_signatures(entry)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no JWKS: {type(error).__name__}: {error}") from error
    found = {str(entry.get("kid", "")): key for entry in entries if (key := _public_key(entry)) is not None}
    if not found:
        logger.error("the JWKS has no public key for signatures; expected a kty of %s", ", ".join(ALGORITHMS))
    return found


def _is_for_signatures(entry: Mapping[str, Any]) -> bool:
    return entry["kty"] in ALGORITHMS and entry.get("use", "sig") == "sig"


def _public_key(entry: Mapping[str, Any]) -> PublicKey | None:
    """The key of `entry`; None if it is not usable."""
    public = {name: value for name, value in entry.items() if name != "d"}  # of a private key, published by mistake
    algorithms = tuple(name for name in ALGORITHMS[entry["kty"]] if entry.get("alg", name) == name)
    try:
        return PublicKey(jwt.PyJWK(public).key, algorithms)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        logger.warning("the key %r of the JWKS is left out: %s", str(entry.get("kid", ""))[:MAX_SUBJECT_LENGTH], error)
        return None


class Tokens:
    """Says whom tokens are about."""

    def __init__(self, rules: Rules, keys: Callable[[], Mapping[str, PublicKey]]) -> None:
        """A judge of tokens.

        Args:
            rules: what a token must say.
            keys: the issuer's keys as they are now; empty while they could not be had.
        """
        self._rules = rules
        self._keys = keys
        self._remembered: dict[bytes, tuple[Caller, float]] = {}
        self._remembered_by: object = None  # the keys that verified them

    def find(self, token: str) -> Caller:
        """Whom `token` is about.

        Raises: Refusal if it is not good; UnknownKey if newer keys might help; ServingError UNAVAILABLE without keys.
        """
        keys = self._keys()
        if keys is not self._remembered_by:
            self._remembered.clear()
            self._remembered_by = keys
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        caller, expires = self._remembered.get(digest, (None, 0.0))
        if caller is None or expires + LEEWAY_S <= time.time():
            caller, expires = self._verify(token, keys)
            self._remember(digest, caller, expires)
        return caller

    def _remember(self, digest: bytes, caller: Caller, expires: float) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (caller, expires)

    def _verify(self, token: str, keys: Mapping[str, PublicKey]) -> tuple[Caller, float]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise unauthenticated(f"the token has over {MAX_TOKEN_LENGTH} characters", wrong=True)
        if not keys:
            raise unavailable("The token's issuer has no keys, or they could not be read yet; try again")
        try:
            key = _choose(keys, jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key.material,
                algorithms=key.algorithms,
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _refusal(error) from None  # whose text may repeat the token
        return self._caller(claims), min(int(claims["exp"]), NEVER)  # whole seconds, as PyJWT counts

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject = claims["sub"]
        if not subject or len(subject) > MAX_SUBJECT_LENGTH:
            raise unauthenticated(f"the token's subject has not 1 to {MAX_SUBJECT_LENGTH} characters", wrong=True)
        if not subject.isprintable():  # it stands in logs
            raise unauthenticated("the token's subject has characters that cannot be printed", wrong=True)
        scope = self._rules.admin_scope
        return Caller(subject, "token", bool(scope) and scope in _scopes(claims), self._rules.limits)


def _choose(keys: Mapping[str, PublicKey], kid: object) -> PublicKey:
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    if not isinstance(kid, str) or kid not in keys:
        challenge = unauthenticated("the token is signed by a key that its issuer does not publish", wrong=True)
        raise UnknownKey(challenge.code, challenge.message, challenge.headers)
    return keys[kid]


def _refusal(error: Exception) -> ServingError:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return unauthenticated(f"the token has no {error.claim}; expected {', '.join(REQUIRED)}", wrong=True)
    return unauthenticated(REASONS.get(type(error), "neither a key of this server nor a token"), wrong=True)


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    given = [claims[name] for name in SCOPES if name in claims]
    words = [value.split() if isinstance(value, str) else value for value in given]
    return {word for each in words if isinstance(each, list) for word in each if isinstance(word, str)}

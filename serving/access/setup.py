"""The door that the flags ask for."""

import functools
from collections.abc import Mapping
from typing import Any

from ..errors import failed_precondition, invalid_argument
from ..flags import ServerConfig
from ..monitoring.events import ServerEvents
from . import jwks, keys
from .audit import AuditLog
from .callers import Limits
from .door import Door, Policy
from .jwks import RemoteKeys
from .limits import Accounts
from .watched import WatchedFile


def make_door(config: ServerConfig, events: ServerEvents, accounts: Accounts | None = None) -> Door | None:
    """The door; None if no flag asks for one.

    Args:
        config: the flags.
        events: is told of refusals.
        accounts: of callers; None: in this process's memory.

    Raises: ServingError if flags do not go together or a file is not usable; OSError for the audit log's.
    """
    _check(config)
    limits = Limits(config.key_requests_per_second, config.key_concurrent_requests)
    predictors = _key_file(config.api_keys_file, is_admin=False, limits=limits)
    admins = _key_file(config.admin_api_keys_file, is_admin=True, limits=limits)
    tokens, issuer_keys = _tokens(config, limits)
    policy = Policy(
        key_file=predictors,
        admin_key_file=admins,
        tokens=tokens,
        admin_is_closed=not config.enable_admin,
        has_admins=admins is not None or bool(config.admin_jwt_scope),
    )
    if not (policy.asks_admins or policy.admin_is_closed or config.audit_log_file):
        return None
    remote = issuer_keys if isinstance(issuer_keys, RemoteKeys) else None
    files = tuple(file for file in (predictors, admins, issuer_keys) if isinstance(file, WatchedFile))
    audit = AuditLog(config.audit_log_file) if config.audit_log_file else None
    return Door(policy, events=events, audit=audit, remote_keys=remote, files=files, accounts=accounts)


def _check(config: ServerConfig) -> None:
    parts = {name: getattr(config, name) for name in ("jwt_jwks", "jwt_issuer", "jwt_audience")}
    missing = [name for name, value in parts.items() if not value]
    if 0 < len(missing) < len(parts) or (missing and config.admin_jwt_scope):
        raise invalid_argument(
            f"Tokens take --jwt_jwks, --jwt_issuer and --jwt_audience together; missing: {', '.join(missing)}"
        )
    asks = config.api_keys_file or config.jwt_jwks
    if (config.key_requests_per_second or config.key_concurrent_requests or config.metrics_need_key) and not asks:
        raise invalid_argument(
            "--key_requests_per_second, --key_concurrent_requests and --metrics_need_key are about callers with keys "
            "or tokens; give --api_keys_file or --jwt_jwks too"
        )


def _key_file(path: str, *, is_admin: bool, limits: Limits) -> WatchedFile[keys.KeyFile] | None:
    return WatchedFile(path, functools.partial(keys.parse, is_admin=is_admin, limits=limits)) if path else None


def _tokens(config: ServerConfig, limits: Limits) -> tuple[Any, Any]:
    """What judges tokens, and the keys it goes by."""
    if not config.jwt_jwks:
        return None, None
    try:
        from . import tokens
    except ImportError as error:
        raise failed_precondition(f"--jwt_jwks needs PyJWT: pip install 'inkling-serving[jwt]' ({error})") from error
    empty: Mapping[str, tokens.PublicKey] = {}
    issuer_keys: WatchedFile[Any] | RemoteKeys[Any]
    if jwks.is_url(config.jwt_jwks):
        issuer_keys = RemoteKeys(config.jwt_jwks, tokens.parse_jwks, empty)
    else:
        issuer_keys = WatchedFile(config.jwt_jwks, tokens.parse_jwks)
        if not issuer_keys.value:
            raise invalid_argument(
                f"{config.jwt_jwks} has no public key for signatures; nobody could come in with a token"
            )
    rules = tokens.Rules(config.jwt_issuer, config.jwt_audience, config.admin_jwt_scope, limits)
    return tokens.Tokens(rules, lambda: issuer_keys.value), issuer_keys

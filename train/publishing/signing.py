"""OpenSSF model signatures: whoever has the key's other half can tell that a version is this one, file by file.

Needs model-signing, an optional extra: it brings Sigstore's libraries along, which nothing here asks anything.
"""

import re
from pathlib import Path
from typing import Any

SIGNATURE = "model.sig"
DIGESTS = re.compile(r": Expected 'Digest\(.*?\)', Actual 'Digest\(.*?\)'")


class NotSigned(RuntimeError):
    """A version is unsigned, changed since, or signed by somebody else."""


def check_key(key: Path) -> None:
    """Refuse a key that cannot sign before there is anything to sign.

    Raises: ValueError if it is no private key of an elliptic curve; RuntimeError without model-signing.
    """
    _signer(key)


def sign(folder: Path, key: Path) -> None:
    """Write the signature of a version's files beside them.

    Args:
        folder: the version's, complete.
        key: a private key of an elliptic curve, as PEM without a password.

    Raises: ValueError, RuntimeError as `check_key`.
    """
    _signer(key).sign(folder, folder / SIGNATURE)


def verify(folder: Path, public_key: Path) -> None:
    """Return if a version is what the key's holder has signed.

    Raises: NotSigned if it is not; ValueError if there is no such version or key; RuntimeError without model-signing.
    """
    try:
        from model_signing import verifying
    except ImportError as error:
        raise _not_installed(error) from error
    if not folder.is_dir():
        raise ValueError(f"{folder} is no version's folder, such as models/mnist/3")
    if not (folder / SIGNATURE).is_file():
        raise NotSigned(f"{folder} has no {SIGNATURE}; sign it by `python -m train publish RUN --sign KEY`")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"--key {public_key} is no public key of an elliptic curve, as PEM: {error}") from error
    try:
        config.verify(folder, folder / SIGNATURE)
    except Exception as error:  # whatever a made-up signature has it raise
        raise NotSigned(f"{folder} is not what the key's holder has signed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong with a signature, without the digests, which the library writes as Python's bytes."""
    if type(error) is not ValueError:
        return f"it cannot be read, or is of another key ({type(error).__name__}: {error})"
    return DIGESTS.sub("", str(error).replace("\\'", "'")).strip()  # a list in it escapes its quotes


def _signer(key: Path) -> Any:
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise _not_installed(error) from error
    every_file = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    try:
        return signing.Config().set_hashing_config(every_file).use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"--sign {key} is no private key of an elliptic curve, as PEM without a password: {error}; make one by "
            f"`openssl ecparam -name prime256v1 -genkey -noout -out {key}`"
        ) from error


def _not_installed(error: ImportError) -> RuntimeError:
    return RuntimeError(f"signatures need model-signing: pip install 'inkling-train[sign]' ({error})")

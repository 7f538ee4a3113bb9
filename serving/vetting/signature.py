"""OpenSSF model signatures: whether a version is what the holder of a key has signed, file by file.

`python -m train publish --sign` writes them, and so does `model_signing sign key`. Needs model-signing, an optional
extra.
"""

import os
import re
from pathlib import Path

from ..errors import failed_precondition, invalid_argument

FILE = "model.sig"
DIGESTS = re.compile(r": Expected 'Digest\(.*?\)', Actual 'Digest\(.*?\)'")
EXTRA = "needs model-signing: pip install 'inkling-serving[sign]'"


def check_key(public_key: str) -> None:
    """Refuse a start whose signatures could not be checked.

    Args:
        public_key: path of a PEM file.

    Raises: ServingError.
    """
    try:
        from model_signing import verifying
    except ImportError as error:
        raise failed_precondition(f"--verify_models {EXTRA} ({error})") from error
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=Path(public_key))
    except (OSError, ValueError, TypeError) as error:
        raise invalid_argument(
            f"--verify_models={public_key} is no public key: {error}; expected the PEM of an elliptic curve's"
        ) from error


def check_signature(path: str, public_key: str) -> None:
    """Refuse a version that is unsigned, changed since, or signed by somebody else.

    Args:
        path: the version's folder.
        public_key: path of a PEM file.

    Raises: ServingError FAILED_PRECONDITION.
    """
    if "://" in path and not path.startswith("file://"):
        raise failed_precondition(
            f"{path} is not loaded: --verify_models checks signatures of local folders; copy the versions here first"
        )
    folder = Path(os.path.realpath(path.removeprefix("file://")))
    if not (folder / FILE).is_file():
        raise failed_precondition(
            f"{path} is not loaded: it has no {FILE}, the signature that --verify_models asks for"
        )
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(public_key))
        config.verify(folder, folder / FILE)
    except Exception as error:  # whatever a made-up signature has it raise
        raise failed_precondition(
            f"{path} is not loaded: its signature does not hold for the key of --verify_models: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What is wrong with a signature, without the digests, which the library writes as Python's bytes."""
    if type(error) is not ValueError:
        return f"it cannot be read, or is of another key ({type(error).__name__}: {error})"
    return DIGESTS.sub("", str(error).replace("\\'", "'")).strip()  # a list in it escapes its quotes

"""Keep what TensorFlow's C++ prints while it is imported off the terminal."""

import os
import sys


def import_tensorflow(*, verbose: bool = False) -> None:
    """Import TensorFlow without its start-up lines, which ignore TF_CPP_MIN_LOG_LEVEL; errors are still raised."""
    # As much of a GPU's memory as is needed: another process of the same run may need the rest.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if verbose or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(silence)

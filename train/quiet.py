"""What happens before TensorFlow is imported: its start-up lines are kept off the terminal, the processor is asked."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def import_tensorflow(*, verbose: bool = False) -> None:
    """Import TensorFlow, without its start-up lines unless `verbose`; errors are still raised."""
    # As much of a GPU's memory as is needed: another process of the same run may need the rest.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if verbose or "tensorflow" in sys.modules:
        return
    # These lines ignore TF_CPP_MIN_LOG_LEVEL: https://github.com/tensorflow/tensorflow/issues/100442
    with _stderr_silenced():
        import tensorflow  # noqa: F401


@contextmanager
def _stderr_silenced() -> Iterator[None]:
    """Drop what is written to file descriptor 2, by C++ too."""
    sys.stderr.flush()
    terminal = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(silence)


def trains_in_bfloat16() -> bool:
    """Whether this machine trains on a CPU that multiplies bfloat16 in hardware (AVX512-BF16, AMX): twice as fast."""
    if Path("/dev/nvidiactl").exists():
        return False  # it trains on the GPU, and not every GPU has bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux
    return "avx512_bf16" in flags or "amx_bf16" in flags

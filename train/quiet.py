"""What happens before TensorFlow is imported: its start-up lines are kept off the terminal, its kernels are chosen."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # read by TensorFlow once, when it is imported


def import_tensorflow(*, onednn: bool | None, verbose: bool = False) -> None:
    """Import TensorFlow, without its start-up lines unless `verbose`; errors are still raised.

    Args:
        onednn: whether its CPU kernels are oneDNN's; None leaves it to TensorFlow.
    """
    if onednn is not None:
        os.environ[ONEDNN] = str(int(onednn))
    # As much of a GPU's memory as is needed: another process of the same run may need the rest.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if verbose or "tensorflow" in sys.modules:
        return
    # These lines ignore TF_CPP_MIN_LOG_LEVEL: https://github.com/tensorflow/tensorflow/issues/100442
    with _stderr_silenced():
        import tensorflow
    # Its warnings are about how code is written, such as that a small set is traced in many shapes.
    tensorflow.get_logger().setLevel(logging.ERROR)


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


def trains_by_onednn() -> bool:
    """Whether a run's convolutions on CPUs are computed by oneDNN: if the environment does not say otherwise.

    TensorFlow by itself leaves oneDNN off on x86 CPUs without AVX-512 VNNI, where it trains this network 2.6 times as
    fast nevertheless (docs/training.md):
    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/util/port.cc (IsMklEnabled)
    """
    return os.environ.get(ONEDNN, "1").lower() in ("1", "true")


def trains_in_bfloat16() -> bool:
    """Whether this machine trains on a CPU that multiplies bfloat16 in hardware (AVX512-BF16, AMX): twice as fast."""
    if Path("/dev/nvidiactl").exists():
        return False  # it trains on the GPU, and not every GPU has bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux
    return "avx512_bf16" in flags or "amx_bf16" in flags

"""What this machine's processor is good at."""

from pathlib import Path


def trains_in_bfloat16() -> bool:
    """Whether this machine trains on a CPU that multiplies bfloat16 in hardware (AVX512-BF16, AMX): twice as fast."""
    if Path("/dev/nvidiactl").exists():
        return False  # it trains on the GPU, and not every GPU has bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux
    return "avx512_bf16" in flags or "amx_bf16" in flags

"""What this machine's processor is good at."""

from pathlib import Path


def native_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX): training is then about twice as fast."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux
    return "avx512_bf16" in flags or "amx_bf16" in flags

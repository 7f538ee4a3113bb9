"""How many processes serve: what --num_processes says, or what suits the machine and the models."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config.memory import memory_limit
from ..flags import FlagError, ServerConfig
from .gpus import count_gpus

logger = logging.getLogger(__name__)

PROCESS_BYTES = 700 * 10**6  # TensorFlow, Python and gRPC, without a model
COPIES = 3  # of a version's files: its variables and graph in memory, and what a run takes
MEMORY_SHARE = 0.75  # of the memory for all processes


def choose(config: ServerConfig, models_folder: Path | None, num_gpus: Callable[[], int] = count_gpus) -> int:
    """The number of processes.

    Args:
        config: the flags.
        models_folder: every model in it is served; None: those that `config` names.
        num_gpus: counts the GPUs that TensorFlow sees.

    Raises: FlagError if as many as --num_processes says cannot serve here.
    """
    asked = None if config.num_processes == "auto" else int(config.num_processes)
    if asked == 1:
        return 1
    refusal = _refusal(num_gpus)
    if asked is not None:
        if refusal:
            raise FlagError(f"--num_processes={asked} is not usable here: {refusal}")
        return asked
    models_bytes = sum(_newest_bytes(path) for path in _base_paths(config, models_folder))
    number = 1 if refusal else fitting(num_cpus(), _memory_bytes(), models_bytes)
    logger.info("--num_processes=auto: %d%s", number, f", since {refusal}" if refusal else "")
    return number


def _refusal(num_gpus: Callable[[], int]) -> str:
    """Why more than one process cannot serve here; empty if they can."""
    if sys.platform != "linux":
        return f"processes share a port on Linux only, and this is {sys.platform}; leave the flag out"
    if count := num_gpus():
        return (
            f"TensorFlow sees {count} GPU(s), and each process would load every model onto the GPU and take its "
            "memory. Serve from one process, or hide the GPUs with CUDA_VISIBLE_DEVICES=-1; for several GPUs start one "
            "server for each (CUDA_VISIBLE_DEVICES=0, 1, ...) on a port of its own, behind a load balancer"
        )
    return ""


def fitting(cpus: int, memory_bytes: int, models_bytes: int) -> int:
    """One process for each CPU, or as many as the memory holds.

    Args:
        cpus: that may be used.
        memory_bytes: that may be used.
        models_bytes: the files of all models' newest versions.
    """
    each = PROCESS_BYTES + COPIES * models_bytes
    return max(1, min(cpus, int(MEMORY_SHARE * memory_bytes / each)))


def num_cpus(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The CPUs that this process may use, by its affinity and its container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
    except (OSError, ValueError):
        return cpus
    return min(cpus, max(1, round(int(quota) / int(period)))) if quota.isdecimal() else cpus


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, memory_limit() or total)


def _base_paths(config: ServerConfig, models_folder: Path | None) -> Iterator[Path]:
    file = Path(config.model_config_file)
    if models_folder is not None:
        yield from models_folder.iterdir()
    elif not config.model_config_file:
        yield Path(config.model_base_path)
    elif file.is_file():  # one that is not there is told of when it is read
        yield from map(Path, re.findall(r"""base_path\s*:\s*["']([^"']+)["']""", file.read_text(errors="replace")))


def _newest_bytes(base_path: Path) -> int:
    """The size of the newest version's files; 0 if there are none on this machine."""
    versions = [path for path in base_path.glob("[0-9]*") if path.name.isdecimal()]
    if not versions:
        return 0
    newest = max(versions, key=lambda path: int(path.name))
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())

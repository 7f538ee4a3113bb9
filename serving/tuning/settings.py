"""What is tried: settings of a server, in rounds, each of which varies one thing of the best so far."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..flags import ServerConfig

BATCH_SIZES = (8, 32, 128)
TIMEOUTS_US = (0, 1000, 5000)
PROCESSES = "num_processes"  # a flag that not every version has


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How a server is started."""

    threads: int = 0  # --tensorflow_intra_op_parallelism; 0: TensorFlow's own choice
    max_batch_size: int = 0  # rows; 0: without batching parameters whatever waits runs together
    timeout_us: int = 0  # that a batch waits for more
    processes: int = 1

    def __str__(self) -> str:
        parts = [f"threads {self.threads or 'auto'}"]
        batches = f"batches of {self.max_batch_size}, {self.timeout_us} us" if self.max_batch_size else "batches greedy"
        return ", ".join([*parts, batches, *([f"processes {self.processes}"] if self.processes > 1 else [])])

    def parameters(self) -> str:
        """The text of its --batching_parameters_file, empty without one."""
        if not self.max_batch_size:
            return ""
        return (
            f"max_batch_size {{ value: {self.max_batch_size} }}\n"
            f"batch_timeout_micros {{ value: {self.timeout_us} }}\n"
            "max_enqueued_batches { value: 100 }\n"
        )

    def flags(self, parameters_file: Path | str = "batching.config") -> list[str]:
        """The server's flags; with batching parameters, these are expected in that file."""
        found = [f"--tensorflow_intra_op_parallelism={self.threads}"] if self.threads else []
        if self.max_batch_size:
            found += ["--enable_batching", f"--batching_parameters_file={parameters_file}"]
        return found + ([f"--{PROCESSES}={self.processes}"] if self.processes > 1 else [])


Round = Callable[[Setting], list[Setting]]  # of the best so far, what is tried next


def rounds(num_cpus: int) -> Sequence[Round]:
    """What is tried on a machine of so many processors, one after the other."""
    threads = sorted({1, max(1, num_cpus // 2), num_cpus})
    found: list[Round] = [
        lambda best: [best, *(dataclasses.replace(best, threads=number) for number in threads)],
        lambda best: [dataclasses.replace(best, max_batch_size=size) for size in BATCH_SIZES],
        lambda best: [dataclasses.replace(best, timeout_us=us) for us in TIMEOUTS_US if best.max_batch_size and us],
    ]
    if PROCESSES in {field.name for field in dataclasses.fields(ServerConfig)}:
        numbers = sorted({max(2, num_cpus // 2), num_cpus} - {1})
        found.append(lambda best: [dataclasses.replace(best, processes=number) for number in numbers])
    return found

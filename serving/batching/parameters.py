"""What --batching_parameters_file sets, checked with TensorFlow Serving's rules and texts."""

from dataclasses import dataclass

from ..errors import invalid_argument


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingParameters:
    """How requests of one signature are batched, with TensorFlow Serving's defaults."""

    max_batch_size: int = 1000  # rows in a batch; with splitting: in a queued batch
    batch_timeout_s: float = 0.0  # how long an open batch waits for more, from its first request
    max_enqueued_batches: int = 10  # full batches that wait; further requests are refused
    num_batch_threads: int | None = None  # batches that run at once; one for each CPU if None
    allowed_batch_sizes: tuple[int, ...] = ()  # sizes to pad to
    pad_variable_length_inputs: bool = False  # make inputs of different shapes equal by padding
    enable_large_batch_splitting: bool = False  # split requests that are larger than a batch
    max_execution_batch_size: int | None = None  # rows in a run, with splitting; max_batch_size if None

    def __post_init__(self) -> None:
        execution = self.execution_batch_size
        sizes = self.allowed_batch_sizes
        if self.num_batch_threads is not None and self.num_batch_threads < 1:
            raise invalid_argument(f"num_batch_threads must be positive; was {self.num_batch_threads}")
        for name in ("max_batch_size", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise invalid_argument(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_s < 0:
            raise invalid_argument(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_s * 1e6:.0f}")
        if not 0 < execution <= self.max_batch_size:
            raise invalid_argument(
                f"max_batch_size should be greater than or equal to max_execution_batch_size; "
                f"max_batch_size was {self.max_batch_size}, max_execution_batch_size was {execution}"
            )
        if any(later <= earlier for earlier, later in zip(sizes, sizes[1:], strict=False)):
            raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[0] < 1:
            raise invalid_argument(f"allowed_batch_sizes must be positive; the first was {sizes[0]}")
        if sizes and sizes[-1] != execution:
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {execution}"
            )

    @property
    def execution_batch_size(self) -> int:
        """The largest number of rows in one run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, num_rows: int) -> int:
        """The number of rows to run for `num_rows` rows."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= num_rows), num_rows)

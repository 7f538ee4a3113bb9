"""The examples of a set by index, wherever they lie: an array in memory, or shards that are read when asked for."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """Images or labels by index. A NumPy array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, ...], as an array's."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any:
        """The rows `index`, int64 [m], as an array [m, ...]."""
        ...


class StoredRows(Rows, Protocol):
    """Rows that lie on a disk."""

    def expect(self, start: int, stop: int) -> None:
        """Have the system read the rows from `start` to `stop` ahead, without waiting for it."""
        ...


class Kept:
    """Stored rows without some of the originals and all augmented copies of those; nothing is moved or read for it."""

    def __init__(self, rows: StoredRows, left_out: NDArray[np.int64], originals: int) -> None:
        """Leave rows out.

        Args:
            rows: the originals, then the first copy of each, and so on.
            left_out: int64 [n], ascending: which originals.
            originals: how many there are.
        """
        self._rows, self._originals = rows, originals
        self._kept = originals - len(left_out)  # of the originals, and of each copy
        self._before = left_out - np.arange(len(left_out))  # originals that are kept before each that is not

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, ...], as an array's."""
        return len(self), *self._rows.shape[1:]

    def __len__(self) -> int:
        return len(self._rows) // self._originals * self._kept

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[Any]:
        rows: NDArray[Any] = self._rows[self._places(index)]
        return rows

    def expect(self, start: int, stop: int) -> None:
        """Have the system read the rows from `start` to `stop` ahead."""
        first, last = self._places(np.array([start, stop - 1]))
        self._rows.expect(int(first), int(last) + 1)

    def _places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        copy, original = np.divmod(index, self._kept)
        places: NDArray[np.int64] = copy * self._originals + original
        return places + np.searchsorted(self._before, original, side="right")

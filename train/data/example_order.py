"""Which examples each step takes, and the random numbers that belong to an example: functions of (seed, epoch, index).

Nothing here has state, so any worker, at any step, after any restart, computes the same (promises 1 and 2 of the
README's "Guarantees"). The numbers come from SplitMix64 used as a counter-based generator, after Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014: the methods of NumPy's Generator may give other numbers
with a release (https://numpy.org/neps/nep-0019-rng-policy.html), these cannot.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# What a stream of random numbers is for; 8 at most.
ORDER, AUGMENTATION, DROPOUT, HOLD_OUT, CORRUPTION, SWEEP, BLOCK_ORDER, COPY = range(8)
BLOCK = 64  # examples that are stored side by side and come into a window together: 50 kB of MNIST, one read of a disk
AT_ONCE = 2**20  # examples for which random numbers are drawn in one piece
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniform_numbers(
    purpose: int, seed: int, epoch: NDArray[np.int64], index: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Random numbers for the examples `index`, each in its own `epoch`.

    Args:
        purpose: one of the constants above.
        epoch: int64 [n].
        index: int64 [n].
        count: numbers for each example; the first ones do not depend on it.

    Returns: float32 [n, count], uniform in [0, 1).
    """
    bits = _random_bits(purpose, seed, epoch, index, count)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def step_seed(seed: int, step: int) -> int:
    """A 31-bit seed for what step `step` draws besides augmentation, dropout above all."""
    steps = np.array([step])
    return int(_random_bits(DROPOUT, seed, steps, steps, 1)[0, 0] >> np.uint64(33))


def _random_bits(
    purpose: int, seed: int, epoch: NDArray[np.int64], index: NDArray[np.int64], count: int
) -> NDArray[np.uint64]:
    key = _splitmix64(example_key(purpose, seed) + epoch.astype(np.uint64) * GOLDEN_GAMMA)
    key = _splitmix64(key + index.astype(np.uint64) * GOLDEN_GAMMA)
    return _splitmix64(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA)


def example_key(purpose: int, seed: int) -> NDArray[np.uint64]:
    """uint64 [1]: where the random numbers of a purpose begin, before epoch, index and count come in."""
    return _splitmix64(np.array([seed * 8 + purpose], np.uint64) + GOLDEN_GAMMA)


def _splitmix64(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    """int64 [num_examples]: a permutation of the examples, drawn from (seed, epoch)."""
    order = _permutation(ORDER, seed, epoch, num_examples)
    order.flags.writeable = False  # the cache hands the same array to everyone
    return order


@lru_cache(maxsize=8)
def window_order(seed: int, epoch: int, num_examples: int, window: int, number: int) -> NDArray[np.int64]:
    """int64 [n], n at most `window`: the examples of an epoch's window `number` in their order.

    A window holds `window` / BLOCK blocks, drawn from all blocks of the set by (seed, epoch); within it the examples
    are in the order that `epoch_order` has them in. A window as large as the set gives `epoch_order`.
    """
    blocks = window_blocks(seed, epoch, num_examples, window, number)
    index = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    index = index[index < num_examples]
    bits = _random_bits(ORDER, seed, np.full(len(index), epoch), index, 1)
    order: NDArray[np.int64] = index[np.argsort(bits[:, 0], kind="stable")]
    order.flags.writeable = False
    return order


def window_blocks(seed: int, epoch: int, num_examples: int, window: int, number: int) -> NDArray[np.int64]:
    """int64 [n], ascending: the blocks of an epoch's window `number`; block b is the examples from b * BLOCK on."""
    size = window // BLOCK
    return np.sort(_block_order(seed, epoch, num_examples)[number * size : (number + 1) * size])


@lru_cache(maxsize=4)
def window_starts(seed: int, epoch: int, num_examples: int, window: int) -> NDArray[np.int64]:
    """int64 [number of windows + 1]: how many examples of the epoch come before each window, and in all."""
    blocks = _block_order(seed, epoch, num_examples)
    before = np.concatenate([[0], np.cumsum(np.minimum(BLOCK, num_examples - blocks * BLOCK))])
    return np.append(before[: -1 : window // BLOCK], num_examples)


@lru_cache(maxsize=4)
def _block_order(seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    return _permutation(BLOCK_ORDER, seed, epoch, -(-num_examples // BLOCK))


def held_out(seed: int, num_examples: int, size: int) -> NDArray[np.int64]:
    """int64 [size], ascending: which of the examples a run keeps for validation, drawn from the seed.

    They are the beginning of a permutation, found without holding the whole of it.
    """
    bits, index = np.empty(0, np.uint64), np.empty(0, np.int64)
    for start in range(0, num_examples, AT_ONCE):
        more = np.arange(start, min(start + AT_ONCE, num_examples))
        bits = np.append(bits, _random_bits(HOLD_OUT, seed, np.zeros_like(more), more, 1)[:, 0])
        index = np.append(index, more)
        first = np.argsort(bits, kind="stable")[:size]
        bits, index = bits[first], index[first]
    return np.sort(index)


def _permutation(purpose: int, seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    bits = _random_bits(purpose, seed, np.full(num_examples, epoch), np.arange(num_examples), 1)
    return np.argsort(bits[:, 0], kind="stable")


@dataclass(frozen=True, slots=True)
class ExampleOrder:
    """The examples of every step: the epochs' orders, laid end to end and cut into batches.

    No batch is partial. One that reaches over an epoch's end takes what it lacks from the beginning of the next epoch's
    order, so every example still comes exactly once in each epoch; only the run's very last batch may take up to
    `global_batch_size - 1` examples from an epoch that is never finished.
    """

    num_examples: int
    global_batch_size: int
    seed: int
    window: int | None = None  # examples that an epoch mixes with each other, a multiple of BLOCK; None: all of them

    def first_step_after(self, epoch: float) -> int:
        """The number of steps that cover `epoch` epochs."""
        return int(-(-epoch * self.num_examples // self.global_batch_size))

    def batch(self, step: int, replica: int, num_replicas: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slice that `replica` of `num_replicas` takes of step `step`.

        Returns: (epoch, index), each int64 [global_batch_size / num_replicas].
        """
        epoch, index = self.batches(step, 1, replica, num_replicas)
        return epoch[0], index[0]

    def batches(
        self, first: int, num_steps: int, replica: int, num_replicas: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slices that `replica` of `num_replicas` takes of the `num_steps` steps from `first` on.

        Returns: (epoch, index), each int64 [num_steps, global_batch_size / num_replicas].
        """
        size = self.global_batch_size // num_replicas
        starts = (first + np.arange(num_steps)) * self.global_batch_size + replica * size
        epoch, place = np.divmod(starts[:, None] + np.arange(size), self.num_examples)
        index = np.empty_like(place)
        for one in np.unique(epoch):
            here = epoch == one
            index[here] = self._at(int(one), place[here])
        return epoch, index

    def _at(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.num_windows == 1:
            return epoch_order(self.seed, epoch, self.num_examples)[places]
        index = np.empty_like(places)
        starts = window_starts(self.seed, epoch, self.num_examples, self.window or 0)
        numbers = np.searchsorted(starts, places, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            order = window_order(self.seed, epoch, self.num_examples, self.window or 0, int(number))
            index[here] = order[places[here] - starts[number]]
        return index

    @property
    def num_windows(self) -> int:
        """Windows in an epoch."""
        return -(-self.num_examples // self.window) if self.window else 1

    def blocks_around(self, step: int) -> NDArray[np.int64]:
        """int64 [n], ascending: the blocks of the window that `step` begins in."""
        if not self.window or self.num_windows == 1:
            return np.arange(-(-self.num_examples // BLOCK))
        epoch, number, _ = self._window_of(step)
        return window_blocks(self.seed, epoch, self.num_examples, self.window, number)

    def blocks_ahead(self, step: int) -> NDArray[np.int64]:
        """int64 [n]: the share of the next window's blocks that falls to `step`, if reading them is spread evenly."""
        if not self.window or self.num_windows == 1:
            return np.empty(0, np.int64)
        epoch, number, place = self._window_of(step)
        starts = window_starts(self.seed, epoch, self.num_examples, self.window)
        size = starts[number + 1] - starts[number]
        following = (epoch, number + 1) if number + 1 < self.num_windows else (epoch + 1, 0)
        blocks = window_blocks(self.seed, following[0], self.num_examples, self.window, following[1])
        first, last = (len(blocks) * min(at, size) // size for at in (place, place + self.global_batch_size))
        return blocks[first:last]

    def _window_of(self, step: int) -> tuple[int, int, int]:
        """The epoch, the window in it and the place in that, of the first example of `step`."""
        epoch, place = divmod(step * self.global_batch_size, self.num_examples)
        starts = window_starts(self.seed, epoch, self.num_examples, self.window or 0)
        number = int(np.searchsorted(starts, place, side="right")) - 1
        return epoch, number, place - int(starts[number])

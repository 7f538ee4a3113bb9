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

ORDER, AUGMENTATION, DROPOUT, HOLD_OUT, CORRUPTION, SWEEP = range(
    6
)  # what a stream of random numbers is for; 8 at most
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
    key = _splitmix64(np.array([seed * 8 + purpose], np.uint64) + GOLDEN_GAMMA)
    key = _splitmix64(key + epoch.astype(np.uint64) * GOLDEN_GAMMA)
    key = _splitmix64(key + index.astype(np.uint64) * GOLDEN_GAMMA)
    return _splitmix64(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA)


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


def held_out(seed: int, num_examples: int, size: int) -> NDArray[np.int64]:
    """int64 [size], ascending: which of the examples a run keeps for validation, drawn from the seed."""
    return np.sort(_permutation(HOLD_OUT, seed, 0, num_examples)[:size])


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

    def first_step_after(self, epoch: float) -> int:
        """The number of steps that cover `epoch` epochs."""
        return int(-(-epoch * self.num_examples // self.global_batch_size))

    def batch(self, step: int, replica: int, num_replicas: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slice that `replica` of `num_replicas` takes of step `step`.

        Returns: (epoch, index), each int64 [global_batch_size / num_replicas].
        """
        size = self.global_batch_size // num_replicas
        position = step * self.global_batch_size + replica * size + np.arange(size)
        epoch, place = np.divmod(position, self.num_examples)
        index = np.empty_like(position)
        for one in np.unique(epoch):
            here = epoch == one
            index[here] = epoch_order(self.seed, int(one), self.num_examples)[place[here]]
        return epoch, index

import numpy as np
import pytest

from inkling.train.data import example_order
from inkling.train.data.example_order import ExampleOrder

WINDOWS = pytest.mark.parametrize("window", [None, 128, 1024], ids=["whole", "windows", "one window"])


@WINDOWS
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 8])
def test_replicas_together_take_what_one_would(num_replicas, window):
    order = ExampleOrder(num_examples=1003, global_batch_size=48, seed=5, window=window)
    for step in (0, 20, 21, 400):
        whole = order.batch(step, 0, 1)
        parts = [order.batch(step, replica, num_replicas) for replica in range(num_replicas)]
        for field in (0, 1):
            np.testing.assert_array_equal(np.concatenate([part[field] for part in parts]), whole[field])


@WINDOWS
def test_every_example_comes_exactly_once_in_each_epoch(window):
    order = ExampleOrder(num_examples=1003, global_batch_size=48, seed=5, window=window)
    steps = [order.batch(step, 0, 1) for step in range(order.first_step_after(3))]
    epochs, indices = (np.concatenate(field) for field in zip(*steps, strict=True))
    assert len(indices) - 3 * 1003 < 48
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(indices[epochs == epoch]), np.arange(1003))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(example_order.epoch_order(seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_a_fresh_process_in_mid_epoch_takes_the_same_examples():
    before = ExampleOrder(500, 32, seed=1).batch(37, 1, 2)
    example_order.epoch_order.cache_clear()
    after = ExampleOrder(500, 32, seed=1).batch(37, 1, 2)
    np.testing.assert_array_equal(before, after)


def test_a_window_as_large_as_the_set_changes_nothing():
    for step in (0, 10, 40):
        orders = [ExampleOrder(500, 32, seed=1, window=window).batch(step, 0, 1) for window in (None, 512)]
        np.testing.assert_array_equal(*orders)
    np.testing.assert_array_equal(example_order.window_order(1, 2, 500, 512, 0), example_order.epoch_order(1, 2, 500))


def test_a_window_takes_whole_blocks_from_all_over_the_set():
    size, window = 64_000, 6_400
    order = ExampleOrder(size, window, seed=1, window=window)
    _, index = order.batch(3, 0, 1)
    blocks, counts = np.unique(index // example_order.BLOCK, return_counts=True)
    assert (counts == example_order.BLOCK).all()
    assert np.ptp(blocks) > 900 and np.histogram(blocks, 4, (0, 1000))[0].min() > 10
    assert (np.abs(np.diff(index)) > 1).mean() > 0.99  # mixed within the window
    assert set(blocks) != set(np.unique(order.batch(13, 0, 1)[1] // example_order.BLOCK))  # others in the next epoch


def test_what_is_read_ahead_is_what_the_next_window_takes():
    order = ExampleOrder(10_000, 50, seed=1, window=1280)
    steps = range(26, 52)  # about the second window
    ahead = np.concatenate([order.blocks_ahead(step) for step in steps])
    _, index = order.batch(60, 0, 1)
    assert set(index // example_order.BLOCK) <= set(ahead) and len(ahead) <= 22
    np.testing.assert_array_equal(order.blocks_around(60), np.unique(np.sort(order.blocks_around(55))))


def test_an_examples_numbers_do_not_depend_on_its_company():
    index, epoch = np.arange(100), np.full(100, 3)
    alone = example_order.uniform_numbers(example_order.AUGMENTATION, 7, epoch[42:43], index[42:43], 5)
    together = example_order.uniform_numbers(example_order.AUGMENTATION, 7, epoch, index, 9)
    np.testing.assert_array_equal(alone[0], together[42, :5])


def test_uniforms_are_uniform_and_uncorrelated():
    index = np.arange(20_000)
    numbers = example_order.uniform_numbers(example_order.AUGMENTATION, 0, np.zeros_like(index), index, 6)
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(numbers.var(axis=0), 1 / 12, atol=0.002)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(6), atol=0.03)
    np.testing.assert_allclose(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1], 0, atol=0.03)


def test_the_generator_is_splitmix64():
    # The first outputs for seed 1234567, from the reference implementation at prng.di.unimi.it/splitmix64.c.
    counters = np.arange(1, 4, dtype=np.uint64)
    outputs = example_order._splitmix64(np.uint64(1234567) + counters * example_order.GOLDEN_GAMMA)
    assert outputs.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_numbers_of_a_seed_stay_what_they_are():
    one = np.array([0])
    np.testing.assert_allclose(
        example_order.uniform_numbers(example_order.AUGMENTATION, 0, one, one, 3)[0], FIRST_NUMBERS, atol=1e-7
    )
    assert example_order.epoch_order(0, 0, 10).tolist() == FIRST_ORDER


FIRST_NUMBERS = [0.3721784, 0.3549505, 0.3673546]
FIRST_ORDER = [4, 2, 5, 3, 0, 1, 8, 9, 6, 7]


def test_the_examples_that_a_seed_holds_out_stay_what_they_are():
    assert example_order.held_out(0, 20, 5).tolist() == FIRST_HELD_OUT
    assert example_order.held_out(1, 20, 5).tolist() != FIRST_HELD_OUT
    np.testing.assert_array_equal(example_order.held_out(0, 20, 20), np.arange(20))


def test_held_out_examples_are_found_a_piece_at_a_time(monkeypatch):
    whole = example_order.held_out(3, 1000, 50)
    monkeypatch.setattr(example_order, "AT_ONCE", 70)
    np.testing.assert_array_equal(example_order.held_out(3, 1000, 50), whole)


def test_what_is_held_out_has_a_stream_of_its_own():
    first_of_an_epoch = {tuple(np.sort(example_order.epoch_order(0, epoch, 20)[:5])) for epoch in range(50)}
    assert tuple(example_order.held_out(0, 20, 5)) not in first_of_an_epoch


FIRST_HELD_OUT = [0, 1, 3, 6, 15]

"""The set on the devices: what the host's pipeline draws and trains, drawn and trained inside the compiled steps."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from inkling.train import checkpoint
from inkling.train.config import POLICIES, JobConfig
from inkling.train.data import example_order, on_device
from inkling.train.data.device_numbers import uniform_numbers
from inkling.train.data.on_device import DeviceBatches, batch_of
from inkling.train.data.pipeline import training_batches
from inkling.train.loop import train
from inkling.train.progress import Advance
from inkling.train.step import TrainState, make_steps
from inkling.train.storage import RunFolder

pytestmark = pytest.mark.training

STREAMED, RESIDENT = 0, on_device.RESIDENT_BYTES


def test_a_device_draws_the_hosts_numbers_bit_for_bit():
    index = np.array([0, 1, 57_999, 2**31 - 1])
    epoch = np.array([0, 35, 3, 10**6])
    expected = example_order.uniform_numbers(example_order.AUGMENTATION, 7, epoch, index, 204)
    key = example_order.example_key(example_order.AUGMENTATION, 7)
    numbers = uniform_numbers(tf.constant(key), epoch.astype(np.int32), index.astype(np.int32), 204)
    np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize(
    ("policy", "bytes_on_device"),
    [("none", RESIDENT), ("original", STREAMED), ("robust", RESIDENT)],
    ids=["plain, resident", "moved, streamed", "changed, resident"],
)
def test_a_device_makes_the_hosts_batches(small_config, digits, two_replicas, policy, bytes_on_device):
    config = dataclasses.replace(small_config, augmentation=POLICIES[policy], plain_epochs=1, epochs=2)
    batches = DeviceBatches(config, digits, two_replicas, most_steps=3, resident_bytes=bytes_on_device)
    assert batches.is_resident == bool(bytes_on_device)
    made_by = tf.function(functools.partial(batch_of, config, background=0))
    for first in (0, 19):  # the last epoch begins in step 20
        call = batches.call(first, 3)
        host = iter(training_batches(config, digits, two_replicas, first_step=first))
        for number in range(3):
            made = two_replicas.run(made_by, args=(call, tf.constant(number)))
            for ours, theirs in zip(made, next(host), strict=True):
                for one, other in zip(ours.values, theirs.values, strict=True):
                    assert one.dtype == other.dtype
                    np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_device_makes_the_hosts_batches_in_colour(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, augmentation=POLICIES["robust"])
    images = digits.train_images
    colour = dataclasses.replace(
        digits, train_images=np.stack([images, images // 2, 255 - images], axis=-1), background=(0, 0, 255)
    )
    call = DeviceBatches(config, colour, one_replica, most_steps=2).call(5, 2)
    made_by = tf.function(functools.partial(batch_of, config, background=colour.background))
    made = one_replica.run(made_by, args=(call, tf.constant(0)))
    host = next(iter(training_batches(config, colour, one_replica, first_step=5)))
    assert made[0].shape == (48, 28, 28, 3)
    for ours, theirs in zip(made, host, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_xla_makes_the_same_batches(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, augmentation=POLICIES["robust"])

    def made(*, compiled):
        call = DeviceBatches(config, digits, one_replica, most_steps=2, compiled=compiled).call(5, 2)
        batch = tf.function(functools.partial(batch_of, config, background=0), jit_compile=compiled)
        return one_replica.run(batch, args=(call, tf.constant(1)))

    for plain, compiled in zip(made(compiled=False), made(compiled=True), strict=True):
        np.testing.assert_allclose(compiled, plain, atol=1e-4)


def steps(config, dataset, strategy, *, on_device):
    with strategy.scope():
        state = TrainState(config, image_size=dataset.image_size, num_classes=10, total_steps=40)
    run_steps, at_once = make_steps(config, state, strategy, dataset, on_device=on_device, most=8)
    assert not on_device or at_once == 8
    return np.concatenate([run_steps(count).loss for count in (8, 3, 8)])


@pytest.mark.slow
def test_steps_of_two_replicas_on_their_devices_are_the_hosts(small_config, digits, two_replicas):
    config = dataclasses.replace(small_config, augmentation=POLICIES["robust"], learning_rate=3e-4)
    on_host = steps(config, digits, two_replicas, on_device=False)
    np.testing.assert_allclose(steps(config, digits, two_replicas, on_device=True), on_host, rtol=1e-4)


@pytest.mark.slow
def test_xla_compiles_a_whole_call_of_steps(small_config, digits, one_replica):
    config = dataclasses.replace(small_config, augmentation=POLICIES["robust"], learning_rate=3e-4, deterministic=False)
    plain = steps(config, digits, one_replica, on_device=True)
    compiled = steps(dataclasses.replace(config, jit_compile=True), digits, one_replica, on_device=True)
    np.testing.assert_allclose(compiled, plain, rtol=1e-3)


class Stop(Exception):
    pass


def test_a_run_on_the_device_logs_and_resumes_like_one_on_the_host(small_config, digits, one_replica, tmp_path):
    config = dataclasses.replace(
        small_config, log_every_steps=4, checkpoint_every_steps=11, learning_rate=3e-4, dropout=(0.2, 0.3)
    )

    def trained(name, *, on_device, stop_at=None):
        def on_checkpoint(path, metrics):
            if metrics["step"] == stop_at:
                raise Stop

        folder, events = RunFolder(str(tmp_path), name), []
        settings = {"emit": events.append, "on_checkpoint": on_checkpoint, "on_device": on_device}
        train(config, digits, one_replica, folder, **settings)
        return checkpoint.latest(folder)[0], [event.step for event in events if isinstance(event, Advance)]

    host, shown = trained("host", on_device=False)
    whole, shown_too = trained("device", on_device=True)
    with pytest.raises(Stop):
        trained("resumed", on_device=True, stop_at=22)
    resumed, _ = trained("resumed", on_device=True)
    assert shown == shown_too and [line["step"] for line in host.history] == [line["step"] for line in whole.history]
    losses = [[line["loss"] for line in run.history if "loss" in line] for run in (host, whole)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    for name, value in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], value, err_msg=name)


def test_the_resume_command_keeps_the_place_of_the_set():
    assert JobConfig(name="a", on_device=False).resume_command().endswith("--resume a --on-device False")
    assert JobConfig(name="a", in_process=True).resume_command().endswith("--resume a --in-process")

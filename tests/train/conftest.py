"""Small real data, and two logical CPU devices so that the multi-GPU code runs here."""

import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

from inkling.train import config as configs
from inkling.train import data


def pytest_configure():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture(scope="session")
def mnist():
    return data.load()


@pytest.fixture(scope="session")
def digits(mnist):
    """1,000 training and 203 test images of the real MNIST: no round numbers of batches."""
    return dataclasses.replace(
        mnist,
        train_images=mnist.train_images[:1000],
        train_labels=mnist.train_labels[:1000],
        test_images=mnist.test_images[:203],
        test_labels=mnist.test_labels[:203],
        source="digits",
    )


@pytest.fixture(scope="session")
def digits_file(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(
        path,
        x_train=digits.train_images,
        y_train=digits.train_labels,
        x_test=digits.test_images,
        y_test=digits.test_labels,
    )
    return path


@pytest.fixture(scope="session")
def small_config():
    """Trains in a second: narrow layers, two epochs, no dropout, the same bits each time."""
    return dataclasses.replace(
        configs.quick(),
        epochs=2,
        global_batch_size=48,
        validation_size=100,
        widths=(4, 4, 8, 8),
        dropout=(0.0, 0.0),
        deterministic=True,
        checkpoint_every_steps=7,
        log_every_steps=1,
    )


@pytest.fixture(scope="session")
def one_replica():
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(scope="session")
def two_replicas():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

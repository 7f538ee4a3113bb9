"""TensorFlow without any server: images a second by batch size, in a loop. Prints JSON by batch size."""

import argparse
import json
import time

import numpy as np
import tensorflow as tf

SECONDS = 3.0


def measure(folder: str, batch_size: int) -> dict[str, float]:
    """Images a second and milliseconds a call."""
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    images = np.random.default_rng(0).integers(0, 256, (batch_size, 28, 28), np.uint8)
    latencies = []
    end = time.perf_counter() + 1 + SECONDS
    while (began := time.perf_counter()) < end:
        outputs = signature(images=tf.constant(images))
        for tensor in outputs.values():
            tensor.numpy()
        if began > end - SECONDS:
            latencies.append(time.perf_counter() - began)
    return {
        "images_per_s": batch_size * len(latencies) / sum(latencies),
        "p50_ms": float(np.percentile(latencies, 50)) * 1e3,
        "p99_ms": float(np.percentile(latencies, 99)) * 1e3,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a version's folder")
    parser.add_argument("batch_sizes", type=int, nargs="+")
    arguments = parser.parse_args()
    print(json.dumps({size: measure(arguments.model, size) for size in arguments.batch_sizes}))

"""What a version's model card says that the server goes by: the reference statistics for drift."""

import json
import logging
import posixpath
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ..monitoring.drift import Histogram, Reference

logger = logging.getLogger(__name__)

CARD = "model_card.json"
MAX_BYTES = 1 << 20


def read_reference(path: str) -> Reference | None:
    """The reference statistics in the model card of the version in the folder or URI `path`; None if it has none."""
    file = posixpath.join(path, CARD)
    try:
        if not tf.io.gfile.exists(file) or tf.io.gfile.stat(file).length > MAX_BYTES:
            return None
        with tf.io.gfile.GFile(file) as content:
            card = json.loads(content.read())
        return _reference_of(card["reference"]["features"]) if "reference" in card else None
    except (tf.errors.OpError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        logger.warning("%s: no reference statistics can be read, so drift is not watched: %s", file, error)
        return None


def _reference_of(features: Mapping[str, Any]) -> Reference:
    return {name: _histogram(name, feature) for name, feature in features.items()}


def _histogram(name: str, feature: Mapping[str, Any]) -> Histogram:
    edges, counts = np.array(feature["edges"], np.float64), np.array(feature["counts"], np.int64)
    if edges.ndim != 1 or counts.shape != (len(edges) + 1,) or (np.diff(edges) <= 0).any() or counts.min() < 0:
        raise ValueError(f"feature {name!r} has edges and counts that make no histogram")
    return Histogram(edges, counts, feature["ordered"] is True)

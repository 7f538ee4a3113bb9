"""The convolutional network: four convolutions and a softmax, as the original system had it."""

import keras

from ..config import TrainConfig
from .batch_norm import BatchNormalization

# Of the batch statistics' moving average. Short, for runs of a few hundred steps; the average over the weights that
# training keeps anyway (TrainConfig.average_decay) smooths the statistics as well.
BATCH_NORM_MOMENTUM = 0.9


def build_model(
    config: TrainConfig,
    *,
    image_size: tuple[int, int],
    num_classes: int,
    channels: int = 1,
    for_training: bool = False,
) -> keras.Model:
    """Build the network with fresh weights drawn from `config.seed`.

    Args:
        image_size: (height, width) in pixels.
        channels: 1 for grey images, 3 for images in colour.
        for_training: with the config's precision, dropout seeds and replicas that share their batch statistics.
            Without, a plain float32 model of the same variables, for evaluation and export.

    Returns: a model from float32 [n, height, width, channels], 0 to 1, to probabilities float32 [n, num_classes]. Its
        layer `logits` holds what goes into the softmax.
    """
    dtype = _POLICY[config.precision] if for_training else "float32"
    normalization = BatchNormalization if for_training else keras.layers.BatchNormalization

    def convolution(number: int) -> list[keras.Layer]:
        return [
            keras.layers.Conv2D(
                config.widths[number - 1],
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.GlorotUniform(seed=config.seed * 8 + number),
                kernel_regularizer=keras.regularizers.L2(config.l2),
                dtype=dtype,
                name=f"conv{number}",
            ),
            normalization(momentum=BATCH_NORM_MOMENTUM, dtype=dtype, name=f"conv{number}_norm"),
        ]

    def pool_and_drop(number: int) -> list[keras.Layer]:
        return [
            keras.layers.MaxPooling2D(2, dtype=dtype, name=f"pool{number}"),
            keras.layers.Dropout(config.dropout[number - 1], seed=config.seed, dtype=dtype, name=f"dropout{number}"),
        ]

    layers = [
        *convolution(1),
        *convolution(2),
        *pool_and_drop(1),
        *convolution(3),
        *convolution(4),
        *pool_and_drop(2),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.GlorotUniform(seed=config.seed * 8 + 5),
            dtype="float32",  # a softmax in half precision loses the small probabilities
            name="logits",
        ),
        keras.layers.Softmax(dtype="float32", name="probabilities"),
    ]
    images = outputs = keras.Input((*image_size, channels), name="images")
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(images, outputs, name="inkling")


def logits_model(model: keras.Model) -> keras.Model:
    """The same layers and variables, without the softmax: a loss from logits is the one that does not overflow."""
    return keras.Model(model.input, model.get_layer("logits").output, name="inkling_logits")


_POLICY = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

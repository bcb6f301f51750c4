"""The DeepConnotation project's classifier on embeddings: 1024-25-12-8, 26,041 parameters."""

import numpy as np

from deepconnotation.backend import keras
from deepconnotation.settings import CLASSIFIER_WIDTHS

layers = keras.layers


def build(
    units: int,
    classes: int,
    widths: tuple[int, ...] = CLASSIFIER_WIDTHS,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> keras.Model:
    """Build the classifier from embeddings to logits.

    Args:
        units: of the embedding.
        classes: number of classes.
        widths: units of the hidden layers, each with ReLU; Xavier's initial weights, zero biases.
        statistics: mean and variance (units,) by which embeddings are standardised; None takes
            them as they are, as the original did.

    Returns:
        Model from float32 (batch, units) to float32 logits (batch, classes).
    """
    inputs = keras.Input((units,), dtype="float32", name="embedding")
    x = inputs
    if statistics is not None:
        mean, variance = statistics
        x = layers.Normalization(mean=mean, variance=variance, dtype="float32", name="normalise")(x)
    for number, width in enumerate(widths, start=1):
        x = layers.Dense(width, "relu", dtype="float32", name=f"dense{number}")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="embedding_mlp")

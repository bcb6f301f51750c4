"""What training minimises."""

import numpy as np

from deepconnotation.backend import tf
from deepconnotation.console import UserError

CLASS_WEIGHTS = ("none", "inverse", "sqrt")


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted cross-entropy of each picture, in nats.

    Args:
        targets: float32 (batch, classes), probabilities; smoothed or mixed ones too.
        logits: float32 (batch, classes).
        class_weights: float32 (classes,).

    Returns:
        float32 (batch,): -sum_c weight_c target_c log softmax(logits)_c.
    """
    return -tf.reduce_sum(class_weights * targets * tf.nn.log_softmax(logits), axis=1)


def smooth(labels: tf.Tensor, classes: int, amount: float) -> tf.Tensor:
    """Return targets with `amount` of the probability spread over all classes.

    Label smoothing of Szegedy et al. 2016 (arXiv 1512.00567).

    Args:
        labels: int64 (batch,).
        classes: their number.
        amount: 0 to 1.
    """
    return tf.one_hot(labels, classes) * (1 - amount) + amount / classes


def class_weights(scheme: str, counts: np.ndarray) -> np.ndarray:
    """Return a weight a class.

    Args:
        scheme: "none", "inverse" (1 / count), "sqrt" (1 / square root of count), or one number a
            class, like ".1,.1,.5", in the order of the classes.
        counts: int (classes,), training pictures of each class.

    Returns:
        float32 (classes,). The schemes' weights average 1 over the training pictures, so that
        they do not change the size of a step; given numbers are taken as they are.

    Raises:
        UserError: when the text is neither.
    """
    counts = np.asarray(counts, np.float64)
    if scheme in CLASS_WEIGHTS:
        power = {"none": 0.0, "inverse": 1.0, "sqrt": 0.5}[scheme]
        weights = np.maximum(counts, 1) ** -power
        return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
    try:
        weights = np.array([float(w) for w in scheme.split(",")])
    except ValueError:
        weights = np.empty(0)
    if len(weights) != len(counts) or not np.isfinite(weights).all() or (weights < 0).any():
        raise UserError(
            f"--class-weights {scheme!r}: expected {', '.join(CLASS_WEIGHTS)} or "
            f"{len(counts)} numbers separated by commas, one a class"
        )
    return weights.astype(np.float32)

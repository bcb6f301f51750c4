"""What training minimises."""

from deepconnotation.backend import tf


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

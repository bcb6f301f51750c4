"""What training minimises."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.emotions import POLARITY, WHEEL, polarity_of, wheel_distance


@dataclass(frozen=True)
class Objective:
    """The loss of a picture, in nats: cross-entropy, and what settings add to it.

        z' = z + adjustment                                    (Menon et al., ICLR 2021)
        L  = -sum_c s_c (1 - p_c)^focal log p_c,  p = softmax(z')        (Lin et al., ICCV 2017)
        s  = smooth(w t), in this order: a rare class's weight must not reach its share of the
             smoothing of other classes' pictures
        L *= 1 + polarity [sign(argmax p) != sign(argmax t)]   (VAANet, Zhao et al., AAAI 2020)
        L += wheel sum_y t_y sum_c p_c d(y, c)

    Attributes:
        adjustment: float32 (classes,), tau log prior; the logits that the model answers stay
            without it, so that they favour no class for being common.
        smoothing: of labels, 0 to 1; 0 is off.
        focal: gamma; 0 is plain cross-entropy.
        polarity: lambda of the polarity-consistent loss; 0 is off.
        signs: int (classes,), +1, -1 or 0.
        wheel: weight of the expected distance on Mikels' wheel; 0 is off.
        distances: float32 (classes, classes), 0 to 1.
    """

    adjustment: np.ndarray
    smoothing: float = 0.0
    focal: float = 0.0
    polarity: float = 0.0
    signs: np.ndarray | None = None
    wheel: float = 0.0
    distances: np.ndarray | None = None

    def __call__(
        self, targets: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor
    ) -> tf.Tensor:
        """Return float32 (batch,), the loss of each picture.

        Args:
            targets: float32 (batch, classes), probabilities; mixed or viewers' shares too: the
                cross-entropy is then their KL divergence plus a constant.
            logits: float32 (batch, classes).
            class_weights: float32 (classes,).
        """
        log_p = tf.nn.log_softmax(logits + self.adjustment)
        terms = smooth(class_weights * targets, self.smoothing) * log_p
        if self.focal:
            # Where p is 1 the power's gradient is 0 / 0 for gamma below 1.
            terms *= tf.maximum(1 - tf.exp(log_p), 1e-7) ** self.focal
        loss = -tf.reduce_sum(terms, axis=1)
        if self.polarity:
            signs = tf.constant(self.signs)
            predicted, true = (tf.gather(signs, tf.argmax(x, 1)) for x in (logits, targets))
            loss *= 1 + self.polarity * tf.cast(predicted != true, tf.float32)
        if self.wheel:
            expected = tf.matmul(tf.exp(log_p), self.distances, transpose_b=True)
            loss += self.wheel * tf.reduce_sum(targets * expected, axis=1)
        return loss


def objective(
    classes: Sequence[str], counts: np.ndarray, smoothing: float = 0.0, focal: float = 0.0,
    logit_adjustment: float = 0.0, polarity: float = 0.0, wheel: float = 0.0,
) -> Objective:  # fmt: skip
    """Return the loss for a data set.

    Args:
        classes: names, in the order of the logits.
        counts: int (classes,), training pictures of each.
        smoothing: of labels.
        focal: gamma.
        logit_adjustment: tau, of the logarithm of the classes' shares.
        polarity: lambda of the polarity-consistent loss.
        wheel: weight of the expected wheel distance.

    Raises:
        UserError: when a class has no place on Mikels' wheel, but its distance is asked for.
    """
    prior = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
    return Objective(
        adjustment=(logit_adjustment * np.log(prior)).astype(np.float32),
        smoothing=smoothing,
        focal=focal,
        polarity=polarity,
        signs=polarities(classes) if polarity else None,
        wheel=wheel,
        distances=wheel_distances(classes) if wheel else None,
    )


def polarities(classes: Sequence[str]) -> np.ndarray:
    """Return int64 (classes,): +1, -1, or 0, also for a merged class whose members differ.

    Raises:
        UserError: for a class of a data set's own, whose polarity nobody knows.
    """
    try:
        return np.array([polarity_of(name) for name in classes])
    except KeyError as error:
        raise UserError(f"--polarity: {error} is neither pleasant nor unpleasant to us; there are "
                        f"{', '.join(POLARITY)}") from None  # fmt: skip


def wheel_distances(classes: Sequence[str]) -> np.ndarray:
    """Return float32 (classes, classes), circular steps on Mikels' wheel over its largest, 4.

    A merged class stands at the mean distance of its members.

    Raises:
        UserError: when a class is not on the wheel.
    """
    for name in classes:
        if not {*name.split("+")} <= {*WHEEL}:
            raise UserError(f"--wheel: {name!r} is not on Mikels' wheel: {', '.join(WHEEL)}")

    def distance(a: str, b: str) -> float:
        if a == b:
            return 0.0
        pairs = [wheel_distance(x, y) - 1 for x in a.split("+") for y in b.split("+")]
        return float(np.mean(pairs)) / (len(WHEEL) // 2)

    return np.array([[distance(a, b) for b in classes] for a in classes], np.float32)


def multi_label_loss(
    targets: tf.Tensor, logits: tf.Tensor, class_weights: tf.Tensor
) -> tf.Tensor:
    """Return float32 (batch,), the mean binary cross-entropy of sigmoids over the classes, in nats.

    Args:
        targets: float32 (batch, classes), 1 where a class is there.
        logits: float32 (batch, classes).
        class_weights: float32 (classes,).
    """
    each = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    return tf.reduce_mean(class_weights * each, axis=1)


def affect_loss(kind: str, true: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Return a batch's loss of valence and arousal, a float32 scalar; 0 where none is known.

        l1  mean |x - y|      l2  mean (x - y)^2      over all known values
        ccc 1 - CCC, see `affect.figures`; the mean of both axes that have two known values or more

    Args:
        kind: "l1", "l2" or "ccc".
        true: float32 (batch, 2), -1 to 1; NaN where missing.
        predicted: float32 (batch, 2).
    """
    known = tf.cast(tf.math.is_finite(true), tf.float32)
    x = tf.where(known > 0, true, 0.0)  # a NaN times 0 would still be one, also in the gradient
    y = predicted * known
    if kind != "ccc":
        error = tf.abs(x - y) if kind == "l1" else tf.square(x - y)
        return tf.reduce_sum(error) / tf.maximum(tf.reduce_sum(known), 1.0)
    count = tf.reduce_sum(known, axis=0)
    n = tf.maximum(count, 1.0)
    mean_x, mean_y = tf.reduce_sum(x, axis=0) / n, tf.reduce_sum(y, axis=0) / n
    dx, dy = known * (x - mean_x), known * (y - mean_y)
    spread = tf.reduce_sum(dx**2 + dy**2, axis=0) + n * (mean_x - mean_y) ** 2
    ccc = 2 * tf.reduce_sum(dx * dy, axis=0) / tf.maximum(spread, 1e-6)
    used = tf.cast(count >= 2, tf.float32)
    return tf.reduce_sum(used * (1 - ccc)) / tf.maximum(tf.reduce_sum(used), 1.0)


class LearnedWeights:
    """Class weights that grow where the loss is high (group DRO, Sagawa et al., ICLR 2020).

    After each step a class's weight is multiplied by exp(rate x its mean loss in the batch). They
    stay within `bound` times and 1 / `bound` of each other's mean, and average 1 over the training
    pictures, so that they do not change the size of a step.

    Args:
        counts: int (classes,), training pictures of each.
        bound: largest weight over 1, and 1 over the smallest, before the averaging.
        rate: of the growth.
    """

    def __init__(self, counts: np.ndarray, bound: float, rate: float = 0.01):
        self.shares = np.asarray(counts, np.float32) / np.sum(counts)
        self.bound, self.rate = bound, rate
        self.variable = tf.Variable(tf.ones(len(counts)), trainable=False, name="class_weights")

    def update(self, targets: tf.Tensor, losses: tf.Tensor) -> None:
        """Take a step.

        Args:
            targets: float32 (batch, classes).
            losses: float32 (batch,), unweighted.
        """
        there = tf.reduce_sum(targets, axis=0)
        mean = tf.linalg.matvec(targets, losses, transpose_a=True) / tf.maximum(there, 1e-6)
        grown = self.variable * tf.exp(self.rate * tf.where(there > 0, mean, 0.0))
        relative = tf.exp(tf.math.log(grown) - tf.reduce_mean(tf.math.log(grown)))
        relative = tf.clip_by_value(relative, 1 / self.bound, self.bound)
        self.variable.assign(relative / tf.reduce_sum(self.shares * relative))


def smooth(targets: tf.Tensor, amount: float) -> tf.Tensor:
    """Return float32 (batch, classes): `amount` of each row's sum spread over all classes.

    Label smoothing of Szegedy et al. 2016 (arXiv 1512.00567).

    Args:
        targets: float32 (batch, classes).
        amount: 0 to 1.
    """
    return (1 - amount) * targets + amount * tf.reduce_mean(targets, axis=1, keepdims=True)

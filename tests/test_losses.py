"""Losses, class weights and schedules, worked by hand or by Keras."""

import numpy as np
import pytest

from deepconnotation import losses, schedule
from deepconnotation.backend import keras, tf

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 3, 0])


def test_cross_entropy_equals_keras():
    for amount in (0.0, 0.1):
        ours = losses.cross_entropy(losses.smooth(LABELS, 4, amount), LOGITS, tf.ones(4))
        theirs = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=amount, reduction=None
        )(np.eye(4)[LABELS], LOGITS)
        assert np.allclose(ours, theirs, atol=1e-6)


def test_weights_scale_a_pictures_loss_by_its_class():
    weights = tf.constant([0.5, 1.0, 2.0, 4.0])
    plain = losses.cross_entropy(losses.smooth(LABELS, 4, 0.0), LOGITS, tf.ones(4))
    weighted = losses.cross_entropy(losses.smooth(LABELS, 4, 0.0), LOGITS, weights)
    assert np.allclose(weighted / plain, np.array([0.5, 1, 2, 4, 4, 0.5]))


def test_learning_rates_by_hand():
    rate = schedule.learning_rate
    assert rate("constant", 0.1, 0.9, 0.0) == 0.1
    assert rate("cosine", 0.1, 0.05, 0.1) == pytest.approx(0.05)  # half-way up
    assert rate("cosine", 0.1, 0.1, 0.1) == pytest.approx(0.1)
    assert rate("cosine", 0.1, 0.55, 0.1) == pytest.approx(0.05)  # half-way down
    assert rate("cosine", 0.1, 1.0, 0.1) == pytest.approx(0)
    steps = [rate("step", 1.0, p, 0.0, (0.5, 0.75)) for p in (0.49, 0.5, 0.74, 0.75)]
    assert steps == pytest.approx([1, 0.1, 0.1, 0.01])


def test_plateau_counts_like_keras_early_stopping():
    values = [1.0, 0.9, 0.95, 0.9, 0.85, 0.86]
    watch = schedule.Plateau(higher_is_better=False)
    assert [watch.update(v) for v in values] == [True, True, False, False, True, False]
    assert (watch.best, watch.wait) == (0.85, 1)
    again = schedule.Plateau(**watch.state())
    assert not again.update(0.9) and again.wait == 2
    assert [schedule.Plateau(True).update(v) for v in (0.1,)] == [True]

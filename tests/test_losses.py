"""Losses, class weights and schedules, worked by hand or by Keras."""

import numpy as np
import pytest

from deepconnotation import losses, schedule
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.emotions import FI

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 3, 0])
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0], np.float32)


def plain(weights, smoothing=0.0):
    return losses.objective(list("abcd"), np.ones(4), smoothing)(ONE_HOT, LOGITS, weights)


def test_cross_entropy_equals_keras():
    for amount in (0.0, 0.1):
        ours = plain(tf.ones(4), amount)
        theirs = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=amount, reduction=None
        )(ONE_HOT, LOGITS)
        assert np.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_scale_a_pictures_loss_by_its_class(smoothing):
    ratio = plain(WEIGHTS, smoothing) / plain(tf.ones(4), smoothing)
    assert np.allclose(ratio, np.array([0.5, 1, 2, 4, 4, 0.5]))


def test_smoothing_and_weights_together_favour_no_class():
    """Of a picture of the second class, the loss is lowest at the smoothed label, whatever the
    weights: a weight of 4 for the last class does not make it likelier there."""
    logits = tf.Variable(np.log([[0.025, 0.925, 0.025, 0.025]]), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = losses.objective(list("abcd"), np.ones(4), 0.1)(ONE_HOT[1:2], logits, WEIGHTS)
    assert np.allclose(tape.gradient(loss, logits), 0, atol=1e-6)


def test_focal_loss_equals_keras():
    for gamma in (0.5, 2.0):
        ours = losses.objective(list("abcd"), np.ones(4), focal=gamma)(ONE_HOT, LOGITS, tf.ones(4))
        theirs = keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0, gamma=gamma, from_logits=True, reduction=None
        )(ONE_HOT, LOGITS)
        assert np.allclose(ours, theirs, atol=1e-5)


def test_focal_gradient_is_finite_where_the_answer_is_certain():
    logits = tf.constant([[80.0, 0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.objective(list("abcd"), np.ones(4), focal=0.5)(
            tf.one_hot([0], 4), logits, tf.ones(4)
        )
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_logit_adjustment_by_hand():
    """Shares .5 and .5: nothing; .8 and .2: the logits move by log 4 against the common class."""
    targets, logits, ones = tf.constant([[0.0, 1.0]]), tf.zeros((1, 2)), tf.ones(2)
    even, uneven = (losses.objective("ab", np.array(n), logit_adjustment=1.0)
                    for n in ([10, 10], [80, 20]))  # fmt: skip
    assert float(even(targets, logits, ones)[0]) == pytest.approx(np.log(2))
    assert float(uneven(targets, logits, ones)[0]) == pytest.approx(np.log(5))
    half = losses.objective("ab", np.array([80, 20]), logit_adjustment=0.5)
    # softmax of (log .8 / 2, log .2 / 2) is (2, 1) / 3
    assert float(half(targets, logits, ones)[0]) == pytest.approx(np.log(3))


FI_LOGITS = tf.constant([[2.0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 2.0, 0, 0, 0, 0, 0]])


def test_polarity_by_hand():
    """Amusement for anger is wrong in sign, awe for amusement is not."""
    targets = tf.one_hot([1, 0], 8)
    cross_entropy = np.log(np.exp(2) + 7)
    found = losses.objective(FI.classes, np.ones(8), polarity=0.5)(targets, FI_LOGITS, tf.ones(8))
    assert np.allclose(found, [1.5 * cross_entropy, cross_entropy])


def test_wheel_by_hand():
    """Anger is one step from amusement and disgust, two from sadness and contentment, …: of 4."""
    steps = {"anger": 0, "amusement": 1, "disgust": 1, "contentment": 2, "sadness": 2, "awe": 3,
             "fear": 3, "excitement": 4}  # fmt: skip
    p = np.full(8, 1 / (np.exp(2) + 7))
    p[0] *= np.exp(2)
    expected = sum(p[i] * steps[name] / 4 for i, name in enumerate(FI.classes))
    cross_entropy = np.log(np.exp(2) + 7)
    found = losses.objective(FI.classes, np.ones(8), wheel=2.0)(
        tf.one_hot([1], 8), FI_LOGITS[:1], tf.ones(8)
    )
    assert float(found[0]) == pytest.approx(cross_entropy + 2 * expected, rel=1e-5)


def test_merged_classes_stand_between_their_members():
    distances = losses.wheel_distances(["anger+fear", "awe"])
    # anger to awe 3 steps, fear to awe 2: 2.5 of 4
    assert distances.tolist() == [[0, 0.625], [0.625, 0]]
    assert losses.polarities(["anger+fear", "awe", "anger+awe"]).tolist() == [-1, 1, 0]
    with pytest.raises(UserError, match="--wheel: 'neutral' is not on Mikels' wheel"):
        losses.wheel_distances(["neutral", "awe"])
    with pytest.raises(UserError, match="--polarity: 'cat' is neither"):
        losses.polarities(["cat", "awe"])


def test_learned_weights_grow_with_the_loss_and_stay_bounded():
    learned = losses.LearnedWeights(np.array([6, 3, 1]), bound=4.0, rate=0.5)
    targets = tf.constant([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    learned.update(targets, tf.constant([1.0, 3.0, 0.5]))
    grown = np.exp([0.5 * 2.0, 0.5 * 0.5, 0.0])  # the third class is not in this batch
    expected = grown / (grown * [0.6, 0.3, 0.1]).sum()
    assert np.allclose(learned.variable, expected, atol=1e-6)
    for _ in range(50):
        learned.update(targets, tf.constant([1.0, 3.0, 0.5]))
    weights = learned.variable.numpy()
    # 4 times their geometric mean and a quarter of it at most
    relative = weights / np.exp(np.log(weights).mean())
    assert (weights * [0.6, 0.3, 0.1]).sum() == pytest.approx(1, abs=1e-5)
    assert relative.max() < 4 * 1.6 and weights[0] > weights[1] > weights[2]
    assert weights.max() / weights.min() <= 16 + 1e-3


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
    small = schedule.Plateau(higher_is_better=True, min_delta=0.01)
    assert [small.update(v) for v in (0.5, 0.508, 0.512)] == [True, False, True]

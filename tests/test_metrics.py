"""Figures against scikit-learn, hand-worked matrices and the binomial interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from deepconnotation import affect, metrics
from deepconnotation.emotions import FI

CLASSES = ["a", "b", "c"]


def test_by_hand():
    # rows true, columns predicted: [[3, 1, 0], [1, 1, 0], [0, 1, 3]]
    labels = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    predicted = [0, 0, 0, 1, 0, 1, 1, 2, 2, 2]
    found = metrics.summarise(labels, predicted, CLASSES, majority=0)
    assert found["confusion_matrix"] == [[3, 1, 0], [1, 1, 0], [0, 1, 3]]
    assert found["accuracy"]["value"] == pytest.approx(7 / 10)
    assert found["accuracy"]["majority"] == pytest.approx(4 / 10)
    assert found["balanced_accuracy"]["value"] == pytest.approx((3 / 4 + 1 / 2 + 3 / 4) / 3)
    assert found["balanced_accuracy"]["majority"] == pytest.approx(1 / 3)
    assert found["macro_f1"]["value"] == pytest.approx((6 / 8 + 2 / 5 + 6 / 7) / 3)
    b = found["per_class"][1]
    assert (b["class"], b["recall"], b["images"]) == ("b", 0.5, 2)
    assert (b["precision"], b["f1"]) == (pytest.approx(1 / 3), pytest.approx(0.4))


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    for absent in (False, True):
        labels = rng.integers(0, 2 if absent else 3, 500)
        predicted = np.where(rng.random(500) < 0.6, labels, rng.integers(0, 2, 500))
        found = metrics.summarise(labels, predicted, CLASSES, 0)
        assert found["accuracy"]["value"] == pytest.approx(sk.accuracy_score(labels, predicted))
        expected = sk.balanced_accuracy_score(labels, predicted)
        assert found["balanced_accuracy"]["value"] == pytest.approx(expected)
        expected = sk.f1_score(labels, predicted, average="macro")
        assert found["macro_f1"]["value"] == pytest.approx(expected)
        assert found["absent_classes"] == (["c"] if absent else [])
        per_class = sk.precision_recall_fscore_support(
            labels, predicted, labels=range(3), zero_division=0
        )
        for i, row in enumerate(found["per_class"]):
            values = [row[k] or 0 for k in ("precision", "recall", "f1", "images")]
            assert values == pytest.approx([v[i] for v in per_class])


@pytest.mark.filterwarnings("ignore:y_pred contains", "ignore:A single label was found")
@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 2), min_size=1, max_size=6))
def test_a_few_pictures_against_scikit_learn(pairs):
    labels, predicted = np.array(pairs).T
    found = metrics.scalars(metrics.confusion_matrix(labels, predicted, 3))
    assert found == {
        "accuracy": pytest.approx(sk.accuracy_score(labels, predicted)),
        "balanced_accuracy": pytest.approx(sk.balanced_accuracy_score(labels, predicted)),
        "macro_f1": pytest.approx(sk.f1_score(labels, predicted, average="macro")),
    }


def test_an_interval_holds_95_percent():
    assert metrics.interval(np.arange(1001)) == (pytest.approx(25), pytest.approx(975))


def test_interval_of_accuracy_is_near_the_binomial_one():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 1000)
    predicted = np.where(rng.random(1000) < 0.7, labels, (labels + 1) % 3)
    f = metrics.summarise(labels, predicted, CLASSES, 0)["accuracy"]
    low, high = stats.binom.interval(0.95, 1000, f["value"])
    assert f["low"] == pytest.approx(low / 1000, abs=0.006)
    assert f["high"] == pytest.approx(high / 1000, abs=0.006)


def test_people_make_the_interval_wider():
    """Twenty pictures a person, all right or all wrong: the people are what was drawn."""
    rng = np.random.default_rng(2)
    right = (rng.random(50) < 0.7).repeat(20)
    labels = rng.integers(0, 3, 1000)
    predicted = np.where(right, labels, (labels + 1) % 3)
    people = [f"p{i // 20}" for i in range(1000)]

    def width(groups):
        f = metrics.summarise(labels, predicted, CLASSES, 0, groups)["accuracy"]
        return f["high"] - f["low"]

    # The standard error grows by the square root of the cluster size, 4.47.
    assert 3.3 < width(people) / width(None) < 5.6
    assert width([""] * 1000) == width(None)


def test_intervals_of_many_pictures_are_drawn_in_blocks_that_change_no_figure(monkeypatch):
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 3, (2, 200))
    true, told = rng.normal(size=(2, 200, 2))
    people = [f"p{i // 4}" for i in range(200)]

    def measured():
        ccc = affect.summarise(true, told, people)["valence"]["ccc"]
        return metrics.summarise(labels, predicted, CLASSES, 0, people), ccc

    whole, ccc = measured()
    monkeypatch.setattr(metrics, "BLOCK", 30 * 200)
    blocks = list(metrics.draw_groups(people, 0)[1])
    assert [len(block) for block in blocks] == [30] * 33 + [10]
    assert all((block.sum(axis=1) == 50).all() for block in blocks)
    assert measured() == (whole, pytest.approx(ccc))


def test_geometry_by_hand():
    """Four amusing pictures: two right, one called contentment, one called anger (both one step
    off, anger with the other sign); an angry one called fear (three steps, same sign)."""
    matrix = np.zeros((8, 8), int)
    index = {name: i for i, name in enumerate(FI.classes)}
    for true, predicted, n in (("amusement", "amusement", 2), ("amusement", "contentment", 1),
                               ("amusement", "anger", 1), ("anger", "fear", 1)):  # fmt: skip
        matrix[index[true], index[predicted]] = n
    found = metrics.geometry(matrix, FI.classes)
    assert found == {
        "polarity_accuracy": pytest.approx(4 / 5),
        "ecc": pytest.approx((1 + 1 + 2 + (2 + 3) + 4) / 5),
        "emc": pytest.approx((1 + (1 + 3) + 3) / 3),
    }
    one = metrics.geometry((matrix == 2).astype(int), FI.classes)
    assert one == {"polarity_accuracy": 1, "ecc": 1, "emc": 0}
    assert metrics.geometry(np.eye(2), ["neutral", "joy"]) == {}
    assert metrics.geometry(np.eye(2), ["neutral", "sadness"]) == {"polarity_accuracy": 1.0}

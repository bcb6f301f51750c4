"""Calibration and prediction sets, by hand, by simulation and in a run."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from deepconnotation import calibration, evaluate, predict, run
from deepconnotation.data import manifest, pipeline


def drawn(n: int, classes: int, sharpness: float, seed: int = 0):
    """Labels drawn from the softmax of logits, and the logits times the sharpness."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    p = softmax(logits, axis=1)
    labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return labels, log_softmax(logits * sharpness, axis=1)


def test_error_by_hand():
    """Two bins: .95 twice, one right; .5 once, right. (2 * .45 + .5) / 3."""
    confidence, right = np.array([0.95, 0.95, 0.5]), np.array([True, False, True])
    assert calibration.ece(confidence, right) == pytest.approx((2 * 0.45 + 0.5) / 3)
    rows = calibration.reliability(confidence, right)
    assert rows == [(0.5, 1.0, 1), (pytest.approx(0.95), 0.5, 2)]
    assert calibration.ece(np.array([1.0]), np.array([True])) == 0
    assert calibration.ece(np.array([0.7]), np.array([True])) == pytest.approx(0.3)


def test_there_are_15_bins():
    """As in Guo et al. 2017: .93 and .935 lie on the two sides of 14/15."""
    assert len(calibration.reliability(np.array([0.93, 0.935]), np.array([True, True]))) == 2


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_what_sharpened(sharpness):
    labels, log_p = drawn(20_000, 5, sharpness)
    temperature = calibration.fit_temperature(log_p, labels)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    p = calibration.at_temperature(np.exp(log_p), temperature)
    found = calibration.figures(labels, p, temperature)
    assert found["ece"] < 0.02
    raw = calibration.ece(np.exp(log_p).max(axis=1), log_p.argmax(axis=1) == labels)
    assert found["ece_before"] == pytest.approx(raw, abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss(labels, p))


def test_brier_by_hand():
    found = calibration.figures(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]), 1.0)
    assert found["brier"] == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_true_class_as_often_as_asked(coverage):
    labels, log_p = drawn(30_000, 8, 2.0)  # the guarantee needs no calibrated probabilities
    p = np.exp(log_p)
    reached = []
    for start in range(0, 30_000, 600):
        dev, test = slice(start, start + 200), slice(start + 200, start + 600)
        cut = calibration.conformal_cut(p[dev], labels[dev], coverage)
        inside = p[test][np.arange(400), labels[test]] >= cut
        reached.append(inside.mean())
    assert coverage - 0.01 < np.mean(reached) < coverage + 0.015
    assert calibration.conformal_cut(p[:5], labels[:5], 0.9) == 0  # too few to leave any class out


def test_sets_by_hand():
    """Of ten pictures, nine of dev and a new one, nine have the cut or more: the lowest of dev."""
    p = np.arange(1, 10)[:, None] / 10
    p, labels = np.hstack([p, 1 - p]), np.zeros(9, int)
    assert calibration.conformal_cut(p, labels, 0.9) == 0.1
    assert calibration.conformal_cut(p, labels, 0.75) == 0.2
    assert calibration.conformal_cut(p[:8], labels[:8], 0.9) == 0
    found = calibration.set_figures(labels, p, 0.5)
    assert (found["coverage"], found["size"]) == (5 / 9, 10 / 9)  # .5 twice is in it, and counts


def test_a_run_is_calibrated_on_dev_alone(toy_run, toy_data):
    part = pipeline.load(toy_data, "dev")
    raw = run.Run(toy_run.path, {**toy_run.config, "temperature": 1.0})
    p = evaluate.predict_split(raw, part)[0]
    temperature = calibration.fit_temperature(np.log(p), part.labels)
    assert toy_run.config["temperature"] == pytest.approx(temperature, rel=1e-3)
    figures = json.loads((toy_run.path / "metrics.json").read_text())
    test = pipeline.load(toy_data, "test")
    told = evaluate.predict_split(toy_run, test)[0]
    assert figures["calibration"]["ece"] == pytest.approx(
        calibration.figures(test.labels, told, temperature)["ece"], abs=1e-3)  # fmt: skip
    cut = toy_run.config["conformal_cut"]
    inside = told[np.arange(len(told)), test.labels] >= cut
    assert figures["sets"]["coverage"] == pytest.approx(inside.mean())
    picture = toy_data / manifest.read(toy_data).set_index("id").loc[test.table["id"][0], "file"]
    (row,) = predict.predict(toy_run, [picture])
    expected = [c for c, v in zip(toy_run.classes, told[0], strict=True) if v >= cut]
    assert row["set"] == expected
    assert "Reliability diagram" in (toy_run.path / "report.html").read_text()

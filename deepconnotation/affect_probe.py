"""Valence and arousal from frozen embeddings: the baseline of every network that tells them."""

import json

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVR

from deepconnotation import affect
from deepconnotation.console import write_atomic
from deepconnotation.embeddings import Embeddings
from deepconnotation.probe import FOLDS, SEED

MOST = 5000  # rows to learn from: memory and time grow with their square


def probe(found: Embeddings, values: np.ndarray) -> dict | None:
    """Fit on train and dev, measure the test split once, write affect-metrics.json.

    Where more than `MOST` pictures are rated, that many of them are drawn at random.

    Args:
        found: embeddings of a data set.
        values: float32 (n, 2), its valence and arousal in the order of the rows; NaN where missing.

    Returns:
        What the file holds of the test split; None where the data set has none, or nothing rated
        to learn from.
    """
    test = found.where("test")
    train = np.concatenate([found.where("train"), found.where("dev")])
    train = train[np.isfinite(values[train]).any(axis=1)]
    rated, groups = len(train), found.groups()
    if rated > MOST:
        train = np.random.default_rng(SEED).choice(train, MOST, replace=False)
    if not len(test) or np.isfinite(values[train]).sum(axis=0).min() < FOLDS:
        return None
    told = fit_predict(found.rows[train], values[train], groups[train], found.rows[test])
    summary = affect.summarise(values[test], told, groups[test].tolist())
    counts = {"learned_from": len(train), "rated": rated}
    text = json.dumps({**summary, **counts}, indent=2) + "\n"
    write_atomic(found.folder / "affect-metrics.json", text)
    of = f"{len(train):,} of {rated:,}" if rated > len(train) else f"{rated:,}"
    print(f"valence and arousal from the same features, learned from {of} rated pictures:\n"
          f"{affect.as_text(summary)}")  # fmt: skip
    return summary


def fit_predict(
    rows: np.ndarray, values: np.ndarray, groups: np.ndarray, asked: np.ndarray,
    units: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Return float64 (asked, 2), values told by regressions on other rows.

    Regressions shrink towards the mean, which the CCC punishes. So answers are stretched until
    those on held-out folds of the training rows have the spread of the true values.

    Args:
        rows: float32 (n, units).
        values: float32 (n, 2), NaN where missing.
        groups: (n,), what must not cross folds.
        asked: float32 (m, units).
        units: of each encoder, where rows are the embeddings of several beside each other.
    """
    told = np.zeros((len(asked), 2))
    units = units or (rows.shape[1],)
    for axis in range(2):
        known = np.isfinite(values[:, axis])
        x, y = rows[known], values[known, axis]
        held_out = cross_val_predict(
            _regression(units), x, y, groups=groups[known], cv=GroupKFold(FOLDS)
        )
        stretch = y.std() / max(held_out.std(), 1e-6)
        answer = _regression(units).fit(x, y).predict(asked)
        told[:, axis] = y.mean() + stretch * (answer - held_out.mean())
    return told.clip(-1, 1)


def cross_validate(
    rows: np.ndarray, values: np.ndarray, groups: np.ndarray, units: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return float64 (n, 2), each row's values by regressions on the other folds; see
    `fit_predict`."""
    told = np.zeros(values.shape)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, test in folds.split(rows, groups=groups):
        told[test] = fit_predict(rows[train], values[train], groups[train], rows[test], units)
    return told


def _regression(units: tuple[int, ...]) -> Pipeline:
    """Return support vectors on the mean of the encoders' Gaussian kernels.

    A mean lets rows be alike where one encoder says so, which a kernel of all numbers together
    does not (Gönen and Alpaydın, JMLR 2011, section 3.1: the sum of kernels).
    """
    ends = np.cumsum(units)
    spans = [slice(end - width, end) for end, width in zip(ends, units, strict=True)]
    unit_length = ColumnTransformer(
        [(str(n), make_pipeline(StandardScaler(), Normalizer()), s) for n, s in enumerate(spans)]
    )

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return sum(rbf_kernel(a[:, s], b[:, s], gamma=1.0) for s in spans) / len(spans)

    return make_pipeline(unit_length, SVR(kernel=kernel, C=3.0, epsilon=0.05))

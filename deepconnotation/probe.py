"""A linear probe: logistic regression on frozen embeddings (Alain and Bengio 2016)."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from deepconnotation.console import UserError, progress
from deepconnotation.embeddings import Embeddings

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C of scikit-learn, the inverse of the L2 penalty
FOLDS = 5
SEED = 0


def probe(found: Embeddings) -> dict | None:
    """Fit on train, choose the penalty on dev, measure the test split once, and write it all.

    The folder gets metrics.json, predictions.csv (test), predictions-dev.csv and
    predictions-train.csv, the last out of fold: by probes that saw neither the picture nor its
    group.

    Returns:
        What metrics.json holds; None where the data set has no test split.
    """
    rows, labels = found.rows, found.labels
    train, dev, test = (found.where(split) for split in ("train", "dev", "test"))
    fits = (len(STRENGTHS) if len(dev) else 0) + FOLDS + 1
    with progress("fits of the linear probe", fits) as advance:
        strength = _choose(rows, labels, train, dev, advance)
        unseen = _out_of_fold(strength, rows[train], labels[train], found.groups()[train])
        advance(FOLDS)
        fitted = fit(strength, rows[train], labels[train])
        advance(1)
    print(f"linear probe on {found.config['units']} features of {found.config['backbone']}: "
          f"C {strength:g}")  # fmt: skip
    known = np.unique(labels[train])

    def of_all(probabilities: np.ndarray) -> np.ndarray:
        """Give classes that do not occur in training a probability of 0."""
        every = np.zeros((len(probabilities), len(found.info.classes)))
        every[:, known] = probabilities
        return every

    found.write("predictions-train.csv", "train", of_all(unseen))
    if len(dev):
        found.write("predictions-dev.csv", "dev", of_all(fitted.predict_proba(rows[dev])))
    if not len(test):
        return None
    probabilities = of_all(fitted.predict_proba(rows[test]))
    found.write("predictions.csv", "test", probabilities)
    return found.measure("metrics.json", probabilities, C=strength)


def _probe(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))


def fit(strength: float, rows: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Return a logistic regression on standardised embeddings.

    Args:
        strength: C, the inverse of the L2 penalty.
        rows: float (n, units).
        labels: int (n,).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits do not matter
        return _probe(strength).fit(rows, labels)


def _choose(
    rows: np.ndarray, labels: np.ndarray, train: np.ndarray, dev: np.ndarray, advance: Callable
) -> float:
    """Return the strength with the lowest dev loss; the middle one where there is no dev split."""
    if not len(dev):
        return STRENGTHS[len(STRENGTHS) // 2]
    known = np.isin(labels[dev], labels[train])
    dev = dev[known]

    def loss(strength: float) -> float:
        fitted = fit(strength, rows[train], labels[train])
        advance(1)
        return log_loss(labels[dev], fitted.predict_proba(rows[dev]), labels=fitted.classes_)

    return min(STRENGTHS, key=loss)


def _out_of_fold(
    strength: float, rows: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return (n, classes that occur): each picture's probabilities by a probe of other groups."""
    most = int(np.bincount(labels).max())
    if most < 2:
        raise UserError("a probe needs two training pictures of a class at least")
    folds = StratifiedGroupKFold(min(FOLDS, most), shuffle=True, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer than five pictures
        return cross_val_predict(
            _probe(strength), rows, labels, groups=groups, cv=folds, method="predict_proba"
        )

"""Pictures with several labels: which classes are there, at which thresholds they are told."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from deepconnotation import distribution

#: name in metrics.json -> in words
FIGURES = {"map": "mAP", "macro_f1": "macro F1, several labels",
           "micro_f1": "micro F1, several labels"}  # fmt: skip


def present(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return bool (rows, classes): the classes that somebody chose; without shares, the label's.

    Args:
        table: of a manifest.
        classes: their names.
    """
    shares = distribution.shares(table, classes)
    members = [name.split("+") for name in classes]
    label = np.array([[row in names for names in members] for row in table["label"]])
    return np.where(np.isfinite(shares).all(axis=1)[:, None], shares > 0, label)


def thresholds(true: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """Return for each class the probability from which on it is told: the highest F1 wins.

    A class that never occurs gets 1, and is never told.

    Args:
        true: bool (n, classes), of the dev split.
        probabilities: float (n, classes).
    """
    found = []
    for there, p in zip(true.T, probabilities.T, strict=True):
        if not there.any():
            found.append(1.0)
            continue
        precision, recall, cuts = precision_recall_curve(there, p)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        found.append(float(cuts[f1[:-1].argmax()]))
    return found


def figures(
    true: np.ndarray, probabilities: np.ndarray, cuts: Sequence[float]
) -> dict[str, float | list]:
    """Return mAP (the mean average precision over classes that occur), macro and micro F1.

    Args:
        true: bool (n, classes).
        probabilities: float (n, classes).
        cuts: of `thresholds`.

    Returns:
        `FIGURES` -> value, and "average_precision", one a class, None where it does not occur.
    """
    told = probabilities >= np.asarray(cuts)
    each = [float(average_precision_score(t, p)) if t.any() else None
            for t, p in zip(true.T, probabilities.T, strict=True)]  # fmt: skip
    known = [value for value in each if value is not None]
    return {
        "map": float(np.mean(known)),
        "macro_f1": float(f1_score(true, told, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(true, told, average="micro", zero_division=0)),
        "average_precision": each,
    }

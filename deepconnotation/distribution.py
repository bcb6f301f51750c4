"""Label distributions: which share of viewers chose each emotion, for data that tell it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepconnotation.data.manifest import numbers

COLUMN = "share_{}"  # of the manifest, a class
#: name in metrics.json -> in words
FIGURES = {
    "kl": "KL divergence, nats", "chebyshev": "Chebyshev distance", "canberra": "Canberra distance",
    "cosine": "cosine similarity", "intersection": "intersection",
}  # fmt: skip


def columns(shares: Sequence[float], classes: Sequence[str]) -> dict[str, str]:
    """Return manifest columns of a picture: votes or shares, made to sum to 1."""
    total = sum(shares)
    return {COLUMN.format(c): f"{s / total:.6g}" for c, s in zip(classes, shares, strict=True)}


def shares(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return float32 (rows, classes), each row's shares; NaN where the manifest tells none.

    Args:
        table: of a manifest.
        classes: their names; a merged class has the sum of its members' shares.
    """
    found = [sum(numbers(table, COLUMN.format(member)) for member in name.split("+"))
             for name in classes]  # fmt: skip
    return np.stack(found, axis=1).astype(np.float32)


def targets(
    table: pd.DataFrame, labels: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 (rows, classes), each row's shares, or all of it for the label where the
    manifest tells none; and bool (rows,), where it does.

    Args:
        table: of a manifest.
        labels: int (rows,), indices into the classes.
        classes: as for `shares`.
    """
    told = shares(table, classes)
    known = np.isfinite(told).all(axis=1)
    found = np.eye(len(classes), dtype=np.float32)[labels]
    found[known] = told[known]
    return found, known


def figures(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return means over pictures, as used in label-distribution learning (Geng, TKDE 2016).

        KL            sum_c d ln(d / p)
        Chebyshev     max_c |d - p|
        Canberra      sum_c |d - p| / (d + p)
        cosine        d p / (|d| |p|)
        intersection  sum_c min(d, p)

    0 ln 0 and 0 / 0 are 0; p is at least 1e-12. The first three are 0 where both agree, the last
    two 1.

    Args:
        true: float (n, classes), rows that sum to 1.
        predicted: float (n, classes), rows that sum to 1.
    """
    d, p = np.asarray(true, np.float64), np.maximum(np.asarray(predicted, np.float64), 1e-12)
    gap = np.abs(d - p)
    lengths = np.linalg.norm(d, axis=1) * np.linalg.norm(p, axis=1)
    each = {
        "kl": (d * np.log(np.where(d > 0, d, 1) / np.where(d > 0, p, 1))).sum(axis=1),
        "chebyshev": gap.max(axis=1),
        "canberra": (gap / (d + p)).sum(axis=1),
        "cosine": (d * p).sum(axis=1) / lengths,
        "intersection": np.minimum(d, p).sum(axis=1),
    }
    return {name: float(values.mean()) for name, values in each.items()}


def of_answers(
    table: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:  # fmt: skip
    """Return `figures` of the pictures whose shares a manifest tells; {} where it tells none."""
    told = shares(table, classes)
    known = np.isfinite(told).all(axis=1)
    return figures(told[known], probabilities[known]) if known.any() else {}

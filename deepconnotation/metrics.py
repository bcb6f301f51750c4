"""Figures of a classifier, each with a bootstrap interval and beside the majority baseline."""

from collections.abc import Iterator, Sequence

import numpy as np

from deepconnotation.emotions import POLARITY, WHEEL, polarity_of, wheel_distance

RESAMPLES = 1000
BLOCK = 10_000_000  # numbers drawn at once: 80 MB, however many pictures there are
CONFIDENCE = 0.95
SCALARS = ("accuracy", "balanced_accuracy", "macro_f1")
#: name in metrics.json -> in words
GEOMETRY = {"polarity_accuracy": "polarity accuracy", "ecc": "ECC (1 is perfect)", "emc": "EMC"}


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return int64 (classes, classes): rows are true classes, columns predicted ones."""
    cells = np.asarray(labels) * classes + np.asarray(predicted)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def scalars(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Return the summary figures of confusion matrices.

    Classes without a picture are left out of the balanced accuracy; classes that neither occur
    nor are predicted are left out of the macro F1 (both as in scikit-learn).

    Args:
        matrices: (..., classes, classes), counts.

    Returns:
        Name in `SCALARS` -> float64 (...), 0 to 1.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)
    true, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + predicted, 1)

    def mean(values: np.ndarray, there: np.ndarray) -> np.ndarray:
        return (values * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)

    return {
        "accuracy": hits.sum(axis=-1) / np.maximum(true.sum(axis=-1), 1),
        "balanced_accuracy": mean(recall, true > 0),
        "macro_f1": mean(f1, true + predicted > 0),
    }


def summarise(
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    majority: int,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict:
    """Measure predictions.

    Args:
        labels: int (n,), true classes.
        predicted: int (n,).
        classes: their names.
        majority: the commonest class of the training split, the baseline's constant answer.
        groups: who or what a picture belongs to ("" alone). Pictures of one person are not
            independent, so the bootstrap draws whole groups.
        seed: of the bootstrap.

    Returns:
        For metrics.json: "images"; a dictionary with "value", "low", "high" and "majority" for
        each of `SCALARS`; "geometry", see `geometry`; "confusion_matrix"; "per_class";
        "absent_classes".
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    matrix = confusion_matrix(labels, predicted, len(classes))
    baseline = confusion_matrix(labels, np.full_like(labels, majority), len(classes))
    values, baselines = scalars(matrix), scalars(baseline)
    draws = scalars(resampled(labels, predicted, len(classes), groups, seed))
    summary: dict = {"images": len(labels)}
    for name in SCALARS:
        low, high = interval(draws[name])
        summary[name] = {
            "value": float(values[name]), "low": low, "high": high,
            "majority": float(baselines[name]),
        }  # fmt: skip
    summary["geometry"] = geometry(matrix, classes)
    summary["confusion_matrix"] = matrix.tolist()
    summary["per_class"] = _per_class(matrix, classes)
    summary["absent_classes"] = [c for c, n in zip(classes, matrix.sum(axis=1), strict=True)
                                 if n == 0]  # fmt: skip
    return summary


def geometry(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return how far apart true and predicted emotions are.

    Args:
        matrix: int (classes, classes), rows are true classes.
        classes: their names.

    Returns:
        "polarity_accuracy", the share of pictures whose answer has the label's sign, where all
        signs are known; and where all classes are on Mikels' wheel, with D the wheel distance plus
        3 where signs differ: "ecc", the mean of D over all pictures (1 is perfect), and "emc", the
        mean of D - 1 over the errors (emotion confusion confidence, emotion misclassification).
    """
    found = {}
    total = max(matrix.sum(), 1)
    if all(m in POLARITY for name in classes for m in name.split("+")):
        signs = np.array([polarity_of(name) for name in classes])
        found["polarity_accuracy"] = float(matrix[signs[:, None] == signs].sum() / total)
    if {*classes} <= {*WHEEL}:
        distance = np.array([[wheel_distance(a, b, 3) for b in classes] for a in classes])
        errors = matrix * (1 - np.eye(len(classes)))
        found["ecc"] = float((matrix * distance).sum() / total)
        found["emc"] = float((errors * (distance - 1)).sum() / max(errors.sum(), 1))
    return found


def draw_groups(groups: Sequence[str], seed: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Draw as many whole groups as there are, with replacement, `RESAMPLES` times.

    Args:
        groups: who or what a picture belongs to; "" alone.
        seed: of the draws.

    Returns:
        int (n,), the number of each picture's group; blocks of int (draws, groups), how often each
        was drawn, `RESAMPLES` rows in all.
    """
    names = [g or f"\0{i}" for i, g in enumerate(groups)]
    owner = np.unique(names, return_inverse=True)[1]
    count = owner.max() + 1
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(owner))
    sizes = (min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows))
    return owner, (rng.multinomial(count, np.full(count, 1 / count), size) for size in sizes)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the bounds between which `CONFIDENCE` of the draws lie."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def with_interval(figure: dict, sign: str = "") -> str:
    """Return a figure's "value" and between which bounds it lies, as tables show them."""
    return f"{figure['value']:{sign}.3f} ({figure['low']:{sign}.3f} to {figure['high']:{sign}.3f})"


def resampled(
    labels: np.ndarray, predicted: np.ndarray, classes: int, groups: Sequence[str] | None = None,
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Return the bootstrap's draws: confusion matrices (RESAMPLES, classes, classes).

    Equal pictures, groups and seed give equal draws, so that two classifiers can be paired.

    Args:
        labels: int (n,), true classes.
        predicted: int (n,).
        classes: their number.
        groups: see `summarise`.
        seed: of the draws.
    """
    owner, blocks = draw_groups([""] * len(labels) if groups is None else groups, seed)
    cells = np.zeros((owner.max() + 1, classes**2))
    np.add.at(cells, (owner, labels * classes + predicted), 1)
    draws = np.concatenate([weights @ cells for weights in blocks])
    return draws.reshape(RESAMPLES, classes, classes)


def _per_class(matrix: np.ndarray, classes: Sequence[str]) -> list[dict]:
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        {
            "class": name,
            "precision": float(hits[i] / predicted[i]) if predicted[i] else None,
            "recall": float(hits[i] / true[i]) if true[i] else None,
            "f1": float(2 * hits[i] / (true[i] + predicted[i])) if true[i] + predicted[i] else None,
            "images": int(true[i]),
        }
        for i, name in enumerate(classes)
    ]

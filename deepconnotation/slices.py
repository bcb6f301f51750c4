"""How well a run does on parts of a split: by contributor, size, sharpness, or any column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepconnotation import metrics
from deepconnotation.console import UserError
from deepconnotation.data.measure import sharpness
from deepconnotation.data.pipeline import Split

MOST = 12  # different values; a column of numbers with more is cut at its quartiles
MEASURED = ("size", "sharpness")  # no columns, but made from width and height, or from the pixels


def by_default(part: Split) -> list[str]:
    """Return what a report looks at: contributor, size and sharpness, as far as they differ."""
    names = [*(["contributor"] if "contributor" in part.table else []), *MEASURED]
    return [name for name in names if values_of(part, name).nunique() > 1]


def summarise(
    part: Split, predicted: np.ndarray, classes: Sequence[str], by: Sequence[str]
) -> dict[str, list[dict]]:
    """Measure each part of a split.

    Args:
        part: the pictures.
        predicted: int (n,).
        classes: their names.
        by: columns of the manifest, or names in `MEASURED`.

    Returns:
        For each of `by` a row a part, whole numbers in their order, then words: "value"; "images";
        "accuracy" and "balanced_accuracy" with "value", "low" and "high"; "commonest", the share of
        the commonest class there, which a constant answer would reach.

    Raises:
        UserError: when there is no such column.
    """
    return {name: _rows(part, predicted, classes, values_of(part, name)) for name in by}


def values_of(part: Split, name: str) -> pd.Series:
    """Return str (n,), the part that each picture belongs to.

    Raises:
        UserError: when there is no such column, or it has too many different words.
    """
    table = part.table
    if name == "size":
        values = np.sqrt(table["width"].astype(float) * table["height"].astype(float))
        return _quartiles(values, "{:.0f} to {:.0f} pixels")
    if name == "sharpness":
        grey = (np.asarray(picture, np.float32).mean(axis=2) for picture in part.images)
        return _quartiles(pd.Series([sharpness(g) for g in grey]), "{:.2f} to {:.2f}")
    if name not in table:
        raise UserError(f"--by {name}: no such column; there are {', '.join(MEASURED)} and "
                        f"{', '.join(table)}")  # fmt: skip
    words = table[name].where(table[name] != "", "(none)")
    if words.nunique() <= MOST:
        return words
    numbers = pd.to_numeric(table[name], errors="coerce")
    if numbers.isna().any():
        raise UserError(f"--by {name}: {words.nunique()} different words; at most {MOST} can be "
                        "told apart")  # fmt: skip
    return _quartiles(numbers, "{:g} to {:g}")


def _quartiles(values: pd.Series, words: str) -> pd.Series:
    """Return the name of each picture's quarter; equal values stay together."""
    quarter = pd.qcut(values, 4, labels=False, duplicates="drop").fillna(0)
    bounds = values.groupby(quarter).agg(["min", "max"])
    names = {q: f"{int(q) + 1}: {words.format(*row)}" for q, row in zip(bounds.index,
             bounds.to_numpy(), strict=True)}  # fmt: skip
    return quarter.map(names)


def _rows(
    part: Split, predicted: np.ndarray, classes: Sequence[str], values: pd.Series
) -> list[dict]:
    rows = []
    for value, places in sorted(values.groupby(values).indices.items(), key=_order):
        labels = part.labels[places]
        commonest = int(np.bincount(labels).argmax())
        groups = part.table["group"].iloc[places].tolist()
        found = metrics.summarise(labels, predicted[places], classes, commonest, groups)
        figures = {
            name: {k: found[name][k] for k in ("value", "low", "high")}
            for name in ("accuracy", "balanced_accuracy")
        }
        rows.append({"value": value, "images": len(places), **figures,
                     "commonest": found["accuracy"]["majority"]})  # fmt: skip
    return rows


def _order(part: tuple[str, np.ndarray]) -> tuple[bool, int, str]:
    """Return what sorts parts: whole numbers by their value, then words by the alphabet."""
    value = part[0]
    number = value.isdecimal()
    return not number, int(value) if number else 0, value


def as_text(found: dict[str, list[dict]]) -> str:
    """Return the figures as aligned tables."""
    lines = []
    for name, rows in found.items():
        lines.append(f"{name:26}{'pictures':>9}  {'accuracy':24}{'balanced':24}commonest class")
        for row in rows:
            names = ("accuracy", "balanced_accuracy")
            cells = "".join(f"{metrics.with_interval(row[name])}  " for name in names)
            lines.append(f"  {row['value']:24}{row['images']:9}  {cells}{row['commonest']:.3f}")
    return "\n".join(lines)

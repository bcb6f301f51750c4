"""How well a run does on parts of a split: by contributor, size, sharpness, or any column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepconnotation import metrics
from deepconnotation.console import UserError
from deepconnotation.data.measure import sharpness
from deepconnotation.data.pipeline import Split

MOST = 12  # different values; a column of numbers with more is cut at its quartiles
#: no columns of a manifest, but made from width and height, and from the pixels; how a part is told
MEASURED = {"size": "{:.0f} to {:.0f} pixels", "sharpness": "{:.2f} to {:.2f}"}


def measured(part: Split) -> pd.DataFrame:
    """Return a split's table with columns `MEASURED`: the root of width by height in pixels, and
    `measure.sharpness` of the prepared picture."""
    sides = part.table[["width", "height"]].astype(float)
    grey = (np.asarray(picture, np.float32).mean(axis=2) for picture in part.images)
    sharp = [sharpness(each) for each in grey]
    return part.table.assign(size=np.sqrt(sides.prod(axis=1)), sharpness=sharp)


def by_default(table: pd.DataFrame) -> list[str]:
    """Return what a report looks at: contributor, size and sharpness, as far as they differ."""
    names = [*(["contributor"] if "contributor" in table else []), *MEASURED]
    return [name for name in names if values_of(table, name).nunique() > 1]


def summarise(
    table: pd.DataFrame, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str],
    by: Sequence[str] = (),
) -> dict[str, list[dict]]:  # fmt: skip
    """Measure each part of a table of pictures.

    Args:
        table: of `measured`, n rows.
        labels: int (n,).
        predicted: int (n,).
        classes: their names.
        by: columns of the table; without any, those of `by_default`.

    Returns:
        For each column a row a part, whole numbers in their order, then words: "value"; "images";
        "accuracy" and "balanced_accuracy" with "value", "low" and "high"; "commonest", the share of
        the commonest class there, which a constant answer would reach.

    Raises:
        UserError: when there is no such column.
    """
    return {
        name: _rows(table["group"], labels, predicted, classes, values_of(table, name))
        for name in by or by_default(table)
    }


def values_of(table: pd.DataFrame, name: str) -> pd.Series:
    """Return str (n,), the part that each picture of a table of `measured` belongs to.

    Raises:
        UserError: when there is no such column, or it has too many different words.
    """
    if name not in table:
        columns = [*MEASURED, *(c for c in table if c not in MEASURED)]
        raise UserError(f"--by {name}: no such column; there are {', '.join(columns)}")
    if name in MEASURED:
        return _quartiles(table[name], MEASURED[name])
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
    groups: pd.Series, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str],
    values: pd.Series,
) -> list[dict]:  # fmt: skip
    rows = []
    for value, places in sorted(values.groupby(values).indices.items(), key=_order):
        commonest = int(np.bincount(labels[places]).argmax())
        found = metrics.summarise(
            labels[places], predicted[places], classes, commonest, groups.iloc[places].tolist()
        )
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

"""Several runs on the same pictures: mean and spread, and what is beyond chance between them.

Works on predictions.csv alone, so that no test split is looked at again.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from deepconnotation import metrics, predictions, run
from deepconnotation.console import UserError
from deepconnotation.emotions import numbered


@dataclass(frozen=True)
class Answered:
    """What a run said of a split.

    Attributes:
        name: the run's folder.
        classes: their names.
        table: id, group, label and predicted, sorted by id.
        majority: index of the commonest class of the training split.
        minutes: its training took; 0 where that is not told.
        recipe: all that it was trained with but the seed; None where that is not told.
    """

    name: str
    classes: list[str]
    table: pd.DataFrame
    majority: int
    minutes: float
    recipe: dict | None = None

    @property
    def labels(self) -> np.ndarray:
        """Int (n,), true classes."""
        return np.array(numbered(self.table["label"], self.classes))

    @property
    def predicted(self) -> np.ndarray:
        """Int (n,)."""
        return np.array(numbered(self.table["predicted"], self.classes))


def load(folders: list[str], suffix: str = "") -> list[Answered]:
    """Read the predictions of runs.

    Args:
        folders: of the runs.
        suffix: of the file's name; "-dev" reads predictions-dev.csv.

    Raises:
        UserError: when a run was not evaluated, or not on the pictures of the first.
    """
    found = [_load(folder, suffix) for folder in folders]
    first = found[0]
    for other in found[1:]:
        if other.classes != first.classes:
            raise UserError(f"{other.name} tells {', '.join(other.classes)}, {first.name} "
                            f"{', '.join(first.classes)}: not to be compared")  # fmt: skip
        same = set(other.table["id"]) & set(first.table["id"])
        if not len(same) == len(other.table) == len(first.table):
            raise UserError(f"{other.name} was evaluated on other pictures than {first.name}: "
                            f"{len(same)} of {len(first.table)} are the same")  # fmt: skip
        if list(other.table["label"]) != list(first.table["label"]):
            raise UserError(f"{other.name} and {first.name} were evaluated on other labels of the "
                            "same pictures")  # fmt: skip
    return found


def _load(folder: str, suffix: str) -> Answered:
    found = run.load(folder)
    found.need_classes()
    config = found.config
    path = Path(folder) / f"predictions{suffix}.csv"
    columns = ("id", "group", "label", "predicted")
    table = predictions.read(path, columns, f"give python -m deepconnotation.evaluate {folder}")
    classes, counts = config["classes"], config["data"]["counts"]["train"]
    return Answered(
        folder, classes, table,
        numbered([max(counts, key=counts.get)], classes)[0], config.get("train_seconds", 0) / 60,
        _recipe(config),
    )  # fmt: skip


def _recipe(config: dict) -> dict:
    settings = {name: value for name, value in config["settings"].items() if name != "seed"}
    told = {name: config.get(name) for name in ("arch", "weights", "teacher", "members")}
    return {**told, "settings": settings, "data": config["data"]["fingerprint"]}


def mcnemar(first: np.ndarray, other: np.ndarray) -> float:
    """Return the exact two-sided p of McNemar's test (McNemar 1947; Dietterich 1998).

    Args:
        first: bool (n,), whether one classifier was right about each picture.
        other: bool (n,), whether another was.
    """
    gained, lost = int((other & ~first).sum()), int((first & ~other).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def differences(first: Answered, other: Answered) -> dict:
    """Return how much better the other is than the first.

    Both are measured on the same bootstrap draws, of whole groups.

    Returns:
        For each of `metrics.SCALARS` a dictionary with "value", "low" and "high"; "gained" and
        "lost", pictures that only the other, only the first answered rightly; "p", McNemar's.
    """
    labels, groups = first.labels, first.table["group"].tolist()
    count = len(first.classes)
    values, draws = [], []
    for side in (first, other):
        matrix = metrics.confusion_matrix(labels, side.predicted, count)
        values.append(metrics.scalars(matrix))
        draws.append(metrics.scalars(metrics.resampled(labels, side.predicted, count, groups)))
    found: dict = {}
    for name in metrics.SCALARS:
        low, high = metrics.interval(draws[1][name] - draws[0][name])
        found[name] = {"value": float(values[1][name] - values[0][name]), "low": low, "high": high}
    right = [side.predicted == labels for side in (first, other)]
    return {**found, "gained": int((right[1] & ~right[0]).sum()),
            "lost": int((right[0] & ~right[1]).sum()), "p": mcnemar(*right)}  # fmt: skip


def mean_and_spread(values: list[float]) -> str:
    """Return mean and standard deviation, as tables show them."""
    spread = stdev(values) if len(values) > 1 else 0
    return f"{mean(values):.3f} ± {spread:.3f}"


def as_markdown(found: list[Answered]) -> str:
    """Return a table of the runs with mean, spread and majority, and one of their differences."""
    header = "| run | accuracy | balanced accuracy | macro F1 | training |"
    lines = [header, "|---|---|---|---|---|"]
    values: dict[str, list[float]] = {name: [] for name in metrics.SCALARS}
    for each in found:
        groups = each.table["group"].tolist()
        figures = metrics.summarise(
            each.labels, each.predicted, each.classes, each.majority, groups
        )
        for name in metrics.SCALARS:
            values[name].append(figures[name]["value"])
        cells = " | ".join(metrics.with_interval(figures[name]) for name in metrics.SCALARS)
        minutes = f"{each.minutes:.1f} min" if each.minutes else ""
        lines.append(f"| {each.name} | {cells} | {minutes} |")
    if _of_one_recipe(found):
        spread = " | ".join(mean_and_spread(v) for v in values.values())
        lines.append(f"| mean ± s.d. | {spread} | |")
    majority = " | ".join(f"{figures[name]['majority']:.3f}" for name in metrics.SCALARS)
    lines.append(f"| majority | {majority} | |")
    if len(found) == 1:
        return "\n".join(lines)
    header = (f"| against {found[0].name} | accuracy | balanced accuracy | macro F1 | only it is "
              "right | only the first is right | McNemar's p |")  # fmt: skip
    lines += ["", header, "|---|---|---|---|---|---|---|"]
    for other in found[1:]:
        d = differences(found[0], other)
        cells = " | ".join(metrics.with_interval(d[name], "+") for name in metrics.SCALARS)
        lines.append(f"| {other.name} | {cells} | {d['gained']} | {d['lost']} | {d['p']:.2g} |")
    return "\n".join(lines)


def _of_one_recipe(found: list[Answered]) -> bool:
    """Whether the runs differ by their seeds alone: the mean of others says nothing."""
    first = found[0].recipe
    return len(found) > 1 and first is not None and all(each.recipe == first for each in found)

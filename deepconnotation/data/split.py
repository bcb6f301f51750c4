"""Stratified splits in which no person and no near-duplicate crosses from one split to another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepconnotation.console import UserError
from deepconnotation.data.manifest import SPLITS

#: fractions of the pictures that are not held out
TRAIN_AND_DEV = {"train": 0.9, "dev": 0.1}


def parse_fractions(text: str) -> dict[str, float]:
    """Read "80/10/10" as train/dev/test, "60/40" as train/test.

    Returns:
        Split name to its fraction; the fractions sum to 1.

    Raises:
        UserError: for anything else.
    """
    try:
        parts = [float(p) for p in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) not in (2, 3) or min(parts) <= 0 or abs(sum(parts) - 100) > 1e-6:
        raise UserError(
            f"--fractions {text!r}: expected two or three positive numbers that sum to 100, like "
            "80/10/10 (train/dev/test) or 60/40 (train/test)"
        )
    names = SPLITS if len(parts) == 3 else ("train", "test")
    return {name: part / 100 for name, part in zip(names, parts, strict=True)}


def without(fractions: dict[str, float], given: Sequence[str]) -> dict[str, float]:
    """Return the fractions of the other splits when some are given; they sum to 1."""
    left = {name: part for name, part in fractions.items() if name not in given}
    return {name: part / sum(left.values()) for name, part in left.items()}


def assign(
    labels: Sequence[str], clusters: Sequence[int], fractions: dict[str, float], seed: int
) -> np.ndarray:
    """Put every cluster of pictures whole into one split, keeping the classes' shares.

    The largest clusters are placed first, each where it brings the splits' class counts nearest
    to their targets; equal clusters come in an order drawn from the seed. Where every cluster is
    one picture this is an ordinary stratified random split.

    Args:
        labels: class of each picture.
        clusters: number of the cluster of each picture; see `duplicates.join_groups`.
        fractions: see `parse_fractions`.
        seed: of the order.

    Returns:
        Array of split names, one a picture.
    """
    counts = pd.crosstab(np.asarray(clusters), np.asarray(labels))
    members = counts.to_numpy(np.float64)  # (clusters, classes)
    totals = members.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(-members[order].sum(axis=1), kind="stable")]

    target = np.outer(list(fractions.values()), totals)  # (splits, classes)
    have = np.zeros_like(target)
    place = np.empty(len(members), np.int64)
    for cluster in order:
        row = members[cluster]
        # Growth of the chi-squared distance to the targets if the cluster goes there; by class
        # shares, so that a rare class counts as much as a common one.
        growth = (((have - target) * 2 + row) * row / target / totals).sum(axis=1)
        place[cluster] = growth.argmin()
        have[place[cluster]] += row
    names = np.array(list(fractions))
    return names[place[counts.index.get_indexer(np.asarray(clusters))]]


def like(table: pd.DataFrame, other: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a manifest with splits and groups of another one of the same pictures.

    Args:
        table: the manifest.
        other: that of the same source, prepared in another way.
        name: of the other data set, for the message.

    Raises:
        UserError: when a picture is not in both under the same label.
    """
    columns = ["source", "sha256", "label"]
    there = other.set_index(columns)[["split", "group"]]
    here = pd.MultiIndex.from_frame(table[columns])
    strange = table["source"][~here.isin(there.index)]
    strange = strange if len(strange) else other["source"][~there.index.isin(here)]
    if len(strange):
        raise UserError(f"--like {name}: its pictures are not the same; {strange.iloc[0]!r} is one "
                        f"of {len(strange)} that only one data set has, or with another label"
                        )  # fmt: skip
    found = there.loc[here]
    return table.assign(split=found["split"].array, group=found["group"].array)


def hold_out(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Return a manifest in which the pictures of one kind are the test split.

    Others of their groups go with them, so that nobody crosses.

    Args:
        table: a manifest whose groups are up to date, without a test split.
        condition: COLUMN=VALUE.

    Raises:
        UserError: when it fits no picture, or all.
    """
    held = matches(table, condition, "--hold-out")
    groups = set(table["group"][held]) - {""}
    held |= table["group"].isin(groups)
    if held.all():
        raise UserError(f"--hold-out {condition}: nothing would be left to learn from")
    return table.assign(split=table["split"].mask(held, "test"))


def matches(table: pd.DataFrame, condition: str, flag: str) -> pd.Series:
    """Return bool (rows,): the pictures that a condition on a column holds for.

    Args:
        table: a manifest.
        condition: COLUMN=VALUE.
        flag: that it was given by, for the message.

    Raises:
        UserError: when there is no such column, or no such value in it.
    """
    column, _, value = condition.partition("=")
    if column not in table:
        raise UserError(f"{flag} {condition}: no column {column!r}; expected COLUMN=VALUE with one "
                        f"of {', '.join(table)}")  # fmt: skip
    found = table[column] == value
    if not found.any():
        known = table[column].value_counts().index[:8]
        raise UserError(f"{flag} {condition}: no picture has that; {column} is {', '.join(known)}")
    return found


def class_counts(
    table: pd.DataFrame, classes: Sequence[str], splits: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the number of pictures: a row a split, a column a class, then the sum.

    Args:
        table: a manifest.
        classes: their names.
        splits: those to count; None takes the ones that have pictures.
    """
    counts = pd.crosstab(table["split"], table["label"])
    rows = list(splits) if splits else [s for s in SPLITS if s in counts.index]
    counts = counts.reindex(index=rows, columns=list(classes), fill_value=0)
    return counts.assign(all=counts.sum(axis=1))


def check_classes(counts: pd.DataFrame) -> None:
    """Refuse splits in which a class does not occur.

    Raises:
        UserError: naming the split and the class.
    """
    for split, row in counts.iterrows():
        for label in row.index[row == 0]:
            raise UserError(
                f"class {label!r} does not occur in split {split!r}; choose other --fractions or "
                "--seed, leave the class out with --drop, or allow it with --allow-missing"
            )

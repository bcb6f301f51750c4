"""Look for what makes figures on a data set untrue: copies, leaks, signs, shortcuts, bad labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from deepconnotation.console import UserError
from deepconnotation.data import duplicates, manifest
from deepconnotation.data.download import PLACEHOLDER_TIMES
from deepconnotation.data.sources import table as csv_table
from deepconnotation.emotions import EmotionSet

FOLDS = 5
SHORTCUT = 1.5  # times chance: what metadata may reach by luck and by class differences
COMPONENTS = 64
SUSPECTS = 48
Folds = list[tuple[np.ndarray, np.ndarray]]
CHECKS = ("leakage", "placeholders", "duplicates", "conflicts", "shortcuts", "unreadable")


@dataclass
class Findings:
    """Everything an audit found; plain values, for JSON.

    Attributes:
        pictures: how many were looked at.
        classes: class -> number of pictures, a split; "" where there is none.
        unreadable: pictures that cannot be shown, with the reason.
        signs: groups of at least `PLACEHOLDER_TIMES` (nearly) equal pictures under several labels.
        exact: groups of byte-identical pictures, signs left out.
        near: pairs of nearly equal ones that are not byte-identical, signs left out.
        conflicts: those of `exact` and `near` under different labels.
        leaks: kind -> what crosses splits.
        shortcuts: how well metadata alone tell the label, together and one by one.
        holds: column -> value -> class -> share of the class that has the value.
        agreement: of a second annotator, where there is one.
        not_taken: reason -> how many the reader or the preparation left out.
        suspects: pictures whose label other pictures do not support, the worst first.
    """

    pictures: int
    classes: dict[str, dict[str, int]]
    unreadable: list[dict] = field(default_factory=list)
    signs: list[list[str]] = field(default_factory=list)
    exact: list[list[str]] = field(default_factory=list)
    near: list[list[str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    leaks: dict[str, list] = field(default_factory=dict)
    shortcuts: dict = field(default_factory=dict)
    holds: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    agreement: dict | None = None
    not_taken: dict[str, int] = field(default_factory=dict)
    suspects: list[dict] = field(default_factory=list)

    def failed(self) -> dict[str, bool]:
        """Tell for each of `CHECKS` whether something was found."""
        return {
            "leakage": any(self.leaks.values()),
            "placeholders": bool(self.signs),
            "duplicates": bool(self.exact or self.near),
            "conflicts": bool(self.conflicts),
            "shortcuts": self.shortcuts.get("found", False),
            "unreadable": bool(self.unreadable),
        }


def audit(table: pd.DataFrame, thumbnails: np.ndarray, classes: Sequence[str]) -> Findings:
    """Look at measured pictures.

    Args:
        table: as `measure.measure` returns it.
        thumbnails: uint8 (n, 32, 32).
        classes: class names in their order.

    Returns:
        What was found.
    """
    splits = [s for s in ("", "train", "dev", "test") if (table["split"] == s).any()]
    counts = pd.crosstab(table["split"], table["label"]).reindex(columns=classes, fill_value=0)
    found = Findings(len(table), {s: counts.loc[s].to_dict() for s in splits})
    bad = table["problem"] != ""
    found.unreadable = [
        {"source": s, "reason": p} for s, p in table.loc[bad, ["source", "problem"]].to_numpy()
    ]
    astray = _derived_astray(table)
    own = ~bad & ~manifest.copies(table)
    table, thumbnails = table[own].reset_index(drop=True), thumbnails[own.to_numpy()]
    pairs = near_pairs(table, thumbnails)
    signs = _signs(table, pairs)
    is_sign = np.zeros(len(table), bool)
    is_sign[[i for group in signs for i in group]] = True
    names = table["source"].tolist()
    found.signs = [[names[i] for i in group] for group in signs]

    clean = ~is_sign
    exact = [g.tolist() for g in _groups(table["sha256"].to_numpy(), clean)]
    near = [p.tolist() for p in pairs if clean[p].all() and _differ(table["sha256"], p)]
    found.exact = [[names[i] for i in group] for group in exact]
    found.near = [[names[i] for i in pair] for pair in near]
    found.conflicts = [
        [names[i] for i in group] for group in (*exact, *near) if _differ(table["label"], group)
    ]
    found.leaks = {**_leaks(table, exact, near, names), "derived": astray}
    rest, small = table[clean].reset_index(drop=True), thumbnails[clean]
    place = np.cumsum(clean) - 1  # of a picture, once the signs are gone
    groups = cluster(rest, place[pairs[clean[pairs].all(axis=1)]])
    folds = folds_of(rest["label"].to_numpy(), groups)
    found.shortcuts = shortcuts(rest, folds)
    found.holds = _holds(rest, classes)
    found.suspects = suspects(rest, small, folds)
    return found


def near_pairs(table: pd.DataFrame, thumbnails: np.ndarray) -> np.ndarray:
    """Return int (pairs, 2): nearly equal pictures, one of each byte-identical group compared."""
    first = np.flatnonzero(~table["sha256"].duplicated().to_numpy())
    hashes = np.array([int(table["phash"].iloc[i], 16) for i in first], np.uint64)

    def thumbnails_of(rows: np.ndarray) -> list[Image.Image]:
        return [Image.fromarray(thumbnails[first[i]]) for i in rows]

    return first[duplicates.near_pairs(hashes, [""] * len(first), thumbnails_of)]


def cluster(table: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """Return int (n,): pictures of one person, or nearly equal, have the same number."""
    same = [np.stack([g[:-1], g[1:]], axis=1) for g in _groups(table["sha256"].to_numpy())]
    return duplicates.join_groups(table["group"].tolist(), np.concatenate([pairs, *same]))


def _groups(digests: np.ndarray, wanted: np.ndarray | None = None) -> list[np.ndarray]:
    """Return the indices of equal digests, groups of two and more."""
    rows = pd.Series(np.arange(len(digests)))
    rows = rows if wanted is None else rows[wanted]
    return [g.to_numpy() for _, g in rows.groupby(digests[rows]) if len(g) > 1]


def _differ(column: pd.Series, rows: Sequence[int]) -> bool:
    return column.iloc[list(rows)].nunique() > 1


def _signs(table: pd.DataFrame, pairs: np.ndarray) -> list[list[int]]:
    """Return groups of equal or nearly equal pictures that are many and of several labels."""
    alone = table.assign(group="")
    numbers = pd.Series(np.arange(len(table)))
    found = []
    for _, rows in numbers.groupby(cluster(alone, pairs)):
        if len(rows) >= PLACEHOLDER_TIMES and _differ(table["label"], rows):
            found.append(rows.tolist())
    return sorted(found, key=len, reverse=True)


def _leaks(
    table: pd.DataFrame, exact: list[list[int]], near: list[list[int]], names: list[str]
) -> dict[str, list]:
    """Return what stands in more than one split."""
    owners = table[table["group"] != ""].groupby("group")["split"].nunique()
    return {
        "exact": [[names[i] for i in g] for g in exact if _differ(table["split"], g)],
        "near": [[names[i] for i in p] for p in near if _differ(table["split"], p)],
        "groups": owners[owners > 1].index.tolist(),
    }


def _derived_astray(table: pd.DataFrame) -> list[str]:
    """Return the copies that are not in the training split, or whose original is not."""
    copies = table[manifest.copies(table)]
    if copies.empty:
        return []
    home = copies["derived_from"].map(table.set_index("id")["split"])
    return copies.loc[(copies["split"] != "train") | (home != "train"), "source"].tolist()


def features(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what metadata tell of each picture, float (n, columns) by name."""
    shape = table[["width", "height"]].astype(float).to_numpy()
    found = {
        "size": shape,
        "colour mode": pd.get_dummies(table["mode"]).to_numpy(float),
        "sharpness": table[["sharpness"]].astype(float).to_numpy(),
    }
    if "contributor" in table and table["contributor"].nunique() > 1:
        found["contributor"] = pd.get_dummies(table["contributor"]).to_numpy(float)
    return {name: values for name, values in found.items() if np.ptp(values, axis=0).any()}


def shortcuts(table: pd.DataFrame, folds: Folds | None) -> dict:
    """Measure how well a small tree tells the label by metadata alone.

    Args:
        table: measured pictures.
        folds: see `folds_of`.

    Returns:
        "chance"; "all" and "one" (by feature), balanced accuracies of out-of-fold predictions;
        "found", whether one is `SHORTCUT` times chance.
    """
    labels = table["label"].to_numpy()
    chance = 1 / len(set(labels))
    columns = features(table)
    if not columns or folds is None:
        return {"chance": chance, "all": chance, "one": {}, "found": False}
    tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=5, class_weight="balanced",
                                  random_state=0)  # fmt: skip

    def reached(values: np.ndarray) -> float:
        told = cross_val_predict(tree, values, labels, cv=folds)
        return float(balanced_accuracy_score(labels, told))

    together = reached(np.concatenate(list(columns.values()), axis=1))
    single = {name: reached(values) for name, values in columns.items()}
    found = max(together, *single.values()) >= SHORTCUT * chance
    return {"chance": chance, "all": together, "one": single, "found": bool(found)}


def folds_of(labels: np.ndarray, groups: np.ndarray) -> Folds | None:
    """Return (train rows, test rows) of each fold, or None where too few pictures are there.

    Args:
        labels: str (n,).
        groups: int (n,), see `cluster`; no group is in two folds.
    """
    few = min(Counter(labels).values(), default=0)
    if few < 2 or len(set(groups)) < FOLDS:
        return None
    splitter = StratifiedGroupKFold(min(FOLDS, few), shuffle=True, random_state=0)
    return list(splitter.split(labels, labels, groups))


def _holds(table: pd.DataFrame, classes: Sequence[str]) -> dict:
    """Return the share of each class that has a colour mode, or comes from a contributor."""
    found = {}
    for column in ("mode", "contributor"):
        if column in table and table[column].nunique() > 1:
            common = table[column].value_counts().index[:8]
            share = pd.crosstab(table[column], table["label"], normalize="columns")
            share = share.reindex(index=common, columns=classes, fill_value=0.0)
            found[column] = {v: share.loc[v].round(4).to_dict() for v in common}
    return found


def read_second(path: str | Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read a second annotator's labels: a CSV file with the header `source,label`.

    Returns:
        A table of `source` and `label`.

    Raises:
        UserError: naming the row.
    """
    lines = csv_table.rows(path)
    _, header = next(lines, (1, []))
    if [h.lower() for h in header] != ["source", "label"]:
        raise UserError(f"{path} row 1: expected the header source,label")
    known = EmotionSet("these labels", tuple(classes), "")
    rows = []
    for number, row in lines:
        if len(row) != 2:
            raise UserError(f"{path} row {number}: expected 2 columns, received {len(row)}")
        rows.append((row[0], known.canonical(row[1], f"{path} row {number}")))
    return pd.DataFrame(rows, columns=["source", "label"])


def agreement(table: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str]) -> dict:
    """Compare the labels with a second annotator's.

    Args:
        table: with `source` and `label`.
        second: with `source` (a picture's source, or its file's name) and `label`.
        classes: class names.

    Returns:
        "pictures" that both labelled, "agree" (share) and "kappa" (Cohen 1960).
    """
    by_name = table.assign(name=table["source"].str.rsplit("/").str[-1])
    both = pd.concat([
        second.merge(by_name, on="source", suffixes=("_second", "")),
        second.merge(by_name, left_on="source", right_on="name", suffixes=("_second", "")),
    ]).drop_duplicates("path")  # fmt: skip
    a, b = both["label"], both["label_second"]
    if both.empty:
        return {"pictures": 0, "agree": None, "kappa": None}
    kappa = cohen_kappa_score(a, b, labels=list(classes))
    return {"pictures": len(both), "agree": float((a == b).mean()), "kappa": float(kappa)}


def suspects(table: pd.DataFrame, thumbnails: np.ndarray, folds: Folds | None) -> list[dict]:
    """Rank pictures by how little a model of the others believes their label.

    The model is plain: principal components of the 32x32 grey thumbnails and logistic regression,
    out of fold. With cleanlab installed the rank is its label quality score (Northcutt et al.
    2021), otherwise the probability of the given label.
    """
    if folds is None:
        return []
    labels = table["label"].to_numpy()
    pixels = thumbnails.reshape(len(table), -1).astype(np.float32)
    # The components see no label, so they may be those of all pictures.
    components = PCA(min(COMPONENTS, len(table) // 2), random_state=0).fit_transform(pixels)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    told = cross_val_predict(model, components, labels, cv=folds, method="predict_proba")
    order = sorted(set(labels))
    given = np.searchsorted(order, labels)
    quality = _quality(given, told)
    worst = np.argsort(quality, kind="stable")[:SUSPECTS]
    return [
        {"source": table["source"].iloc[i], "label": labels[i],
         "instead": order[told[i].argmax()], "quality": round(float(quality[i]), 5)}
        for i in worst
    ]  # fmt: skip


def _quality(given: np.ndarray, told: np.ndarray) -> np.ndarray:
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return told[np.arange(len(given)), given]
    return get_label_quality_scores(given, told)

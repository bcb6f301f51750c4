"""A linear probe: logistic regression on frozen embeddings (Alain and Bengio 2016)."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from deepconnotation import embed, metrics, run
from deepconnotation.console import UserError, write_atomic
from deepconnotation.data import manifest
from deepconnotation.evaluate import as_text, spreadsheet_safe

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C of scikit-learn, the inverse of the L2 penalty
FOLDS = 5
SEED = 0


def probe(folder: Path, dataset: Path) -> dict | None:
    """Fit on train, choose the penalty on dev, measure the test split once, and write it all.

    Args:
        folder: output of `embed`; gets metrics.json, predictions.csv (test), predictions-dev.csv
            and predictions-train.csv, the last out of fold: by probes that saw neither the picture
            nor its group.
        dataset: the data set it was made from.

    Returns:
        What metrics.json holds; None where the data set has no test split.

    Raises:
        UserError: when the data set has changed, or has no training split.
    """
    ids, rows, config = embed.load(folder)
    if manifest.fingerprint(dataset) != config["fingerprint"]:
        raise UserError(f"{dataset} has changed since {folder} was made; embed again")
    info = manifest.read_info(dataset)
    labels = ids["label"].map({c: i for i, c in enumerate(info.classes)}).to_numpy()
    where = {split: np.flatnonzero(ids["split"] == split) for split in embed.SPLITS}
    train = where["train"]
    if not len(train):
        raise UserError(f"{dataset} has no training split; make one with data_tools/split.py")
    strength = _choose(rows, labels, train, where["dev"])
    print(f"linear probe on {config['units']} features of {config['backbone']}: C {strength:g}")
    known = np.unique(labels[train])

    def write(split: str, probabilities: np.ndarray) -> None:
        """`probabilities` has a column a class that occurs in training; others get 0."""
        table = ids.iloc[where[split]].drop(columns="split").map(spreadsheet_safe)
        every = np.zeros((len(table), len(info.classes)))
        every[:, known] = probabilities
        columns = {f"p_{c}": every[:, i].round(6) for i, c in enumerate(info.classes)}
        table["predicted"] = [info.classes[i] for i in every.argmax(axis=1)]
        table["confidence"] = every.max(axis=1).round(6)
        table = pd.concat([table.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
        suffix = "" if split == "test" else f"-{split}"
        write_atomic(folder / f"predictions{suffix}.csv", table.to_csv(index=False))

    write("train", _out_of_fold(strength, rows[train], labels[train], _groups(ids.iloc[train])))
    fitted = _fit(_probe(strength), rows[train], labels[train])
    for split in ("dev", "test"):
        if len(where[split]):
            write(split, fitted.predict_proba(rows[where[split]]))
    if not len(where["test"]):
        return None
    test = where["test"]
    summary = {
        "split": "test", "data": str(dataset), "fingerprint": config["fingerprint"],
        "date": run.now(), "drawn": info.drawn, "C": strength,
        "majority_class": info.classes[majority := int(np.bincount(labels[train]).argmax())],
        **metrics.summarise(
            labels[test], fitted.predict(rows[test]), info.classes, majority,
            ids["group"].iloc[test].tolist(),
        ),
    }  # fmt: skip
    write_atomic(folder / "metrics.json", json.dumps(summary, indent=2) + "\n")
    print(as_text(summary))
    return summary


def _probe(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))


def _fit(pipeline: Pipeline, rows: np.ndarray, labels: np.ndarray) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits do not matter
        return pipeline.fit(rows, labels)


def _choose(rows, labels, train: np.ndarray, dev: np.ndarray) -> float:
    """Return the strength with the lowest dev loss; the middle one where there is no dev split."""
    if not len(dev):
        return STRENGTHS[len(STRENGTHS) // 2]
    known = np.isin(labels[dev], labels[train])
    dev = dev[known]

    def loss(strength: float) -> float:
        fitted = _fit(_probe(strength), rows[train], labels[train])
        return log_loss(labels[dev], fitted.predict_proba(rows[dev]), labels=fitted.classes_)

    return min(STRENGTHS, key=loss)


def _groups(ids: pd.DataFrame) -> np.ndarray:
    return ids["group"].where(ids["group"] != "", "\0" + ids["id"]).to_numpy()


def _out_of_fold(
    strength: float, rows: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return (n, classes that occur): each picture's probabilities by a probe of other groups."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer than five pictures
        return cross_val_predict(
            _probe(strength), rows, labels, groups=groups, cv=folds, method="predict_proba"
        )

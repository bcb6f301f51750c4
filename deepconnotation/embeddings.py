"""A finished folder of `embed`: rows, labels and splits, and how answers on them are written."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepconnotation.console import UserError, reading, write_atomic
from deepconnotation.data import manifest
from deepconnotation.emotions import numbered
from deepconnotation.evaluate import as_text, summarise
from deepconnotation.predictions import prediction_table

SPLITS = ("train", "dev", "test")


def load(folder: str | Path) -> tuple[pd.DataFrame, np.ndarray, dict]:
    """Return ids.csv, embeddings.npy (memory-mapped) and embed.json of a finished folder.

    Raises:
        UserError: when they are missing, unfinished or do not fit each other.
    """
    folder = Path(folder)
    try:
        with reading(folder, "embed again"):
            config = json.loads((folder / "embed.json").read_text("utf-8"))
            ids = pd.read_csv(folder / "ids.csv", dtype=str, keep_default_na=False)
            rows = np.load(folder / "embeddings.npy", mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; expected the output of embed") from None
    if not config["done"] == config["images"] == len(ids) == len(rows):
        raise UserError(f"{folder}: unfinished; give the embed command again")
    return ids, rows, config


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a data set, with its labels.

    Attributes:
        folder: output of `embed`.
        dataset: the data set it was made from.
        info: of the data set.
        ids: id, split, group and label, a row a picture.
        rows: float32 (n, units).
        labels: int64 (n,), indices into `info.classes`.
        config: what embed.json says.
    """

    folder: Path
    dataset: Path
    info: manifest.DatasetInfo
    ids: pd.DataFrame
    rows: np.ndarray
    labels: np.ndarray
    config: dict

    @classmethod
    def of(cls, folder: Path, dataset: Path | None = None) -> "Embeddings":
        """Read a folder.

        Args:
            folder: output of `embed`.
            dataset: the data set it was made from; None takes the one that embed.json names.

        Raises:
            UserError: when the data set has changed, or has no training split.
        """
        ids, rows, config = load(folder)
        dataset = dataset or Path(config["data"])
        if manifest.fingerprint(dataset) != config["fingerprint"]:
            raise UserError(f"{dataset} has changed since {folder} was made; embed again")
        if not (ids["split"] == "train").any():
            raise UserError(f"{dataset} has no training split; make one with deepconnotation split")
        info = manifest.read_info(dataset)
        labels = np.array(numbered(ids["label"], info.classes), np.int64)
        return cls(folder, dataset, info, ids, rows, labels, config)

    def where(self, split: str) -> np.ndarray:
        """Return the row numbers of a split."""
        return np.flatnonzero(self.ids["split"] == split)

    def table(self) -> pd.DataFrame:
        """Return the data set's manifest, a line a row."""
        return manifest.read(self.dataset).set_index("id").loc[self.ids["id"]]

    def groups(self) -> np.ndarray:
        """Return str (n,), what must not cross splits or folds; a picture alone is its own."""
        return self.ids["group"].where(self.ids["group"] != "", "\0" + self.ids["id"]).to_numpy()

    def write(self, name: str, split: str, probabilities: np.ndarray) -> None:
        """Write predictions.

        Args:
            name: of the CSV file.
            split: whose rows are told.
            probabilities: (rows, classes).
        """
        table = self.ids.iloc[self.where(split)].drop(columns="split")
        table = prediction_table(table, probabilities, self.info.classes)
        write_atomic(self.folder / name, table.to_csv(index=False))

    def measure(self, name: str, probabilities: np.ndarray, **about) -> dict:
        """Write and print the figures of the test split.

        Args:
            name: of the JSON file.
            probabilities: (test rows, classes).
            **about: what else the file says.
        """
        train, test = self.where("train"), self.where("test")
        majority = int(np.bincount(self.labels[train]).argmax())
        summary = summarise(
            self.labels[test], probabilities, self.info.classes, majority,
            self.ids["group"].iloc[test].tolist(), split="test", data=str(self.dataset),
            fingerprint=self.config["fingerprint"], drawn=self.info.drawn, **about,
        )  # fmt: skip
        write_atomic(self.folder / name, json.dumps(summary, indent=2) + "\n")
        print(as_text(summary))
        return summary

"""What a run has learned from, itself or through its first weights, its teacher or its members.

seen.npy in the run folder holds the first 64 bits of the sha256 of each, sorted. It goes where the
model goes, so that nobody is tested on them later, in another split or another data set.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepconnotation.console import UserError, reading, write_atomic
from deepconnotation.data import manifest

if TYPE_CHECKING:
    import pandas as pd

    from deepconnotation.run import Run

FILE = "seen.npy"
NOTHING = np.zeros(0, np.uint64)


def digests(sha256: Iterable[str]) -> np.ndarray:
    """Return uint64 (n,): the first 64 bits of hexadecimal digests; 0 of "", a file not known."""
    return np.array([int(each[:16] or "0", 16) for each in sha256], np.uint64)


def write(folder: Path, *parts: np.ndarray) -> None:
    """Write what a run, just made, will have seen.

    Args:
        folder: of the run.
        parts: of `learned` and `of`.
    """
    file = io.BytesIO()
    np.save(file, np.unique(np.concatenate(parts)))
    write_atomic(folder / FILE, file.getvalue())


def learned(dataset: str | Path) -> np.ndarray:
    """Return uint64 (pictures,): those that a data set has for training, and those that the runs
    which labelled some of them have seen."""
    table = manifest.read(dataset)
    own = digests(table.loc[(table["split"] == "train") & (table["sha256"] != ""), "sha256"])
    return np.concatenate([own, read(Path(dataset))])


def of(found: "Run") -> np.ndarray:
    """Return uint64 (pictures,): what a run has seen.

    Of a run of an earlier revision, without seen.npy, it is what its data set has for training, or
    nothing where that is gone.

    Raises:
        UserError: when seen.npy is damaged.
    """
    if (found.path / FILE).is_file():
        return read(found.path)
    dataset = found.config["data"]["path"]
    return learned(dataset) if manifest.exists(dataset) else NOTHING


def read(folder: Path) -> np.ndarray:
    """Return uint64 (pictures,): what seen.npy in a folder says; nothing where there is none.

    Raises:
        UserError: when it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return NOTHING
    with reading(path, "copy the folder again"):
        return np.load(path)


def data_sets(config: dict) -> list[str]:
    """Return the data sets, with their licences, that a run has learned from, its own first.

    Of a run of an earlier revision its first weights are known by the last data set they learned
    from alone.

    Args:
        config: the run's.
    """
    if "learned_from" in config:  # the mean of several runs
        return config["learned_from"]
    data = config["data"]
    found = [f"{data['name']} (licence: {data['licence']})", *data.get("learned_from", [])]
    if weights := config.get("weights"):
        found += weights.get("learned_from", [weights["data"]])
    if teacher := config.get("teacher"):
        found += teacher.get("learned_from", [])
    return list(dict.fromkeys(found))


def among(table: "pd.DataFrame", known: np.ndarray) -> np.ndarray:
    """Return bool (rows,): which pictures of a manifest are among those of `of`."""
    return np.isin(digests(table["sha256"]), known)


def refuse(who: str, known: np.ndarray, dataset: str | Path) -> None:
    """Refuse what has seen pictures that a data set keeps for dev or test.

    Args:
        who: has seen them, for the message.
        known: what it has seen, as of `of`.
        dataset: a prepared data set.

    Raises:
        UserError: naming the first of those pictures.
    """
    table = manifest.read(dataset)
    leaked = table[table["split"].isin(("dev", "test")) & among(table, known)]
    if len(leaked):
        raise UserError(
            f"{who} was trained on {len(leaked)} pictures that {dataset} keeps for dev or test, "
            f"{leaked['source'].iloc[0]} first; use a run trained on the same splits "
            "(deepconnotation split --like makes them)"
        )

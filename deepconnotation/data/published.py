"""Data sets as an original project made them, mistakes included. For `reproduce` alone.

Figures on them are no honest results; dataset.json says so in its `split`.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from deepconnotation.console import folder_atomic, progress
from deepconnotation.data import manifest
from deepconnotation.data.balance import altered, link
from deepconnotation.data.decode import decode
from deepconnotation.data.prepare import encode

#: from a manifest and the new folder, which holds its pictures, to the new manifest's parts and the
#: words that dataset.json remembers
Change = Callable[[pd.DataFrame, Path], tuple[list[pd.DataFrame], str]]


def fill_up(dataset: Path, out: Path, seed: int = 0) -> None:
    """Fill every class of every split up to that split's largest, as Emotion-Classifier did.

    Each new picture is the last one of the same original with other contrast, colour and sharpness,
    so that changes pile up, and test pictures are made in the same way (shared facts E).

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
        seed: of the order and the changes.
    """

    def change(table: pd.DataFrame, partial: Path) -> tuple[list[pd.DataFrame], str]:
        table = table.assign(derived_from="")
        copies = _copies_of_copies(dataset, table, partial, np.random.default_rng(seed))
        return [table, pd.DataFrame(copies)], "every split filled up with copies of copies"

    _derive(dataset, out, change)


def _copies_of_copies(
    dataset: Path, table: pd.DataFrame, partial: Path, rng: np.random.Generator
) -> list[dict]:
    copies: list[dict] = []
    kinds = table.groupby(["split", "label"])
    largest = kinds.size().groupby("split").max()
    classes = manifest.read_info(dataset).classes
    with progress("copies", int(largest.sum()) * len(classes) - len(table)) as advance:
        for (split, _), rows in kinds:
            originals = rng.permutation(rows.index)
            last = {}
            for number in range(largest[split] - len(rows)):
                row = table.loc[originals[number % len(originals)]].to_dict()
                image = last.get(row["id"]) or decode((dataset / row["file"]).read_bytes()).image
                last[row["id"]] = image = altered(image, rng)
                name = f"{row['id']}-made{number}"
                file = manifest.file_of(split, row["label"], name)
                (partial / file).write_bytes(encode(image))
                copies.append({**row, "id": name, "file": file, "derived_from": row["id"]})
                advance(1)
    return copies


def leak(dataset: Path, out: Path) -> None:
    """Put all test pictures into the training split, too, as a cloud job's sample count suggests.

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
    """

    def change(table: pd.DataFrame, partial: Path) -> tuple[list[pd.DataFrame], str]:
        leaked = table[table["split"] == "test"].copy()
        leaked["derived_from"], leaked["split"] = leaked["id"], "train"
        leaked["id"] += "-leaked"
        rows = zip(leaked["label"], leaked["id"], strict=True)
        leaked["file"] = [manifest.file_of("train", *row) for row in rows]
        for original, file in zip(table.loc[leaked.index, "file"], leaked["file"], strict=True):
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(partial / original, partial / file)
        return [table, leaked], "test pictures are in training, too"

    _derive(dataset, out, change)


def swap(dataset: Path, out: Path) -> None:
    """Train on the dev split and choose on the test split, as DeepConnotation's classifier did.

    Args:
        dataset: a prepared data set with three splits.
        out: a new folder; nothing happens where it is there.
    """

    def change(table: pd.DataFrame, partial: Path) -> tuple[list[pd.DataFrame], str]:
        table = table[table["split"] != "train"]
        twice = table[table["split"] == "test"].copy()
        twice["id"], twice["split"] = twice["id"] + "-dev", "dev"
        table = table.assign(split=table["split"].replace("dev", "train"))
        return [table, twice], "trained on dev, chosen on test"

    _derive(dataset, out, change)


def cut(dataset: Path, out: Path, pictures: int, seed: int = 0) -> None:
    """Keep some of the training pictures, drawn at random; the other splits stay.

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
        pictures: how many; all where there are no more.
        seed: of the choice.
    """

    def change(table: pd.DataFrame, partial: Path) -> tuple[list[pd.DataFrame], str]:
        train = table.index[table["split"] == "train"].to_numpy()
        gone = np.random.default_rng(seed).permutation(train)[pictures:]
        return [table.drop(index=gone)], f"{len(train) - len(gone)} training pictures"

    _derive(dataset, out, change)


def _derive(dataset: Path, out: Path, change: Change) -> None:
    """Write a data set made of another one's pictures, all at once, unless it is there."""
    if out.exists():
        return
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    with folder_atomic(out) as partial:
        link(dataset, partial, table["file"], table["file"])
        tables, words = change(table, partial)
        text = manifest.to_csv(pd.concat(tables, ignore_index=True))
        manifest.write(partial, text, replace(info, split=f"{info.split}; {words}"))

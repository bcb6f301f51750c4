"""Data sets as an original project made them, mistakes included. For `reproduce` alone.

Figures on them are no honest results; dataset.json says so in its `split`.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from deepconnotation.console import progress
from deepconnotation.data import manifest
from deepconnotation.data.balance import altered, link
from deepconnotation.data.decode import decode
from deepconnotation.data.prepare import encode


def fill_up(dataset: Path, out: Path, seed: int = 0) -> None:
    """Fill every class of every split up to that split's largest, as Emotion-Classifier did.

    Each new picture is the last one of the same original with other contrast, colour and sharpness,
    so that changes pile up, and test pictures are made in the same way (shared facts E).

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
        seed: of the order and the changes.
    """
    if out.exists():
        return
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    table = table.assign(derived_from="")
    rng = np.random.default_rng(seed)
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    link(dataset, partial, table["file"])
    copies: list[dict] = []
    kinds = table.groupby(["split", "label"])
    largest = kinds.size().groupby("split").max()
    with progress("copies", int((largest.loc[table["split"].unique()] * len(info.classes)).sum())
                  - len(table)) as advance:  # fmt: skip
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
    _finish(partial, out, [table, pd.DataFrame(copies)], replace(
        info, split=f"{info.split}; every split filled up with copies of copies"
    ))  # fmt: skip


def leak(dataset: Path, out: Path) -> None:
    """Put all test pictures into the training split, too, as a cloud job's sample count suggests.

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
    """
    if out.exists():
        return
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    link(dataset, partial, table["file"])
    leaked = table[table["split"] == "test"].copy()
    leaked["derived_from"], leaked["split"] = leaked["id"], "train"
    leaked["id"] += "-leaked"
    rows = zip(leaked["label"], leaked["id"], strict=True)
    leaked["file"] = [manifest.file_of("train", *row) for row in rows]
    for original, file in zip(table.loc[leaked.index, "file"], leaked["file"], strict=True):
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        os.link(partial / original, partial / file)
    _finish(partial, out, [table, leaked],
            replace(info, split=f"{info.split}; test pictures are in training, too"))  # fmt: skip


def swap(dataset: Path, out: Path) -> None:
    """Train on the dev split and choose on the test split, as DeepConnotation's classifier did.

    Args:
        dataset: a prepared data set with three splits.
        out: a new folder; nothing happens where it is there.
    """
    if out.exists():
        return
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    link(dataset, partial, table["file"])
    table = table[table["split"] != "train"]
    twice = table[table["split"] == "test"].copy()
    twice["id"], twice["split"] = twice["id"] + "-dev", "dev"
    table = table.assign(split=table["split"].replace("dev", "train"))
    _finish(partial, out, [table, twice],
            replace(info, split=f"{info.split}; trained on dev, chosen on test"))  # fmt: skip


def cut(dataset: Path, out: Path, pictures: int, seed: int = 0) -> None:
    """Keep some of the training pictures, drawn at random; the other splits stay.

    Args:
        dataset: a prepared data set.
        out: a new folder; nothing happens where it is there.
        pictures: how many; all where there are no more.
        seed: of the choice.
    """
    if out.exists():
        return
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    train = table.index[table["split"] == "train"].to_numpy()
    gone = np.random.default_rng(seed).permutation(train)[pictures:]
    table = table.drop(index=gone)
    link(dataset, partial, table["file"])
    words = f"{info.split}; {len(train) - len(gone)} training pictures"
    _finish(partial, out, [table], replace(info, split=words))


def _finish(partial: Path, out: Path, tables: list[pd.DataFrame], info) -> None:
    manifest.write(partial, manifest.to_csv(pd.concat(tables, ignore_index=True)), info)
    os.replace(partial, out)

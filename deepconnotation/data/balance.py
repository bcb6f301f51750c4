"""Unequal classes: weights for the loss, or more and fewer pictures in the training split.

Copies never leave the training split, name their original in the manifest (`derived_from`) and
share its group, and each is made from an original, not from another copy.
"""

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from deepconnotation.console import UserError, folder_atomic, progress
from deepconnotation.data import duplicates, manifest
from deepconnotation.data.decode import decode
from deepconnotation.data.prepare import encode

SCHEMES = ("none", "inverse", "sqrt", "effective")
BETA = 0.9999  # of the effective number, as in Cui et al. 2019
LEARNED_BOUND = 10.0  # times and over their mean, of weights that training finds
STRENGTH = (0.8, 1.2)  # of contrast, colour and sharpness in synthesised copies
_ENHANCERS = (ImageEnhance.Contrast, ImageEnhance.Color, ImageEnhance.Sharpness)


def class_weights(scheme: str, counts: Sequence[int]) -> np.ndarray:
    """Return a weight a class.

    Args:
        scheme: "none"; "inverse" (1 / count); "sqrt" (1 / square root of count); "effective" or
            "effective:BETA", (1 - beta) / (1 - beta^count) (Cui et al. 2019, arXiv 1901.05555); or
            one number a class, like ".1,.1,.5", in the order of the classes.
        counts: int (classes,), training pictures of each class.

    Returns:
        float32 (classes,). The schemes' weights average 1 over the training pictures, so that
        they do not change the size of a step; given numbers are taken as they are.

    Raises:
        UserError: when the text is none of these.
    """
    counts = np.asarray(counts, np.float64)
    present = np.maximum(counts, 1)
    name, _, beta = scheme.partition(":")
    numbers = _numbers(scheme if name not in SCHEMES else beta or "0")
    if name not in SCHEMES:
        if len(numbers) != len(counts) or not (numbers >= 0).all():
            raise _unknown(scheme, len(counts))
        return numbers.astype(np.float32)
    if beta and (name != "effective" or len(numbers) != 1 or not 0 <= numbers[0] < 1):
        raise _unknown(scheme, len(counts))
    if name == "effective":
        base = numbers[0] if beta else BETA
        weights = (1 - base) / (1 - base**present)
    else:
        weights = present ** -{"none": 0.0, "inverse": 1.0, "sqrt": 0.5}[name]
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def reliability(table: pd.DataFrame) -> np.ndarray:
    """Return float32 (n,): the share of voters who agreed with each label, over the mean share.

    Args:
        table: rows of a manifest.

    Raises:
        UserError: when a row has no votes.
    """
    votes = [manifest.numbers(table, c) for c in ("votes_for", "votes_against")]
    share = (votes[0] / (votes[0] + votes[1])).to_numpy(np.float32)
    if not np.isfinite(share).all():
        row = table.iloc[int(np.argmin(np.isfinite(share)))]
        raise UserError(f"--votes: {row['source']} has no votes in the manifest; leave --votes out")
    return share / share.mean()


def learned_bound(scheme: str) -> float:
    """Return the bound of "learned" or "learned:BOUND", class weights that training finds; or 0.

    Raises:
        UserError: when the bound is no number above 1.
    """
    name, _, bound = scheme.partition(":")
    if name != "learned":
        return 0.0
    numbers = _numbers(bound or str(LEARNED_BOUND))
    if len(numbers) != 1 or numbers[0] <= 1:
        raise UserError(f"--class-weights {scheme!r}: expected learned:BOUND, a number above 1")
    return float(numbers[0])


def _numbers(text: str) -> np.ndarray:
    try:
        values = np.array([float(w) for w in text.split(",")])
    except ValueError:
        return np.empty(0)
    return values if np.isfinite(values).all() else np.empty(0)


def _unknown(scheme: str, classes: int) -> UserError:
    return UserError(
        f"--class-weights {scheme!r}: expected {', '.join(SCHEMES)}, effective:BETA with 0 <= "
        f"BETA < 1, or {classes} numbers separated by commas, one a class"
    )


def training_counts(dataset: str | Path) -> pd.Series:
    """Return the number of training pictures of each class, in the classes' order."""
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    counts = table.loc[table["split"] == "train", "label"].value_counts()
    return counts.reindex(list(info.classes), fill_value=0)


def parse_target(text: str, counts: pd.Series, flag: str) -> int:
    """Return a number of pictures: a number, or "smallest", "median" or "largest" class.

    Raises:
        UserError: for anything else.
    """
    there = counts[counts > 0]
    named = {"smallest": there.min(), "median": there.median(), "largest": there.max()}
    if text in named:
        return int(named[text])
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{flag} {text}: expected a number from 1, or smallest, median or largest")
    return int(text)


def resample(
    dataset: str | Path,
    out: str | Path,
    up_to: int | None,
    down_to: int | None,
    synthesise: bool,
    seed: int,
) -> pd.Series:
    """Write a data set whose training classes are nearer in size; the other splits stay.

    Args:
        dataset: a prepared data set.
        out: a new folder.
        up_to: classes with fewer training pictures get copies until they have this many.
        down_to: classes with more lose pictures, drawn at random, until they have this many.
        synthesise: change contrast, colour and sharpness of each copy, each by a factor drawn from
            `STRENGTH`; otherwise copies are equal to their originals.
        seed: of the choice and the changes.

    Returns:
        Training pictures a class, as `training_counts` counts them.

    Raises:
        UserError: when `out` is there already, or `dataset` holds copies already.
    """
    dataset, out = Path(dataset), Path(out)
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out")
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    if manifest.bound_to_training(table).any():
        raise UserError(f"{dataset} holds copies already, or pictures that a run labelled; balance "
                        "the data set that it came from")  # fmt: skip
    table = table.assign(derived_from="")
    rng = np.random.default_rng(seed)
    kept, dropped = _downsample(table, info.classes, down_to, rng)
    plan = _upsample(kept, info.classes, up_to, rng)
    with folder_atomic(out) as partial:
        link(dataset, partial, kept["file"], kept["file"])
        copies = _make(dataset, partial, kept, plan, synthesise, rng)
        why = ("downsampled", "its class has enough training pictures")
        write_rejected(dataset, partial, [(source, *why) for source in dropped["source"]])
        originals = kept["id"].isin(plan["id"]) & (kept["group"] == "")
        kept["group"] = kept["group"].mask(originals, kept["id"])
        whole = pd.concat([kept, copies], ignore_index=True) if len(copies) else kept
        words = f"{info.split}; training classes" + _words(up_to, down_to, synthesise, seed)
        manifest.write(partial, manifest.to_csv(whole), replace(info, split=words))
    return training_counts(out)


def _words(up_to: int | None, down_to: int | None, synthesise: bool, seed: int) -> str:
    kind = "synthesised" if synthesise else "equal"
    up = f" filled up to {up_to} with {kind} copies" if up_to else ""
    down = f"{',' if up else ''} cut to {down_to}" if down_to else ""
    return f"{up}{down} at seed {seed}"


def _training_rows(table: pd.DataFrame, label: str) -> np.ndarray:
    return table.index[(table["split"] == "train") & (table["label"] == label)].to_numpy()


def _downsample(
    table: pd.DataFrame, classes: Sequence[str], down_to: int | None, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    gone: list[int] = []
    for label in classes:
        rows = _training_rows(table, label)
        if down_to is not None and len(rows) > down_to:
            gone += rng.permutation(rows)[down_to:].tolist()
    return table.drop(index=gone).reset_index(drop=True), table.loc[sorted(gone)]


def _upsample(
    table: pd.DataFrame, classes: Sequence[str], up_to: int | None, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the rows to be copied, in rounds: no original has two copies more than another."""
    rows: list[int] = []
    for label in classes:
        mine = _training_rows(table, label)
        missing = (up_to or 0) - len(mine)
        while missing > 0 and len(mine):
            rows += rng.permutation(mine)[:missing].tolist()
            missing -= len(mine)
    return table.loc[rows]


def link(dataset: Path, out: Path, files: Sequence[str], names: Sequence[str]) -> None:
    """Put files of a data set into another folder, without a copy where the disk allows it.

    Args:
        dataset: the data set's folder.
        out: the other one.
        files: in the first.
        names: of each in the other.
    """
    for folder in {os.path.dirname(name) for name in names}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for file, name in zip(files, names, strict=True):
        try:
            os.link(dataset / file, out / name)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(dataset / file, out / name)


def _make(
    dataset: Path, out: Path, table: pd.DataFrame, plan: pd.DataFrame, synthesise: bool,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    copies, times = [], dict.fromkeys(plan["id"], 0)
    taken = set(table["id"])
    with progress("copies", len(plan)) as advance:
        for row in plan.to_dict("records"):
            times[row["id"]] += 1
            name = f"{row['id']}-copy{times[row['id']]}"
            if name in taken:
                raise UserError(f"{dataset}: id {name!r} is in use; rename that picture")
            file = manifest.file_of("train", row["label"], name)
            data = (dataset / row["file"]).read_bytes()
            if synthesise:
                image = decode(data).image
                data = encode(altered(image, rng))
                row["sha256"] = hashlib.sha256(data).hexdigest()
                small = duplicates.thumbnail(decode(data).image)
                row["phash"] = duplicates.perceptual_hashes([small])[0]
            (out / file).write_bytes(data)
            group = row["group"] or row["id"]
            copies.append({**row, "id": name, "file": file, "group": group,
                           "derived_from": row["id"]})  # fmt: skip
            advance(1)
    return pd.DataFrame(copies, columns=table.columns)


def altered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a picture with other contrast, colour and sharpness, each by a factor of its own."""
    for enhancer in _ENHANCERS:
        image = enhancer(image).enhance(rng.uniform(*STRENGTH))
    return image


def write_rejected(dataset: Path, out: Path, dropped: Sequence[tuple[str, str, str]]) -> None:
    """Write a data set's rejected.csv into another folder, with more rows.

    Args:
        dataset: the data set's folder.
        out: the other one.
        dropped: source, reason and detail of each row.
    """
    path = dataset / "rejected.csv"
    text = path.read_text("utf-8") if path.exists() else "source,reason,detail\n"
    width = len(text.partition("\n")[0].split(","))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in dropped:
        writer.writerow([*row, *[""] * (width - len(row))])
    (out / "rejected.csv").write_text(text + stream.getvalue(), "utf-8")

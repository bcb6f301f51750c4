"""One reader a data set: what is there, under which label, and what was left out and why."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepconnotation import emotions
from deepconnotation.console import UserError, utf8
from deepconnotation.emotions import EmotionSet

#: word -> split; what is for training is still to be divided where there is no dev split
SPLITS = {"train": "", "dev": "dev", "val": "dev", "validation": "dev", "test": "test"}


@dataclass(frozen=True)
class Item:
    """A picture to be prepared.

    Attributes:
        source: where it comes from, relative to the source folder.
        label: its class.
        path: the file to read.
        group: what must not cross splits (a person); "" when unknown.
        extra: further manifest columns.
        url: where the file is to be fetched from first; "" when it is there.
        box: left, top, right, bottom of the part to take, pixels; None takes all.
        split: the split that the data set's own makers gave it; "" when they did not.
    """

    source: str
    label: str
    path: Path
    group: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    url: str = ""
    box: tuple[int, int, int, int] | None = None
    split: str = ""

    def __post_init__(self):
        _make_writable(self)


@dataclass(frozen=True)
class Rejection:
    """A picture, file or row that was not taken.

    Attributes:
        source: where it comes from.
        reason: one word.
        detail: why, in words.
        extra: further columns of rejected.csv.
    """

    source: str
    reason: str
    detail: str
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        _make_writable(self)


def _make_writable(told: Item | Rejection) -> None:
    """Make the source a text that a CSV file can hold: a file's name need not be UTF-8."""
    object.__setattr__(told, "source", utf8(told.source).decode())


@dataclass(frozen=True)
class Source:
    """What a reader found.

    Attributes:
        name: of the data set.
        emotions: its label set.
        items: the pictures to prepare.
        rejections: everything left out so far.
        licence: what its owner allows.
        drawn: True when the package drew the pictures itself.
    """

    name: str
    emotions: EmotionSet
    items: list[Item]
    rejections: list[Rejection]
    licence: str
    drawn: bool = False


@dataclass(frozen=True)
class Options:
    """What only some readers ask; see theirs."""

    emotions: str | None = None
    drops: Sequence[str] = ()
    vote_order: str | None = None
    min_agree: int = 3
    margin: float = 0.0


def read(dataset: str, paths: Sequence[str | Path], options: Options) -> Source:
    """Read a source by the name of its layout.

    Args:
        dataset: "folder", "fi", "affectnet", "facial_expressions", "fer2013", "oasis" or "toy".
        paths: the source's folder; or CSV files of addresses, for "folder" (one) and "fi".
        options: see `Options`.

    Raises:
        UserError: for an option that the layout does not know, and whatever the reader finds wrong.
    """
    from deepconnotation.data.sources import (
        affectnet,
        facial_expressions,
        fer2013,
        fi,
        folder,
        oasis,
        toy,
        urls,
    )

    path, drops = Path(paths[0]), options.drops
    listed = path.suffix.lower() == ".csv"
    if len(paths) > 1 and not (dataset == "fi" and listed):
        raise UserError(f"{paths[1]}: only FI's CSV files can be several")
    if options.emotions and dataset not in ("folder", "affectnet"):
        raise UserError(f"--emotions: {dataset} has its own label set")
    if dataset == "affectnet" and emotions.is_own(options.emotions or ""):
        raise UserError("--emotions: affectnet has label sets of its own, like affectnet7")
    chosen = emotions.emotion_set(options.emotions) if options.emotions else None
    if dataset == "facial_expressions":
        return facial_expressions.read(path, drops=drops)
    if dataset == "affectnet":
        return affectnet.read(path, chosen or emotions.AFFECTNET, drops, options.margin)
    if dataset == "fer2013":
        return fer2013.read(path, drops)
    if dataset == "oasis":
        return oasis.read(path, drops)
    if dataset == "toy":
        return toy.read(path)
    if dataset == "fi":
        if listed or (path.is_dir() and any(path.glob("*.csv"))):
            return fi.read(paths, options.vote_order, options.min_agree, drops)
        return folder.read(path, emotions.FI, drops, name="fi")
    if listed:
        if chosen is None:
            raise UserError("--emotions: say which label set the CSV file's labels are of, like "
                            "fi8 or, of your own, positive,negative")  # fmt: skip
        return urls.read(path, chosen, drops)
    return folder.read(path, chosen, drops)


def image_ids(sources: Iterable[str]) -> list[str]:
    """Return a short file-name-safe id for each source, the same in every run.

    The id is the file's own name where that is plain and unique (in any case, since some file
    systems fold it), and gets a digest of the whole source where it is not.
    """
    sources = list(sources)
    stems = [os.path.splitext(os.path.basename(s))[0] for s in sources]
    seen = Counter(stem.lower() for stem in stems)

    def one(source: str, stem: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:60]
        if plain == stem and seen[stem.lower()] == 1:
            return stem
        return f"{plain or 'image'}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

    return [one(source, stem) for source, stem in zip(sources, stems, strict=True)]

"""One reader a data set: what is there, under which label, and what was left out and why."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepconnotation import emotions
from deepconnotation.emotions import EmotionSet


@dataclass(frozen=True)
class Item:
    """A picture to be prepared.

    Attributes:
        source: where it comes from, relative to the source folder.
        label: its class.
        path: the file to read.
        group: what must not cross splits (a person); "" when unknown.
        extra: further manifest columns.
    """

    source: str
    label: str
    path: Path
    group: str = ""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """A picture, file or row that was not taken."""

    source: str
    reason: str
    detail: str


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


def read(dataset: str, path: str, emotion_set: str | None, drops: Sequence[str]) -> Source:
    """Read a source by the name of its layout.

    Args:
        dataset: "folder", "fi", "facial_expressions" or "toy".
        path: the source's folder.
        emotion_set: name of the label set, for "folder"; None finds it by the folders' names.
        drops: classes to leave out.
    """
    from deepconnotation.data.sources import facial_expressions, folder, toy

    if dataset == "facial_expressions":
        return facial_expressions.read(path, drops=drops)
    if dataset == "toy":
        return toy.read(path)
    if dataset == "fi":
        return folder.read(path, emotions.FI, drops, name="fi")
    chosen = emotions.emotion_set(emotion_set) if emotion_set else None
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

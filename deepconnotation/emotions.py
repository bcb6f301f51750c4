"""Label sets and their geometry: classes, order, ids, polarity, wheel distance, merges, aliases.

The order of the classes is part of a data set's definition and never inferred from sorted folder
names: FI and EmoSet hold the same eight emotions in different orders.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from deepconnotation.console import UserError

#: Mikels' wheel in circular order (Zhao et al., ACM Multimedia 2016).
WHEEL = (
    "amusement", "contentment", "awe", "excitement", "fear", "sadness", "disgust", "anger",
)  # fmt: skip

#: +1 pleasant, -1 unpleasant, 0 neither. Surprise can be both, so it counts as neither.
POLARITY = {
    "amusement": 1, "awe": 1, "contentment": 1, "excitement": 1, "happiness": 1,
    "anger": -1, "contempt": -1, "disgust": -1, "fear": -1, "sadness": -1,
    "neutral": 0, "surprise": 0, "none": 0, "uncertain": 0, "no-face": 0,
}  # fmt: skip

#: Other words for a class, as data sets, services and people write them.
ALIASES = {
    "amused": "amusement", "amusing": "amusement", "funny": "amusement",
    "angry": "anger", "mad": "anger",
    "awed": "awe", "awesome": "awe",
    "calm": "neutral", "none": "neutral", "neutrality": "neutral",
    "content": "contentment", "contented": "contentment", "satisfaction": "contentment",
    "contemptuous": "contempt",
    "disgusted": "disgust", "disgusting": "disgust",
    "excited": "excitement", "exciting": "excitement",
    "afraid": "fear", "fearful": "fear", "scared": "fear",
    "happy": "happiness", "joy": "happiness", "joyful": "happiness",
    "sad": "sadness", "unhappy": "sadness",
    "surprised": "surprise", "surprising": "surprise",
}  # fmt: skip


CLASS_NAME = re.compile(r"\w([\w-]*\w)?")  # of a data set's own; + joins, a comma divides


def places(classes: Sequence[str]) -> dict[str, int]:
    """Return for every class, and every member of a merged one, its place among the classes."""
    return {m: i for i, name in enumerate(classes) for m in (name, *name.split("+"))}


def plain(text: str) -> str:
    """Return a label as it is compared, "very_happy" of " Very  happy"; some systems store the
    accents of file names apart."""
    return unicodedata.normalize("NFC", "_".join(text.lower().split()))


class UnknownLabel(UserError):
    """A label that is no class of the set; the text names the row and the nearest class."""


@dataclass(frozen=True)
class EmotionSet:
    """The classes of a data set in their official order.

    Attributes:
        name: the key in `EMOTION_SETS`, or the classes of a set of a data set's own, with its
            merges appended ("fi8 anger+fear").
        classes: class names; a merged class is written "anger+fear".
        source: the paper or data set that defines the order.
    """

    name: str
    classes: tuple[str, ...]
    source: str

    def id_of(self, label: str, where: str = "") -> int:
        """Return the index of a label in the official order.

        Args:
            label: a class name, an alias ("joy") or a member of a merged class, in any case.
            where: named in the error, for example "legend.csv row 12".

        Raises:
            UnknownLabel: naming `where` and the nearest known label.
        """
        word = plain(label)
        if word in self._ids:
            return self._ids[word]
        near = difflib.get_close_matches(word, self._ids, n=1, cutoff=0.0)[0]
        place = f"{where}: " if where else ""
        nearest = f"unknown label {label!r} for {self.name}; the nearest known label is {near!r}"
        what = nearest if word else f"no label; expected one of {self.name}"
        raise UnknownLabel(f"{place}{what} (classes: {', '.join(self.classes)})")

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Every word for a class -> its index; a class of the set's own goes before an alias."""
        members = places(self.classes)
        return {**{a: members[c] for a, c in ALIASES.items() if c in members}, **members}

    def canonical(self, label: str, where: str = "") -> str:
        """Return the class name of a label; see `id_of`."""
        return self.classes[self.id_of(label, where)]

    def polarity(self, label: str) -> int:
        """Return +1, -1 or 0; a merged class whose members differ is 0."""
        return polarity_of(self.canonical(label))

    def merge(self, *merges: str) -> "EmotionSet":
        """Return the set with classes joined, each at the place of its first member.

        Args:
            *merges: for example "anger+fear"; members may be aliases.

        Raises:
            UserError: for a merge of fewer than two classes, or a class merged twice.
        """
        if not merges:
            return self
        joined: dict[str, str] = {}
        for merge in merges:
            ids = sorted({self.id_of(m, f"merge {merge!r}") for m in merge.split("+")})
            if len(ids) < 2:
                raise UserError(f"merge {merge!r}: expected two or more classes, like anger+fear")
            for index in ids:
                if self.classes[index] in joined:
                    raise UserError(f"merge {merge!r}: {self.classes[index]} is merged twice")
                joined[self.classes[index]] = "+".join(self.classes[i] for i in ids)
        classes = tuple(dict.fromkeys(joined.get(c, c) for c in self.classes))
        if len(classes) < 2:
            raise UserError(f"merging {', '.join(merges)} leaves fewer than two classes")
        return replace(self, name=" ".join((self.name, *merges)), classes=classes)

    def drop(self, *labels: str) -> "EmotionSet":
        """Return the set without some classes, for example facial_expressions without contempt."""
        if not labels:
            return self
        gone = {self.canonical(label, "drop") for label in labels}
        classes = tuple(c for c in self.classes if c not in gone)
        if len(classes) < 2:
            raise UserError(f"dropping {', '.join(labels)} leaves fewer than two classes")
        return replace(self, name=" ".join((self.name, *(f"-{g}" for g in sorted(gone)))),
                       classes=classes)  # fmt: skip


FI = EmotionSet(
    "fi8",
    ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"),
    "FI, You et al., AAAI 2016, arXiv 1605.02677",
)
EMOSET = EmotionSet(
    "emoset8",
    ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness"),
    "EmoSet, Yang et al., ICCV 2023",
)
#: The index of a class is its official id; ids 8 None, 9 Uncertain and 10 No-Face are no emotions.
AFFECTNET = EmotionSet(
    "affectnet8",
    ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
    "AffectNet, Mollahosseini et al. 2017, arXiv 1708.03985",
)
AFFECTNET_11 = replace(
    AFFECTNET, name="affectnet11", classes=(*AFFECTNET.classes, "none", "uncertain", "no-face")
)
#: The variants of the literature and of the student systems: without contempt, then also without
#: disgust, then also without fear.
AFFECTNET_7 = replace(AFFECTNET.drop("contempt"), name="affectnet7")
AFFECTNET_6 = replace(AFFECTNET_7.drop("disgust"), name="affectnet6")
AFFECTNET_5 = replace(AFFECTNET_6.drop("fear"), name="affectnet5")
FACIAL_EXPRESSIONS = EmotionSet(
    "facial_expressions8",
    ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "muxspace/facial_expressions (Apache-2.0)",
)
#: The index of a class is its id in fer2013.csv.
FER2013 = EmotionSet(
    "fer2013",
    ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "FER2013, Goodfellow et al. 2013, arXiv 1307.0414",
)
#: Without contempt (9 pictures) and fear (21), too few to learn from or to measure on.
FACIAL_EXPRESSIONS_6 = replace(
    FACIAL_EXPRESSIONS.drop("contempt", "fear"), name="facial_expressions6"
)

EMOTION_SETS = {
    s.name: s
    for s in (
        FI,
        EMOSET,
        AFFECTNET,
        AFFECTNET_7,
        AFFECTNET_6,
        AFFECTNET_5,
        AFFECTNET_11,
        FACIAL_EXPRESSIONS,
        FACIAL_EXPRESSIONS_6,
        FER2013,
    )
}

#: The categories of OASIS's pictures; no emotions, and no set that a folder's names choose.
OASIS = EmotionSet(
    "oasis4", ("animals", "objects", "people", "scenery"), "Kurdi, Lozano and Banaji 2017"
)


def emotion_set(name: str, merges: Sequence[str] = (), drops: Sequence[str] = ()) -> EmotionSet:
    """Return a set by name, without `drops` and with `merges`.

    Args:
        name: a key of `EMOTION_SETS`, or a data set's own classes: "positive,negative".
        merges: classes to join.
        drops: classes to leave out.

    Raises:
        UserError: when there is no set of that name, or a class's name can be none.
    """
    if name not in EMOTION_SETS and "," not in name:
        raise UserError(f"unknown emotion set {name!r}; there are {', '.join(EMOTION_SETS)}, or "
                        "classes of your own, in order: positive,negative")  # fmt: skip
    found = EMOTION_SETS.get(name) or _own_set(name)
    return found.drop(*drops).merge(*merges)


def _own_set(text: str) -> EmotionSet:
    classes = tuple(map(plain, text.split(",")))
    for number, name in enumerate(classes):
        if not CLASS_NAME.fullmatch(name):
            raise UserError(f"{name!r} can be no class, which is also a folder and a column: give "
                            "it letters, digits, - or _")  # fmt: skip
        if name in classes[:number]:
            raise UserError(f"class {name!r} is there twice in {text!r}")
    return EmotionSet(",".join(classes), classes, "the data set's own")


def is_own(name: str) -> bool:
    """Tell whether a label set, by its name, is one of a data set's own classes."""
    return "," in name


def merged(classes: Sequence[str], merges: Sequence[str]) -> list[str]:
    """Return class names, of a data set's own perhaps, with some joined; see `EmotionSet.merge`."""
    return list(EmotionSet("these classes", tuple(classes), "").merge(*merges).classes)


def numbered(labels: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Return the place of each label among classes, of which some may be merged from labels."""
    known = places(classes)
    return [known[label.partition("+")[0]] for label in labels]


def polarity_of(name: str) -> int:
    """Return +1, -1 or 0 of a class name; a merged one ("anger+fear") whose members differ is 0.

    Raises:
        KeyError: for a word that is not in `POLARITY`.
    """
    signs = {POLARITY[member] for member in name.split("+")}
    return signs.pop() if len(signs) == 1 else 0


def wheel_distance(a: str, b: str, polarity_penalty: int = 0) -> int:
    """Return 1 + the circular steps between two of Mikels' emotions (Zhao et al. 2016).

    Args:
        a: an emotion of `WHEEL`.
        b: another, or the same (distance 1).
        polarity_penalty: added when one is pleasant and the other is not; the emotion-confusion
            variant uses 3.

    Raises:
        UserError: for a word that is not on the wheel.
    """
    for word in (a, b):
        if word not in WHEEL:
            raise UserError(f"{word!r} is not on Mikels' wheel: {', '.join(WHEEL)}")
    steps = abs(WHEEL.index(a) - WHEEL.index(b))
    distance = 1 + min(steps, len(WHEEL) - steps)
    return distance + (polarity_penalty if POLARITY[a] != POLARITY[b] else 0)

"""AffectNet (Mollahosseini et al. 2017, arXiv 1708.03985), in both forms in which it was given out.

    FOLDER/training.csv, validation.csv, Manually_Annotated_Images/SUB/FILE     the first
    FOLDER/train_set/images/ID.jpg, annotations/ID_exp.npy, ID_val.npy, ...     the later one

Pictures of the official validation set, about 500 a class, become the test split; training pictures
are divided into train and dev.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from deepconnotation.console import UserError
from deepconnotation.data.files import is_clutter
from deepconnotation.data.sources import Item, Rejection, Source, table
from deepconnotation.emotions import AFFECTNET, AFFECTNET_11, EmotionSet

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
LISTS = {"training.csv": "", "validation.csv": "test"}  # file -> split; "" is still to be divided
SETS = {"train_set": "", "val_set": "test"}
ROOTS = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", ".")
MISSING = -2  # valence or arousal that nobody gave
LICENCE = "research only, on request from the authors"


def read(
    folder: str | Path,
    emotion_set: EmotionSet = AFFECTNET,
    drops: Sequence[str] = (),
    margin: float = 0.0,
) -> Source:
    """Read either form; pictures whose expression is no class of the set are counted.

    Args:
        folder: see above.
        emotion_set: affectnet8, 7, 6 or 5, or affectnet11 to keep none, uncertain and no-face.
        drops: further classes to leave out.
        margin: around the face's box, as a part of its sides. The later form is cropped already.

    Returns:
        Items with `valence` and `arousal` in [-1, 1], "" where missing.

    Raises:
        UserError: when neither form is there, or naming the row or file that is malformed.
    """
    folder = Path(folder)
    used = emotion_set.drop(*drops)
    if any((folder / name).is_file() for name in LISTS):
        found = _from_lists(folder, used, margin)
    elif any((folder / name).is_dir() for name in SETS):
        found = _from_sets(folder, used)
    else:
        raise UserError(f"{folder}: expected training.csv and validation.csv, or train_set/")
    items, rejections = [], []
    for one in found:
        (items if isinstance(one, Item) else rejections).append(one)
    return Source("affectnet", used, items, rejections, LICENCE)


def _from_lists(folder: Path, used: EmotionSet, margin: float) -> Iterator[Item | Rejection]:
    root = next(folder / r for r in ROOTS if (folder / r).is_dir())
    seen: set[str] = set()
    for name, split in LISTS.items():
        path = folder / name
        if not path.is_file():
            continue
        for number, row in table.rows(path):
            if number == 1 and row[0].lower() == COLUMNS[0].lower():
                continue  # validation.csv was given out without a header
            place = f"{path} row {number}"
            if len(row) != len(COLUMNS):
                raise UserError(f"{place}: expected 9 columns, received {len(row)}")
            source = row[0].replace("\\", "/")
            if source.startswith("/") or ".." in PurePosixPath(source).parts:
                raise UserError(f"{place}: {row[0]!r} leads out of the folder")
            if source in seen:
                yield Rejection(source, "repeated_row", f"again in {name}")
                continue
            seen.add(source)
            label = _label(row[6], used, place)
            if label is None:
                detail = f"expression {row[6]} is no class of {used.name}"
                yield Rejection(source, "dropped_class", detail)
                continue
            extra = {"valence": _value(row[7], place), "arousal": _value(row[8], place)}
            box = _box(row[1:5], margin, place)
            yield Item(source, label, root / source, extra=extra, box=box, split=split)


def _from_sets(folder: Path, used: EmotionSet) -> Iterator[Item | Rejection]:
    for name, split in SETS.items():
        images, notes = folder / name / "images", folder / name / "annotations"
        for path in sorted(images.iterdir()) if images.is_dir() else ():
            source = f"{name}/images/{path.name}"
            if is_clutter(path.name):
                yield Rejection(source, "clutter", "a system or partial file, no picture")
                continue
            expression = notes / f"{path.stem}_exp.npy"
            if not expression.is_file():
                yield Rejection(source, "no_label", f"no {expression.name}")
                continue
            label = _label(_scalar(expression), used, str(expression))
            if label is None:
                yield Rejection(source, "dropped_class", f"no class of {used.name}")
                continue
            extra = {}
            for column, ending in (("valence", "val"), ("arousal", "aro")):
                note = notes / f"{path.stem}_{ending}.npy"
                extra[column] = _value(_scalar(note), str(note)) if note.is_file() else ""
            yield Item(source, label, path, extra=extra, split=split)


def _scalar(path: Path) -> str:
    """Return the one value of an .npy file; pickles are refused."""
    try:
        return str(np.load(path, allow_pickle=False).reshape(-1)[0])
    except (ValueError, EOFError, OSError, IndexError, SyntaxError, AttributeError) as error:
        raise UserError(f"{path}: not one number in .npy form ({error})") from None


def _label(text: str, used: EmotionSet, place: str) -> str | None:
    """Return the class of an official id, or None where the set has none."""
    ids = {str(i): name for i, name in enumerate(AFFECTNET_11.classes)}
    if text not in ids:
        raise UserError(f"{place}: expression {text!r} is none of the ids 0 to 10")
    return ids[text] if ids[text] in used.classes else None


def _value(text: str, place: str) -> str:
    value = _number(text, place)
    if value == MISSING:
        return ""
    if not -1 <= value <= 1:
        raise UserError(f"{place}: {text!r} is not within -1 to 1, nor -2 for missing")
    return repr(round(value, 6))


def _box(cells: list[str], margin: float, place: str) -> tuple[int, int, int, int] | None:
    if all(cell.upper() in ("", "NULL", "NAN") for cell in cells):
        return None  # no face was found: the whole picture
    left, top, width, height = (_number(cell, place) for cell in cells)
    if width <= 0 or height <= 0:
        raise UserError(f"{place}: a face of {width:g} by {height:g} pixels")
    x, y = margin * width, margin * height
    return (
        math.floor(left - x), math.floor(top - y),
        math.ceil(left + width + x), math.ceil(top + height + y),
    )  # fmt: skip


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e6:
        raise UserError(f"{place}: {text!r} is no number that can be meant")
    return value

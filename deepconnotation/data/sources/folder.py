"""A folder with a subfolder a class, as Keras, TFDS and most downloads lay pictures out."""

from collections.abc import Sequence
from pathlib import Path

from deepconnotation import emotions
from deepconnotation.console import UserError
from deepconnotation.data import files
from deepconnotation.data.sources import SPLITS, Item, Rejection, Source
from deepconnotation.emotions import EmotionSet


def read(
    folder: str | Path,
    emotion_set: EmotionSet | None = None,
    drops: Sequence[str] = (),
    name: str = "folder",
) -> Source:
    """List the pictures of a class-per-folder tree.

    Args:
        folder: holds one subfolder a class, or subfolders train, val (or dev) and test with one a
            class each: these are the splits. A class folder may have subfolders of its own.
        emotion_set: the label set; None takes the first known set that has every folder's name,
            without the classes that have no folder.
        drops: classes to leave out.
        name: of the data set.

    Raises:
        UserError: when fewer than two classes have a folder, or a folder's name is no label.
    """
    folder = Path(folder)
    parts = _subfolders(folder)
    divided = all(part.lower() in SPLITS for part in parts)
    tops = [folder / part for part in parts] if divided else [folder]
    classes = [top / label for top in tops for label in _subfolders(top)]
    full = _fitting(emotion_set, classes) if emotion_set else _known_set(classes)
    dropped = {full.canonical(d, "--drop") for d in drops}
    items, rejections = [], []
    for path in sorted(files.below(folder), key=lambda p: p.relative_to(folder).parts):
        where = path.relative_to(folder)
        source, inside = where.as_posix(), where.parts[1:] if divided else where.parts
        if any(map(files.is_clutter, where.parts)):
            rejections.append(Rejection(source, "clutter", "a system or partial file, no picture"))
        elif len(inside) < 2:
            rejections.append(Rejection(source, "no_label", "not inside a class folder"))
        elif full.canonical(inside[0]) in dropped:
            rejections.append(Rejection(source, "dropped_class", f"class {inside[0]} was left out"))
        else:
            split = SPLITS[where.parts[0].lower()] if divided else ""
            items.append(Item(source, full.canonical(inside[0]), path, split=split))
    present = {full.canonical(path.name) for path in classes} - dropped
    if len(present) < 2:
        what = f"only {min(present)}" if present else "no class"
        raise UserError(f"{folder}: {what} is left; expected two class folders or more")
    absent = [c for c in full.classes if c not in present]
    used = full.drop(*sorted(absent))
    return Source(name, used, items, rejections, "the pictures' owners'; see the source")


def _subfolders(folder: Path) -> list[str]:
    if folder.is_file():
        raise UserError(f"{folder}: expected a folder, a .csv file or a .zip or .tar archive")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = [p.name for p in folder.iterdir() if p.is_dir() and not files.is_clutter(p.name)]
    if not found:
        raise UserError(f"{folder}: expected one subfolder a class, like {folder}/awe/1.jpg")
    return sorted(found)


def _fitting(emotion_set: EmotionSet, classes: list[Path]) -> EmotionSet:
    """Return the set; raise where a folder's name is no label of it."""
    for path in classes:
        emotion_set.canonical(path.name, f"folder {path}")
    return emotion_set


def _known_set(classes: list[Path]) -> EmotionSet:
    first_error = None
    for candidate in emotions.EMOTION_SETS.values():
        try:
            return _fitting(candidate, classes)
        except emotions.UnknownLabel as error:
            first_error = first_error or error
    names = list(dict.fromkeys(path.name for path in classes))
    own = ",".join([*names[:3], *["..."] * (len(names) > 3)])
    raise emotions.UnknownLabel(f"{first_error}; for classes of your own give all, in their order: "
                                f'--emotions "{own}"')  # fmt: skip

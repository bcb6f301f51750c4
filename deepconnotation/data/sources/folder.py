"""A folder with a subfolder a class, as Keras, TFDS and most downloads lay pictures out."""

from collections.abc import Sequence
from pathlib import Path

from deepconnotation import emotions
from deepconnotation.console import UserError
from deepconnotation.data import files
from deepconnotation.data.decode import is_clutter
from deepconnotation.data.sources import Item, Rejection, Source
from deepconnotation.emotions import EmotionSet


def read(
    folder: str | Path,
    emotion_set: EmotionSet | None = None,
    drops: Sequence[str] = (),
    name: str = "folder",
) -> Source:
    """List the pictures of a class-per-folder tree.

    Args:
        folder: holds one subfolder a class; a class folder may have subfolders of its own.
        emotion_set: the label set; None takes the first known set that has every folder's name,
            without the classes that have no folder.
        drops: classes to leave out.
        name: of the data set.

    Raises:
        UserError: when fewer than two classes have a folder, or a folder's name is no label.
    """
    folder = Path(folder)
    classes = _class_folders(folder)
    full = emotion_set or _known_set(classes, folder)
    dropped = {full.canonical(d, "--drop") for d in drops}
    items, rejections = [], []
    for path in sorted(files.below(folder), key=lambda p: p.relative_to(folder).parts):
        source = path.relative_to(folder).as_posix()
        top = path.relative_to(folder).parts[0]
        if is_clutter(path.name):
            rejections.append(Rejection(source, "clutter", "a system or partial file, no picture"))
        elif top == path.name:
            rejections.append(Rejection(source, "no_label", "not inside a class folder"))
        elif full.canonical(top, f"folder {folder / top}") in dropped:
            rejections.append(Rejection(source, "dropped_class", f"class {top} was left out"))
        else:
            items.append(Item(source, full.canonical(top), path))
    present = {full.canonical(f) for f in classes} - dropped
    if len(present) < 2:
        what = f"only {min(present)}" if present else "no class"
        raise UserError(f"{folder}: {what} is left; expected two class folders or more")
    absent = [c for c in full.classes if c not in present]
    used = full.drop(*sorted(absent))
    return Source(name, used, items, rejections, "the pictures' owners'; see the source")


def _class_folders(folder: Path) -> list[str]:
    if folder.is_file():
        raise UserError(f"{folder}: expected a folder, a .csv file or a .zip or .tar archive")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if not found:
        raise UserError(f"{folder}: expected one subfolder a class, like {folder}/awe/1.jpg")
    return sorted(found)


def _known_set(classes: list[str], folder: Path) -> EmotionSet:
    first_error = None
    for candidate in emotions.EMOTION_SETS.values():
        try:
            for label in classes:
                candidate.canonical(label, f"folder {folder / label}")
            return candidate
        except emotions.UnknownLabel as error:
            first_error = first_error or error
    raise first_error

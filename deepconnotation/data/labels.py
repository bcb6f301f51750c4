"""The original project's labels.json: lists trainX, trainY, devX, devY, testX, testY."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deepconnotation.console import UserError
from deepconnotation.data.manifest import SPLITS
from deepconnotation.data.sources import Rejection, Source

#: The original's 84,923 pictures: by split, and by class in FI's order.
ORIGINAL_SPLITS = {"train": 67_938, "dev": 8_492, "test": 8_493}
ORIGINAL_CLASSES = (10_569, 10_442, 10_347, 10_547, 10_482, 10_296, 12_143, 10_097)


def read(path: str | Path, classes: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Read a labels.json.

    Args:
        path: the file.
        classes: class names in the order of the file's numbers.

    Returns:
        Entry of an X list -> (split, class).

    Raises:
        UserError: naming the list and the place in it.
    """
    try:
        lists = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error})") from None
    found: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        names, ids = (_list(path, lists, split + axis) for axis in "XY")
        if len(names) != len(ids):
            raise UserError(f"{path}: {len(names)} entries in {split}X, {len(ids)} in {split}Y")
        for place, (name, number) in enumerate(zip(names, ids, strict=True)):
            if not isinstance(name, str):
                raise UserError(f"{path}: {split}X[{place}] is no text: {name!r}")
            if type(number) is not int or not 0 <= number < len(classes):
                raise UserError(
                    f"{path}: {split}Y[{place}] is {number!r}; expected 0 to {len(classes) - 1}"
                )
            if found.setdefault(name, (split, classes[number])) != (split, classes[number]):
                raise UserError(f"{path}: {split}X[{place}] {name!r} occurs twice")
    if not found:
        raise UserError(f"{path}: no entries")
    return found


def _list(path: str | Path, lists: object, name: str) -> list:
    value = lists.get(name) if isinstance(lists, dict) else None
    if not isinstance(value, list):
        raise UserError(f"{path}: no list {name!r}; expected trainX, trainY, devX, ...")
    return value


def is_original(found: dict[str, tuple[str, str]], classes: tuple[str, ...]) -> bool:
    """Tell whether the counts are those of the original's file of 84,923 pictures."""
    splits = Counter(split for split, _ in found.values())
    labels = Counter(label for _, label in found.values())
    return splits == ORIGINAL_SPLITS and tuple(labels[c] for c in classes) == ORIGINAL_CLASSES


def apply(source: Source, path: str | Path) -> Source:
    """Give a source the splits and labels of a labels.json; what it does not name is left out.

    Says so where it is the original project's own file. An entry is a picture's address, its file,
    or its file's name with or without folders and ending, as the projects that wrote such files
    differ.

    Raises:
        UserError: see `read`; or when no entry fits any picture.
    """
    entries = read(path, source.emotions.classes)
    if is_original(entries, source.emotions.classes):
        print(f"{path}: the original project's split of its {len(entries):,} pictures")
    by_name: dict[str, str] = {}
    for entry in entries:
        for name in _names(entry):
            by_name[name] = "" if name in by_name else entry  # two entries: it tells neither
    items, rejections, used = [], [], set()
    for item in source.items:
        entry = next((by_name[n] for n in _names(item.source) if by_name.get(n)), None)
        if entry is None:
            rejections.append(Rejection(item.source, "not_in_labels", f"{path} does not name it"))
            continue
        used.add(entry)
        split, label = entries[entry]
        items.append(replace(item, label=label, split=split))
    if not items:
        raise UserError(f"{path}: none of its {len(entries)} entries is a picture of the source")
    rejections += [
        Rejection(entry, "missing_file", f"in {path}, but not in the source")
        for entry in entries if entry not in used
    ]  # fmt: skip
    return replace(source, items=items, rejections=[*source.rejections, *rejections])


def _names(entry: str) -> tuple[str, str, str]:
    """The whole entry, its file's name, and that without the ending; the strictest first."""
    path = PurePosixPath(entry.replace("\\", "/"))
    return entry, f"/{path.name}", f"/{path.stem}."

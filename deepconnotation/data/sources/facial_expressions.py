"""muxspace/facial_expressions (Apache-2.0): legend.csv and a folder images/.

13,690 rows for 13,718 files: labels in mixed case, 8 repeated names of which one has two labels,
and 36 files without a row.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.files import is_clutter
from deepconnotation.data.sources import Item, Rejection, Source, table
from deepconnotation.emotions import FACIAL_EXPRESSIONS, EmotionSet

COLUMNS = ("user.id", "image", "emotion")


def read(
    folder: str | Path,
    emotion_set: EmotionSet | None = None,
    drops: Sequence[str] = (),
) -> Source:
    """Join legend.csv with the files; every row and file that is not taken is counted.

    Args:
        folder: the repository's folder, with legend.csv and images/.
        emotion_set: the label set; None takes all eight classes.
        drops: classes to leave out, for example contempt with its nine pictures.

    Returns:
        Items with the person as `group` and the labelling person as `contributor`.

    Raises:
        UserError: when a file is missing or malformed, naming the row.
    """
    folder = Path(folder)
    full = emotion_set or FACIAL_EXPRESSIONS
    used = full.drop(*drops)
    rows, rejections = _legend(folder / "legend.csv", full)
    images = folder / "images"
    if not images.is_dir():
        raise UserError(f"{images}: no such folder")
    files = sorted(entry.name for entry in os.scandir(images) if entry.is_file())
    person = persons(files)

    items = []
    for name, (label, contributor) in sorted(rows.items()):
        if name not in person:
            rejections.append(Rejection(name, "missing_file", "in legend.csv, but not in images/"))
        elif label not in used.classes:
            rejections.append(Rejection(name, "dropped_class", f"class {label} was left out"))
        else:
            extra = {"contributor": contributor}
            items.append(Item(f"images/{name}", label, images / name, person[name], extra))
    conflicts = {r.source for r in rejections if r.reason == "conflicting_labels"}
    for name in files:
        if is_clutter(name):
            rejections.append(Rejection(name, "clutter", "a system or partial file, no picture"))
        elif name not in rows and name not in conflicts:
            rejections.append(Rejection(name, "no_label", "in images/, but not in legend.csv"))
    return Source("facial_expressions", used, items, rejections, "Apache-2.0 (muxspace)")


def _legend(
    path: Path, emotion_set: EmotionSet
) -> tuple[dict[str, tuple[str, str]], list[Rejection]]:
    """Return name -> (label, contributor), and the rows that repeat or contradict another."""
    labels: dict[str, list[str]] = defaultdict(list)
    contributor: dict[str, str] = {}
    lines = table.rows(path)
    _, header = next(lines, (1, []))
    if tuple(header) != COLUMNS:
        raise UserError(f"{path} row 1: expected the header {','.join(COLUMNS)}")
    for number, row in lines:
        if len(row) != len(COLUMNS):
            raise UserError(f"{path} row {number}: expected 3 columns, received {len(row)}")
        user, name, emotion = row
        labels[name].append(emotion_set.canonical(emotion, f"{path} row {number}"))
        contributor.setdefault(name, user)

    rows, rejections = {}, []
    for name, found in labels.items():
        if len(set(found)) > 1:
            detail = "labelled " + " and ".join(f"{c} ({n}x)" for c, n in Counter(found).items())
            rejections += [Rejection(name, "conflicting_labels", detail)] * len(found)
            continue
        rows[name] = found[0], contributor[name]
        again = Rejection(name, "repeated_row", f"again as {found[0]} in legend.csv")
        rejections += [again] * (len(found) - 1)
    return rows, rejections


def persons(names: Sequence[str]) -> dict[str, str]:
    """Tell who is on each picture, from the file names alone.

    `Name_0001.jpg` shows Name. The film stills, `image_01007.jpg`, carry no name, but were
    numbered actor by actor: an unbroken run of numbers is one actor, and the eight long runs are
    the eight actors. (Checked by eye: every gap in the numbers is a change of actor.)

    Returns:
        File name -> person; "" where the name tells nothing.
    """
    found, last, start = {}, None, None
    for name in sorted(names):
        match = re.fullmatch(r"(.+)_(\d+)", os.path.splitext(name)[0])
        if match and match[1] == "image":
            number = int(match[2])
            start = start if last is not None and number == last + 1 else number
            last = number
            found[name] = f"still_{start}"
        else:
            found[name] = match[1] if match else ""
    return found

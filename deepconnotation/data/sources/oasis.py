"""OASIS: photographs with the mean valence and arousal that viewers felt.

Kurdi, Lozano and Banaji, Behavior Research Methods 2017, doi 10.3758/s13428-016-0715-3: 900
pictures in four categories, rated on 1 to 7 by 822 people.
"""

from collections.abc import Sequence
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.sources import Item, Rejection, Source, table
from deepconnotation.emotions import OASIS

COLUMNS = ("file", "category", "valence", "arousal")
LOWEST, HIGHEST = 1, 7
LICENCE = "free for research; never republish"


def read(folder: str | Path, drops: Sequence[str] = ()) -> Source:
    """Read a folder with images/ and ratings.csv (file, category, valence, arousal).

    Args:
        folder: of the data set.
        drops: categories to leave out.

    Returns:
        Items labelled by category, with `valence` and `arousal` in [-1, 1], "" where not rated.

    Raises:
        UserError: naming the file and the row.
    """
    folder = Path(folder)
    path, used = folder / "ratings.csv", OASIS.drop(*drops)
    lines = table.rows(path)
    _, header = next(lines, (1, []))
    if missing := {*COLUMNS} - {*header}:
        raise UserError(f"{path} row 1: no column {min(missing)!r}; expected {','.join(COLUMNS)}")
    items, rejections = [], []
    for number, row in lines:
        place = f"{path} row {number}"
        if len(row) != len(header):
            raise UserError(f"{place}: expected {len(header)} columns, received {len(row)}")
        cells = dict(zip(header, row, strict=True))
        name, label = cells["file"], OASIS.canonical(cells["category"], place)
        if "/" in name or name.startswith("."):
            raise UserError(f"{place}: {name!r} is no file name")
        if label not in used.classes:
            rejections.append(Rejection(name, "dropped_class", f"category {label} was left out"))
            continue
        extra = {c: _scaled(cells[c], f"{place}: {c}") for c in ("valence", "arousal")}
        items.append(Item(name, label, folder / "images" / name, extra=extra))
    return Source("oasis", used, items, rejections, LICENCE)


def _scaled(text: str, place: str) -> str:
    """Return a rating on 1 to 7 as text on -1 to 1."""
    if not text:
        return ""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LOWEST <= value <= HIGHEST:
        raise UserError(f"{place} {text!r}: expected a number from {LOWEST} to {HIGHEST}")
    return f"{2 * (value - LOWEST) / (HIGHEST - LOWEST) - 1:.6g}"

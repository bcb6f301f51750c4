"""Contact sheets: many pictures on one, with what each is."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from deepconnotation.console import UserError
from deepconnotation.data import manifest
from deepconnotation.data.decode import Rejected, decode
from deepconnotation.fonts import font_for

TILE = 112  # pixels
GAP = 8
LINE = 13  # height of a line of words
PAPER, INK, EMPTY = (255, 255, 255), (40, 40, 40), (225, 225, 225)


class Entry(NamedTuple):
    """A picture to show.

    Attributes:
        index: its place in the manifest or in rejected.csv, from 0.
        name: its id or source.
        words: label and split, or the reason why it was not taken.
        path: its file; None when it is not known where it is.
    """

    index: int
    name: str
    words: str
    path: Path | None


def parse_index(text: str) -> set[int]:
    """Read "3", "3,7" or "20:40" (without 40), or several of them joined by commas.

    Raises:
        UserError: for anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, colon, end = part.partition(":")
        if not first.isdigit() or (colon and not end.isdigit()):
            raise UserError(f"--index {text}: expected numbers or ranges, like 3,7 or 20:40")
        found.update(range(int(first), int(end)) if colon else [int(first)])
    return found


def taken(
    dataset: str | Path, split: str | None, label: str | None, index: set[int] | None
) -> list[Entry]:
    """Return the pictures of a prepared data set that fit.

    Raises:
        UserError: when the class is unknown, or nothing fits.
    """
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    if label is not None and label not in info.classes:
        raise UserError(f"--class {label}: expected one of {', '.join(info.classes)}")
    entries = []
    for row in table.itertuples():
        fits = (split in (None, row.split), label in (None, row.label))
        if all(fits) and (index is None or row.Index in index):
            words = f"{row.label}, {row.split}" if row.split else row.label
            entries.append(Entry(row.Index, row.id, words, Path(dataset) / row.file))
    if not entries:
        raise UserError(f"{dataset}: no picture fits")
    return entries


def rejected(
    dataset: str | Path, reason: str, originals: Sequence[str | Path], index: set[int] | None
) -> list[Entry]:
    """Return the pictures of a reason in rejected.csv ("all" for every reason).

    Args:
        dataset: a prepared data set.
        reason: as in rejected.csv.
        originals: folders in which the pictures may be: the source, or what was fetched.
        index: rows to show, from 0; None shows all.

    Raises:
        UserError: when no row fits, naming the reasons that there are.
    """
    path = Path(dataset) / "rejected.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; is {dataset} a prepared data set?")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    entries = [
        Entry(i, row["source"], row["reason"], _find(row["source"], originals))
        for i, row in enumerate(rows)
        if reason in ("all", row["reason"]) and (index is None or i in index)
    ]
    if not entries:
        reasons = ", ".join(sorted({row["reason"] for row in rows})) or "none"
        raise UserError(f"--rejected {reason}: no row fits; reasons in {path}: {reasons}")
    return entries


def _find(source: str, originals: Sequence[str | Path]) -> Path | None:
    from deepconnotation.data.download import path_of

    for folder in map(Path, originals):
        for path in (folder / source, folder / "images" / source, path_of(folder, source)):
            if path.is_file():
                return path
    return None


def picture_of(entry: Entry) -> np.ndarray:
    """Return uint8 (TILE, TILE, 3): the picture, whole and undistorted, or a grey tile."""
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    try:
        if entry.path is None:
            raise OSError("its file is not at hand")
        image = decode(entry.path.read_bytes()).image.convert("RGB")
        image = ImageOps.contain(image, (TILE, TILE), Image.Resampling.LANCZOS)
        tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
    except (OSError, Rejected) as error:
        reason = error.reason if isinstance(error, Rejected) else "not at hand"
        ImageDraw.Draw(tile).text((6, TILE // 2 - 6), reason, INK, ImageFont.load_default(11))
    return np.asarray(tile)


def sheet(entries: Sequence[Entry], pictures: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Lay pictures out in rows, each above its index, words and name.

    Args:
        entries: what they are.
        pictures: see `picture_of`.
        columns: pictures a row.
    """
    rows = -(-len(entries) // columns)
    columns = min(columns, len(entries))
    height = TILE + 2 * LINE + GAP
    canvas = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * height + GAP), PAPER)
    texts = [(f"{e.index} {e.words}", e.name.rsplit("/")[-1]) for e in entries]
    brush, font = ImageDraw.Draw(canvas), ImageFont.load_default(10)
    letters = "".join(line for lines in texts for line in lines)
    if not letters.isascii():
        font = ImageFont.truetype(font_for(letters), 9)
    for k, (lines, pixels) in enumerate(zip(texts, pictures, strict=True)):
        x, y = GAP + k % columns * (TILE + GAP), GAP + k // columns * height
        canvas.paste(Image.fromarray(pixels), (x, y))
        for n, line in enumerate(lines):
            brush.text((x, y + TILE + 1 + n * LINE), _fit(line, font), INK, font)
    return canvas


def _fit(line: str, font: ImageFont.FreeTypeFont) -> str:
    """Cut a line where it would run into the next picture."""
    while font.getlength(line) > TILE:
        line = line[:-2].rstrip("…") + "…"
    return line

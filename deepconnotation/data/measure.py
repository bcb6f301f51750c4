"""What `audit` looks at: every picture of a source or data set, measured once."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageStat

from deepconnotation.console import progress
from deepconnotation.data import duplicates, manifest
from deepconnotation.data.decode import Rejected, decode
from deepconnotation.data.engine import run
from deepconnotation.data.sources import Source

SIDE = 96  # pixels at which sharpness is measured, whatever the picture's size
CHUNK = 64
GREY_LEVELS = 3.0  # a picture whose channels lie less than this apart on average is grey

Row = dict[str, object]


def pictures_of(dataset: str | Path) -> pd.DataFrame:
    """Return the pictures of a prepared data set: its manifest with `path`."""
    table = manifest.read(dataset)
    table = table.assign(path=[str(Path(dataset) / f) for f in table["file"]])
    # A copy has its original's source.
    return table.assign(source=table["source"].mask(manifest.copies(table), table["id"]))


def pictures_in(source: Source) -> pd.DataFrame:
    """Return the pictures of a source that is not prepared: source, label, group, split, path."""
    rows = [
        {"source": i.source, "label": i.label, "group": i.group, "split": i.split,
         "path": str(i.path), **i.extra}
        for i in source.items
    ]  # fmt: skip
    return pd.DataFrame(rows).fillna("")


def measure(pictures: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Open every picture.

    Args:
        pictures: with `path`.

    Returns:
        The pictures that could be shown, with `sha256` and `phash` (kept where they are known: a
        manifest's are of the original), `width` and `height` (likewise), `mode` ("RGB", "L",
        "grey RGB", ...), `sharpness` (log10 of the variance of the Laplacian at 96 pixels) and
        `problem` ("" or why it could not be shown); and uint8 (n, 32, 32), their thumbnails.
    """
    paths = pictures["path"].tolist()
    chunks = [(paths[k : k + CHUNK],) for k in range(0, len(paths), CHUNK)]
    rows: list[Row] = []
    thumbnails: list[np.ndarray] = []
    with progress("pictures measured", len(paths)) as advance:
        for found, small in run("local", measure_chunk, chunks, None):
            rows += found
            thumbnails.append(small)
            advance(len(found))
    facts = pd.DataFrame(rows, index=pictures.index)
    for column in ("sha256", "phash", "width", "height"):
        if column in pictures:
            facts[column] = pictures[column].where(pictures[column] != "", facts[column])
    rest = pictures.drop(columns=[c for c in facts if c in pictures])
    table = pd.concat([rest, facts], axis=1)
    table["width"], table["height"] = table["width"].astype(int), table["height"].astype(int)
    return table, np.concatenate(thumbnails)


def measure_chunk(paths: list[str]) -> tuple[list[Row], np.ndarray]:
    """Measure some files; see `measure`."""
    rows, thumbnails = [], []
    for path in paths:
        row, small = _measure_one(path)
        rows.append(row)
        thumbnails.append(small)
    hashes = duplicates.perceptual_hashes(thumbnails)
    for row, phash in zip(rows, hashes, strict=True):
        row["phash"] = phash
    return rows, np.stack([np.asarray(t) for t in thumbnails])


def _measure_one(path: str) -> tuple[Row, Image.Image]:
    row: Row = {"sha256": "", "width": 0, "height": 0, "mode": "", "sharpness": 0.0, "problem": ""}
    try:
        data = Path(path).read_bytes()
        row["sha256"] = hashlib.sha256(data).hexdigest()
        picture = decode(data, (SIDE, SIDE))
    except (OSError, Rejected) as error:
        row["problem"] = getattr(error, "reason", None) or "unreadable"
        return row, Image.new("L", (duplicates.THUMBNAIL, duplicates.THUMBNAIL))
    row.update(width=picture.width, height=picture.height, mode=picture.mode)
    if picture.image.mode == "RGB" and _spread(picture.image) < GREY_LEVELS:
        row["mode"] = f"grey {picture.mode}"
    row["sharpness"] = round(sharpness(np.asarray(picture.image.convert("L"), np.float32)), 3)
    return row, duplicates.thumbnail(picture.image)


def _spread(image: Image.Image) -> float:
    """Return how far the channels lie apart, in mean grey levels."""
    red, green, blue = image.split()
    pairs = ((red, green), (green, blue))
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean[0] for a, b in pairs)


def sharpness(grey: np.ndarray) -> float:
    """Return log10 of the variance of the Laplacian, plus 1 (Pech-Pacheco et al. 2000).

    Args:
        grey: float32 (height, width), 0..255.
    """
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.log10((around - 4 * inner).var() + 1))

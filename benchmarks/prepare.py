"""Preparation against the loop a person would write: Pillow and multiprocessing.

    python benchmarks/prepare.py [PICTURES]

Both sides read all pictures of facial_expressions, make them 64x64 RGB and save JPEGs of the same
quality, in turn, five times each. Ours also applies orientation, refuses broken files, hashes each
picture twice, finds duplicates and near-duplicates, splits and writes the manifest. Prints the
medians and their ratio (below 1 is faster than the loop).

Everything is written under data/ and removed at the end only: ext4 is slow to make files where many
have just been removed.
"""

import os
import statistics
import sys
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path

from PIL import Image

from deepconnotation.backend import device_name
from deepconnotation.data import prepare
from deepconnotation.data.sources import facial_expressions

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
SIZE = 64
REPEATS = 5


def resize(job: tuple[Path, Path]) -> None:
    source, target = job
    image = Image.open(source).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    image.save(target, "JPEG", quality=prepare.JPEG_QUALITY, subsampling=0)


def plain_loop(pictures: Path, out: Path) -> None:
    out.mkdir()
    files = sorted((pictures / "images").iterdir())
    with Pool() as pool:
        for _ in pool.imap_unordered(resize, [(f, out / f.name) for f in files], chunksize=64):
            pass


def main() -> None:
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "facial_expressions"
    times: dict[str, list[float]] = {"loop": [], "ours": []}
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data") as folder:
        for repeat in range(REPEATS):
            for name in times:
                out = Path(folder) / f"{name}{repeat}"
                started = time.perf_counter()
                if name == "loop":
                    plain_loop(pictures, out)
                else:
                    source = facial_expressions.read(pictures)
                    prepare.prepare(source, out, SIZE, allow_missing=True)
                times[name].append(time.perf_counter() - started)
    loop, ours = (statistics.median(times[name]) for name in ("loop", "ours"))
    count = len(list((pictures / "images").iterdir()))
    print(f"{count} pictures to {SIZE} px on {device_name()}: loop {loop:.1f} s, ours "
          f"{ours:.1f} s, ratio {ours / loop:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()

"""Time and memory of prepare, a training epoch, embed and predict as a data set grows.

    python benchmarks/growth.py [--sizes 1000 10000 84922]        (about 15 minutes on two cores)

Drawn pictures of 64 pixels, prepared at 32; each command is a process of its own, as a person
starts it. Memory is its own and that of the processes it starts, without the pages of files that
they map, which the system takes back when it needs them. 84,922 is the number of pictures of the
original project. Prints a table and draws docs/growth.png.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image
from turns import memory, workplace

from deepconnotation.console import argument_parser, run_command
from deepconnotation.data.sources import toy
from deepconnotation.emotions import FI

FIGURE = Path("docs/growth.png")
#: without the probes that the command fits afterwards, whose time scikit-learn decides
EMBED = """
import sys
from pathlib import Path
from deepconnotation.embed import embed
embed("efficientnet_lite0", Path(sys.argv[1]), Path(sys.argv[2]))
"""
INTERVAL = 0.05  # seconds between two looks at a process


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 84_922])
    return parser.parse_args()


def draw(folder: Path, number: int) -> None:
    emotion = FI.classes[number % len(FI.classes)]
    picture = Image.fromarray(toy.draw(emotion, number, 64))
    picture.save(folder / emotion / f"{number}.jpg", quality=90)


def measured(*words: object) -> tuple[float, float]:
    """Run Python with these arguments; return its seconds and its largest memory, MiB."""
    started, largest = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as told:
        job = subprocess.Popen([sys.executable, *map(str, words)], stdout=told, stderr=told)
        while job.poll() is None:
            # Forked workers share pages with the process that started them: each counts its part.
            parts = [memory(pid, "smaps_rollup", "Pss_Anon") for pid in family(job.pid)]
            largest = max(largest, sum(parts))
            time.sleep(INTERVAL)
        if job.returncode:
            told.seek(0)
            raise SystemExit(f"{words}: {told.read().decode()[-500:]}")
    return time.perf_counter() - started, largest


def family(pid: int) -> list[int]:
    """Return a process and all that it and they have started."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def of(size: int, place: Path) -> dict[str, tuple[float, float]]:
    """Return seconds and MiB of every command on so many pictures."""
    pictures, data, run = place / "pictures", place / "data", place / "run"
    for emotion in FI.classes:
        (pictures / emotion).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, pictures), range(size), chunksize=256))
    train = ("-m", "deepconnotation.train", "--arch", "resnet", "--width", 16, "--data", data,
             "--run", run, "--epochs", 1)  # fmt: skip
    predict = ("-m", "deepconnotation.predict", run)
    told = {
        "prepare": measured("-m", "deepconnotation.prepare", pictures, "--size", 32, "--out", data),
        "train, one epoch": measured(*train),
        "embed": measured("-c", EMBED, data, place / "embedded"),
    }
    measured(*predict, next((pictures / FI.classes[0]).iterdir()))  # makes model.tflite, once a run
    return {**told, "predict": measured(*predict, pictures, "--csv")}


def figure(rows: pd.DataFrame) -> None:
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", dpi=110)
    for name, its in rows.groupby("command", sort=False):
        axes[0].plot(its["pictures"], its["seconds"], marker="o", label=name)
        axes[1].plot(its["pictures"], its["MiB"], marker="o", label=name)
    axes[0].set(xscale="log", yscale="log", xlabel="pictures", ylabel="seconds")
    axes[1].set(xscale="log", xlabel="pictures", ylabel="largest memory, MiB", ylim=(0, None))
    axes[0].legend()
    drawing.savefig(FIGURE)


def main() -> None:
    rows = []
    for size in parse().sizes:
        with workplace() as place:
            for name, (seconds, memory) in of(size, Path(place)).items():
                rows.append({"command": name, "pictures": size, "seconds": seconds, "MiB": memory})
                print(f"| {name} | {size:,} | {seconds:.1f} s | {memory:.0f} MiB |", flush=True)
    figure(pd.DataFrame(rows))


if __name__ == "__main__":
    run_command(main)

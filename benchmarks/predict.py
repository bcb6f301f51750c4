"""`predict` against Keras' own way, on one picture from a cold start and on a folder of many.

    python benchmarks/predict.py RUN FOLDER [--pictures 10000]

RUN is a run folder with model.tflite; FOLDER holds pictures. Each measurement is a process of its
own, both sides in turn. On one picture five times: the time from starting the process to the
answer. On many three times: pictures a second, and the largest memory of the process, also for a
tenth of the pictures. Prints medians and ratios (above 1 is better than Keras).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from turns import Row, memory, tell

from deepconnotation.console import argument_parser, run_command

KERAS_ONE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1] + "/model.keras", compile=False)
image = keras.utils.load_img(sys.argv[2], target_size=model.input_shape[1:3])
logits = model.predict(np.asarray(image)[None], verbose=0)
print(keras.ops.softmax(logits))
"""
KERAS_MANY = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
model = keras.saving.load_model(sys.argv[1] + "/model.keras", compile=False)
files = keras.utils.image_dataset_from_directory(sys.argv[2], labels=None, shuffle=False,
    batch_size=32, image_size=model.input_shape[1:3], verbose=False)
for row in keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(files, verbose=0))):
    print(",".join(map(str, row)))
"""


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=int, default=10_000)
    return parser.parse_args()


def timed(words: list[str]) -> tuple[float, float]:
    """Return a process's seconds and its largest memory, MiB."""
    started, largest, done = time.perf_counter(), [0.0], threading.Event()
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)  # fmt: skip

    def watch() -> None:
        # Not what wait4 tells: that counts the process which started it, too.
        while not done.wait(0.02):
            largest[0] = memory(child.pid, "status", "VmHWM") or largest[0]

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = child.wait()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"{' '.join(words)[:200]} failed")
    return seconds, largest[0]


def compare(sides: dict[str, list[str]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds and memory of each side, run in turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, words in sides.items():
            found[name].append(timed(words))
    return {name: tuple(statistics.median(column) for column in zip(*values, strict=True))
            for name, values in found.items()}  # fmt: skip


def measure(run: str, files: list[Path]) -> Iterator[Row]:
    """Yield the table's rows: one picture cold, then a tenth of the files and all of them.

    Args:
        run: folder.
        files: pictures.
    """
    ours = ["-m", "deepconnotation.predict", run]
    timed([*ours, str(files[0])])  # makes model.tflite, once a run
    one = compare({"ours": [*ours, str(files[0])],
                   "keras": ["-c", KERAS_ONE, run, str(files[0])]}, 5)  # fmt: skip
    yield Row("predict one picture, cold process to answer", "the same model through Keras",
              one["ours"][0], one["keras"][0], "s", 5.0)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for count in (len(files) // 10, len(files)):
            some = Path(folder) / str(count)
            some.mkdir()
            for i, path in enumerate(files[:count]):
                (some / f"{i}{path.suffix}").symlink_to(path.resolve())
            many = compare({"ours": [*ours, str(some), "--csv"],
                            "keras": ["-c", KERAS_MANY, run, str(some)]}, 3)  # fmt: skip
            rates = {name: count / seconds for name, (seconds, _) in many.items()}
            memory = {name: used for name, (_, used) in many.items()}
            what = f"predict {count:,} pictures, {memory['ours']:.0f} MiB"
            yield Row(what, f"Keras predict from files, {memory['keras']:.0f} MiB", rates["ours"],
                      rates["keras"], "pictures/s", 1.5)  # fmt: skip


def main() -> None:
    args = parse()
    files = sorted(p for p in args.folder.rglob("*") if p.is_file())[: args.pictures]
    tell(measure(args.run, files))


if __name__ == "__main__":
    run_command(main)

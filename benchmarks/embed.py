"""`embed` against Keras' own way from the same files: image_dataset_from_directory and predict.

    python benchmarks/embed.py DATASET [--backbone efficientnet_lite0]

Both sides run the same backbone on all pictures of a prepared data set, in turn, three times; ours
writes its packed cache anew each time, and the embeddings to disk. Prints the medians in pictures a
second and their ratio (above 1 is faster than Keras).
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from deepconnotation import embed
from deepconnotation.backend import device_name, keras
from deepconnotation.console import argument_parser, run_command
from deepconnotation.data import manifest

REPEATS = 3


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--backbone", default="efficientnet_lite0", metavar="RUN|ARCH")
    return parser.parse_args()


def ours(args: argparse.Namespace, folder: Path) -> int:
    shutil.rmtree(args.dataset / ".cache", ignore_errors=True)
    embed.embed(args.backbone, args.dataset, folder)
    return len(manifest.read(args.dataset))


def plain(args: argparse.Namespace, folder: Path) -> int:
    keras.mixed_precision.set_dtype_policy("float32")  # Keras' default
    info = manifest.read_info(args.dataset)
    model = embed.embedding_model(args.backbone, (info.height, info.width, 3), info.grey)
    count = 0
    for split in ("train", "dev", "test"):
        files = keras.utils.image_dataset_from_directory(
            args.dataset / split, labels=None, shuffle=False, batch_size=embed.BATCH,
            image_size=(info.height, info.width), verbose=False,
        )  # fmt: skip
        count += len(model.predict(files, verbose=0))
    return count


def main() -> None:
    args = parse()
    rates: dict[str, list[float]] = {"keras": [], "ours": []}
    for repeat in range(REPEATS):
        for name, side in (("keras", plain), ("ours", ours)):
            with tempfile.TemporaryDirectory(dir=".") as folder:
                started = time.perf_counter()
                count = side(args, Path(folder) / str(repeat))
                rates[name].append(count / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        each = ", ".join(f"{v:.0f}" for v in values)
        print(f"{name}: {medians[name]:.0f} pictures/s (of {each})")
    print(f"ratio {medians['ours'] / medians['keras']:.2f} on {device_name()}")


if __name__ == "__main__":
    run_command(main)

"""A training epoch from files against Keras' and PyTorch's own ways.

    python benchmarks/epoch.py FOLDER [--pictures 4000]

FOLDER holds pictures in a folder a class, of any size; they are prepared at 32 pixels first. A
ResNet-18 with the original stem, batch 64, SGD, no augmentation. Keras reads with
`image_dataset_from_directory` and trains with `fit` in float32, as it does where nobody changes it;
PyTorch reads with ImageFolder and a DataLoader of two processes, and trains channels-last under
bfloat16's autocast. Ours packs the pictures in its first epoch. The first epoch of a process is
measured apart from the later ones; nets are built before it and graphs in it on all sides.
"""

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from turns import Peer, Row, in_turn, parse, some_of, tell, workplace

from deepconnotation import train
from deepconnotation.console import run_command
from deepconnotation.data import pipeline, prepare
from deepconnotation.fit import Trainer
from deepconnotation.run import save_model
from deepconnotation.settings import Settings

SIZE, BATCH, REPEATS = 32, 64, 3
SETTINGS = {"dropout": 0.0, "flip": False, "shift": 0.0, "rate": 0.01, "batch": BATCH, "epochs": 99}


def our_epoch(trainer: Trainer) -> float:
    """Train an epoch and return its seconds."""
    started = time.perf_counter()
    trainer._run_epoch(lambda: False)
    seconds = time.perf_counter() - started
    trainer.progress.epoch, trainer.progress.step = trainer.progress.epoch + 1, 0
    return seconds


def waited(trainer: Trainer) -> float:
    """Train an epoch and return the share of it in which the steps wait for pictures."""
    batches, spent = trainer._batches, []

    def timed(order: np.ndarray) -> Iterator:
        source = iter(batches(order))
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            spent.append(time.perf_counter() - started)
            if batch is None:
                return
            yield batch

    trainer._batches = timed
    try:
        seconds = our_epoch(trainer)
    finally:
        trainer._batches = batches
    return sum(spent) / seconds


def measure(source: Path, pictures: int) -> Iterator[Row]:
    """Yield the table's rows."""
    with workplace() as place:
        data = Path(place) / "data"
        prepare.prepare(some_of(source, round(pictures / 0.9)), data, SIZE, fractions="90/10")
        found = train.new_run("resnet18", data, Path(place) / "run", Settings(**SETTINGS))
        trainer = train.make_trainer(found, Settings(**SETTINGS), lambda _: None)
        shutil.rmtree(data / ".cache")  # packed anew below
        started = time.perf_counter()
        pipeline.load(data, "train")
        first = time.perf_counter() - started + our_epoch(trainer)
        save_model(_in_float32(data), Path(place) / "model.keras")
        peers = {
            "Keras": Peer("keras", "keras_epoch.py", data / "train", BATCH,
                          Path(place) / "model.keras"),
            "PyTorch, bfloat16": Peer("torch", "torch_epoch.py", data / "train", BATCH, "bfloat16"),
        }  # fmt: skip
        firsts = {name: peer() for name, peer in peers.items()}
        sides = {"ours": lambda: our_epoch(trainer), **peers}
        later = in_turn(sides, REPEATS)
        share = statistics.median(waited(trainer) for _ in range(REPEATS))
        count = len(trainer.train_split.labels)
        for name, goal in (("Keras", 3.0), ("PyTorch, bfloat16", 1.1)):
            yield Row(f"first epoch from {count} files, original stem", name, first, firsts[name],
                      "s", goal)  # fmt: skip
            what = f"later epoch; steps wait for input {share:.1%} of it"
            yield Row(what, name, later["ours"], later[name], "s", goal)
        for peer in peers.values():
            peer.close()


def _in_float32(data: Path):
    from deepconnotation import backend
    from deepconnotation.data import manifest
    from deepconnotation.models import registry

    backend.set_precision("float32")
    classes = len(manifest.read_info(data).classes)
    return registry.build("resnet18", (SIZE, SIZE, 3), classes, dropout=0.0)


def main() -> None:
    args = parse(__doc__, 4000)
    tell(measure(args.folder, args.pictures))


if __name__ == "__main__":
    run_command(main)

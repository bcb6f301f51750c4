"""`embed` against Keras' `predict` and timm in PyTorch, from the same files.

    python benchmarks/embed.py FOLDER [--pictures 1536]
    python benchmarks/embed.py data/faces96

Of a prepared data set all pictures are embedded as they are, without timm. Any other FOLDER holds
pictures in a folder a class; some of them are prepared at 299 pixels for InceptionV3 and at 224 for
EfficientNet-Lite0. The weights are random, which cost the same. Keras reads with
`image_dataset_from_directory` and predicts in float32, its default; timm's nets run channels-last
under bfloat16's autocast, fed by a DataLoader of two processes. Ours writes its packed cache anew
each time, and the embeddings to disk. All load or build their net anew each time; all in turn.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from turns import Peer, Row, in_turn, parse, some_of, tell, workplace

from deepconnotation import embed, train
from deepconnotation.backend import keras
from deepconnotation.console import run_command
from deepconnotation.data import manifest, prepare
from deepconnotation.data.manifest import SPLITS
from deepconnotation.data.sources import Source
from deepconnotation.run import Run, file_sha256, save_model
from deepconnotation.settings import Settings

#: backbone, as timm calls it, too -> pixels, and the part of the pictures that it is given
BACKBONES = {"efficientnet_lite0": (224, 1), "inception_v3": (299, 2)}
REPEATS = 2


def random_run(arch: str, data: Path, folder: Path) -> Run:
    """Return a run whose net has random weights."""
    settings = Settings(precision="float32")
    found = train.new_run(arch, data, folder, settings)
    save_model(train.make_trainer(found, settings, lambda _: None).model, folder / "model.keras")
    return found.update(state="finished", model_sha256=file_sha256(folder / "model.keras"))


def ours(found: Run, data: Path, out: Path, count: int) -> float:
    """Embed once and return pictures a second."""
    shutil.rmtree(data / ".cache", ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    embed.embed(str(found.path), data, out)
    return count / (time.perf_counter() - started)


def plain(found: Run, data: Path, count: int) -> float:
    """Load the net, predict once as Keras' guides do, and return pictures a second."""
    keras.mixed_precision.set_dtype_policy("float32")
    started = time.perf_counter()
    model = embed.embedding_model(str(found.path), (*found.size, 3))
    for split in [name for name in SPLITS if (data / name).is_dir()]:
        files = keras.utils.image_dataset_from_directory(
            data / split, labels=None, shuffle=False, batch_size=embed.BATCH,
            image_size=model.input_shape[1:3], verbose=False,
        )  # fmt: skip
        model.predict(files, verbose=0)
    return count / (time.perf_counter() - started)


def measure(folder: Path, pictures: int) -> Iterator[Row]:
    """Yield the table's rows."""
    if manifest.exists(folder):
        with workplace() as place:
            yield from _rows(next(iter(BACKBONES)), folder, Path(place))
        return
    for arch, (size, part) in BACKBONES.items():
        with workplace() as place:
            yield from _of(arch, size, some_of(folder, pictures // part), Path(place))


def _of(arch: str, size: int, source: Source, place: Path) -> Iterator[Row]:
    data = place / "data"
    prepare.prepare(source, data, size, fractions="90/10")
    timm = Peer("torch", "timm_embed.py", data, arch, size)
    yield from _rows(arch, data, place, timm)
    timm.close()


def _rows(arch: str, data: Path, place: Path, timm: Peer | None = None) -> Iterator[Row]:
    found, count = random_run(arch, data, place / "run"), len(manifest.read(data))
    sides = {
        "ours": lambda: ours(found, data, place / "out", count),
        "keras": lambda: plain(found, data, count),
    }
    rates = in_turn(sides | ({"timm": timm} if timm else {}), REPEATS)
    what = f"embeddings, {arch} at {found.size[0]} pixels, {count} pictures"
    yield Row(what, "Keras predict", rates["ours"], rates["keras"], "pictures/s", 1.5)
    if timm:
        yield Row(what, "timm, PyTorch bfloat16", rates["ours"], rates["timm"], "pictures/s", 1.0)


def main() -> None:
    args = parse(__doc__, 1536)
    tell(measure(args.folder, args.pictures))


if __name__ == "__main__":
    run_command(main)

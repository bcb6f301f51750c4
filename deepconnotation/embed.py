"""Turn the pictures of a prepared data set into embeddings, and probe them linearly.

    python -m deepconnotation.embed efficientnet_lite0 --data data/fi128 --out snapshots/fi-lite0
    python -m deepconnotation.embed snapshots/faces --data data/faces --out snapshots/faces-probe

A backbone is a run folder, or an architecture that has ImageNet weights. Its frozen embeddings go
to embeddings.npy, a row a picture in the order of ids.csv; a logistic regression on them is the
honest baseline of every fine-tuned network. It writes metrics.json, and predictions of every split:
those of the training pictures come from folds that did not see them, so that they can teach another
network (train --teacher). An interrupted command goes on when it is given again.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation.console import UserError, argument_parser, progress, run_command, write_atomic
from deepconnotation.models.registry import ARCHITECTURES, check_imagenet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deepconnotation.backend import keras

BATCH = 64
SAVE_EVERY = 20  # batches
SPLITS = ("train", "dev", "test")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.embed")
    add = parser.add_argument
    add("backbone", metavar="RUN|ARCH", help="run folder, or efficientnet_lite0 with ImageNet's "
        "weights")  # fmt: skip
    add("--data", metavar="DIR", required=True, help="prepared data set")
    add("--out", metavar="DIR", required=True, help="folder of the embeddings")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    folder = Path(args.out)
    embed(args.backbone, Path(args.data), folder)

    from deepconnotation import probe

    probe.probe(folder, Path(args.data))


def embed(backbone: str, dataset: Path, folder: Path) -> None:
    """Write the embeddings of all pictures that are in a split.

    Args:
        backbone: a run folder, or an architecture with ImageNet weights.
        dataset: a prepared data set; the pictures are given to the backbone at its size.
        folder: gets ids.csv (id, split, group, label), embeddings.npy (float32, a row a line of
            ids.csv) and embed.json.

    Raises:
        UserError: when the backbone does not fit, or the folder holds embeddings of something else.
    """
    import numpy as np

    from deepconnotation import run
    from deepconnotation.data import manifest, pipeline

    info = manifest.read_info(dataset)
    found = {s for s in manifest.read(dataset)["split"] if s}
    parts = [pipeline.load(dataset, split) for split in SPLITS if split in found]
    model = embedding_model(backbone, (info.height, info.width, 3), info.grey)
    ids = _ids(parts)
    config = {
        "backbone": backbone, "data": str(dataset), "fingerprint": manifest.fingerprint(dataset),
        "images": len(ids), "units": model.output_shape[-1], "weights": _digest(model),
    }  # fmt: skip
    done = _done(folder, config)
    write_atomic(folder / "ids.csv", ids.to_csv(index=False, lineterminator="\n"))
    path = folder / "embeddings.npy"
    shape = (config["images"], config["units"])
    if done:
        rows = np.load(path, mmap_mode="r+")
    else:
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

    def save(count: int) -> None:
        rows.flush()
        state = {**config, "done": count, "date": run.now()}
        write_atomic(folder / "embed.json", json.dumps(state, indent=2) + "\n")

    if done == len(rows):
        return
    answer = _compiled(model)
    with progress("pictures", len(rows), done) as advance:
        for batch, (start, images) in enumerate(_batches(parts, done), start=1):
            rows[start : start + len(images)] = answer(images).numpy()
            advance(len(images))
            if batch % SAVE_EVERY == 0:
                save(start + len(images))
    save(len(rows))


def embedding_model(
    backbone: str, input_shape: tuple[int, int, int], grey: bool = False
) -> "keras.Model":
    """Return a model from pictures (batch, height, width, 3), 0..255, to (batch, units), float32.

    Raises:
        UserError: when the backbone is unknown, has no weights, or takes pictures of another size.
    """
    from deepconnotation import run
    from deepconnotation.backend import keras
    from deepconnotation.models import registry

    if (Path(backbone) / "run.json").exists():
        found = run.load(backbone)
        if list(found.size) != list(input_shape[:2]):
            raise UserError(f"{backbone} takes {found.size[0]}x{found.size[1]} pixels, the data "
                            f"set has {input_shape[0]}x{input_shape[1]}")  # fmt: skip
        model = found.model
    elif backbone in ARCHITECTURES:
        check_imagenet(backbone)
        model = registry.build(backbone, input_shape, 1, grey=grey)
        registry.load_imagenet(backbone, model)
    else:
        raise UserError(f"{backbone}: neither a run folder nor an architecture "
                        f"({', '.join(ARCHITECTURES)})")  # fmt: skip
    return keras.Model(model.input, model.get_layer("embedding").output)


def load(folder: str | Path) -> tuple["pd.DataFrame", "np.ndarray", dict]:
    """Return ids.csv, embeddings.npy (memory-mapped) and embed.json of a finished folder.

    Raises:
        UserError: when they are missing, unfinished or do not fit each other.
    """
    import numpy as np
    import pandas as pd

    folder = Path(folder)
    try:
        config = json.loads((folder / "embed.json").read_text("utf-8"))
        ids = pd.read_csv(folder / "ids.csv", dtype=str, keep_default_na=False)
        rows = np.load(folder / "embeddings.npy", mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; expected the output of embed") from None
    except ValueError as error:
        raise UserError(f"{folder}: damaged ({error}); embed again") from None
    if not config["done"] == config["images"] == len(ids) == len(rows):
        raise UserError(f"{folder}: unfinished; give the embed command again")
    return ids, rows, config


def _ids(parts: list) -> "pd.DataFrame":
    import pandas as pd

    columns = ["id", "split", "group", "label"]
    return pd.concat([part.table[columns] for part in parts], ignore_index=True)


def _batches(parts: list, done: int):
    """Yield (first row, uint8 images) from row `done` on; a batch never spans two splits."""
    import numpy as np

    start = 0
    for part in parts:
        for first in range(max(done - start, 0), len(part.images), BATCH):
            yield start + first, np.asarray(part.images[first : first + BATCH])
        start += len(part.images)


def _compiled(model: "keras.Model"):
    from deepconnotation.backend import tf

    @tf.function(reduce_retracing=True)
    def answer(images):
        return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    return answer


def _digest(model: "keras.Model") -> str:
    """Return a sha256 over all weights."""
    import hashlib

    digest = hashlib.sha256()
    for variable in model.weights:  # `variables` would add the state of dropout
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _done(folder: Path, config: dict) -> int:
    """Return how many rows an earlier, interrupted command has finished."""
    path = folder / "embed.json"
    if not path.exists():
        return 0
    earlier = json.loads(path.read_text("utf-8"))
    for name in ("fingerprint", "weights"):  # not the paths, which may be written in many ways
        if earlier.get(name) != config[name]:
            raise UserError(f"--out {folder} holds embeddings of {earlier.get('data')} by "
                            f"{earlier.get('backbone')}; choose another folder")  # fmt: skip
    return earlier["done"] if (folder / "embeddings.npy").exists() else 0


if __name__ == "__main__":
    run_command(main)

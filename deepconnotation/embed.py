"""Turn the pictures of a prepared data set into embeddings, and probe them linearly.

    python -m deepconnotation.embed efficientnet_lite0 --data data/fi128 --out snapshots/fi-lite0
    python -m deepconnotation.embed snapshots/faces --data data/faces --out snapshots/faces-probe

A backbone is a run folder, or an architecture that has ImageNet weights. Its frozen embeddings go
to embeddings.npy, a row a picture in the order of ids.csv. A logistic regression on them, the
honest baseline of every fine-tuned network, writes metrics.json and predictions of every split:
those of the training pictures come from folds that did not see them, so that they can teach another
network (train --teacher). A classifier with hidden layers beside it writes mlp-metrics.json, and
where pictures have valence and arousal, a regression of them affect-metrics.json. An interrupted
command goes on when it is given again.
"""

import argparse
import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation.console import (
    UserError,
    alone_in,
    argument_parser,
    going_on,
    progress,
    reading,
    run_command,
    write_atomic,
)
from deepconnotation.models.registry import ARCHITECTURES, check_imagenet, learned_from, pretrained
from deepconnotation.settings import CLASSIFIER_WIDTHS, PRECISIONS, widths

if TYPE_CHECKING:
    import pandas as pd

    from deepconnotation.backend import keras
    from deepconnotation.run import Run

BATCH = 64
SAVE_EVERY = 20  # batches


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.embed")
    add = parser.add_argument
    add("backbone", metavar="RUN|ARCH", help="run folder, or an architecture with other weights "
        f"than its own: {', '.join(pretrained())}")  # fmt: skip
    add("--data", metavar="DIR", required=True, help="prepared data set")
    add("--out", metavar="DIR", required=True, help="folder of the embeddings")
    add("--weights", metavar="imagenet|FILE", default="imagenet",
        help="of an architecture; show_and_tell needs its frozen graph [imagenet]")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="auto", help="auto takes bfloat16 where the "
        "processor has it [auto]")  # fmt: skip
    add("--layer", default="embedding", help="whose output, averaged over the picture, is taken "
        "[embedding]")  # fmt: skip
    add("--mlp", metavar="N,N", type=widths, default=CLASSIFIER_WIDTHS, help="units of the hidden "
        "layers of the classifier beside the probe [25,12]")  # fmt: skip
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    folder = Path(args.out)
    embed(args.backbone, Path(args.data), folder, args.weights, args.precision, args.layer)

    from deepconnotation import affect, affect_probe, mlp, probe
    from deepconnotation.embeddings import Embeddings

    found = Embeddings.of(folder, Path(args.data))
    probe.probe(found)
    mlp.train(found, args.mlp)
    affect_probe.probe(found, affect.values(found.table()))


def embed(
    backbone: str, dataset: Path, folder: Path, weights: str = "imagenet",
    precision: str = "auto", layer: str = "embedding",
) -> None:  # fmt: skip
    """Write the embeddings of all pictures that are in a split.

    Args:
        backbone: a run folder, or an architecture.
        weights: of an architecture: "imagenet", or a file of them.
        dataset: a prepared data set; the pictures are given to the backbone at its size.
        precision: as for `train`.
        layer: whose output is taken.
        folder: gets ids.csv (id, split, group, label), embeddings.npy (float32, a row a line of
            ids.csv), embed.json and, of a run, its seen.npy.

    Raises:
        UserError: when the backbone does not fit or has seen pictures of dev or test, or the folder
            holds embeddings of something else, or another process is at work there.
    """
    import numpy as np

    from deepconnotation import backend, embeddings, run, seen
    from deepconnotation.answer import compiled
    from deepconnotation.backend import tf
    from deepconnotation.data import manifest, pipeline
    from deepconnotation.models.fold import fold

    run.spare(folder)
    info = manifest.read_info(dataset)
    precision = backend.set_precision(precision)
    model = embedding_model(backbone, (info.height, info.width, 3), info.grey, weights, layer)
    if trained := _run(backbone):
        seen.refuse(f"the backbone {backbone}", seen.of(trained), dataset)
    found = {s for s in manifest.read(dataset)["split"] if s}
    parts = [pipeline.load(dataset, split) for split in embeddings.SPLITS if split in found]
    ids = _ids(parts)
    config = {
        "backbone": backbone, "data": str(dataset), "fingerprint": manifest.fingerprint(dataset),
        "images": len(ids), "units": model.output_shape[-1], "weights": _digest(model),
        "encoder": _described(trained, backbone, weights), "precision": precision, "layer": layer,
        "learned_from": seen.data_sets(trained.config) if trained else learned_from(backbone),
    }  # fmt: skip
    print(f"encoder: {config['encoder']}, {config['units']} numbers a picture")
    with alone_in(folder):
        done = _done(folder, config)
        write_atomic(folder / "ids.csv", ids.to_csv(index=False, lineterminator="\n"))
        if trained:
            seen.write(folder, seen.of(trained))
        path = folder / "embeddings.npy"
        shape = (config["images"], config["units"])
        if done:
            rows = np.load(path, mmap_mode="r+")
        else:
            rows = pipeline.new_array(path, np.float32, shape)

        def save(count: int) -> None:
            rows.flush()
            state = {**config, "done": count, "date": run.now()}
            write_atomic(folder / "embed.json", json.dumps(state, indent=2) + "\n")

        if done == len(rows):
            return
        folded = fold(model, dtype=precision)
        answer = compiled(
            folded, lambda pixels: tf.cast(folded(pixels, training=False), tf.float32)
        )
        with progress("pictures", len(rows), done) as advance:
            for batch, (start, images) in enumerate(_batches(parts, done), start=1):
                rows[start : start + len(images)] = answer(images).numpy()
                advance(len(images))
                if batch % SAVE_EVERY == 0:
                    save(start + len(images))
        save(len(rows))


def embedding_model(
    backbone: str, input_shape: tuple[int, int, int], grey: bool = False,
    weights: str = "imagenet", layer: str = "embedding",
) -> "keras.Model":  # fmt: skip
    """Return a model from pictures (batch, height, width, 3), 0..255, to (batch, units), float32.

    A layer that gives maps (batch, height, width, units) is averaged over them.

    Raises:
        UserError: when the backbone is unknown, has no weights or no such layer, or takes pictures
            of another size.
    """
    from deepconnotation.backend import keras
    from deepconnotation.models import registry

    if found := _run(backbone):
        if list(found.size) != list(input_shape[:2]):
            raise UserError(f"{backbone} takes {found.size[0]}x{found.size[1]} pixels, the data "
                            f"set has {input_shape[0]}x{input_shape[1]}")  # fmt: skip
        model = found.model
    elif backbone in ARCHITECTURES:
        check_imagenet(backbone)
        model = registry.build(backbone, input_shape, 1, grey=grey)
        registry.load_imagenet(backbone, model, weights)
    else:
        raise UserError(f"{backbone}: neither a run folder nor an architecture "
                        f"({', '.join(ARCHITECTURES)})")  # fmt: skip
    names = [each.name for each in model.layers]
    if layer not in names:
        if layer == "embedding":
            raise UserError(f"{backbone} has no embedding; embed its members")  # an ensemble
        near = difflib.get_close_matches(layer, names, n=1, cutoff=0)[0]
        raise UserError(f"--layer {layer}: {backbone} has none of that name; nearest: {near}")
    output = model.get_layer(layer).output
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D()(output)
    return keras.Model(model.input, output)


def _run(backbone: str) -> "Run | None":
    """Return the run in a folder, None of what is no run folder."""
    from deepconnotation import run

    return run.load(backbone) if (Path(backbone) / "run.json").exists() else None


def _described(trained: "Run | None", backbone: str, weights: str) -> str:
    if trained:
        return f"{trained.config['arch']} trained on {trained.config['data']['name']} ({backbone})"
    return f"{backbone} with the weights of {weights}"


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
    with reading(path, f"delete {folder} and embed again"):
        earlier = {"done": 0, **json.loads(path.read_text("utf-8"))}
    for name in ("fingerprint", "weights", "precision", "layer"):  # paths have many spellings
        if earlier.get(name) != config[name]:
            what = (f"{earlier.get('data')} by {earlier.get('backbone')}, layer "
                    f"{earlier.get('layer')}, in {earlier.get('precision')}")  # fmt: skip
            raise UserError(f"--out {folder} holds embeddings of {what}; choose another folder")
    return earlier["done"] if (folder / "embeddings.npy").exists() else 0


if __name__ == "__main__":
    run_command(main)

"""A training step against PyTorch's, and FractalNet's against the original formulation's.

    python benchmarks/step.py

ResNet-18 at 32 pixels, both stems, SGD, batches of 64 and 200. PyTorch runs channels-last, in
float32 or under bfloat16's autocast, whichever is faster in a first turn; its network is
torchvision's, ours the pre-activation one, of the same convolutions. All in turn.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
from floor import copy_rate, matrix_rate, training_floor
from turns import Peer, Row, in_turn, tell

from deepconnotation import backend
from deepconnotation.backend import keras, tf
from deepconnotation.console import argument_parser, run_command
from deepconnotation.models import registry
from deepconnotation.models.fused import fuse

SIZE, PICTURES, REPEATS = 32, 256, 4  # PICTURES: about so many a turn
FRACTAL_BATCH = 100


def training_step(model: keras.Model, optimizer, batch: int) -> Callable[[], float]:
    """Return a function that trains a few steps and tells pictures a second."""
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (batch, SIZE, SIZE, 3)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 8, batch))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            loss += tf.add_n(model.losses) if model.losses else 0.0
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def measure() -> float:
        steps = round(PICTURES / batch)
        started = time.perf_counter()
        for _ in range(steps):
            float(step())
        return batch * steps / (time.perf_counter() - started)

    return measure


def resnet_rows() -> Iterator[Row]:
    precision = backend.set_precision("auto")
    short = "bfloat16" if "bfloat16" in precision else "float32"
    rate, copied = matrix_rate(short), copy_rate()
    for stem, batch in (("3x3", 64), ("3x3", 200), ("7x7", 64), ("7x7", 200)):
        model = registry.build("resnet18", (SIZE, SIZE, 3), 8, stem=stem, dropout=0.0)
        fuse(model)
        optimizer = keras.optimizers.SGD(0.01, 0.9, nesterov=True)
        peers = {p: Peer("torch", "torch_step.py", stem, SIZE, batch, PICTURES, p) for p in
                 ("float32", "bfloat16")}  # fmt: skip
        first = in_turn(peers, 1)
        best = max(first, key=first.get)
        sides = {"ours": training_step(model, optimizer, batch), best: peers[best]}
        found = in_turn(sides, REPEATS)
        for peer in peers.values():
            peer.close()
        # The host's speed changes: the best that was seen so far is what the machine can do.
        rate, copied = max(rate, matrix_rate(short)), max(copied, copy_rate())
        least = training_floor(model, rate, copied, 2 if short == "bfloat16" else 4)
        yield Row(
            f"training step, ResNet-18, {stem} stem, batch {batch} ({precision})",
            f"PyTorch, {best}", found["ours"], found[best], "pictures/s", 1.0,
            found["ours"] * least,
        )  # fmt: skip


def fractal_row() -> Row:
    backend.set_precision("auto")
    sides = {}
    for name in ("ours", "original"):
        keras.utils.set_random_seed(0)
        model = registry.build("fractal", (SIZE, SIZE, 3), 8, faithful_join=name == "original")
        if name == "ours":
            fuse(model)
        sides[name] = training_step(model, keras.optimizers.Adam(1e-3), FRACTAL_BATCH)
    found = in_turn(sides, 2 * REPEATS)  # a step's paths are drawn, so its time varies
    return Row("training step, FractalNet, batch 100", "its published formulation in Keras",
               found["ours"], found["original"], "pictures/s", 2.0)  # fmt: skip


def measure() -> Iterator[Row]:
    """Yield the table's rows."""
    yield from resnet_rows()
    yield fractal_row()


def main() -> None:
    argument_parser(__doc__).parse_args()
    tell(measure())


if __name__ == "__main__":
    run_command(main)

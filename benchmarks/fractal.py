"""A training epoch of FractalNet against the original project's formulation of it.

    python benchmarks/fractal.py DATASET

DATASET is a prepared data set of 32 pixels or more, such as data/faces32. Both nets have the
original's settings (5 blocks, 3 columns, Adam, batch 100) and see 1,000 training pictures an epoch.
The original computes every path and multiplies the dropped ones by zero; ours does not compute
them, but measures the statistics of batch normalisation anew at the end of the epoch. Both run in
turn, an epoch each, five times; prints the medians and their ratio (below 1 is faster than the
original).
"""

import argparse
import statistics
import time

import numpy as np
from turns import each_in_turn

from deepconnotation import backend
from deepconnotation.backend import keras, tf
from deepconnotation.console import argument_parser, run_command
from deepconnotation.data import pipeline
from deepconnotation.fit import SETTLING
from deepconnotation.models import fractal
from deepconnotation.models.fused import fuse
from deepconnotation.models.layers import Settling
from deepconnotation.settings import PRECISIONS

PICTURES, BATCH = 1000, 100
REPEATS = 5


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("dataset", metavar="DATASET")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    return parser.parse_args()


def epoch_of(images: np.ndarray, labels: np.ndarray, faithful: bool):
    """Return a function that trains an epoch and returns its seconds."""
    keras.utils.set_random_seed(0)
    shape, classes = images.shape[1:], int(labels.max()) + 1
    model = fractal.build("fractal", shape, classes, faithful_join=faithful)
    if not faithful:
        fuse(model)  # as in training
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch, targets):
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return tf.reduce_mean(loss)

    settle = Settling(model)

    def epoch() -> float:
        started = time.perf_counter()
        for start in range(0, PICTURES, BATCH):
            batch = tf.constant(images[start : start + BATCH].astype(np.float32))
            float(step(batch, tf.constant(labels[start : start + BATCH])))
        if not faithful:  # after an epoch, as in training
            firsts = (images[k * BATCH : (k + 1) * BATCH] for k in range(SETTLING))
            settle(tf.constant(batch.astype(np.float32)) for batch in firsts)
        return time.perf_counter() - started

    return epoch


def main() -> None:
    args = parse()
    precision = backend.set_precision(args.precision)
    part = pipeline.load(args.dataset, "train")
    images, labels = np.asarray(part.images[:PICTURES]), part.labels[:PICTURES]
    sides = {"original": epoch_of(images, labels, True), "ours": epoch_of(images, labels, False)}
    times = each_in_turn(sides, REPEATS)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        each = ", ".join(f"{v:.1f}" for v in values)
        print(f"{name}: {medians[name]:.1f} s an epoch (of {each})")
    print(f"ratio {medians['ours'] / medians['original']:.2f}, {precision} on "
          f"{backend.device_name()}")  # fmt: skip


if __name__ == "__main__":
    run_command(main)

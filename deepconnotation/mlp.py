"""The classifier on embeddings, trained: the linear probe's companion with hidden layers."""

import os

import numpy as np
from scipy.special import softmax

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.embeddings import Embeddings
from deepconnotation.models import embedding_mlp

BATCH, RATE = 64, 1e-3  # the original's last cell
EPOCHS, PATIENCE = 1000, 20
SEED = 0


def train(found: Embeddings, widths: tuple[int, ...]) -> dict | None:
    """Train on the training rows, choose the epoch by dev loss, measure the test split once.

    The folder gets mlp.keras, mlp-predictions.csv (test) and mlp-metrics.json. Without a dev split
    the last of `PATIENCE` epochs is kept.

    Args:
        found: embeddings of a data set.
        widths: units of the hidden layers.

    Returns:
        What mlp-metrics.json holds; None where the data set has no test split.

    Raises:
        UserError: when the loss ceases to be a number.
    """
    rows, labels = found.rows, found.labels
    where, dev, test = (found.where(split) for split in ("train", "dev", "test"))
    keras.utils.set_random_seed(SEED)
    statistics = rows[where].mean(axis=0), rows[where].var(axis=0)
    model = embedding_mlp.build(rows.shape[1], len(found.info.classes), widths, statistics)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)
    history = model.fit(
        rows[where], labels[where], BATCH, EPOCHS if len(dev) else PATIENCE, verbose=0,
        validation_data=(rows[dev], labels[dev]) if len(dev) else None,
        callbacks=[keras.callbacks.TerminateOnNaN(), *([stop] if len(dev) else [])],
    ).history  # fmt: skip
    if not np.isfinite(history["loss"]).all():
        raise UserError(f"the classifier on {found.folder} diverged in epoch "
                        f"{len(history['loss'])}; are its embeddings finite?")  # fmt: skip
    partial = found.folder / f".{os.getpid()}.tmp.keras"
    model.save(partial)
    os.replace(partial, found.folder / "mlp.keras")
    shape = "-".join(str(n) for n in (rows.shape[1], *widths, len(found.info.classes)))
    print(f"classifier {shape} on the same features, {len(history['loss'])} epochs:")
    if not len(test):
        return None
    probabilities = softmax(model.predict(rows[test], 1024, verbose=0), axis=1)
    found.write("mlp-predictions.csv", "test", probabilities)
    return found.measure("mlp-metrics.json", probabilities, widths=list(widths), seed=SEED)

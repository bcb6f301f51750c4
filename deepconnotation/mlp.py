"""The classifier on embeddings, trained: the linear probe's companion with hidden layers."""

from collections.abc import Callable

import numpy as np
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score

from deepconnotation import backend
from deepconnotation.backend import keras
from deepconnotation.console import UserError, progress
from deepconnotation.embeddings import Embeddings
from deepconnotation.fit import Diverged
from deepconnotation.models import embedding_mlp
from deepconnotation.run import save_model

BATCH, RATE = 64, 1e-3  # the original's last cell
EPOCHS, PATIENCE = 1000, 20
MIN_DELTA = 1e-4  # of the dev loss, scikit-learn's `tol`: on an easy set it never ceases to fall
SEED = 0


def fit(
    found: Embeddings, widths: tuple[int, ...], rate: float = RATE, batch: int = BATCH,
    epochs: int = EPOCHS, patience: int | None = PATIENCE, watch: Callable | None = None,
) -> tuple[keras.Model, list[dict]]:  # fmt: skip
    """Train on the training rows.

    Args:
        found: embeddings of a data set.
        widths: units of the hidden layers.
        rate: learning rate of Adam.
        batch: rows a step.
        epochs: at most.
        patience: epochs without a dev loss lower by `MIN_DELTA` before training stops with the best
            weights; None takes all epochs and the last weights.
        watch: is called with every epoch's figures: "epoch", "loss" and, where there is a dev
            split, "val_loss", "val_accuracy" and "val_balanced_accuracy".

    Returns:
        The model, from embeddings to logits, and a row an epoch.

    Raises:
        Diverged: when the loss ceases to be a number.
    """
    rows, labels = found.rows, found.labels
    where, dev = found.where("train"), found.where("dev")
    keras.utils.set_random_seed(SEED)
    backend.set_precision("float32")  # too small to be worth rounding
    statistics = rows[where].mean(axis=0), rows[where].var(axis=0)
    model = embedding_mlp.build(rows.shape[1], len(found.info.classes), widths, statistics)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    history: list[dict] = []

    def end(epoch: int, logs: dict) -> None:
        row = {"epoch": epoch + 1, "loss": logs["loss"]}
        if len(dev):
            predicted = np.asarray(model(dev_rows)).argmax(axis=1)
            row |= {
                "val_loss": logs["val_loss"],
                "val_accuracy": float((predicted == labels[dev]).mean()),
                "val_balanced_accuracy": float(balanced_accuracy_score(labels[dev], predicted)),
            }
        history.append(row)
        if not np.isfinite(row["loss"]):
            raise Diverged(f"the loss is {row['loss']} at epoch {epoch + 1}")
        advance(1)
        if watch:
            watch(row)

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=end)]
    if patience and len(dev):
        callbacks.append(keras.callbacks.EarlyStopping(
            "val_loss", MIN_DELTA, patience, restore_best_weights=True))  # fmt: skip
    dev_rows = rows[dev]
    with progress("epochs of the classifier at most", epochs) as advance:
        model.fit(
            rows[where], labels[where], batch, epochs, verbose=0, callbacks=callbacks,
            validation_data=(dev_rows, labels[dev]) if len(dev) else None,
        )  # fmt: skip
    return model, history


def train(found: Embeddings, widths: tuple[int, ...]) -> dict | None:
    """Train with early stopping, measure the test split once, and write it all.

    The folder gets mlp.keras, mlp-predictions.csv (test) and mlp-metrics.json. Without a dev split
    the weights after `PATIENCE` epochs are kept.

    Returns:
        What mlp-metrics.json holds; None where the data set has no test split.

    Raises:
        UserError: when the loss ceases to be a number.
    """
    test = found.where("test")
    epochs = EPOCHS if len(found.where("dev")) else PATIENCE
    try:
        model, history = fit(found, widths, epochs=epochs)
    except Diverged as error:
        raise UserError(f"the classifier on {found.folder}: {error}; are its embeddings finite?"
                        ) from None  # fmt: skip
    save_model(model, found.folder / "mlp.keras")
    shape = "-".join(str(n) for n in (found.rows.shape[1], *widths, len(found.info.classes)))
    print(f"classifier {shape} on the same features, {len(history)} epochs:")
    if not len(test):
        return None
    probabilities = softmax(model.predict(found.rows[test], 1024, verbose=0), axis=1)
    found.write("mlp-predictions.csv", "test", probabilities)
    return found.measure("mlp-metrics.json", probabilities, widths=list(widths), seed=SEED)

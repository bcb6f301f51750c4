"""What stands on a backbone's features, and which layers learn."""

import difflib
import re

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.models import precision
from deepconnotation.models.fold import fold

layers = keras.layers
#: layer whose output every architecture calls its embedding; what follows is the head
EMBEDDING = "embedding"
AFFECT = "affect"


def top(x, widths: tuple[int, ...], classes: int, dropout: float, regularizer=None):
    """Return logits (batch, classes), float32, from an embedding (batch, features).

    Args:
        x: the embedding.
        widths: units of the hidden layers, each with ReLU.
        classes: number of classes.
        dropout: share of nodes that are dropped before every dense layer.
        regularizer: of the kernels.
    """
    for number, width in enumerate(widths, start=1):
        x = layers.Dropout(dropout, name=f"head{number}_dropout")(x)
        x = layers.Dense(width, "relu", kernel_regularizer=regularizer,
                         name=f"head{number}_dense")(x)  # fmt: skip
    x = layers.Dropout(dropout, name="head_dropout")(x)
    # Logits in float32 also under a mixed policy: a softmax in bfloat16 loses half its digits.
    return layers.Dense(
        classes, kernel_regularizer=regularizer, dtype="float32", name="logits"
    )(x)  # fmt: skip


def with_affect(model: keras.Model) -> keras.Model:
    """Return a model with a second output "affect", float32 (batch, 2): valence and arousal.

    Both lie between -1 and 1.

    Args:
        model: from pictures to logits, by way of an embedding.
    """
    embedding = model.get_layer(EMBEDDING).output
    affect = layers.Dense(2, "tanh", dtype="float32", name=AFFECT)(embedding)
    return keras.Model(model.input, [model.output, affect], name=model.name)


def parts(model: keras.Model) -> tuple[list, list]:
    """Return the layers of the backbone, its embedding included, and those of the head."""
    index = [layer.name for layer in model.layers].index(EMBEDDING) + 1
    return model.layers[:index], model.layers[index:]


def variables(model: keras.Model) -> list:
    """Return the head's trainable variables."""
    return [v for layer in parts(model)[1] for v in layer.trainable_variables]


def freeze_until(model: keras.Model, until: str) -> None:
    """Freeze all layers from the first to a named one; batch normalisation keeps its statistics.

    Their convolutions compute in the global policy's precision.

    Args:
        model: of the registry.
        until: a layer's name, or a block's ("block3" of block3_conv1 and of block3a_bn), whose last
            layer counts.

    Raises:
        UserError: when there is no such layer, or nothing would be left to learn.
    """
    names = [layer.name for layer in model.layers]
    block = re.compile(rf"{re.escape(until)}([a-z]?_|$)")
    matches = [i for i, name in enumerate(names) if block.match(name)]
    if not matches:
        blocks = dict.fromkeys(name.partition("_")[0] for name in names)
        near = difflib.get_close_matches(until, [*blocks, *names], n=1, cutoff=0)[0]
        raise UserError(f"--freeze-until {until!r}: no such layer; the nearest is {near!r}")
    frozen = model.layers[: matches[-1] + 1]
    for layer in frozen:
        layer.trainable = False
    for layer in precision.convolutions(frozen):
        precision.for_answering(layer)
    if not model.trainable_variables:
        raise UserError(f"--freeze-until {until}: nothing would be left to learn")


def freeze_statistics(model: keras.Model) -> keras.Model:
    """Return a model whose backbone keeps its statistics, so that fine-tuning does not upset them.

    Batch normalisation after a convolution becomes a part of it, other one is frozen.
    """
    model = fold(model)
    for layer in parts(model)[0]:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return model

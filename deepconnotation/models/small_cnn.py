"""The Keras network of the Emotion-Classifier project (muxspace/facial_expressions, 2018).

Three convolutions and three dense layers: 245,592 parameters at 50x50 pixels and 8 classes.
"""

from deepconnotation.backend import keras
from deepconnotation.models.inputs import penalty, pictures

layers = keras.layers

FILTERS = (48, 48, 32)


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
) -> keras.Model:
    """Build the network from pixels to logits.

    Args:
        arch: "small_cnn".
        input_shape: (height, width, 3); 50x50 as published.
        classes: number of classes.
        grey: look at the luma only.
        dropout: rate before every dense layer (published: none).
        l2: weight of the L2 penalty on the kernels (published: none).

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).
    """
    regularizer = penalty(l2)
    inputs, x = pictures(input_shape, grey)
    x = layers.Rescaling(1 / 255, name="normalise")(x)
    for number, filters in enumerate(FILTERS, start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu",
                          kernel_regularizer=regularizer, name=f"conv{number}")(x)  # fmt: skip
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(dropout, name="dense1_dropout")(x)
    x = layers.Dense(128, "relu", kernel_regularizer=regularizer, name="dense1")(x)
    x = layers.Dropout(dropout, name="dense2_dropout")(x)
    x = layers.Dense(64, "relu", kernel_regularizer=regularizer, name="embedding")(x)
    x = layers.Dropout(dropout, name="logits_dropout")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=arch)

"""The "VGG type" network of the Emotion_Image_Classifier project (its model_4, AffectNet).

Four unpadded convolutions and three dense layers: 7,395,782 parameters at 256x256 pixels and 6
classes.
"""

from deepconnotation.backend import keras
from deepconnotation.models.inputs import divided, penalty, pictures

layers = keras.layers

#: filters and dropout of every stage: convolution, dropout, ReLU, batch normalisation, max-pooling
STAGES = ((64, 0.0), (128, 0.3), (256, 0.0), (256, 0.0))
DENSE_DROPOUT = 0.25


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    l2: float = 0.0,
    faithful_input: bool = False,
) -> keras.Model:
    """Build the network from pixels to logits.

    Args:
        arch: "vgg".
        input_shape: (height, width, 3); 256x256 as published, at least 46.
        classes: number of classes.
        grey: look at the luma only.
        l2: weight of the L2 penalty on the kernels (published: none).
        faithful_input: divide by 255 twice, as the original did.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).
    """
    regularizer = penalty(l2)
    inputs, x = pictures(input_shape, grey)
    x = layers.Rescaling(1 / 255, name="normalise")(divided(x, faithful_input))
    for number, (filters, dropout) in enumerate(STAGES, start=1):
        x = layers.Conv2D(filters, 3, kernel_regularizer=regularizer, name=f"conv{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"conv{number}_dropout")(x)
        x = _relu_bn(x, f"conv{number}")
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = _relu_bn(layers.Dense(128, kernel_regularizer=regularizer, name="dense1")(x), "dense1")
    x = layers.Dropout(DENSE_DROPOUT, name="dense1_dropout")(x)
    x = layers.Dense(64, kernel_regularizer=regularizer, name="dense2")(x)
    x = layers.ReLU(name="dense2_relu")(x)
    x = layers.BatchNormalization(name="embedding")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=arch)


def _relu_bn(x, name):
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)

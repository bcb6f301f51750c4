"""What every architecture begins with: its pictures, and the penalty on its kernels."""

from deepconnotation.backend import keras

layers = keras.layers


def pictures(input_shape: tuple[int, int, int], grey: bool, channels: int = 1):
    """Return the input "image", (batch, height, width, 3), 0..255, and what the net looks at.

    Args:
        input_shape: (height, width, 3).
        grey: look at the luma only, so that colour cannot tell the label.
        channels: on which the luma is given, 1 or 3.
    """
    inputs = keras.Input(input_shape, name="image")
    if not grey:
        return inputs, inputs
    x = keras.ops.image.rgb_to_grayscale(layers.Rescaling(1.0, name="as_float")(inputs))
    if channels == 3:
        x = layers.Concatenate(name="three_channels")([x, x, x])
    return inputs, x


def divided(x, faithful: bool):
    """Return pixels divided by 255 where `faithful`: what the Emotion_Image_Classifier project fed
    to nets that do their own scaling. For `reproduce` alone."""
    return layers.Rescaling(1 / 255, name="divided_before")(x) if faithful else x


def penalty(l2: float) -> keras.regularizers.Regularizer | None:
    """Return the L2 penalty on a kernel; None where its weight is 0."""
    return keras.regularizers.L2(l2) if l2 else None

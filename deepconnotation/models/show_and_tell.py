"""The encoder of Show and Tell (Vinyals et al., CVPR 2015, arXiv 1411.4555; im2txt's version 2).

InceptionV3, a projection of its mean features to 512, and one step of an LSTM from the zero state:
its cell and output, 1,024 numbers, are what the original project took for an embedding. 24,950,560
parameters before the head: InceptionV3's 21,802,784, 2048 x 512 of the projection and 2,099,200 of
the LSTM.

The weights are in a frozen TensorFlow 1 graph, show-and-tell.pb, that only its owner has. Its
constants are read by name and nothing of it is run.
"""

from pathlib import Path

import numpy as np

from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models.heads import EMBEDDING, top
from deepconnotation.models.inputs import pictures
from deepconnotation.models.layers import LegacyBilinear
from deepconnotation.models.transfer import name_steadily

layers = keras.layers

RESIZED, CROPPED = 346, 299  # pixels
UNITS = 512
FORGET_BIAS = 1.0  # BasicLSTMCell adds it at every step; in Keras it is part of the bias

_A = "Conv2d_0a_1x1"
_POOL = ["Branch_3/Conv2d_0b_1x1"]
_B5 = ["Branch_0/" + _A, "Branch_1/" + _A, "Branch_1/Conv2d_0b_5x5", "Branch_2/" + _A,
       "Branch_2/Conv2d_0b_3x3", "Branch_2/Conv2d_0c_3x3", *_POOL]  # fmt: skip
_B6 = ["Branch_0/" + _A, "Branch_1/" + _A, "Branch_1/Conv2d_0b_1x7", "Branch_1/Conv2d_0c_7x1",
       "Branch_2/" + _A, "Branch_2/Conv2d_0b_7x1", "Branch_2/Conv2d_0c_1x7",
       "Branch_2/Conv2d_0d_7x1", "Branch_2/Conv2d_0e_1x7", *_POOL]  # fmt: skip
_B7 = ["Branch_0/" + _A, "Branch_1/" + _A, "Branch_1/Conv2d_0b_1x3", "Branch_1/Conv2d_0b_3x1",
       "Branch_2/" + _A, "Branch_2/Conv2d_0b_3x3", "Branch_2/Conv2d_0c_1x3",
       "Branch_2/Conv2d_0d_3x1", *_POOL]  # fmt: skip


def _renamed(names: list[str], changes: dict[str, str]) -> list[str]:
    return [changes.get(name, name) for name in names]


#: part of the net -> its convolutions, by slim's names and in the order in which Keras makes them
_SCOPES = {
    "": ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"],
    "Mixed_5b/": _B5,
    "Mixed_5c/": _renamed(_B5, {"Branch_1/" + _A: "Branch_1/Conv2d_0b_1x1",
                                "Branch_1/Conv2d_0b_5x5": "Branch_1/Conv_1_0c_5x5"}),
    "Mixed_5d/": _B5,
    "Mixed_6a/": ["Branch_0/Conv2d_1a_1x1", "Branch_1/" + _A, "Branch_1/Conv2d_0b_3x3",
                  "Branch_1/Conv2d_1a_1x1"],
    **dict.fromkeys(("Mixed_6b/", "Mixed_6c/", "Mixed_6d/", "Mixed_6e/"), _B6),
    "Mixed_7a/": ["Branch_0/" + _A, "Branch_0/Conv2d_1a_3x3", "Branch_1/" + _A,
                  "Branch_1/Conv2d_0b_1x7", "Branch_1/Conv2d_0c_7x1", "Branch_1/Conv2d_1a_3x3"],
    "Mixed_7b/": _B7,
    "Mixed_7c/": _renamed(_B7, {"Branch_1/Conv2d_0b_3x1": "Branch_1/Conv2d_0c_3x1"}),
}  # fmt: skip
CONVOLUTIONS = [f"InceptionV3/InceptionV3/{scope}{name}"
                for scope, names in _SCOPES.items() for name in names]  # fmt: skip


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    head: tuple[int, ...] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """Build the encoder and a head from pixels to logits.

    Args:
        arch: "show_and_tell".
        input_shape: (height, width, 3), any size; stretched to 346x346 and cut to the middle 299.
        classes: number of classes.
        grey: look at the luma only, given to all three channels.
        head: units of hidden layers between the embedding and the logits.
        dropout: share of the head's nodes that are dropped.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes). Its layer "embedding" has 1,024 outputs: the LSTM's cell, then its output.
    """
    inputs, x = pictures(input_shape, grey, channels=3)
    x = LegacyBilinear(RESIZED, RESIZED, name="stretch")(x)
    # Not CenterCrop: in Keras 3.15 it puts all later layers into training mode.
    before = (RESIZED - CROPPED) // 2
    after = RESIZED - CROPPED - before
    x = layers.Cropping2D(((before, after), (before, after)), name="crop")(x)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(x)
    base = keras.applications.InceptionV3(include_top=False, weights=None, input_tensor=x)
    name_steadily(base)
    x = layers.GlobalAveragePooling2D(name="features")(base.output)
    x = layers.Dense(UNITS, use_bias=False, name="projection")(x)
    step = layers.Reshape((1, UNITS), name="one_step")(x)
    # Unrolled: a loop, even over one step, is a function that neither LiteRT nor ONNX has.
    output, _, cell = layers.LSTM(UNITS, return_state=True, unroll=True, name="lstm")(step)
    x = layers.Concatenate(name=EMBEDDING)([cell, output])
    return keras.Model(inputs, top(x, head, classes, dropout), name=arch)


def load_imagenet(model: keras.Model, weights: str) -> None:
    """Give the encoder the weights of a frozen show-and-tell.pb; the head stays as it is.

    Args:
        model: of `build`.
        weights: path of the frozen graph.

    Raises:
        UserError: when it is no such graph, or lacks one of the tensors. Without the file there is
            no Show-and-Tell encoder: ImageNet's weights with an untrained projection are not one.
    """
    if weights == "imagenet":
        raise UserError("show_and_tell has no weights but those of a frozen graph: give it as "
                        "--weights show-and-tell.pb, or take another backbone")  # fmt: skip
    constants = _constants(weights)

    def take(name: str, shape: tuple) -> np.ndarray:
        if name not in constants:
            raise UserError(f"--weights {weights}: there is no constant {name!r} in this graph")
        if constants[name].shape != tuple(shape):
            raise UserError(f"--weights {weights}: {name!r} has shape {constants[name].shape}, "
                            f"expected {tuple(shape)}")  # fmt: skip
        return constants[name]

    for number, name in enumerate(CONVOLUTIONS, start=1):
        conv = model.get_layer(f"conv2d_{number}")
        conv.set_weights([take(f"{name}/weights", conv.kernel.shape)])
        bn = model.get_layer(f"batch_normalization_{number}")
        parts = ("beta", "moving_mean", "moving_variance")
        bn.set_weights([take(f"{name}/BatchNorm/{part}", bn.beta.shape) for part in parts])
    projection, lstm = model.get_layer("projection"), model.get_layer("lstm")
    projection.set_weights([take("image_embedding/weights", projection.kernel.shape)])
    kernel = take("lstm/basic_lstm_cell/kernel", (2 * UNITS, 4 * UNITS))
    bias = take("lstm/basic_lstm_cell/bias", (4 * UNITS,))
    kernel, bias = _keras_gates(kernel), _keras_gates(bias)
    bias[UNITS : 2 * UNITS] += FORGET_BIAS
    lstm.set_weights([kernel[:UNITS], kernel[UNITS:], bias])


def _keras_gates(values: np.ndarray) -> np.ndarray:
    """Return columns in Keras' order, input, forget, new, output, from TF 1's input, new, …"""
    i, new, forget, output = np.split(values, 4, axis=-1)
    return np.concatenate([i, forget, new, output], axis=-1)


def _constants(path: str) -> dict[str, np.ndarray]:
    """Return the constants of a frozen graph by name."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"--weights {path}: {error.strerror}") from None
    except Exception as error:  # of protobuf, whose classes differ with its version
        raise UserError(f"--weights {path}: not a frozen graph ({error})") from None
    return {node.name: tf.make_ndarray(node.attr["value"].tensor)
            for node in graph.node if node.op == "Const"}  # fmt: skip

"""In which precision layers compute: where half precision is safe and worth it, and where not."""

import json
from collections.abc import Iterable

from deepconnotation.backend import keras
from deepconnotation.models.layers import finalize

HALF = ("bfloat16", "float16")


def convolutions(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Return those that are convolutions, depthwise ones too."""
    return [layer for layer in layers if "Conv2D" in type(layer).__name__]


def for_learning(convolution: keras.layers.Layer) -> None:
    """Let a convolution compute in float32 where its gradient is wrong or slow in bfloat16.

    oneDNN 3.x does not write the bfloat16 gradient of taps that see nothing but padding when a
    3x3 kernel strides over a single pixel, or when the kernel reaches beyond both edges: what
    memory held before is taken for it (seen on a Zen 4, with convolutions and depthwise ones). A
    depthwise convolution's backward step is about three times as slow in bfloat16 as in float32.
    """
    if convolution.compute_dtype != "bfloat16":
        return
    size = min(convolution.input.shape[1:3])
    depthwise = "Depthwise" in type(convolution).__name__
    beyond = size < max(convolution.strides) or max(convolution.kernel_size) > 2 * size + 1
    if depthwise or beyond:
        convolution.dtype_policy = "float32"


def for_answering(convolution: keras.layers.Layer) -> None:
    """Let a convolution that does not learn compute in the global policy's precision again."""
    convolution.dtype_policy = keras.config.dtype_policy()


def in_float32(model: keras.Model) -> keras.Model:
    """Return a model with the same weights that computes in float32.

    Weights are kept in float32 under every mixed policy, so nothing is lost, and answers no longer
    depend on the processor.

    Args:
        model: functional; returned as it is where no layer computes in half precision.
    """
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]
    if all(layer.compute_dtype not in HALF for layer in layers):
        return model
    text = json.dumps(model.get_config())
    for half in HALF:
        text = text.replace(f"mixed_{half}", "float32").replace(f'"{half}"', '"float32"')
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # of the model itself, which has none in its config
    try:
        full = type(model).from_config(json.loads(text))
    finally:
        keras.config.set_dtype_policy(usual)
    full.set_weights(model.get_weights())
    return finalize(full)

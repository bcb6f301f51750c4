"""Batch normalisation whose statistics stand still, taken into the convolution before it."""

from collections import Counter

import numpy as np

from deepconnotation.backend import keras
from deepconnotation.models.layers import finalize

layers = keras.layers

_CONVOLUTIONS = layers.Conv2D | layers.DepthwiseConv2D


def fold(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """Return a model with the same answers outside training, and fewer layers.

    A convolution (or depthwise one) that nothing but a batch normalisation reads gets the latter's
    scale in its kernel and the shift as its bias. Answers come up to three times as fast; so does
    training where the statistics are frozen anyway. Convolutions that learn go on learning, their
    new biases too.

    Args:
        model: functional, each layer used once.
        dtype: policy of what computes on maps, from the first convolution on; None keeps theirs.
    """
    pairs = _pairs(model)
    folded = {norm.name for norm in pairs.values()}
    on_maps = _on_maps(model) if dtype else set()

    def copy(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if layer.name in on_maps:
            config["dtype"] = dtype
        if layer.name in pairs:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: layers.Layer, *args, **kwargs):
        return args[0] if layer.name in folded else layer(*args, **kwargs)

    new = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for layer in (layer for layer in new.layers if layer.weights):
        source, norm = model.get_layer(layer.name), pairs.get(layer.name)
        layer.set_weights(_weights(source, norm) if norm else source.get_weights())
    return finalize(new)


def _on_maps(model: keras.Model) -> set[str]:
    """Return the names of the layers from the first convolution on that give maps.

    All of them, because an activation of another precision keeps TensorFlow from computing it
    together with its convolution.
    """
    maps = [x for x in model.layers if len(keras.tree.flatten(x.output)[0].shape) == 4]
    first = next((i for i, x in enumerate(maps) if isinstance(x, _CONVOLUTIONS)), len(maps))
    return {x.name for x in maps[first:]}


def _pairs(model: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Return the normalisations that can be folded, by the name of the convolution."""
    read = Counter(id(x) for op in model.operations for x in keras.tree.flatten(op.input))
    convs = {
        id(layer.output): layer.name for layer in model.layers
        if isinstance(layer, _CONVOLUTIONS)
        and layer.activation is keras.activations.linear and read[id(layer.output)] == 1
    }  # fmt: skip
    return {
        convs[id(layer.input)]: layer for layer in model.layers
        if isinstance(layer, layers.BatchNormalization) and id(layer.input) in convs
    }  # fmt: skip


def _weights(conv: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Return kernel and bias of both together."""
    kernel, *bias = (w.astype(np.float64) for w in conv.get_weights())
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = 1 / np.sqrt(variance.astype(np.float64) + norm.epsilon)
    if norm.gamma is not None:
        scale *= norm.gamma.numpy()
    shift = ((bias[0] if bias else 0) - mean) * scale
    if norm.beta is not None:
        shift += norm.beta.numpy()
    depthwise = isinstance(conv, layers.DepthwiseConv2D)  # (height, width, channels, multiplier)
    return [kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale), shift]

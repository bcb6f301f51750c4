"""A model that was trained in half precision, for answers in full."""

import json

from deepconnotation.backend import keras

HALF = ("bfloat16", "float16")


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
    return full

"""Folding batch normalisation: the same answers, fewer layers."""

import numpy as np
import pytest

from deepconnotation.backend import keras, tf
from deepconnotation.models import heads, registry
from deepconnotation.models.fold import fold


def norms(model: keras.Model) -> int:
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


@pytest.mark.parametrize(
    ("arch", "left"),
    # A ResNet's pre-activations are read by nobody before them that could take them.
    [("resnet18", 8), ("efficientnet_lite0", 0), ("mobilenet_v2", 0), ("small_cnn", 0),
     *(pytest.param(arch, 0, marks=pytest.mark.slow)
       for arch in ("resnet50_imagenet", "efficientnet_b0", "show_and_tell"))],
)  # fmt: skip
def test_answers_stay(arch, left):
    keras.utils.set_random_seed(0)
    side = max(registry.SMALLEST.get(arch, 32), 32)
    model = registry.build(arch, (side, side, 3), 5, grey=arch in ("resnet18", "mobilenet_v2"))
    rng = np.random.default_rng(0)
    for weight in model.weights:  # not those of a new layer, which would hide mistakes
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    images = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    expected = np.asarray(model(images))
    folded = fold(model)
    assert norms(folded) == left
    assert np.allclose(folded(images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    if arch != "resnet18":  # what is left over keeps its statistics in training only if frozen
        dropped = heads.parts(folded)[0][-1]
        features = [keras.Model(m.input, m.get_layer(dropped.name).output) for m in (model, folded)]
        assert np.allclose(features[1](images), features[0](images), rtol=1e-3, atol=1e-4)


def test_by_hand():
    """Kernel 2 and bias 1 under mean 3, variance 4, scale 5 and shift 6: 2x + 1 -> 5x + 1."""
    inputs = keras.Input((1, 1, 1))
    x = keras.layers.Conv2D(1, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(epsilon=0, name="bn")(x)
    model = keras.Model(inputs, x)
    model.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 2), np.ones(1)])
    model.get_layer("bn").set_weights([np.array([v]) for v in (5, 6, 3, 4)])
    kernel, bias = fold(model).get_layer("conv").get_weights()
    assert (kernel.item(), bias.item()) == pytest.approx((5, 1))


def test_an_output_that_others_read_too_is_left_alone():
    inputs = keras.Input((4, 4, 2))
    conv = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    both = keras.layers.Add()([conv, keras.layers.BatchNormalization()(conv)])
    relu = keras.layers.Conv2D(2, 3, activation="relu")(both)
    model = keras.Model(inputs, keras.layers.BatchNormalization()(relu))
    assert norms(fold(model)) == 2


def test_frozen_layers_stay_frozen_and_precision_is_chosen():
    model = registry.build("efficientnet_lite0", (32, 32, 3), 5)
    heads.freeze_until(model, "stage3")
    folded = fold(model, dtype="mixed_bfloat16")
    learning = {v.path for v in folded.trainable_variables}
    assert not any(path.startswith(("stem", "stage3")) for path in learning)
    assert {"stage4_block1_expand/kernel", "stage4_block1_expand/bias"} <= learning
    # An activation of another precision would keep TensorFlow from computing both at once.
    for name in ("depthwise", "depthwise_relu", "project"):
        assert folded.get_layer(f"stage1_block1_{name}").compute_dtype == "bfloat16"
    assert {folded.get_layer(x).compute_dtype for x in ("normalise", "embedding")} == {"float32"}
    answer = folded(tf.zeros((1, 32, 32, 3)))
    assert np.allclose(answer, model(tf.zeros((1, 32, 32, 3))), atol=0.05)


def test_frozen_depthwise_convolutions_are_fast_ones():
    """A depthwise convolution's gradient is slow in bfloat16; a frozen one's is never asked for."""
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")  # conftest.py sets it back
    model = registry.build("efficientnet_lite0", (32, 32, 3), 5)
    heads.freeze_until(model, "stage3")
    precision = {
        layer.name: layer.compute_dtype for layer in fold(model).layers if "depthwise" in layer.name
    }
    assert precision["stage3_block2_depthwise"] == "bfloat16"
    assert precision["stage4_block1_depthwise"] == "float32"
